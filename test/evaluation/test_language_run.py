"""Asking the engines that run on the car: what they see when, and what becomes of questions without answer."""

import shutil

import pytest
import torch

from sparseoccvla_ros.data.nuscenes import CAMERAS, NuScenesTables
from sparseoccvla_ros.data.qa.pairs import QAPair
from sparseoccvla_ros.evaluation.language_run import Engines, answer_questions
from sparseoccvla_ros.model.config import load_model_config
from sparseoccvla_ros.model.vla import build_language, build_perception
from sparseoccvla_ros.runtime.perception import PerceptionEngine
from sparseoccvla_ros.runtime.questions import QuestionLimits
from sparseoccvla_ros.runtime.reasoning import ReasoningEngine
from sparseoccvla_ros.world.files.tables import VERSION
from sparseoccvla_ros.world.files.writer import WorldRequest, write_world

SCENES = ('scene-0001', 'scene-0002')


@pytest.fixture(scope='module')
def config():
    return load_model_config('tiny', {'image.width_px': 64, 'image.height_px': 32})


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp('world') / 'data'
    write_world(root, WorldRequest(2, 0, 64, 32, 2, 1.0, None), 1, lambda _: None)
    return root


@pytest.fixture
def root(written, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(written, tmp_path / 'data')


@pytest.fixture(scope='module')
def engines(config):
    cpu = torch.device('cpu')
    perception = PerceptionEngine(build_perception(config, weights=None), config, cpu, CAMERAS)
    limits = QuestionLimits(kept_scenes=1, default_max_tokens=4, max_answer_tokens=4, time_limit_s=60.0)
    # of a seed with which random weights say something
    reasoning = ReasoningEngine(build_language(config, weights=None, seed=1), config, cpu, limits)
    yield Engines(perception, config, reasoning)
    reasoning.close()


def samples(root):
    tables = NuScenesTables(root, VERSION)
    return [sample for name in SCENES for sample in tables.scene(name).samples]


def ask(root, engines, questions):
    """Questions as (number of the keyframe, text)."""
    tokens = [sample.token for sample in samples(root)]
    pairs = [QAPair(tokens[number], '', 'conv', text, 'x', 'world') for number, text in questions]
    done = []
    run = answer_questions(NuScenesTables(root, VERSION), SCENES, pairs, engines, lambda: done.append(1))
    assert len(done) == len(set(questions))
    return run


def test_answers_are_those_of_the_engine_about_that_keyframe(written, engines):
    run = ask(written, engines, [(1, 'What is ahead?'), (1, 'Where?'), (1, 'Where?'), (3, 'What is ahead?')])
    keyframes = samples(written)
    assert list(run.answers) == [
        (keyframes[1].token, 'What is ahead?'), (keyframes[1].token, 'Where?'), (keyframes[3].token, 'What is ahead?'),
    ]  # fmt: skip
    assert all(len(given) == 1 and given[0] for given in run.answers.values())
    assert run.failures == []
    assert (run.keyframes, run.temporal, run.degraded) == (4, 2, 0)  # the first of each scene has nothing earlier
    assert engines.reasoning.kept_scenes == (keyframes[3].stamp_ns,)


def test_keyframes_after_the_last_question_are_not_read(written, engines):
    run = ask(written, engines, [(0, 'What is ahead?')])
    assert (run.keyframes, len(run.answers)) == (1, 1)


def test_a_question_that_is_refused_is_a_failure_and_the_others_go_on(written, engines):
    run = ask(written, engines, [(0, 'a' * 3000), (0, 'What is ahead?')])
    assert [(failure.sample, failure.reason) for failure in run.failures] == [
        (samples(written)[0].token, 'the question is too long: 3000 characters, at most 2000')
    ]
    assert len(run.answers) == 1


def test_a_keyframe_that_cannot_be_seen_fails_with_all_its_questions(root, engines):
    keyframes = samples(root)
    for name in CAMERAS:
        keyframes[0].sensors[name].path.write_bytes(b'broken')
    keyframes[1].sensors['CAM_BACK'].path.write_bytes(b'broken')
    run = ask(root, engines, [(0, 'What is ahead?'), (0, 'Where?'), (1, 'Where?')])
    assert [failure.question for failure in run.failures] == ['What is ahead?', 'Where?']
    assert all(failure.reason == f'perception: scene {keyframes[0].stamp_ns} has no camera' for failure in run.failures)
    assert (run.degraded, list(run.answers)) == (1, [(keyframes[1].token, 'Where?')])
