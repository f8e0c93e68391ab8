"""tools/overfit_forecast.py on a model too small to learn: it runs through, and scores what it says."""

import json
import sys

import overfit_forecast
import pytest
import torch

from sparseoccvla_ros.model.checkpoint import save_checkpoint
from sparseoccvla_ros.model.config import load_model_config
from sparseoccvla_ros.model.vla import build_perception
from sparseoccvla_ros.world.files.writer import WorldRequest, write_world

CHANGES = {
    'image.width_px': 64, 'image.height_px': 32, 'image.frames': 1, 'encoder.queries': 20, 'language.layers': 1,
    'language.width': 64, 'language.ffn_width': 64, 'forecaster.points': 2,
}  # fmt: skip


@pytest.fixture(scope='module')
def arguments(tmp_path_factory):
    folder = tmp_path_factory.mktemp('overfit')
    write_world(folder / 'world', WorldRequest(1, 0, 64, 32, 2, 4.0, None), 1, lambda _: None)
    config = load_model_config('tiny', CHANGES)
    save_checkpoint(folder / 'encoder', {'perception': build_perception(config, weights=None)}, config)
    paths = ['--out', str(folder / 'out'), '--data', str(folder / 'world'), '--weights', str(folder / 'encoder')]
    return [*paths, '--points', '3', '--steps', '2', '--report-every', '1']


def test_it_trains_twice_and_scores_all_rows(arguments, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['overfit_forecast.py', *arguments, '--keyframes', '1'])
    threads = torch.get_num_threads()
    try:
        overfit_forecast.main()
    finally:
        torch.set_num_threads(threads)
    out = overfit_forecast.Path(arguments[1])
    log = [json.loads(line) for line in (out / 'log.jsonl').read_text().splitlines()]
    assert [(row['run'], row['step']) for row in log] == [
        ('forecast', 1), ('forecast', 2), ('trained_to_stand_still', 1), ('trained_to_stand_still', 2),
    ]  # fmt: skip
    scores = json.loads((out / 'result.json').read_text())['scores']
    rows = ('trained_to_stand_still', 'forecast', 'prediction_held', 'labels_held')
    assert set(scores) == {f'{mask}/{row}' for mask in ('no_mask', 'camera_mask') for row in rows}
    assert scores['no_mask/labels_held']['geometric_iou/3s'] > 0.4
    assert 'sparseworld/miou/mean_1_2_3s' in scores['camera_mask/forecast']


def test_more_keyframes_than_scenes_are_refused(arguments, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['overfit_forecast.py', *arguments, '--keyframes', '2'])
    with pytest.raises(ValueError, match='has 1 scenes, --keyframes is 2'):
        overfit_forecast.main()
