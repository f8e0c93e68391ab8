"""Real processes over real DDS: one process and three give the same numbers, on made-up and on real input."""

import dataclasses

import numpy as np
import pytest

from sparseoccvla_ros.data.bag_reader import BagReader, decode
from sparseoccvla_ros.data.bag_writer import write_scene_bag
from sparseoccvla_ros.data.nuscenes import NuScenesTables
from sparseoccvla_ros.data.topics import load_preset
from sparseoccvla_ros.nodes.replay import replay_bag
from sparseoccvla_ros.nodes.replay_setup import OUTPUTS, ReplayOptions
from sparseoccvla_ros.world.files.writer import WorldRequest, write_world

SCENES = 20
QUESTION = 'How many cars are ahead?'
#: Outputs that are compared, and the fields that tell durations or arrival times and so differ from run to run.
COMPARED = {
    '/occupancy_queries': set(),
    '/occupancy': set(),
    '/occupancy_grid': set(),
    '/reasoning_tokens': {'prefill_ms', 'forecast_ms', 'prompt_ms'},
    '/forecast': set(),
    '/trajectory': {'input_age_s', 'processing_ms', 'stages', 'stage_ms'},
    '/path': set(),
    '/scene_status': {'stages', 'stage_ms'},
}


def outputs(folder):
    """Messages by (topic, stamp), as nested plain values."""
    found = {}
    with BagReader(folder / OUTPUTS) as reader:
        for message in reader.messages():
            if message.topic in COMPARED:
                fields = dataclasses.asdict(decode(message))
                kept = {name: value for name, value in fields.items() if name not in COMPARED[message.topic]}
                key = (message.topic, message.header_stamp_ns)
                assert key not in found, f'two messages for {key}'
                found[key] = kept
    return found


def assert_equal(first, second, where):
    """Equal to float32 rounding; everything that is no float is equal."""
    if isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for name in first:
            assert_equal(first[name], second[name], f'{where}.{name}')
    elif isinstance(first, list):
        assert len(first) == len(second), where
        for i, (a, b) in enumerate(zip(first, second, strict=True)):
            assert_equal(a, b, f'{where}[{i}]')
    elif isinstance(first, (float, np.ndarray)) and np.asarray(first).dtype.kind == 'f':
        np.testing.assert_allclose(first, second, rtol=1e-6, atol=1e-6, err_msg=where)
    else:
        np.testing.assert_array_equal(first, second, err_msg=where)


def replay(bag, out, separate):
    options = ReplayOptions(bag=bag, out=out, rate=0.0, questions=(QUESTION,), separate=separate)
    return replay_bag(options, lambda line: None)


def both_arrangements(bag, folder):
    """Summaries of the composed and of the separate replay, whose outputs are asserted to agree."""
    composed = replay(bag, folder / 'composed', separate=False)
    separate = replay(bag, folder / 'separate', separate=True)
    in_one, in_three = outputs(folder / 'composed'), outputs(folder / 'separate')
    assert in_one.keys() == in_three.keys()
    assert {topic for topic, _ in in_one} == set(COMPARED)
    for key in in_one:
        assert_equal(in_one[key], in_three[key], f'{key}')
    assert [answer['answer'] for answer in composed['answers']] == [answer['answer'] for answer in separate['answers']]
    return composed, separate, in_one


def test_one_process_and_three_agree_scene_by_scene_on_a_world_bag(tmp_path):
    write_world(tmp_path / 'world', WorldRequest(scenes=1, seed=8, seconds=SCENES / 2))
    tables = NuScenesTables(tmp_path / 'world', 'v1.0-world')
    write_scene_bag(tables, tables.scene_names[0], tmp_path / 'bag', load_preset('default'))
    composed, separate, found = both_arrangements(tmp_path / 'bag', tmp_path)
    for summary in (composed, separate):
        assert (summary['scenes'], summary['trajectories'], summary['drops']) == (SCENES, SCENES, {})
        assert all(answer['success'] and answer['scene_stamp_ns'] for answer in summary['answers'])
    statuses = [value for (topic, _), value in sorted(found.items()) if topic == '/scene_status']
    assert [status['temporal'] for status in statuses] == [False] + [True] * (SCENES - 1)
    # of the candidates: an untrained planner gives the anchors, and the gate passes them at few speeds
    ends = {tuple(value['candidates'][0]['points'][-1]['pose']['position'].values())
            for (topic, _), value in found.items() if topic == '/trajectory' and value['candidates']}  # fmt: skip
    assert len(ends) > SCENES / 2, 'the trajectories are not all alike'


@pytest.mark.nuscenes
def test_a_real_keyframe_goes_through_both_arrangements(nuscenes_dir, tmp_path):
    tables = NuScenesTables(nuscenes_dir, 'v1.0-one')
    write_scene_bag(tables, tables.scene_names[0], tmp_path / 'bag', load_preset('default'))
    composed, separate, found = both_arrangements(tmp_path / 'bag', tmp_path)
    for summary in (composed, separate):
        assert (summary['scenes'], summary['trajectories']) == (1, 1)
        assert summary['answers'][0]['success'], summary['answers'][0]['message']
        assert summary['answers'][0]['answer'].strip()
    queries = next(value for (topic, _), value in found.items() if topic == '/occupancy_queries')
    assert len(queries['cameras_used']) == 6
    assert np.isfinite(queries['features']).all()
    assert np.ptp(queries['positions'].reshape(-1, 3), axis=0).min() > 1.0
    cloud = next(value for (topic, _), value in found.items() if topic == '/occupancy')
    assert cloud['width'] > 0
    trajectory = next(value for (topic, _), value in found.items() if topic == '/trajectory')
    assert trajectory['valid'] or trajectory['reasons']
