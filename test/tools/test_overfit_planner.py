"""tools/overfit_planner.py on a model too small to learn: it runs through, and scores what it says."""

import json
import sys

import overfit_planner
import pytest
import torch

from sparseoccvla_ros.model.checkpoint import save_checkpoint
from sparseoccvla_ros.model.config import load_model_config
from sparseoccvla_ros.model.planner_loss import PlannerTargets
from sparseoccvla_ros.model.vla import build_perception
from sparseoccvla_ros.world.files.writer import WorldRequest, write_world

CHANGES = {
    'image.width_px': 64, 'image.height_px': 32, 'image.frames': 1, 'encoder.queries': 20, 'language.layers': 1,
    'language.width': 64, 'language.ffn_width': 64, 'planner.width': 32, 'planner.ffn_width': 32,
}  # fmt: skip


@pytest.fixture(scope='module')
def arguments(tmp_path_factory):
    folder = tmp_path_factory.mktemp('overfit')
    write_world(folder / 'world', WorldRequest(2, 0, 64, 32, 2, 5.0, None), 1, lambda _: None)
    config = load_model_config('tiny', CHANGES)
    save_checkpoint(folder / 'encoder', {'perception': build_perception(config, weights=None)}, config)
    return [
        '--data',
        str(folder / 'world'),
        '--weights',
        str(folder / 'encoder'),
        '--steps',
        '2',
        '--report-every',
        '1',
    ]


def run(monkeypatch, out, *arguments):
    monkeypatch.setattr(sys, 'argv', ['overfit_planner.py', '--out', str(out), *arguments])
    threads = torch.get_num_threads()
    try:
        overfit_planner.main()
    finally:
        torch.set_num_threads(threads)
    return [json.loads(line) for line in (out / 'log.jsonl').read_text().splitlines()]


def test_it_trains_and_scores_the_same_keyframes(arguments, monkeypatch, tmp_path):
    log = run(monkeypatch, tmp_path, *arguments, '--samples', '4')
    assert [row.get('step') for row in log] == [1, 2, None]
    assert (log[-1]['trained_on'], log[-1]['scored_on']) == (4, 4)
    result = json.loads((tmp_path / 'result.json').read_text())['planner']
    assert result['l2_m']['avg'] == pytest.approx(sum(result['l2_m'][f'{t}s'] for t in (1, 2, 3)) / 3, abs=1e-3)
    # after two steps the refined candidates are still near their anchors
    assert result['l2_of_positive_refined_m']['avg'] == pytest.approx(result['l2_of_positive_anchor_m']['avg'], rel=0.3)
    assert result['l2_of_positive_anchor_m']['3s'] <= result['l2_of_chosen_anchor_m']['3s']
    assert result['diversity_mean'] > 0.8
    assert 0.0 < result['l2_of_constant_turn_m']['avg'] < 2.0


def test_held_out_scenes_are_not_trained_on_and_each_switch_is_a_run(arguments, monkeypatch, tmp_path):
    data = overfit_planner.Path(arguments[1])
    (data / 'splits.json').write_text('{"train": ["scene-0001"], "val": ["scene-0002"]}')
    seen, right = [], overfit_planner.split
    switches, build = [], overfit_planner.build_planner

    def split(samples, given):
        parts = right(samples, given)
        seen.extend(parts)
        return parts

    def built(config, **given):
        switches.append({part for part in overfit_planner.SWITCHES if not getattr(config.planner, part)})
        return build(config, **given)

    monkeypatch.setattr(overfit_planner, 'split', split)
    monkeypatch.setattr(overfit_planner, 'build_planner', built)
    log = run(monkeypatch, tmp_path, *arguments, '--held-out', '--without', 'llm_scoring', 'ego_fusion+ego_scoring')
    assert [set(part.scenes) for part in seen] == [{'scene-0001'}, {'scene-0002'}]
    assert seen[1].targets.valid.all()
    assert not seen[0].targets.valid.all()  # the scene's end is trained on as far as it is known
    runs = ['planner', 'without llm_scoring', 'without ego_fusion+ego_scoring']
    assert [row['run'] for row in log] == [name for name in runs for _ in range(3)]
    assert switches == [set(), {'llm_scoring'}, {'ego_fusion', 'ego_scoring'}]


def test_an_unknown_part_is_refused(arguments, monkeypatch, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, tmp_path, *arguments, '--without', 'ego_fusion+eyes')
    assert "'ego_fusion+eyes' must be of llm_scoring" in capsys.readouterr().err


def test_no_val_scenes_or_too_few_keyframes_are_refused(arguments, monkeypatch, tmp_path):
    data = overfit_planner.Path(arguments[1])
    (data / 'splits.json').write_text('{"train": ["scene-0001", "scene-0002"], "val": []}')
    with pytest.raises(ValueError, match='no val scenes'):
        run(monkeypatch, tmp_path, *arguments, '--held-out')
    with pytest.raises(ValueError, match='--samples is 64'):
        run(monkeypatch, tmp_path, *arguments)


def test_l2_up_to_each_time_worked_by_hand():
    """An error of 0.1 m more at each waypoint: 0.1, 0.2 ... 0.6."""
    waypoints_m = torch.zeros(1, 6, 2)
    waypoints_m[0, :, 1] = 0.1 * torch.arange(1, 7)
    targets = PlannerTargets(torch.zeros(1, 6, 2), torch.ones(1, 6, dtype=torch.bool), torch.tensor([2]))
    assert overfit_planner.l2_stp3_m(waypoints_m, targets) == {'1s': 0.15, '2s': 0.25, '3s': 0.35, 'avg': 0.25}
