"""The diffusion's schedule and normalization against the published planner and the scheduler it uses."""

import json

import numpy as np
import pytest
import torch

from sparseoccvla_ros.model.config import PlannerConfig
from sparseoccvla_ros.model.diffusion import TruncatedSchedule, normalize

pytestmark = pytest.mark.golden
ATOL = 1e-5


@pytest.fixture(scope='module')
def golden(golden_dir):
    with np.load(golden_dir / 'ddim.npz') as stored:
        return {name: torch.from_numpy(stored[name]) for name in stored.files}


@pytest.fixture(scope='module')
def settings(golden_dir):
    return json.loads((golden_dir / 'ddim.json').read_text())


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=ATOL)


def schedule_of(settings, variant: str) -> TruncatedSchedule:
    # the window is the two steps' spacing times two: 20 (navsim), 40 (nuscenes)
    first, last = settings[variant]['step_timesteps']
    return TruncatedSchedule(2, settings[variant]['noise_timestep'], 2 * (first - last))


@pytest.mark.parametrize('variant', ['navsim', 'nuscenes'])
def test_schedule(golden, settings, variant):
    schedule = schedule_of(settings, variant)
    assert list(schedule.timesteps) == golden[f'{variant}/step_timesteps'].tolist()
    noisy = schedule.add_noise(golden[f'{variant}/anchors_normalised'], golden[f'{variant}/noise'])
    close(noisy, golden[f'{variant}/noisy'])
    sample = noisy
    for step, timestep in enumerate(schedule.timesteps):
        close(sample, golden[f'{variant}/step{step}_sample_in'])
        sample = schedule.step(golden[f'{variant}/step{step}_x0_normalised'], timestep, sample)
        close(sample, golden[f'{variant}/step{step}_sample_out'])


def test_normalization_of_positions(golden):
    close(normalize(golden['navsim/anchors']), golden['navsim/anchors_normalised'])
    for step in range(2):
        close(normalize(golden[f'navsim/step{step}_x0']), golden[f'navsim/step{step}_x0_normalised'])
        # the reference hands metres to its network, we the clamped sample itself
        decoder_input_m = golden[f'navsim/step{step}_decoder_input_denormalised']
        close(normalize(decoder_input_m), golden[f'navsim/step{step}_sample_in'].clamp(-1.0, 1.0))


def displacements_right_forward_normalized(metres: torch.Tensor) -> torch.Tensor:
    """Of the nuScenes variant, within its range."""
    return torch.stack([metres[..., 0] / 3.0, 2.0 * (metres[..., 1] + 0.5) / 8.1 - 1.0], dim=-1)


@pytest.mark.parametrize(
    ('variant', 'normalized'), [('navsim', normalize), ('nuscenes', displacements_right_forward_normalized)]
)
def test_noise_of_training(golden, settings, variant, normalized):
    """Each sample has the noise of its own timestep, and is clamped."""
    schedule = schedule_of(settings, variant)
    anchors, noise = golden[f'{variant}/anchors_normalised'], golden[f'{variant}/train_noise']
    sample = schedule.training_sample(anchors, noise, golden[f'{variant}/train_timesteps'])
    close(sample, normalized(golden[f'{variant}/train_noisy_clamped_denormalised']))


def test_training_timesteps_are_drawn_from_the_published_range(settings):
    low, end = settings['navsim']['train_timestep_range']
    assert (low, end) == (0, PlannerConfig().train_timesteps)


def test_single_steps(golden, settings):
    schedule = schedule_of(settings, 'navsim')
    sample, predicted = golden['general/sample'], golden['general/model_output']
    for timestep, expected in zip(golden['general/timesteps'].tolist(), golden['general/prev_sample'], strict=True):
        close(schedule.step(predicted, timestep, sample), expected)
