"""Fixtures that every test may use: the folders of outside data, and a ROS graph of this run's own."""

import os
from pathlib import Path

import pytest

# Before rclpy or a message module is imported: a domain of this run's own on the local host only, so that two runs on
# one machine never mix, and field checks, without which wrong types are serialized silently.
os.environ.setdefault('ROS_DOMAIN_ID', str(1 + os.getpid() % 100))
os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
os.environ.setdefault('ROS_PYTHON_CHECK_FIELDS', '1')

PROJECT_ROOT = Path(__file__).resolve().parents[1]


def _outside_data(variable: str, default: str) -> Path:
    """Folder named by an environment variable, else ``default`` relative to the project's root; skips when absent."""
    folder = Path(os.environ.get(variable) or PROJECT_ROOT / default).resolve()
    if not folder.is_dir():
        pytest.skip(f'{folder} is absent; {variable} names the folder to use')
    return folder


@pytest.fixture(scope='session')
def project_root() -> Path:
    """Root of the source tree."""
    return PROJECT_ROOT


@pytest.fixture(scope='session')
def golden_dir() -> Path:
    """Values computed by the public reference implementations."""
    return _outside_data('SPARSEOCCVLA_GOLDEN', '../shared/data/golden')


@pytest.fixture(scope='session')
def nuscenes_dir() -> Path:
    """A real keyframe in the nuScenes v1.0 layout, version ``v1.0-one``."""
    return _outside_data('SPARSEOCCVLA_NUSCENES', '../shared/data/nuscenes_one')


@pytest.fixture(scope='session')
def planning_dir() -> Path:
    """Real ego futures, ``*.npz``."""
    return _outside_data('SPARSEOCCVLA_PLANNING', '../shared/data/planning_real')


@pytest.fixture(scope='session')
def drivelm_dir() -> Path:
    """Real six-camera frames with human answers."""
    return _outside_data('SPARSEOCCVLA_DRIVELM', '../shared/data/drivelm_n015')
