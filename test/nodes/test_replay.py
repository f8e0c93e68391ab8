"""The replay against a stand-in for the stack, in processes of their own, over real DDS."""

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from sparseoccvla_ros.data.bag_reader import BagReader
from sparseoccvla_ros.data.topics import load_preset
from sparseoccvla_ros.data.typestore import package_typestore
from sparseoccvla_ros.evaluation.bag_input import BagInputError
from sparseoccvla_ros.nodes.processes import ProcessDiedError
from sparseoccvla_ros.nodes.replay import ReplayError, replay_bag
from sparseoccvla_ros.nodes.replay_setup import ReplayOptions, prepare_folder, question_places, stack_parameters

FAKES = Path(__file__).parent / 'fakes'
SETS = 6


@pytest.fixture(scope='module')
def bags():
    return runpy.run_path(str(FAKES / 'bag.py'))


@pytest.fixture(scope='module')
def bag(bags, tmp_path_factory):
    path = tmp_path_factory.mktemp('bag') / 'bag'
    bags['write_input_bag'](path, sets=SETS)
    return path


def fake_stack(*arguments: str) -> dict[str, list[str]]:
    return {'stack': [sys.executable, str(FAKES / 'stack.py'), *arguments]}


def replayed(bag, out, *arguments, **options):
    told: list[str] = []
    options.setdefault('rate', 0.0)
    summary = replay_bag(ReplayOptions(bag=bag, out=out, commands=fake_stack(*arguments), **options), told.append)
    return summary, told


@pytest.fixture(scope='module')
def lockstep(bag, tmp_path_factory):
    """A finished lockstep replay with three questions and one refused set: (folder, summary)."""
    out = tmp_path_factory.mktemp('lockstep')
    summary, _ = replayed(bag, out, '--refuse', '3', questions=('first?', 'refuse', 'last?'))
    return out, summary


def test_every_set_is_seen_and_every_accepted_one_planned(lockstep):
    out, summary = lockstep

    assert (summary['scenes'], summary['trajectories'], summary['valid_trajectories']) == (SETS - 1, SETS - 1, 3)
    assert json.loads((out / 'summary.json').read_text()) == summary
    assert '<title>' in (out / 'report.html').read_text()
    assert summary['drops'] == {}  # the stand-in's counter of the last set is zero


def test_questions_are_asked_about_the_scene_just_planned(lockstep, bags):
    _, summary = lockstep
    first, refused, last = summary['answers']

    # after a third of six sets, and at the end
    second_ns = bags['START_NS'] + bags['PERIOD_NS'] + bags['OFFSETS_MS']['CAM_FRONT'] * 1_000_000
    assert (first['question'], first['answer'], first['success']) == (
        'first?', 'a car <b>ahead</b> & more of first?', True,
    )  # fmt: skip
    assert first['scene_stamp_ns'] == second_ns
    assert (first['prompt_tokens'], first['generated_tokens'], first['first_token_ms']) == (20, 5, 4.25)
    assert last['scene_stamp_ns'] == second_ns + 4 * bags['PERIOD_NS']
    assert (refused['success'], refused['message']) == (False, 'the fake refuses')


def test_the_recording_holds_the_published_bytes_in_bag_time(lockstep, bags):
    out, _ = lockstep
    with BagReader(out / 'outputs') as reader:
        statuses = list(reader.messages(['/scene_status']))
        assert set(reader.topics) >= {'/occupancy_queries', '/forecast', '/path', '/markers', '/diagnostics'}
    decoded = [package_typestore().deserialize_cdr(raw.data, raw.msgtype) for raw in statuses]

    assert [message.accepted for message in decoded] == [True, True, True, False, True, True]
    for number, raw in enumerate(statuses):
        begin_ns = bags['START_NS'] + number * bags['PERIOD_NS']
        assert begin_ns <= raw.log_stamp_ns < begin_ns + bags['PERIOD_NS']


def test_latency_is_measured_from_the_last_image(lockstep):
    _, summary = lockstep

    whole = summary['latency_ms']['sensor_to_trajectory']
    assert 0.0 < whole['p50'] <= whole['max'] < 5000.0


def test_in_bag_time_the_clock_runs_at_the_asked_rate(bag, tmp_path):
    begin_s = time.monotonic()

    summary, told = replayed(bag, tmp_path / 'out', rate=5.0, questions=('first?', 'last?'))

    assert time.monotonic() - begin_s > 2.5 / 5.0  # five periods of 0.5 s
    # Images are best effort: in bag time nobody waits for one that the transport lost, so one set may be missing.
    assert summary['scenes'] == summary['trajectories']
    assert summary['scenes'] >= SETS - 1
    assert [answer['success'] for answer in summary['answers']] == [True, True]
    assert any('stack active' in text for text in told)


def test_a_set_without_trajectory_stops_the_replay_and_is_named(bag, tmp_path):
    with pytest.raises(ReplayError, match=r'stuck at set 3 of 6, stamp \d+ ns, .* no trajectory came within 5 s'):
        replayed(bag, tmp_path / 'out', '--mute', '2', set_timeout_s=5.0)


def test_a_set_that_perception_never_reports_is_told_apart(bags, tmp_path):
    # the stand-in, unlike perception, does not report incomplete sets
    bags['write_input_bag'](tmp_path / 'bag', sets=3, without=[(1, 'CAM_BACK')])

    # longer than the 3 s after which the transport sends a lost sample again: the first set must not fail
    with pytest.raises(ReplayError, match=r'stuck at set 2 of 3, .* with 5 cameras: no scene status came'):
        replayed(tmp_path / 'bag', tmp_path / 'out', set_timeout_s=5.0)


def test_a_process_that_dies_ends_the_replay_with_its_last_words(bag, tmp_path):
    begin_s, environment = time.monotonic(), dict(os.environ)

    with pytest.raises(
        ProcessDiedError, match=r'(?s)process stack ended with exit code 3.*the fake stack dies as told'
    ):
        replayed(bag, tmp_path / 'out', '--die', '2')

    assert time.monotonic() - begin_s < 30.0
    assert dict(os.environ) == environment


def test_a_bag_without_the_topics_fails_before_anything_starts(bags, tmp_path):
    bags['write_input_bag'](tmp_path / 'bag', sets=1, topics='/car')

    with pytest.raises(BagInputError, match='/car/CAM_FRONT/camera_info'):
        replayed(tmp_path / 'bag', tmp_path / 'out')

    assert not (tmp_path / 'out').exists()


def test_sigterm_to_the_replay_leaves_no_process(bag, tmp_path):
    code = (
        'import sys; from pathlib import Path\n'
        'from sparseoccvla_ros.nodes.processes import exit_on_sigterm\n'
        'from sparseoccvla_ros.nodes.replay import replay_bag\n'
        'from sparseoccvla_ros.nodes.replay_setup import ReplayOptions\n'
        'with exit_on_sigterm():\n'
        '    replay_bag(ReplayOptions(bag=Path(sys.argv[1]), out=Path(sys.argv[2]), rate=0.0,\n'
        '        commands={"stack": sys.argv[3:]}), lambda text: print(text, flush=True))\n'
    )
    stack = fake_stack('--mute', '1')['stack']
    process = subprocess.Popen(
        [sys.executable, '-c', code, str(bag), str(tmp_path / 'out'), *stack], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith('stack active'):
            break
    children = Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text().split()
    assert len(children) == 1

    process.send_signal(signal.SIGTERM)

    assert process.wait(20) == 128 + signal.SIGTERM
    process.stdout.close()
    assert not Path(f'/proc/{children[0]}').exists()


@pytest.mark.parametrize(
    ('questions', 'sets', 'places'),
    [(0, 9, []), (1, 9, [2]), (2, 9, [2, 8]), (3, 40, [12, 26, 39]), (2, 1, [0, 0]), (3, 2, [0, 0, 1])],
)
def test_questions_are_spread_from_a_third_to_the_end(questions, sets, places):
    assert question_places(questions, sets) == places


def test_an_earlier_replay_is_replaced_and_anything_else_refused(tmp_path):
    out = tmp_path / 'out'
    (out / 'outputs').mkdir(parents=True)
    (out / 'outputs' / 'outputs.mcap').write_bytes(b'old')
    (out / 'summary.json').write_text('{}')
    with pytest.raises(ValueError, match=r'outputs, summary\.json'):
        prepare_folder(out, frozenset())  # names alone prove nothing

    (out / 'params.yaml').write_text('')
    (out / 'world').mkdir()

    with pytest.raises(ValueError, match='world'):
        prepare_folder(out, frozenset())
    assert (out / 'summary.json').exists()

    prepare_folder(out, frozenset({'world'}))
    assert sorted(entry.name for entry in out.iterdir()) == ['params.yaml', 'world']


def test_parameters_name_the_bags_topics_and_frames(tmp_path):
    params = tmp_path / 'params.yaml'
    params.write_text(yaml.safe_dump({'/**': {'ros__parameters': {'seed': 7, 'use_sim_time': False}}}))
    options = ReplayOptions(bag=tmp_path, out=tmp_path, rate=0.0, params=params)

    parameters = stack_parameters(options, load_preset('nuscenes_to_ros2bag'))

    assert {node: values['seed'] for node, values in parameters.items()} == {
        'perception': 7, 'reasoning': 7, 'planner': 7,
    }  # fmt: skip
    assert all(values['use_sim_time'] is True for values in parameters.values())
    assert parameters['perception']['image_topic'] == '/{camera}/image_rect_compressed'
    assert parameters['planner']['odom_frame'] == 'map'
    # in lockstep no limit of the steady clock may decide what comes out
    assert parameters['perception']['set_timeout_s'] > 1.0
    in_time = stack_parameters(ReplayOptions(bag=tmp_path, out=tmp_path, rate=1.0), load_preset('default'))
    assert in_time['perception']['set_timeout_s'] < 1.0


@pytest.mark.parametrize('options', [{'rate': -1.0}, {'rate': float('nan')}, {'questions': (' ',)}])
def test_senseless_options_are_refused(options, tmp_path):
    with pytest.raises(ValueError, match=r'rate|question'):
        ReplayOptions(bag=tmp_path, out=tmp_path, **options)
