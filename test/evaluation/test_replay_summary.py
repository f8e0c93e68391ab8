"""The figures of summary.json, from bags whose content is known."""

import json
import subprocess

import pytest

from sparseoccvla_ros.evaluation import replay_summary
from sparseoccvla_ros.evaluation.replay_summary import AnswerRecord, read_outputs, summarize

ANSWER = AnswerRecord('What?', 'A car.', True, '', 1_600_000_000_508_000_000, 312, 7, 41.123456, 903.2)


@pytest.fixture
def recorded(bags, tmp_path):
    """Five scenes; the trajectories of two are invalid."""
    stamps = [bags.START_NS + number * bags.PERIOD_NS for number in range(5)]
    bags.write_output_bag(tmp_path / 'outputs', stamps, {stamps[1]: 'collision', stamps[4]: 'collision'})
    return read_outputs(tmp_path / 'outputs')


def summary_of(outputs, published_sets=5):
    return summarize(
        outputs,
        published_sets=published_sets,
        answers=[ANSWER],
        sensor_to_trajectory_ms=[100.0, 200.0, 300.0, 400.0, 500.0],
        config={'rate': 0.0},
    )


def test_keys_are_those_that_outside_checks_read(recorded):
    summary = json.loads(json.dumps(summary_of(recorded)))

    assert list(summary) == [
        'scenes', 'trajectories', 'valid_trajectories', 'answers', 'drops', 'latency_ms', 'config', 'revision',
    ]  # fmt: skip
    assert list(summary['answers'][0]) == [
        'question', 'answer', 'success', 'message', 'scene_stamp_ns', 'prompt_tokens', 'generated_tokens',
        'first_token_ms', 'total_ms',
    ]  # fmt: skip
    assert summary['answers'][0]['scene_stamp_ns'] == 1_600_000_000_508_000_000
    assert summary['answers'][0]['first_token_ms'] == 41.123


def test_counts(recorded):
    summary = summary_of(recorded)

    assert (summary['scenes'], summary['trajectories'], summary['valid_trajectories']) == (5, 5, 3)


def test_percentiles_by_hand(recorded):
    latency_ms = summary_of(recorded)['latency_ms']

    # decode: 10, 11, 12, 13, 14 ms; linear between ranks
    assert latency_ms['decode'] == {'p50': 12.0, 'p90': 13.6, 'p99': 13.96, 'max': 14.0}
    assert latency_ms['planner'] == {'p50': 3.0, 'p90': 3.0, 'p99': 3.0, 'max': 3.0}
    assert latency_ms['sensor_to_trajectory']['p50'] == 300.0
    assert list(latency_ms) == ['decode', 'planner', 'sensor_to_trajectory']


def test_drops_are_the_last_counters_and_what_never_came(recorded, bags):
    assert summary_of(recorded)['drops'] == {'late': 4}
    assert summary_of(recorded, published_sets=8)['drops'] == {'late': 4, 'set_without_status': 3}

    first = next(iter(recorded.trajectories))
    del recorded.trajectories[first]
    assert summary_of(recorded)['drops'] == {'late': 4, 'scene_without_trajectory': 1}


def test_nothing_recorded_is_a_summary_of_zeros(bags, tmp_path):
    bags.write_output_bag(tmp_path / 'outputs', [])
    outputs = read_outputs(tmp_path / 'outputs')

    summary = summarize(outputs, published_sets=2, answers=[], sensor_to_trajectory_ms=[], config={})

    assert (summary['scenes'], summary['trajectories'], summary['latency_ms']) == (0, 0, {})
    assert summary['drops'] == {'set_without_status': 2}


def test_revision_is_git_describe_in_a_check_out_and_the_version_elsewhere(project_root, tmp_path, monkeypatch):
    if (project_root / '.git').exists():
        head = subprocess.run(
            ['git', '-C', project_root, 'describe', '--always', '--tags', '--abbrev=12'], capture_output=True, text=True
        ).stdout.strip()
        assert head
        assert replay_summary.revision().startswith(head)

    monkeypatch.setattr(replay_summary, '__file__', str(tmp_path / 'a/b/c.py'))
    assert replay_summary.revision() == replay_summary.__version__
