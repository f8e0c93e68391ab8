"""tools/bootstrap.sh says in one message what a machine lacks, before it downloads anything."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON = getattr(sys, '_base_executable', sys.executable)


@pytest.fixture
def project(tmp_path) -> Path:
    """What the script looks at, in a folder of its own."""
    project = tmp_path / 'project'
    for name in ('tools', 'msg', 'srv', 'action'):
        shutil.copytree(ROOT / name, project / name)
    for path in [
        *ROOT.glob('requirements*.txt'),
        *(ROOT / name for name in ('constraints.txt', 'CMakeLists.txt', 'package.xml')),
    ]:
        shutil.copy(path, project)
    return project


@pytest.fixture
def fake(tmp_path):
    """Function that puts a program of this name and shell text before the real ones."""
    folder = tmp_path / 'fake'
    folder.mkdir()

    def put(name: str, text: str) -> Path:
        path = folder / name
        path.write_text(f'#!/bin/sh\n{text}\n')
        path.chmod(0o755)
        return path

    return put


def bootstrap(project: Path, **environment: str) -> tuple[int, str]:
    """Run the script as on a machine without configuration; (exit code, what it said)."""
    fakes = project.parent / 'fake'
    base = {
        'PATH': f'{fakes}:/usr/bin:/bin',
        'HOME': str(project.parent),
        'PYTHON': PYTHON,
        'PIP_CONFIG_FILE': os.devnull,
    }
    # no index can be reached: a check that lets a bad machine pass ends there, not in a download
    unreachable = {'PIP_INDEX_URL': 'http://127.0.0.1:9/simple'}
    done = subprocess.run(
        [project / 'tools/bootstrap.sh'],
        env={**base, **unreachable, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


def wrapped_python(fake, pattern: str, instead: str) -> str:
    """An interpreter that is the real one, but for command lines that match ``pattern``."""
    return str(fake('some-python', f'case "$*" in\n{pattern}) {instead} ;;\nesac\nexec "{PYTHON}" "$@"'))


def test_other_processor(project, fake):
    fake('uname', '[ "$1" = -m ] && echo aarch64 || echo Linux')
    code, said = bootstrap(project)
    assert code == 1
    assert 'x86-64 Linux only, this is Linux-aarch64' in said
    assert 'colcon' in said


def test_unsupported_python(project, fake):
    python = wrapped_python(fake, '*version_info*', 'echo 3.9; exit 0')
    code, said = bootstrap(project, PYTHON=python)
    assert code == 1
    assert f"'{python}' is Python 3.9, and 3.10 to 3.13 are supported" in said
    assert 'make build PYTHON=' in said


def test_no_python(project, fake):
    code, said = bootstrap(project, PYTHON='python3.99')
    assert code == 1
    assert "'python3.99' is not found" in said
    assert 'apt install python3' in said


def test_no_venv_module(project, fake):
    code, said = bootstrap(project, PYTHON=wrapped_python(fake, '*ensurepip*', 'exit 1'))
    assert code == 1
    assert 'venv module is missing: apt install python3.' in said


def test_no_python_headers(project, fake):
    code, said = bootstrap(project, PYTHON=wrapped_python(fake, '*get_path*', 'echo /no/headers; exit 0'))
    assert code == 1
    assert 'headers are missing (/no/headers/Python.h): apt install python3.' in said


@pytest.mark.parametrize('compiler', ['CC', 'CXX'])
def test_no_compiler(project, fake, compiler):
    code, said = bootstrap(project, **{compiler: '/no/compiler'})
    assert code == 1
    assert '/no/compiler' in said
    assert 'apt install g++' in said


def test_full_disk(project, fake):
    fake('df', 'echo Filesystem 1M-blocks Used Available Use% Mounted; echo /dev/x 9000 8877 123 99% /')
    code, said = bootstrap(project)
    assert code == 1
    assert f'{project} has 123 MB free and 4000 MB are needed' in said


def test_no_network_and_old_cmake(project, fake):
    fake('cmake', 'echo cmake version 3.10.2')
    code, said = bootstrap(project)
    assert code == 1
    assert 'cmake 3.10.2, 3.21 or newer is needed: taking it from PyPI' in said
    assert 'no package index can be reached' in said
    # pip's own words come along, and nothing is taken for finished
    assert 'catkin-pkg' in said
    assert not (project / '.venv/.packages').exists()


def test_sourced_ros(project, fake):
    code, said = bootstrap(project, AMENT_PREFIX_PATH='/opt/ros/jazzy')
    assert code == 1
    assert 'AMENT_PREFIX_PATH=/opt/ros/jazzy' in said


def test_path_with_a_space(project, fake):
    moved = project.rename(project.with_name('my project'))
    code, said = bootstrap(moved)
    assert code == 1
    assert 'contains a space' in said


def test_unknown_ros_distribution(project, fake):
    code, said = bootstrap(project, ROS='humble')
    assert code == 1
    assert 'ROS=humble is unknown; use ROS=kilted or ROS=jazzy' in said
