"""The distillation against values computed in float64 from its definition."""

import json

import numpy as np
import pytest
import torch

from sparseoccvla_ros.model.distillation import (
    DistillationConfig,
    DistillationLoss,
    project_to_cameras,
    sample_teacher,
)

pytestmark = pytest.mark.golden

#: Tolerances of the fixture's README.
LOSS = {torch.float64: 1e-8, torch.float32: 1e-5}
GRADIENT = 1e-6
#: Ours: what float32 leaves of values near 1 (or of hundreds of pixels), and float64 of values stored in float64.
UV_PX = {torch.float64: 1e-9, torch.float32: 1e-2}
VALUE = {torch.float64: 1e-10, torch.float32: 1e-4}


@pytest.fixture(scope='module')
def golden(golden_dir):
    with np.load(golden_dir / 'clip_distill.npz') as stored:
        return {name: torch.from_numpy(stored[name]) for name in stored.files}


@pytest.fixture(scope='module')
def counts(golden_dir):
    return json.loads((golden_dir / 'clip_distill.json').read_text())


@pytest.fixture(scope='module', params=[torch.float64, torch.float32], ids=['f64', 'f32'])
def run(request, golden):
    """Projection, sampling, loss and gradients of the fixture's one sample."""
    dtype = request.param
    camera_from_ego = golden['ego2camera'].double()
    image_from_camera = torch.eye(4, dtype=torch.float64).repeat(len(camera_from_ego), 1, 1)
    image_from_camera[:, :3, :3] = golden['intrinsics']
    image_from_ego = (image_from_camera @ camera_from_ego).to(dtype)[None]
    mask = torch.ones(image_from_ego.shape[:2], dtype=torch.bool)
    width_px, height_px = golden['image_wh'].tolist()
    views = project_to_cameras(
        golden['points'].to(dtype)[None], image_from_ego, mask, width_px, height_px, float(golden['depth_min'])
    )
    features = (golden['teacher_q'].double() * golden['teacher_scale'].double()).to(dtype)
    teacher, seen = sample_teacher(features[None], views)
    teacher_width, student_width = golden['projection_weight'].shape
    term = DistillationLoss(DistillationConfig(), student_width, teacher_width).to(dtype)
    term.projection.weight.data.copy_(golden['projection_weight'])
    term.projection.bias.data.copy_(golden['projection_bias'])
    student = golden['student'].to(dtype)[None].requires_grad_()
    result = term(student, teacher, seen)
    result.loss.backward()
    distance = term.distance(student, teacher).detach()
    return {'dtype': dtype, 'views': views, 'teacher': teacher, 'seen': seen, 'distance': distance, 'term': term,
            'student': student, 'result': result}  # fmt: skip


def close(ours: torch.Tensor, theirs: torch.Tensor, atol: float) -> None:
    torch.testing.assert_close(ours.double(), theirs.double(), rtol=0, atol=atol)


def test_visibility(run, golden, counts):
    visible = run['views'].visible[0]
    assert torch.equal(visible, golden['camera_visible'].bool())
    assert torch.equal(visible.sum(0), golden['n_visible'])
    assert torch.equal(run['seen'][0], golden['n_visible'] > 0)
    assert (visible.sum(0) > 1).sum() == counts['seen_by_two']


def test_projection(run, golden):
    visible = golden['camera_visible'].bool()
    uv_px = run['views'].uv[0] * golden['image_wh']
    close(uv_px[visible], golden['uv'][visible], UV_PX[run['dtype']])
    close(run['views'].depth_m[0][visible], golden['depth'][visible], VALUE[run['dtype']])


def test_teacher_features(run, golden):
    close(run['teacher'][0], golden['teacher_mean'], VALUE[run['dtype']])


def test_cosine_distances(run, golden):
    seen = golden['n_visible'] > 0
    close(run['distance'][0][seen], golden['cosine_distance'][seen], VALUE[run['dtype']])


def test_loss(run, counts):
    assert run['result'].visible_points == counts['visible']
    assert run['result'].loss.dtype == run['dtype']
    assert abs(run['result'].loss.item() - counts['loss']) < LOSS[run['dtype']]


def test_gradients(run, golden):
    projection = run['term'].projection
    close(run['student'].grad[0], golden['grad_student'], GRADIENT)
    close(projection.weight.grad, golden['grad_projection_weight'], GRADIENT)
    close(projection.bias.grad, golden['grad_projection_bias'], GRADIENT)
