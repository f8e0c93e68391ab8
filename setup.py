"""pip packaging of the ROS-free part: the Python modules and the files they read.

The ROS 2 build is CMakeLists.txt; colcon takes that one because package.xml says ament_cmake.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
SHARED = ('config', 'weights', 'msg', 'srv', 'action')


def version() -> str:
    """The one in package.xml, so that there is no second one to forget."""
    return re.search(r'<version>(.+)</version>', (ROOT / 'package.xml').read_text()).group(1)


def requirements() -> list[str]:
    """The pinned list, without its comments."""
    lines = (ROOT / 'requirements.txt').read_text().splitlines()
    return [line for line in lines if line and not line.startswith('#')]


def shared_files() -> list[tuple[str, list[str]]]:
    """(folder under the environment's prefix, files) for everything that resources.share_path may be asked for."""
    files = [path.relative_to(ROOT) for name in SHARED for path in sorted((ROOT / name).rglob('*')) if path.is_file()]
    folders = sorted({path.parent for path in files})
    return [
        (f'share/sparseoccvla_ros/{folder.as_posix()}', [str(path) for path in files if path.parent == folder])
        for folder in folders
    ]


setup(
    name='sparseoccvla_ros',
    version=version(),
    description='SparseOccVLA: surround cameras to sparse occupancy, answers, forecast and a trajectory.',
    license='Apache-2.0',
    packages=find_packages(include=['sparseoccvla_ros', 'sparseoccvla_ros.*']),
    package_data={'sparseoccvla_ros.evaluation': ['*.j2']},
    data_files=shared_files(),
    entry_points={'console_scripts': ['sparseoccvla = sparseoccvla_ros.cli.main:app']},
    python_requires='>=3.10,<3.14',
    install_requires=requirements(),
)
