"""The loop: learns, goes on after a kill as if nothing had been, and ends with a word where it cannot go on."""

import errno
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sparseoccvla_ros.data.nuscenes import NuScenesError
from sparseoccvla_ros.model.checkpoint import CheckpointError
from sparseoccvla_ros.model.config import load_model_config
from sparseoccvla_ros.model.vla import build_language, build_perception, build_planner
from sparseoccvla_ros.training import signatures, trainer
from sparseoccvla_ros.training.log import TrainingLog
from sparseoccvla_ros.training.out_of_memory import what_to_try
from sparseoccvla_ros.training.run_state import RunStateError, RunWriteError
from sparseoccvla_ros.training.trainer import TrainingError, train
from sparseoccvla_ros.world.files.writer import WorldRequest, write_world

NOT_COMPARED = ('step_ms', 'wait_share', 'rss_mb')


def rows(out: Path) -> list[dict[str, float]]:
    """The log without what depends on the machine."""
    lines = map(json.loads, (out / 'log.jsonl').read_text().splitlines())
    return [{key: value for key, value in line.items() if key not in NOT_COMPARED} for line in lines if 'step' in line]


def warnings(out: Path) -> list[str]:
    """Those in the log."""
    return [row['warning'] for row in map(json.loads, (out / 'log.jsonl').read_text().splitlines()) if 'warning' in row]


@pytest.fixture
def killed_after(monkeypatch):
    """Ends a run with KeyboardInterrupt when this step has been logged, before anything is saved."""
    original = TrainingLog.step

    def arm(last: int) -> None:
        def step(self, step, *arguments):
            original(self, step, *arguments)
            if step == last:
                raise KeyboardInterrupt

        monkeypatch.setattr(TrainingLog, 'step', step)

    return arm


def test_a_killed_run_goes_on_as_the_uninterrupted_one(recipe_of, tmp_path, killed_after, monkeypatch):
    """With what is random: augmentation, noise, drawn voxels; and with batches that are accumulated."""
    changes = [
        'save_every=2', 'optimization.accumulate=2', 'optimization.batch_size=1', 'losses.occupancy.voxels_drawn=500',
        'augmentation.photometric={}', 'augmentation.scene.flip_y_probability=0.5',
    ]  # fmt: skip
    whole, broken = (recipe_of(*changes, f'out={tmp_path / name}') for name in ('whole', 'broken'))
    folder = train(whole)
    killed_after(3)
    with pytest.raises(KeyboardInterrupt):
        train(broken)
    log = tmp_path / 'broken/log.jsonl'
    assert [row['step'] for row in rows(tmp_path / 'broken')] == [1, 2, 3]
    log.write_text(log.read_text() + '{"step": 4, "lo')  # torn by the kill
    monkeypatch.undo()
    assert train(broken) == tmp_path / 'broken/checkpoint'
    assert [row['step'] for row in rows(tmp_path / 'broken')] == [1, 2, 3, 4]
    for one, other in zip(rows(tmp_path / 'whole'), rows(tmp_path / 'broken'), strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert other[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name
    one, other = (load_file(tmp_path / name / 'checkpoint/model.safetensors') for name in ('whole', 'broken'))
    for name in one:
        torch.testing.assert_close(other[name], one[name], rtol=1e-3, atol=1e-5)
    # every part learnt, not by decay alone, and a checkpoint is what the car loads
    assert any(row['planner.path'] > 0 and row['planner.score'] > 0 for row in rows(tmp_path / 'whole'))
    config = load_model_config(folder / 'config.yaml')
    for build in (build_perception, build_language, build_planner):
        start, end = build(config, weights=None).state_dict(), build(config, weights=folder).state_dict()
        assert any(not torch.equal(start[name], end[name]) for name in start)


def test_a_process_killed_at_any_step_goes_on_as_the_uninterrupted_one(recipe_of, write_recipe, tmp_path):
    """By SIGKILL, wherever it is; with adapters and their dropout, the reading practice, and a process that reads."""
    changes = [
        'terms=[answers, reading]', 'train=[language.llm]', 'data.workers=1', 'save_every=3', 'optimization.steps=12',
        'lora={rank: 2, alpha: 4, dropout: 0.3, targets: [q_proj, v_proj]}', 'losses.reading.sets=2',
    ]  # fmt: skip
    whole, broken = ([*changes, f'out={tmp_path / name}'] for name in ('whole', 'broken'))
    train(recipe_of(*whole))
    last = random.Random(time.time_ns()).randint(4, 10)
    command = [sys.executable, '-m', 'sparseoccvla_ros.cli.main', 'train', str(write_recipe()), *broken]
    log = tmp_path / 'broken/log.jsonl'
    with subprocess.Popen([*command, '--threads', '1'], stdout=subprocess.DEVNULL, start_new_session=True) as process:
        while process.poll() is None and not (log.is_file() and f'"step": {last},' in log.read_text()):
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, f'it ended before step {last} was seen'
    saved = torch.load(tmp_path / 'broken/state.pt', weights_only=True)['step']
    assert last - 3 <= saved < 12
    train(recipe_of(*broken))
    curves = [[row['loss'] for row in rows(tmp_path / name)] for name in ('whole', 'broken')]
    assert curves[1] == pytest.approx(curves[0], rel=1e-4), f'killed at step {last}, went on from {saved}'
    assert len(set(curves[0])) == 12


def test_only_what_the_recipe_names_learns(recipe_of, tmp_path):
    recipe = recipe_of('terms=[occupancy]', 'train=[perception.encoder]', 'optimization.steps=2')
    folder = train(recipe)
    config = load_model_config(folder / 'config.yaml')
    start, end = (
        build_perception(config, weights=None).state_dict(),
        build_perception(config, weights=folder).state_dict(),
    )
    changed = {name for name in start if not torch.equal(start[name], end[name])}
    assert changed
    assert all(name.startswith('encoder.') for name in changed)


def test_another_recipe_does_not_go_on_with_the_state(recipe_of):
    train(recipe_of('terms=[occupancy]', 'train=[perception]', 'optimization.steps=1'))
    with pytest.raises(RunStateError, match=r'optimization\.peak_lr: expected 0\.5, found 0\.001'):
        train(recipe_of('terms=[occupancy]', 'train=[perception]', 'optimization.steps=1', 'optimization.peak_lr=0.5'))


def test_a_damaged_state_is_named(recipe_of, tmp_path):
    recipe = recipe_of('terms=[occupancy]', 'train=[perception]', 'optimization.steps=1')
    train(recipe)
    state = tmp_path / 'run/state.pt'
    for content in (state.read_bytes()[:-1000], b'no state', b''):
        state.write_bytes(content)
        with pytest.raises(RunStateError, match=r'state\.pt is damaged'):
            train(recipe)


def test_a_stage_begins_with_the_one_before_and_does_not_go_on_with_another(recipe_of, tmp_path):
    """As tiny/stage2_blind does: another setting of the language model, the encoder of an earlier stage."""
    first = train(recipe_of('terms=[occupancy]', 'train=[perception]', 'optimization.steps=1'))
    changes = ['terms=[answers]', 'train=[language.llm]', f'start.perception={first}', f'out={tmp_path / "next"}']
    blind = {**recipe_of().overrides, 'language.blind': True}
    assert train(recipe_of(*changes, overrides=blind)) is not None
    before = load_file(first / 'model.safetensors')
    again = {name: tensor + 1 for name, tensor in before.items()}
    with safe_open(first / 'model.safetensors', framework='pt') as file:
        metadata = file.metadata()
    save_file(again, first / 'model.safetensors', metadata=metadata)
    with pytest.raises(RunStateError, match=r'weights\.perception: expected'):
        train(recipe_of(*changes, overrides=blind))


def test_another_revision_of_the_sources_goes_on_but_says_so(recipe_of, tmp_path, monkeypatch):
    changes = ['terms=[occupancy]', 'train=[perception]', 'optimization.steps=2']
    assert train(recipe_of(*changes), stop_after_s=0.0) is None
    monkeypatch.setattr(trainer, 'revision', lambda: 'another')
    assert train(recipe_of(*changes)) is not None
    [warning] = warnings(tmp_path / 'run')
    assert 'this is another' in warning


def test_known_failures_are_told_at_the_start_while_it_runs_and_of_the_result(recipe_of, tmp_path, monkeypatch):
    monkeypatch.setattr(signatures, 'POSITION_EFFECT', 10.0)
    monkeypatch.setattr(signatures, 'HIGH_ANSWER_LOSS', 0.1)
    train(recipe_of('terms=[answers]', 'train=[language]', 'optimization.steps=1'))
    before, during, after = warnings(tmp_path / 'run')
    assert before.startswith('position encoding')
    assert during.startswith('the language model starts with a loss')
    assert after.startswith('the trained position encoding')


def test_a_start_of_another_model_is_refused(recipe_of, tmp_path):
    folder = train(recipe_of('terms=[occupancy]', 'train=[perception]', 'optimization.steps=1'))
    other = recipe_of('overrides={}', f'start.perception={folder}', f'out={tmp_path / "other"}')
    with pytest.raises(CheckpointError, match='holds another model'):
        train(other)


def test_missing_labels_are_listed_and_fail_unless_they_may_be_skipped(recipe_of, street, tmp_path):
    copy = tmp_path / 'copy'
    shutil.copytree(street, copy, copy_function=lambda source, to: Path(to).symlink_to(source))
    lost = sorted((copy / 'gts/scene-0001').iterdir())[:2]
    whole = (lost[1] / 'labels.npz').read_bytes()
    for folder in lost:
        (folder / 'labels.npz').unlink()
    (lost[1] / 'labels.npz').write_bytes(whole[: len(whole) // 2])  # a copy that was cut short
    changes = ['terms=[occupancy]', 'train=[perception]', 'optimization.steps=1', f'data.root={copy}']
    with pytest.raises(FileNotFoundError, match='2 of 12 keyframes have no labels') as error:
        train(recipe_of(*changes))
    assert all(folder.name in str(error.value) for folder in lost)
    assert train(recipe_of(*changes, 'data.missing_labels=skip')) is not None


def test_missing_images_are_listed_and_fail_unless_their_cameras_may_be_left_out(recipe_of, street, tmp_path, caplog):
    copy = tmp_path / 'copy'
    shutil.copytree(street, copy, copy_function=lambda source, to: Path(to).symlink_to(source))
    lost = sorted((copy / 'samples/CAM_BACK').iterdir())
    for file in lost:
        file.unlink()
    changes = ['terms=[occupancy]', 'train=[perception]', 'optimization.steps=1', f'data.root={copy}']
    with pytest.raises(FileNotFoundError, match='12 of 72 images are not there') as error:
        train(recipe_of(*changes))
    assert all(str(file) in str(error.value) for file in lost[:10])
    assert train(recipe_of(*changes, 'data.missing_images=mask')) is not None
    assert '12 of 72 images' in caplog.text
    lost[0].write_bytes(b'no photograph')
    caplog.clear()
    changes += ['data.missing_images=mask', 'optimization.batch_size=12', f'out={tmp_path / "broken"}']
    assert train(recipe_of(*changes)) is not None
    assert 'CAM_BACK, frame 0' in caplog.text


@pytest.mark.parametrize('cached', [False, True])
def test_keyframes_without_any_image_are_left_out_where_images_may_be_missing(
    recipe_of, street, tmp_path, caplog, cached
):
    copy = tmp_path / 'copy'
    shutil.copytree(street, copy, copy_function=lambda source, to: Path(to).symlink_to(source))
    for folder in (copy / 'samples').glob('CAM_*'):
        for file in sorted(folder.iterdir())[:2]:
            file.unlink()
    changes = ['terms=[answers]', 'train=[language]', 'optimization.steps=1', 'optimization.batch_size=10']
    changes += [f'data.root={copy}', 'data.missing_images=mask']
    changes += [f'data.query_cache={tmp_path / "queries"}'] * cached
    assert train(recipe_of(*changes)) is not None
    assert '2 keyframes have no image at all; left out' in caplog.text


def test_other_questions_under_the_same_name_do_not_go_on_with_the_state(recipe_of, street, tmp_path):
    asked = tmp_path / 'pairs'
    shutil.copytree(street / 'questions/pairs', asked)
    changes = ['terms=[answers]', 'train=[language]', 'optimization.steps=1', f'data.questions_path={asked}']
    train(recipe_of(*changes))
    moved = asked.rename(tmp_path / 'moved')
    changes[-1] = f'data.questions_path={moved}'
    train(recipe_of(*changes))
    text = (moved / 'train.jsonl').read_text()
    (moved / 'train.jsonl').write_text(text.replace('"question": "', '"question": "Now: '))
    with pytest.raises(RunStateError, match='samples_sha256'):
        train(recipe_of(*changes))


def test_a_loss_that_is_not_finite_ends_the_run_and_names_the_terms(recipe_of, tmp_path, monkeypatch):
    recipe = recipe_of('terms=[occupancy, answers]', 'train=[perception, language]', 'save_every=1')
    real = trainer.combine

    def burst(terms, accelerator):
        if burst.left == 0:
            terms['answers'] = terms['answers']._replace(value=terms['answers'].value * float('nan'))
        burst.left -= 1
        return real(terms, accelerator)

    burst.left = 2
    monkeypatch.setattr(trainer, 'combine', burst)
    with pytest.raises(TrainingError, match=r'step 3: the loss is not finite(.|\n)*answers: nan(.|\n)*keyframes: '):
        train(recipe)
    assert torch.load(tmp_path / 'run/state.pt', weights_only=True)['step'] == 2


def test_a_stage_on_images_names_them(recipe_of, tmp_path, monkeypatch):
    write_world(tmp_path / 'data', WorldRequest(1, 7, 96, 32, 2, 1.0, None, False, True), 1)
    recipe = recipe_of(
        'terms=[classes_in_image]', 'train=[perception.backbone, heads]', 'data.questions=none', 'data.split=',
        f'data.root={tmp_path / "data"}',
    )  # fmt: skip

    def burst(terms, accelerator):
        return None, torch.tensor(float('nan'))

    monkeypatch.setattr(trainer, 'combine', burst)
    with pytest.raises(TrainingError, match=r'classes_in_image(.|\n)*images: .*samples/CAM_.*\.jpg, '):
        train(recipe)


def test_points_that_are_no_numbers_end_the_run_too(recipe_of):
    """How a divergence shows first: before there is any term."""
    recipe = recipe_of('terms=[occupancy]', 'train=[perception]', 'optimization.peak_lr=1.0e+30')
    with pytest.raises(TrainingError, match=r'step \d: (\d+ of \d+ points|the gradient|the loss)(.|\n)*not finite'):
        train(recipe)


def test_bf16_and_fp32_in_one_process(recipe_of, tmp_path):
    changes = ['terms=[occupancy]', 'train=[perception]', 'optimization.steps=1']
    for precision in ('fp32', 'bf16', 'fp32'):
        train(recipe_of(*changes, f'optimization.precision={precision}', f'out={tmp_path / precision}'))
    losses = [rows(tmp_path / precision)[0]['loss'] for precision in ('fp32', 'bf16')]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def test_a_time_limit_saves_and_leaves(recipe_of, tmp_path):
    recipe = recipe_of('terms=[occupancy]', 'train=[perception]', 'optimization.steps=2')
    assert train(recipe, stop_after_s=0.0) is None
    assert torch.load(tmp_path / 'run/state.pt', weights_only=True)['step'] == 1
    assert train(recipe, stop_after_s=0.0) == tmp_path / 'run/checkpoint'


def test_batches_may_be_cut_smaller_when_memory_ran_out(recipe_of, tmp_path):
    changes = ['terms=[occupancy]', 'train=[perception]', 'optimization.steps=2', 'optimization.batch_size=2']
    assert train(recipe_of(*changes), stop_after_s=0.0) is None
    smaller = [*changes[:-1], 'optimization.batch_size=1', 'optimization.accumulate=2']
    assert train(recipe_of(*smaller)) is not None
    with pytest.raises(RunStateError, match=r'optimization\.batch: expected 3, found 2'):
        train(recipe_of(*smaller, 'optimization.accumulate=3'))


def test_learning_rate_factors_are_for_something(recipe_of):
    with pytest.raises(ValueError, match=r"no parameter that learns begins with 'perception\.bacbone'"):
        train(recipe_of('terms=[occupancy]', 'train=[perception]', 'optimization.lr_factors={perception.bacbone: 0.1}'))


def test_only_places_that_are_named_are_learnt_from(recipe_of, street):
    [place] = {row['location'] for row in json.loads((street / 'v1.0-world/log.json').read_text())}
    changes = ['terms=[occupancy]', 'train=[perception]', 'optimization.steps=1']
    assert train(recipe_of(*changes, f'data.locations=[{place}]')) is not None
    with pytest.raises(NuScenesError, match=f'no scene is at .elsewhere.; scenes are at {place}'):
        train(recipe_of(*changes, 'data.locations=[elsewhere]'))


@pytest.mark.parametrize(
    ('size', 'advice'),
    [
        (6, r'batch_size=3 optimization\.accumulate=2'),
        (1, r'One sample(.|\n)*optimization\.precision=bf16, smaller images'),
    ],
)
def test_out_of_memory_says_which_batch_to_try(recipe_of, monkeypatch, size, advice):
    def full(terms, accelerator):
        raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB')

    monkeypatch.setattr(trainer, 'combine', full)
    with pytest.raises(TrainingError, match=rf'out of memory with batches of {size}(.|\n)*{advice}'):
        train(recipe_of('terms=[occupancy]', 'train=[perception]', f'optimization.batch_size={size}'))


def test_one_keyframe_that_does_not_fit_behind_a_language_model_is_asked_less(recipe_of):
    recipe = recipe_of('train=[language]', 'optimization.batch_size=1', 'optimization.precision=bf16')
    assert what_to_try(recipe).startswith('One sample does not fit. Try data.questions_per_keyframe=1; or share')


def test_out_of_memory_before_the_first_step_does_not_blame_the_batch(recipe_of, monkeypatch):
    def build(*_):
        raise OSError(errno.ENOMEM, 'Cannot allocate memory')

    monkeypatch.setattr(trainer, 'build_stage', build)
    with pytest.raises(TrainingError, match=r'before the first step: .*Cannot allocate memory.*whatever the batch'):
        train(recipe_of('terms=[occupancy]', 'train=[perception]'))


def test_a_full_disk_is_the_reason_told_when_the_log_cannot_be_written(tmp_path):
    def write() -> None:
        with TrainingLog(tmp_path, 0, 2, enabled=True) as log:
            log._file.close()
            log._file = Path('/dev/full').open('w')  # noqa: SIM115
            log.step(1, {'answers': 1.0}, 1e-3, 1.0, 1.0, 0.0)

    with pytest.raises(RunWriteError, match='step 1'):
        write()


def test_a_full_disk_leaves_the_state_before(recipe_of, tmp_path):
    recipe = recipe_of('terms=[occupancy]', 'train=[perception]', 'optimization.steps=1')
    train(recipe)
    state = tmp_path / 'run/state.pt'
    before = state.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))
    try:
        with pytest.raises(RunWriteError, match=r'step 1: the state cannot be written .* is kept in'):
            train(recipe)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert state.read_bytes() == before
    assert not list(tmp_path.glob('run/*.partial'))


def test_adapters_are_merged_and_nothing_else_of_the_language_model_learns(recipe_of, tmp_path):
    first = train(recipe_of('terms=[answers]', 'train=[language]', 'optimization.steps=1'))
    lora = {'rank': 2, 'alpha': 4, 'dropout': 0.0, 'targets': ['q_proj']}
    second = train(
        recipe_of(
            'terms=[answers]', 'train=[language.llm]', 'optimization.steps=2', f'out={tmp_path / "second"}',
            f'start.language={first}', lora=lora,
        )
    )  # fmt: skip
    config = load_model_config(second / 'config.yaml')
    start, end = (build_language(config, weights=folder).state_dict() for folder in (first, second))
    changed = {name for name in start if not torch.equal(start[name], end[name])}
    assert changed
    assert all(name.endswith('q_proj.weight') for name in changed)
