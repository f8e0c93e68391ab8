"""The truncated diffusion of trajectories: normalization and schedule (DiffusionDrive, arXiv 2411.15139).

Of the two published variants this is the one over positions (NAVSIM): its range (-1.2..55.7 m ahead, 20 m to the right
to 26 m to the left) holds 3 s at up to 18.5 m/s, while the variant over displacements (nuScenes) clamps everything
above 15.2 m/s, which real anchors exceed.
"""

from __future__ import annotations

import torch
from diffusers import DDIMScheduler
from torch import Tensor

#: Positions mapped to -1..1: lowest value and length of the range along x (forward) and y (left), metres.
LOW_M = (-1.2, -20.0)
LENGTH_M = (56.9, 46.0)


def normalize(positions_m: Tensor) -> Tensor:
    """Ego positions [..., 2], metres, to the diffusion's units; not clamped."""
    low_m, length_m = positions_m.new_tensor(LOW_M), positions_m.new_tensor(LENGTH_M)
    return 2.0 * (positions_m - low_m) / length_m - 1.0


class TruncatedSchedule:
    """Noise is put on at one small timestep and taken off in a few steps from another, as published models do.

    The published schedule has two oddities, kept to match published behaviour: the first step's timestep (10 of 1000
    with two steps) is above the noise's (8); and each step moves the sample by one timestep only, though the network is
    next told a much lower one.
    """

    def __init__(self, steps: int, noise_timestep: int, step_window: int) -> None:
        self._scheduler = DDIMScheduler(
            num_train_timesteps=1000,
            beta_start=1e-4,
            beta_end=0.02,
            beta_schedule='scaled_linear',
            prediction_type='sample',
        )
        self._scheduler.set_timesteps(1000)
        self._noise_timestep = noise_timestep
        self.timesteps = tuple(round(i * step_window / steps) for i in reversed(range(steps)))

    def add_noise(self, normalized: Tensor, noise: Tensor) -> Tensor:
        """Start of the denoising."""
        return self._scheduler.add_noise(normalized, noise, torch.tensor(self._noise_timestep))

    def training_sample(self, normalized: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the network is trained to clean, in -1..1: the noise of its own timestep on each sample.

        Args:
            normalized: [B, ...], clean. noise: the same shape, standard normal.
            timesteps: long [B], 0..999.
        """
        return self._scheduler.add_noise(normalized, noise, timesteps).clamp(-1.0, 1.0)

    def step(self, predicted: Tensor, timestep: int, sample: Tensor) -> Tensor:
        """The next sample, from the predicted clean trajectory (all normalized)."""
        return self._scheduler.step(predicted, timestep, sample, eta=0.0).prev_sample
