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
from sparseoccvla_ros.model.diffusion import TruncatedSchedule, normalize
from sparseoccvla_ros.planning.anchors import STEPS, load_anchors
from sparseoccvla_ros.planning.trajectory import WAYPOINT_STEP_S
from sparseoccvla_ros.runtime.scene import Command

#: Typical sizes that speed (m/s), acceleration (m/s2) and yaw rate (rad/s) are divided by.
EGO_STATE_SCALE = (10.0, 2.0, 0.3)
#: Typical distance between an anchor and the path of holding speed and yaw rate, metres.
ROLLOUT_SCALE_M = 4.0


@dataclass(frozen=True)
class PlannerOutput:
    """All candidates, command by command (RIGHT, LEFT, STRAIGHT) and mode by mode as the anchors.

    ``scores`` [B, K], 0..1; ``waypoints_ego_m`` [B, K, 6, 2], x forward and y left in the scene's ego frame, at 0.5 s
    steps.
    """

    scores: Tensor
    waypoints_ego_m: Tensor


@dataclass(frozen=True)
class DenoisingOutput:
    """What training supervises: ``score_logits`` [B, K] and ``waypoints_ego_m`` [B, K, 6, 2], the clean trajectories
    that the network sees behind the noise of each sample's own random timestep.
    """

    score_logits: Tensor
    waypoints_ego_m: Tensor


class StagedLayer(nn.Module):
    """A candidate looks at the scene, then at the ego's motion and command, then at the reasoning, then thinks.

    Stages that are switched off are left out.
    """

    def __init__(self, config: PlannerConfig, stages: int) -> None:
        super().__init__()
        W = config.width
        self.norms = nn.ModuleList(nn.LayerNorm(W) for _ in range(stages + 1))
        self.attentions = nn.ModuleList(
            nn.MultiheadAttention(W, config.attention_heads, batch_first=True) for _ in range(stages)
        )
        self.ffn = nn.Sequential(nn.Linear(W, config.ffn_width), nn.GELU(), nn.Linear(config.ffn_width, W))

    def forward(self, candidates: Tensor, stages: tuple[Tensor, ...]) -> Tensor:
        """candidates [B, K, W]; stages: tokens [B, any, W] of scene, ego and reasoning, as far as they are on."""
        for norm, attention, tokens in zip(self.norms[:-1], self.attentions, stages, strict=True):
            candidates = candidates + attention(norm(candidates), tokens, tokens, need_weights=False)[0]
        return candidates + self.ffn(self.norms[-1](candidates))


class TrajectoryPlanner(nn.Module):
    """Scores and refines all candidates of all commands in one batch; the gate chooses outside the network.

    The network answers with a correction of the anchor, whose last layer starts at zero: an untrained planner returns
    its anchors exactly, whatever the noise. Parts that the configuration switches off do not exist, and what they would
    have read is accepted and ignored.

    Arguments of both ways to run it:
        features: [B, Q, C]. positions_m: [B, Q, 3], metres, ego frame.
        reasoning_tokens: T_r [B, R, D].
        ego_state: [B, 3]: speed m/s, acceleration m/s2, yaw rate rad/s.
        command: long [B], :class:`Command`.
        generator: source of the randomness. None: torch's own.
    """

    def __init__(self, config: VLAConfig) -> None:
        super().__init__()
        planner, W = config.planner, config.planner.width
        anchors = torch.from_numpy(load_anchors(planner.anchors).waypoints_ego_m).float()
        self.register_buffer('anchors', anchors)
        self.register_buffer('ego_scale', torch.tensor(EGO_STATE_SCALE), persistent=False)
        self.schedule = TruncatedSchedule(planner.steps, planner.noise_timestep, planner.step_window)
        self.config = planner
        if planner.scene_fusion or not planner.llm_scoring:
            self.scene = nn.Linear(config.encoder.width, W)
            self.scene_position = PositionEncoding(config.space, W, W)
            self.scene_norm = nn.LayerNorm(W)
        if planner.llm_scoring:
            self.reasoning = nn.Sequential(nn.LayerNorm(config.language.width), nn.Linear(config.language.width, W))
        if planner.ego_fusion or planner.ego_scoring:
            # as large as the tokens of scene and command: unnormalized it is a tenth of them and hardly learnt from
            self.ego = nn.Sequential(nn.Linear(3, W), nn.GELU(), nn.Linear(W, W), nn.LayerNorm(W))
        if planner.ego_fusion:
            self.command = nn.Embedding(len(Command), W)
        self.anchor = nn.Sequential(nn.Linear(2 * STEPS, W), nn.GELU(), nn.Linear(W, W))
        self._rollout_scored = planner.ego_rollout and planner.ego_scoring
        self._rollout_refined = planner.ego_rollout and planner.ego_fusion
        if self._rollout_scored or self._rollout_refined:
            self.rollout = nn.Sequential(nn.Linear(2 * STEPS, W), nn.GELU(), nn.Linear(W, W))
        read = 2 + planner.ego_scoring + self._rollout_scored
        self.scorer = nn.Sequential(nn.Linear(read * W, W), nn.GELU(), nn.Linear(W, 1))
        self.trajectory = nn.Sequential(nn.Linear(2 * STEPS, W), nn.GELU(), nn.Linear(W, W))
        self.time = nn.Sequential(nn.Linear(W, W), nn.GELU(), nn.Linear(W, W))
        stages = planner.scene_fusion + planner.ego_fusion + planner.llm_scoring
        self.layers = nn.ModuleList(StagedLayer(planner, stages) for _ in range(planner.layers))
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
        """Plan: from noise about the anchors, in the configured number of steps.

        The noise is drawn once and shared by the samples of a batch, so that a sample's plan does not depend on the
        others'.
        """
        stages, read = self._read(features, positions_m, reasoning_tokens, ego_state, command)
        embedded = self._embed_anchors(ego_state)
        anchors_m = self.anchors.flatten(0, 1)  # [K, 6, 2]
        device = anchors_m.device if generator is None else generator.device
        noise = torch.randn(anchors_m.shape, generator=generator, device=device).to(anchors_m)
        sample = self.schedule.add_noise(normalize(anchors_m), noise).expand(len(features), -1, -1, -1)
        waypoints_m = anchors_m.expand_as(sample)
        for timestep in self.schedule.timesteps:
            waypoints_m = self._denoise(sample.clamp(-1.0, 1.0), sample.new_tensor([timestep]), stages, *embedded)
            sample = self.schedule.step(normalize(waypoints_m), timestep, sample)
        # the network's last answer, not the sample: the sample is clipped to the diffusion's range
        return PlannerOutput(scores=self._score_logits(read, *embedded).sigmoid(), waypoints_ego_m=waypoints_m)

    def denoise_once(
        self,
        features: Tensor,
        positions_m: Tensor,
        reasoning_tokens: Tensor,
        ego_state: Tensor,
        command: Tensor,
        generator: torch.Generator | None = None,
    ) -> DenoisingOutput:
        """One step of training: each sample's anchors with noise of its own, at a timestep of its own."""
        stages, read = self._read(features, positions_m, reasoning_tokens, ego_state, command)
        embedded = self._embed_anchors(ego_state)
        anchors_m = self.anchors.flatten(0, 1).expand(len(features), -1, -1, -1)  # [B, K, 6, 2]
        device = anchors_m.device if generator is None else generator.device
        noise = torch.randn(anchors_m.shape, generator=generator, device=device).to(anchors_m)
        timesteps = torch.randint(self.config.train_timesteps, (len(features),), generator=generator, device=device).to(
            anchors_m.device
        )
        sample = self.schedule.training_sample(normalize(anchors_m), noise, timesteps)
        return DenoisingOutput(self._score_logits(read, *embedded), self._denoise(sample, timesteps, stages, *embedded))

    def _read(
        self, features: Tensor, positions_m: Tensor, reasoning_tokens: Tensor, ego_state: Tensor, command: Tensor
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """Tokens [B, any, W] of the decoder's stages, and what the scorer reads: [B, W], [B, 2 W] with the ego's."""
        config, stages = self.config, []
        if config.scene_fusion or not config.llm_scoring:
            read = tokens = self.scene_norm(self.scene(features) + self.scene_position(positions_m))
            if config.scene_fusion:
                stages.append(tokens)
        if config.ego_fusion or config.ego_scoring:
            ego = self.ego(ego_state / self.ego_scale)
        if config.ego_fusion:
            stages.append(torch.stack([ego, self.command(command)], dim=1))
        if config.llm_scoring:
            read = self.reasoning(reasoning_tokens)
            stages.append(read)
        read = read.mean(dim=1)
        return tuple(stages), torch.cat([read, ego], dim=-1) if config.ego_scoring else read

    def _embed_anchors(self, ego_state: Tensor) -> tuple[Tensor, Tensor | None]:
        """What each anchor is, and where the ego's motion would lead from it (None: nobody asks): [B, K, W] each."""
        anchors_m = self.anchors.flatten(0, 1)  # [K, 6, 2]
        of_anchor = self.anchor(normalize(anchors_m).flatten(1)).expand(len(ego_state), -1, -1)
        if not (self._rollout_scored or self._rollout_refined):
            return of_anchor, None
        ahead_m = constant_turn_m(ego_state[:, 0], ego_state[:, 2])[:, None] - anchors_m  # [B, K, 6, 2]
        return of_anchor, self.rollout(ahead_m.flatten(2) / ROLLOUT_SCALE_M)

    def _score_logits(self, read: Tensor, of_anchor: Tensor, rollout: Tensor | None) -> Tensor:
        """Logits [B, K] of the anchors. The command is not known to them: all commands' are scored at once."""
        parts = [read[:, None].expand(-1, of_anchor.shape[1], -1), of_anchor]
        if self._rollout_scored:
            parts.append(rollout)
        return self.scorer(torch.cat(parts, dim=-1))[..., 0]

    def _denoise(
        self, sample: Tensor, timesteps: Tensor, stages: tuple[Tensor, ...], of_anchor: Tensor, rollout: Tensor | None
    ) -> Tensor:
        """Clean trajectories [B, K, 6, 2], metres.

        Args:
            sample: noisy normalized ones of the same shape, in -1..1.
            timesteps: [B], or [1] for all.
            stages: see :meth:`_read`.
            of_anchor, rollout: see :meth:`_embed_anchors`.
        """
        candidates = (
            self.trajectory(sample.flatten(2))
            + of_anchor
            + self.time(_timestep_encoding(timesteps, self.config.width, sample))[:, None]
        )
        if self._rollout_refined:
            candidates = candidates + rollout
        for layer in self.layers:
            candidates = layer(candidates, stages)
        # corrections of the displacement per step: an error in one step carries on, as it does on the road
        correction_m = self.head(self.head_norm(candidates)).unflatten(-1, (STEPS, 2)).cumsum(dim=-2)
        return self.anchors.flatten(0, 1) + correction_m


def constant_turn_m(speed_mps: Tensor, yaw_rate_radps: Tensor) -> Tensor:
    """Waypoints [B, 6, 2], metres, ego frame, of holding speed [B] and yaw rate [B]."""
    times_s = WAYPOINT_STEP_S * torch.arange(1, STEPS + 1, device=speed_mps.device)
    half_turn_rad = 0.5 * yaw_rate_radps[:, None] * times_s
    chord_m = speed_mps[:, None] * times_s * torch.sinc(half_turn_rad / math.pi)
    return torch.stack([chord_m * half_turn_rad.cos(), chord_m * half_turn_rad.sin()], dim=-1)


def _timestep_encoding(timesteps: Tensor, width: int, like: Tensor) -> Tensor:
    """Sines and cosines [..., width] of timesteps [...]."""
    frequencies = torch.exp(-math.log(10000.0) * torch.arange(width // 2, device=like.device) / (width // 2))
    phases = timesteps[..., None].to(like.dtype) * frequencies.to(like.dtype)
    return torch.cat([phases.sin(), phases.cos()], dim=-1)
