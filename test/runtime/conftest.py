"""The real tiny model, built once per run from its seed."""

import pytest
import torch

from sparseoccvla_ros.model.config import VLAConfig, load_model_config
from sparseoccvla_ros.model.language import SceneLanguage
from sparseoccvla_ros.model.perception import OccupancyPerception
from sparseoccvla_ros.model.planner import TrajectoryPlanner
from sparseoccvla_ros.model.vla import build_language, build_perception, build_planner


@pytest.fixture(scope='session')
def config() -> VLAConfig:
    """Configuration of the tiny model."""
    return load_model_config('tiny')


@pytest.fixture(scope='session')
def perception(config: VLAConfig) -> OccupancyPerception:
    """Untrained; not changed by any test."""
    return build_perception(config, weights=None, seed=0)


@pytest.fixture(scope='session')
def language(config: VLAConfig) -> SceneLanguage:
    """Untrained; not changed by any test."""
    return build_language(config, weights=None, seed=0)


@pytest.fixture(scope='session')
def planner(config: VLAConfig) -> TrajectoryPlanner:
    """Untrained: it returns its anchors; not changed by any test."""
    return build_planner(config, weights=None, seed=0)


@pytest.fixture(scope='session')
def cpu() -> torch.device:
    """Where tests compute."""
    return torch.device('cpu')
