"""The made-up bags of test/nodes/fakes, for tests that need no ROS."""

import runpy
from types import SimpleNamespace

import pytest


@pytest.fixture(scope='session')
def bags(project_root) -> SimpleNamespace:
    """Writers of small bags."""
    return SimpleNamespace(**runpy.run_path(str(project_root / 'test/nodes/fakes/bag.py')))
