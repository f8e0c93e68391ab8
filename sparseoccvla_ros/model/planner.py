"""Anchor scores from the language model's reading, and refinement of the anchors by a short diffusion.

Letters: B samples, K = commands x modes candidates, Q queries, C query width, R reasoning tokens, D language width,
W planner width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparseoccvla_ros.model.config import PlannerConfig, VLAConfig
from sparseoccvla_ros.model.connector import PositionEncoding
from sparseoccvla_ros.model.diffusion import TruncatedSchedule, denormalize, normalize
from sparseoccvla_ros.planning.anchors import STEPS, load_anchors
from sparseoccvla_ros.runtime.scene import Command

#: Typical sizes that speed (m/s), acceleration (m/s2) and yaw rate (rad/s) are divided by.
EGO_STATE_SCALE = (10.0, 2.0, 0.3)


@dataclass(frozen=True)
class PlannerOutput:
    """All candidates, command by command (RIGHT, LEFT, STRAIGHT) and mode by mode as the anchors.

    ``scores`` [B, K], 0..1; ``waypoints_ego_m`` [B, K, 6, 2], x forward and y left in the scene's ego frame, at 0.5 s
    steps.
    """

    scores: Tensor
    waypoints_ego_m: Tensor


class StagedLayer(nn.Module):
    """A candidate looks at the scene, then at the ego's motion and command, then at the reasoning, then thinks."""

    def __init__(self, config: PlannerConfig) -> None:
        super().__init__()
        W = config.width
        self.norms = nn.ModuleList(nn.LayerNorm(W) for _ in range(4))
        self.attentions = nn.ModuleList(
            nn.MultiheadAttention(W, config.attention_heads, batch_first=True) for _ in range(3)
        )
        self.ffn = nn.Sequential(nn.Linear(W, config.ffn_width), nn.GELU(), nn.Linear(config.ffn_width, W))

    def forward(self, candidates: Tensor, stages: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """candidates [B, K, W]; stages: tokens [B, any, W] of scene, ego and reasoning."""
        for norm, attention, tokens in zip(self.norms, self.attentions, stages, strict=False):
            candidates = candidates + attention(norm(candidates), tokens, tokens, need_weights=False)[0]
        return candidates + self.ffn(self.norms[3](candidates))


class TrajectoryPlanner(nn.Module):
    """Scores and refines all candidates of all commands in one batch; the gate chooses outside the network.

    The network answers with a correction of the anchor, whose last layer starts at zero: an untrained planner returns
    its anchors exactly, whatever the noise.
    """

    def __init__(self, config: VLAConfig) -> None:
        super().__init__()
        planner, W = config.planner, config.planner.width
        anchors = torch.from_numpy(load_anchors(planner.anchors).waypoints_ego_m).float()
        self.register_buffer('anchors', anchors)
        self.register_buffer('ego_scale', torch.tensor(EGO_STATE_SCALE), persistent=False)
        self.schedule = TruncatedSchedule(planner.steps, planner.noise_timestep, planner.step_window)
        self.width = W
        self.scene = nn.Linear(config.encoder.width, W)
        self.scene_position = PositionEncoding(config.space, W)
        self.scene_norm = nn.LayerNorm(W)
        self.reasoning = nn.Sequential(nn.LayerNorm(config.language.width), nn.Linear(config.language.width, W))
        self.ego = nn.Sequential(nn.Linear(3, W), nn.GELU(), nn.Linear(W, W))
        self.command = nn.Embedding(len(Command), W)
        self.anchor = nn.Sequential(nn.Linear(2 * STEPS, W), nn.GELU(), nn.Linear(W, W))
        self.scorer = nn.Sequential(nn.Linear(2 * W, W), nn.GELU(), nn.Linear(W, 1))
        self.trajectory = nn.Sequential(nn.Linear(2 * STEPS, W), nn.GELU(), nn.Linear(W, W))
        self.time = nn.Sequential(nn.Linear(W, W), nn.GELU(), nn.Linear(W, W))
        self.layers = nn.ModuleList(StagedLayer(planner) for _ in range(planner.layers))
        self.head_norm = nn.LayerNorm(W)
        self.head = nn.Linear(W, 2 * STEPS)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(
        self,
        features: Tensor,
        positions_m: Tensor,
        reasoning_tokens: Tensor,
        ego_state: Tensor,
        command: Tensor,
        generator: torch.Generator | None = None,
    ) -> PlannerOutput:
        """Plan.

        Args:
            features: [B, Q, C]. positions_m: [B, Q, 3], metres, ego frame.
            reasoning_tokens: T_r [B, R, D].
            ego_state: [B, 3]: speed m/s, acceleration m/s2, yaw rate rad/s.
            command: long [B], :class:`Command`.
            generator: source of the noise, which is drawn once and shared by the samples of a batch, so that a
                sample's plan does not depend on the others'. None: torch's own.
        """
        B = features.shape[0]
        scene = self.scene_norm(self.scene(features) + self.scene_position(positions_m))
        ego = torch.stack([self.ego(ego_state / self.ego_scale), self.command(command)], dim=1)
        stages = (scene, ego, self.reasoning(reasoning_tokens))
        anchors_m = self.anchors.flatten(0, 1)  # [K, 6, 2]
        scores = self.score_logits(reasoning_tokens).sigmoid()
        noise_device = generator.device if generator is not None else anchors_m.device
        noise = torch.randn(anchors_m.shape, generator=generator, device=noise_device).to(anchors_m)
        sample = self.schedule.add_noise(normalize(anchors_m), noise).expand(B, -1, -1, -1)
        waypoints_m = anchors_m.expand(B, -1, -1, -1)
        for timestep in self.schedule.timesteps:
            waypoints_m = self.denoise(sample, timestep, stages)
            sample = self.schedule.step(normalize(waypoints_m), timestep, sample)
        # the network's last answer, not the sample: the sample is clipped to the diffusion's range
        return PlannerOutput(scores=scores, waypoints_ego_m=waypoints_m)

    def score_logits(self, reasoning_tokens: Tensor) -> Tensor:
        """Logits [B, K] of the anchors, from T_r [B, R, D] alone."""
        read = self.reasoning(reasoning_tokens).mean(dim=1)  # [B, W]
        anchors = self.anchor(normalize(self.anchors).flatten(0, 1).flatten(1))  # [K, W]
        B, K = read.shape[0], anchors.shape[0]
        pairs = torch.cat([read[:, None].expand(B, K, -1), anchors.expand(B, K, -1)], dim=-1)
        return self.scorer(pairs)[..., 0]

    def denoise(self, sample: Tensor, timestep: int, stages: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Clean trajectories [B, K, 6, 2], metres, predicted from noisy normalized ones of the same shape."""
        anchors_m = self.anchors.flatten(0, 1)
        noisy_m = denormalize(sample.clamp(-1.0, 1.0))
        candidates = (
            self.trajectory(normalize(noisy_m).flatten(2))
            + self.anchor(normalize(anchors_m).flatten(1))
            + self.time(_timestep_encoding(timestep, self.width, sample))
        )
        for layer in self.layers:
            candidates = layer(candidates, stages)
        # corrections of the displacement per step: an error in one step carries on, as it does on the road
        correction_m = self.head(self.head_norm(candidates)).unflatten(-1, (STEPS, 2)).cumsum(dim=-2)
        return anchors_m + correction_m


def _timestep_encoding(timestep: int, width: int, like: Tensor) -> Tensor:
    """Sines and cosines [width] of a timestep."""
    frequencies = torch.exp(-math.log(10000.0) * torch.arange(width // 2, device=like.device) / (width // 2))
    phases = timestep * frequencies.to(like.dtype)
    return torch.cat([phases.sin(), phases.cos()])
