"""Packaging: what is imported is declared, what is listed twice agrees, and the ROS-free part installs alone."""

import ast
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

import sparseoccvla_ros
from sparseoccvla_ros import resources
from sparseoccvla_ros.resources import share_path

ROOT = Path(__file__).resolve().parents[1]
#: Import name -> rosdep key, for the Python packages that have one. The others come by pip: docs/installation.md.
ROSDEP_KEYS = {
    'cv2': 'python3-opencv',
    'jinja2': 'python3-jinja2',
    'matplotlib': 'python3-matplotlib',
    'numpy': 'python3-numpy',
    'psutil': 'python3-psutil',
    'rich': 'python3-rich',
    'rosbags': 'python3-rosbags-pip',
    'scipy': 'python3-scipy',
    'torch': 'python3-pytorch-pip',
    'transformers': 'python3-transformers-pip',
    'typer': 'python3-typer',
    'yaml': 'python3-yaml',
}
PIP_ONLY = {
    'accelerate',
    'diffusers',
    'peft',
    'pycocoevalcap',
    'safetensors',
    'sentencepiece',
    'tensorboard',
    'tokenizers',
}
#: Come with rosbags, which reads bags through them; pinned with it in constraints.txt.
BROUGHT_BY_ROSBAGS = {'apsw', 'backports', 'compression'}
IMPORT_NAMES = {'opencv-python-headless': 'cv2', 'pyyaml': 'yaml'}


def declared(*tags: str) -> set[str]:
    """Names in package.xml under the given dependency tags (all of them by default)."""
    tags = tags or ('buildtool_depend', 'depend', 'exec_depend', 'test_depend')
    return {element.text for element in ElementTree.parse(ROOT / 'package.xml').getroot() if element.tag in tags}


def imported_roots(*folders: str) -> set[str]:
    """Top-level names of everything imported by the Python files under ``folders``, the standard library left out."""
    roots = set()
    for path in [path for folder in folders for path in (ROOT / folder).rglob('*.py')]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                roots |= {alias.name.split('.')[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                roots.add(node.module.split('.')[0])
    return roots - set(sys.stdlib_module_names) - {'sparseoccvla_ros'}


def required() -> dict[str, list[str]]:
    """Direct requirements: import name -> pinned lines."""
    lines: dict[str, list[str]] = {}
    for line in (ROOT / 'requirements.txt').read_text().splitlines():
        if line and not line.startswith('#'):
            name = re.split('==', line)[0]
            lines.setdefault(IMPORT_NAMES.get(name, name), []).append(line)
    return lines


def test_package_xml_names_every_ros_package_that_is_imported():
    names = imported_roots('sparseoccvla_ros/nodes', 'launch')
    ros = {name for name in names if name not in ROSDEP_KEYS and name not in PIP_ONLY}
    assert {'rclpy', 'sensor_msgs', 'launch_ros'} <= ros
    # Whoever runs Autoware has its messages; nobody else has to install them.
    assert ros - declared('depend', 'exec_depend') == {'autoware_planning_msgs'}


def test_package_xml_names_every_python_package_that_has_a_key():
    names = imported_roots('sparseoccvla_ros') & set(ROSDEP_KEYS)
    assert {ROSDEP_KEYS[name] for name in names} <= declared('exec_depend')


def test_requirements_name_every_python_package_that_is_imported():
    ros_free = [
        f'sparseoccvla_ros/{folder.name}'
        for folder in (ROOT / 'sparseoccvla_ros').iterdir()
        if folder.is_dir() and folder.name not in ('nodes', '__pycache__')
    ]
    assert imported_roots(*ros_free) <= set(required()) | BROUGHT_BY_ROSBAGS


def test_every_requirement_has_a_key_or_is_documented():
    assert set(required()) <= set(ROSDEP_KEYS) | PIP_ONLY
    documented = (ROOT / 'docs/installation.md').read_text()
    assert all(name in documented for name in PIP_ONLY)


@pytest.mark.parametrize('file', sorted(path.name for path in ROOT.glob('requirements*.txt')))
def test_every_requirement_is_pinned(file):
    lines = [line for line in (ROOT / file).read_text().splitlines() if line and not line.startswith('#')]
    pinned = re.compile(r'[\w.-]+(\[[\w,]+\])?==[\w.]+(; python_version (>=|<) "3\.\d+")?')
    assert [line for line in lines if not pinned.fullmatch(line)] == []


def test_version_is_the_same_everywhere():
    assert ElementTree.parse(ROOT / 'package.xml').findtext('version') == sparseoccvla_ros.__version__


def test_cmake_generates_every_interface_file():
    listed = set(re.findall(r'"((?:msg|srv|action)/\w+\.\w+)"', (ROOT / 'CMakeLists.txt').read_text()))
    present = {f'{kind}/{path.name}' for kind in ('msg', 'srv', 'action') for path in (ROOT / kind).glob(f'*.{kind}')}
    assert listed == present


def test_package_xml_names_every_package_that_cmake_finds():
    found = set(re.findall(r'find_package\((\w+)', (ROOT / 'CMakeLists.txt').read_text()))
    assert found - {'Python3'} <= declared()


def test_cmake_installs_a_program_for_every_node_with_a_main():
    mains = set()
    for path in (ROOT / 'sparseoccvla_ros/nodes').glob('*.py'):
        functions = {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}
        if 'main' in functions:
            mains.add(path.stem)
    installed = re.search(r'foreach\(node ([\w ]+)\)', (ROOT / 'CMakeLists.txt').read_text()).group(1)
    assert set(installed.split()) == {'perception', 'reasoning', 'planner', 'stack', 'simulator'}
    assert set(installed.split()) <= mains


def test_share_path_prefers_the_source_tree():
    assert share_path('config/fastdds_shm.xml') == ROOT / 'config/fastdds_shm.xml'


def test_share_path_of_an_installed_module_is_under_its_own_prefix(tmp_path, monkeypatch):
    module = tmp_path / 'lib/python3.12/site-packages/sparseoccvla_ros/resources.py'
    monkeypatch.setattr(resources, '__file__', str(module))
    file = tmp_path / 'share/sparseoccvla_ros/config/a'
    file.parent.mkdir(parents=True)
    file.touch()
    assert share_path('config/a') == file
    with pytest.raises(FileNotFoundError, match=rf'config/c does not come with .*{re.escape(str(tmp_path))}'):
        share_path('config/c')


@pytest.mark.parametrize('path', ['/etc/passwd', '../setup.py', 'config/../../x'])
def test_share_path_stays_inside_the_package(path):
    with pytest.raises(ValueError, match='inside the package'):
        share_path(path)


def test_pip_install_gives_the_ros_free_part_with_its_files(tmp_path):
    source, environment = tmp_path / 'source', tmp_path / 'environment'
    # a copy: pip builds inside the folder that it is given
    kept = ['config', 'weights', 'msg', 'srv', 'action', 'sparseoccvla_ros']
    for name in kept:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('setup.py', 'pyproject.toml', 'package.xml', 'requirements.txt', 'LICENSE'):
        shutil.copy(ROOT / name, source / name)
    venv.create(environment, with_pip=False)
    # --ignore-installed: or pip would uninstall this very package from the environment that runs the test
    options = [
        '--quiet',
        '--ignore-installed',
        '--no-deps',
        '--no-build-isolation',
        '--no-index',
        '--disable-pip-version-check',
    ]
    install = [sys.executable, '-m', 'pip', 'install', *options, '--prefix', str(environment), str(source)]
    done = subprocess.run(install, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    site = next((environment / 'lib').glob('python*/site-packages'))
    installed_here = Path(sysconfig.get_path('purelib'))
    for name in ('numpy', 'numpy.libs', 'scipy', 'scipy.libs'):
        if (installed_here / name).exists():
            (site / name).symlink_to(installed_here / name)
    program = (
        'import sparseoccvla_ros, sparseoccvla_ros.geometry\n'
        'from sparseoccvla_ros.resources import share_path\n'
        'print(sparseoccvla_ros.__file__)\n'
        'for name in ("config/stack.yaml", "config/model/tiny.yaml", "msg/OccupancyQueries.msg"):\n'
        '    print(share_path(name))\n'
    )
    python = environment / 'bin/python'
    done = subprocess.run([python, '-I', '-c', program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(Path(line).is_relative_to(environment) for line in done.stdout.splitlines())
    assert len(done.stdout.splitlines()) == 4
    assert (environment / 'bin/sparseoccvla').exists()
    files = {path.relative_to(source) for path in (source / 'sparseoccvla_ros').rglob('*') if path.is_file()}
    assert {file for file in files if not (site / file).exists()} == set()
    metadata = next(site.glob('sparseoccvla_ros-*.dist-info/METADATA')).read_text()
    wanted = sum(len(lines) for lines in required().values())
    assert metadata.count('\nRequires-Dist: ') == wanted
