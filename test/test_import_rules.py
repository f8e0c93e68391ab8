"""Only nodes/ knows ROS: everything else is trained, evaluated and tested on machines without it."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / 'sparseoccvla_ros'
ROS_FREE = sorted(path for path in PACKAGE.rglob('*.py') if 'nodes' not in path.relative_to(PACKAGE).parts)
#: Modules that a ROS installation brings along; message packages are told by their names' ends.
ROS_MODULES = {
    'ament_index_python',
    'builtin_interfaces',
    'cv_bridge',
    'launch',
    'launch_ros',
    'message_filters',
    'rclpy',
    'ros2cli',
    'rosbag2_py',
    'sensor_msgs_py',
    'tf2_py',
    'tf2_ros',
}
GENERATED = {'sparseoccvla_ros.msg', 'sparseoccvla_ros.srv', 'sparseoccvla_ros.action'}


def imported_modules(source: str, package: str) -> Iterator[str]:
    """Full names of everything imported anywhere in ``source``, inside functions and by importlib too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split('.')[: len(package.split('.')) - node.level + 1] if node.level else []
            module = '.'.join([*parents, *([node.module] if node.module else [])])
            yield module
            yield from (f'{module}.{alias.name}' for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split('.')[-1] in ('import_module', '__import__'):
            yield from (argument.value for argument in node.args if isinstance(argument, ast.Constant))


def violations(source: str, package: str) -> set[str]:
    """Names imported in ``source`` that only nodes/ may import."""
    found = set()
    for module in imported_modules(source, package):
        root = module.split('.')[0]
        own = '.'.join(module.split('.')[:2])
        is_node_import = own == 'sparseoccvla_ros.nodes' and package != 'sparseoccvla_ros.cli'
        if root in ROS_MODULES or root.endswith('_msgs') or own in GENERATED or is_node_import:
            found.add(module)
    return found


def package_of(path: Path) -> str:
    """Dotted name of the package that holds a module."""
    return '.'.join(path.parent.relative_to(PACKAGE.parent).parts)


@pytest.mark.parametrize(
    ('source', 'package', 'expected'),
    [
        ('import rclpy', 'sparseoccvla_ros.model', {'rclpy'}),
        ('def f():\n    from nav_msgs.msg import Path', 'sparseoccvla_ros.data', {'nav_msgs.msg', 'nav_msgs.msg.Path'}),
        ('from sparseoccvla_ros import msg', 'sparseoccvla_ros.data', {'sparseoccvla_ros.msg'}),
        ('from .. import srv', 'sparseoccvla_ros.data', {'sparseoccvla_ros.srv'}),
        ('from importlib import import_module\nimport_module("tf2_ros")', 'sparseoccvla_ros.data', {'tf2_ros'}),
        ('import sparseoccvla_ros.nodes.qos', 'sparseoccvla_ros.data', {'sparseoccvla_ros.nodes.qos'}),
        ('from sparseoccvla_ros.nodes import qos', 'sparseoccvla_ros.cli', set()),
        ('import rosbags.typesys', 'sparseoccvla_ros.data', set()),
    ],
)  # fmt: skip
def test_the_check_sees_every_way_to_import(source, package, expected):
    assert violations(source, package) == expected


@pytest.mark.parametrize('path', ROS_FREE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_nodes_imports_ros(path):
    assert violations(path.read_text(), package_of(path)) == set()


BLOCKED_IMPORT = """
import importlib, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        root = name.split('.')[0]
        if root in {blocked!r} or root.endswith('_msgs') or name in {generated!r}:
            raise ModuleNotFoundError(f'{{name}} is blocked', name=name)

sys.meta_path.insert(0, Blocker())
for module in {modules!r}:
    importlib.import_module(module)
print('imported', len({modules!r}))
"""


def test_everything_else_imports_without_ros(project_root):
    modules = [
        '.'.join(path.relative_to(PACKAGE.parent).with_suffix('').parts).removesuffix('.__init__') for path in ROS_FREE
    ]
    program = BLOCKED_IMPORT.format(blocked=ROS_MODULES, generated=GENERATED, modules=modules)
    done = subprocess.run([sys.executable, '-c', program], cwd=project_root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == str(len(modules))
