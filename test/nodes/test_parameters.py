"""Parameters: declared once; the YAML, the documentation and the declarations say the same."""

import dataclasses
import importlib.util

import pytest
import rclpy
import yaml
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from sparseoccvla_ros.nodes.parameters import (
    PerceptionParameters,
    PlannerParameters,
    ReasoningParameters,
    declare_parameters,
)

KINDS = {'perception': PerceptionParameters, 'reasoning': ReasoningParameters, 'planner': PlannerParameters}


@pytest.fixture
def context():
    context = rclpy.Context()
    rclpy.init(context=context)
    yield context
    rclpy.try_shutdown(context=context)


def declare(context, kind, cli_args=None, **overrides):
    node = Node(
        'parameters_test',
        context=context,
        cli_args=cli_args,
        parameter_overrides=[Parameter(name, value=value) for name, value in overrides.items()],
    )
    try:
        return declare_parameters(node, kind), node
    finally:
        node.destroy_node()


@pytest.mark.parametrize('name', KINDS)
def test_yaml_and_declarations_have_the_same_keys_and_values(project_root, name):
    stack = yaml.safe_load((project_root / 'config' / 'stack.yaml').read_text())
    assert set(stack) == {f'/**/{node}' for node in KINDS}
    from_yaml = dict(stack[f'/**/{name}']['ros__parameters'])
    assert from_yaml.pop('use_sim_time') is False
    assert from_yaml == dataclasses.asdict(KINDS[name]())


@pytest.mark.parametrize('namespace', ['', 'car'])
@pytest.mark.parametrize('name', KINDS)
def test_the_yaml_reaches_the_node_in_any_namespace(project_root, context, tmp_path, name, namespace):
    changed = (project_root / 'config' / 'stack.yaml').read_text().replace('seed: 0', 'seed: 77')
    (tmp_path / 'stack.yaml').write_text(changed)
    arguments = ['--ros-args', '--params-file', str(tmp_path / 'stack.yaml')]
    node = Node(name, namespace=namespace, context=context, cli_args=arguments)
    try:
        assert declare_parameters(node, KINDS[name]).seed == 77
    finally:
        node.destroy_node()


@pytest.mark.parametrize('name', KINDS)
def test_every_parameter_is_described_and_read_only(context, name):
    node = Node('described', context=context)
    declare_parameters(node, KINDS[name])
    for spec in dataclasses.fields(KINDS[name]):
        descriptor = node.describe_parameter(spec.name)
        assert len(descriptor.description) > 10, spec.name
        assert descriptor.read_only, spec.name
        if isinstance(getattr(KINDS[name](), spec.name), float):
            assert descriptor.floating_point_range, spec.name
    node.destroy_node()


@pytest.mark.parametrize(
    ('kind', 'overrides', 'named'),
    [
        (PerceptionParameters, {'reference_camera': 'CAM_TOP'}, ['CAM_TOP', 'CAM_FRONT']),
        (PerceptionParameters, {'min_cameras': 9}, ['min_cameras', '9', '6']),
        (PerceptionParameters, {'image_type': 'h264'}, ['h264', 'compressed', 'raw']),
        (PerceptionParameters, {'image_topic': '/front'}, ['image_topic', '/front', '{camera}']),
        (PerceptionParameters, {'self_filter_m': [float('nan')] * 6}, ['self_filter_m', 'nan', 'smaller']),
        (PerceptionParameters, {'self_filter_m': [0.0, 1.0, 2.0]}, ['self_filter_m', '[0.0, 1.0, 2.0]', 'smaller']),
        (
            PerceptionParameters,
            {'self_filter_m': [0.0, 1.0, 0.0, 3.0, -1.0, 1.0]},
            ['self_filter_m', '-1.0', 'smaller'],
        ),
        (PerceptionParameters, {'pose_source': 'gps'}, ['gps', 'odometry', 'tf']),
        (PlannerParameters, {'default_command': 'back'}, ['back', 'straight']),
    ],
)
def test_a_wrong_value_is_refused_with_the_value_and_what_was_expected(context, kind, overrides, named):
    with pytest.raises(ValueError, match='parameter') as refusal:
        declare(context, kind, **overrides)
    for word in named:
        assert word in str(refusal.value)


def test_type_and_range_are_checked_by_ros(context):
    with pytest.raises(InvalidParameterTypeException):
        declare(context, PerceptionParameters, min_cameras='four')
    with pytest.raises(InvalidParameterTypeException):
        declare(context, PerceptionParameters, self_filter_m=[0, 0, 0, 0, 0, 0])
    with pytest.raises(InvalidParameterValueException):
        declare(context, PlannerParameters, deadline_s=-1.0)


@pytest.mark.parametrize('name', KINDS)
def test_the_tables_in_the_documentation_are_current(project_root, name):
    spec = importlib.util.spec_from_file_location('tables', project_root / 'tools' / 'parameter_tables.py')
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    page = (project_root / 'docs' / 'nodes' / f'{name}.md').read_text()
    assert page == tables.with_table(page, KINDS[name]), 'run tools/parameter_tables.py'
