"""Each class gets its own best threshold, and the last layer's logits move by what is missing to the common one."""

import copy
import math

import calibrate_classes as tool
import numpy as np
import pytest
import torch

from sparseoccvla_ros.data.occ3d import FREE
from sparseoccvla_ros.evaluation.occupancy_metrics import OccupancyScore
from sparseoccvla_ros.model.config import load_model_config
from sparseoccvla_ros.model.vla import build_perception

CAR, ROAD, BUS = 4, 11, 3


def score_of(cars: int, roads: int) -> OccupancyScore:
    """Ten voxels of each class in the truth, of which so many are found; buses are found nowhere."""
    truth = np.array([CAR] * 10 + [ROAD] * 10 + [BUS] * 10)
    predicted = np.full(30, FREE)
    predicted[:cars], predicted[10 : 10 + roads] = CAR, ROAD
    score = OccupancyScore('camera')
    score.add(predicted, truth, np.ones(30, dtype=bool))
    return score


def test_a_class_moves_from_its_best_threshold_to_the_common_one():
    scores = {0.3: score_of(2, 9), 0.5: score_of(5, 6), 0.7: score_of(8, 1)}
    shifts = tool.class_shifts(scores, 0.5)
    assert shifts[CAR] == pytest.approx(math.log(0.3 / 0.7))  # what had 0.7 has 0.5 from now on
    assert shifts[ROAD] == pytest.approx(math.log(0.7 / 0.3))
    assert {shift for label, shift in enumerate(shifts) if label not in (CAR, ROAD)} == {0.0}


def test_logits_of_the_last_layer_move_and_nothing_else():
    perception = build_perception(load_model_config('tiny'), weights=None, seed=0)
    before = copy.deepcopy(perception.state_dict())
    shifts = [0.1 * label for label in range(17)]
    query = torch.randn(1, 300, 128)
    *earlier, last = perception.encoder.layers
    logits = [layer.class_logits(query) for layer in (*earlier, last)]
    tool.shift_classes(perception, shifts)
    moved = [layer.class_logits(query) for layer in (*earlier, last)]
    assert all(torch.equal(a, b) for a, b in zip(logits[:-1], moved[:-1], strict=True))
    torch.testing.assert_close(moved[-1] - logits[-1], torch.tensor(shifts).expand_as(logits[-1]), atol=1e-5, rtol=0)
    changed = [name for name, tensor in perception.state_dict().items() if not torch.equal(tensor, before[name])]
    assert changed == [f'encoder.layers.{len(earlier)}.cls_branch.6.bias']
