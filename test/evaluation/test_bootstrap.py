"""Intervals over scenes: against loops, against the normal distribution, and what has none."""

import numpy as np
import pytest

from sparseoccvla_ros.evaluation.bootstrap import SceneBootstrap, SceneSums
from sparseoccvla_ros.evaluation.forecast_metrics import ForecastScore
from sparseoccvla_ros.evaluation.language_metrics import BLEU, bleu_counts, bleu_from_counts, score_bleu
from sparseoccvla_ros.evaluation.occupancy_metrics import OccupancyScore, confusion_counts, occ3d_miou
from sparseoccvla_ros.evaluation.ray_iou import RayIoU

NAMES = [f'scene-{number:04d}' for number in range(400)]


def sums_of(values):
    sums = SceneSums(*np.shape(values[0]))
    for name, value in zip(NAMES, values, strict=False):
        sums.add(name, value)
    return sums


def test_resamples_are_sums_over_drawn_scenes():
    """One counter per scene shows who was drawn how often: with replacement, as many as there are."""
    drawn = SceneBootstrap(NAMES[:5], 2000).sums(sums_of(np.eye(5, dtype=int)))
    assert drawn.shape == (2000, 5)
    assert (drawn.sum(axis=1) == 5).all()
    # the share of resamples that miss a scene: (4/5)^5
    np.testing.assert_allclose((drawn == 0).mean(axis=0), 0.8**5, atol=0.04)
    np.testing.assert_allclose(drawn.mean(axis=0), 1.0, atol=0.08)


def test_a_ratio_of_sums_is_not_a_mean_of_ratios():
    """Brute force: concatenate the drawn scenes' samples."""
    rng = np.random.default_rng(1)
    scenes = [NAMES[k] for k in range(4) for _ in range(3**k)]  # 1, 3, 9, 27 samples
    values = rng.normal(size=(len(scenes), 2)) + (np.array(scenes) > NAMES[1])[:, None]
    bootstrap = SceneBootstrap(scenes, 50)
    drawn = bootstrap.sums(sums_of(np.eye(4, dtype=int))).astype(int)
    means = bootstrap.means(scenes, values)
    for multiplicity, mean in zip(drawn, means, strict=True):
        repeats = np.repeat(multiplicity, [1, 3, 9, 27])
        np.testing.assert_allclose(mean, np.repeat(values, repeats, axis=0).mean(axis=0))


def test_the_interval_of_a_mean_is_the_normal_one():
    rng = np.random.default_rng(2)
    values = rng.normal(3.0, 2.0, len(NAMES))
    bootstrap = SceneBootstrap(NAMES, 4000)
    low, high = bootstrap.intervals({'mean': bootstrap.means(NAMES, values)})['mean']
    half = 1.96 * values.std() / np.sqrt(len(NAMES))
    assert low == pytest.approx(values.mean() - half, abs=0.08 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.08 * half)


def test_keyframes_of_a_scene_do_not_narrow_the_interval():
    """Ten times the same keyframe is no more than one."""
    values = np.random.default_rng(3).normal(size=20)
    single, tenfold = (
        SceneBootstrap(NAMES[:20]).means(list(np.repeat(NAMES[:20], times)), np.repeat(values, times))
        for times in (1, 10)
    )
    np.testing.assert_allclose(single, tenfold)


def grids(seed, count):
    rng = np.random.default_rng(seed)
    return [tuple(rng.choice([4, 10, 17], size=(2, 6, 6, 4), p=[0.3, 0.1, 0.6])) for _ in range(count)]


def occupancy(samples, names=NAMES):
    score = OccupancyScore(None)
    for name, (predicted, truth) in zip(names, samples, strict=False):
        score.add(predicted, truth, scene=name)
    return score


def test_identical_scenes_have_no_width():
    bootstrap, score = SceneBootstrap(NAMES[:5]), occupancy(grids(0, 1) * 5)
    for name, (low, high) in bootstrap.intervals(
        {name: values for name, values in score.resampled(bootstrap).items() if not np.isnan(values).all()}
    ).items():
        assert low == high == pytest.approx(score.result()[name])


def test_occupancy_is_scored_anew_in_every_resample():
    samples, bootstrap = grids(1, 6), SceneBootstrap(NAMES[:6], 40)
    found = occupancy(samples).resampled(bootstrap)
    drawn = bootstrap.sums(sums_of(np.eye(6, dtype=int))).astype(int)
    each = np.stack([confusion_counts(*sample) for sample in samples])
    for number, multiplicity in enumerate(drawn):
        chosen = [samples[k] for k, times in enumerate(multiplicity) for _ in range(times)]
        alone = occupancy(chosen).result()
        assert {name: values[number] for name, values in found.items()} == pytest.approx(alone, nan_ok=True)
        assert alone['no_mask/miou'] == pytest.approx(occ3d_miou(np.tensordot(multiplicity, each, 1)))
    (low, high), value = bootstrap.intervals(found)['no_mask/miou'], occupancy(samples).result()['no_mask/miou']
    assert low < value < high


def test_forecasts_and_rays_are_scored_anew_in_every_resample():
    samples, bootstrap = grids(2, 4), SceneBootstrap(NAMES[:4], 30)
    directions = np.random.default_rng(0).normal(size=(50, 3))

    def scores(chosen):
        forecast, rays = ForecastScore(), RayIoU(directions, low_m=(0.0, 0.0, 0.0), voxel_m=1.0)
        for name, (predicted, truth) in zip(NAMES, chosen, strict=False):
            forecast.add(np.stack([predicted, truth, predicted]), np.stack([truth] * 3), name)
            rays.add(predicted, truth, np.array([[3.0, 3.0, 2.0]]), name)
        return forecast, rays

    forecast, rays = scores(samples)
    found = forecast.figures(bootstrap.sums(forecast.by_scene)) | rays.resampled(bootstrap)
    drawn = bootstrap.sums(sums_of(np.eye(4, dtype=int))).astype(int)
    for number, multiplicity in enumerate(drawn):
        alone = scores([samples[k] for k, times in enumerate(multiplicity) for _ in range(times)])
        expected = alone[0].result() | alone[1].result()
        assert {name: values[number] for name, values in found.items()} == pytest.approx(expected, nan_ok=True)


def test_the_seed_decides_and_the_order_of_scenes_does_not():
    samples = grids(4, 6)
    scores = occupancy(samples), occupancy(samples[::-1], NAMES[5::-1])
    assert scores[0].result() == pytest.approx(scores[1].result(), nan_ok=True)

    def interval(score, order, seed):
        bootstrap = SceneBootstrap(order, 200, seed)
        return bootstrap.intervals(score.resampled(bootstrap))['no_mask/miou']

    same = interval(scores[0], NAMES[:6], 0)
    assert interval(scores[1], NAMES[5::-1], 0) == same
    assert interval(scores[0], NAMES[:6], 1) != same


def test_resamples_without_the_metric_do_not_count():
    """Samples in one of three scenes alone: a fraction of the resamples has none, and the others agree."""
    bootstrap = SceneBootstrap(NAMES[:3])
    means = bootstrap.means([NAMES[1]] * 2, [1.0, 2.0])
    assert np.isnan(means).mean() == pytest.approx((2 / 3) ** 3, abs=0.05)
    assert bootstrap.intervals({'mean': means}) == {'mean': [1.5, 1.5]}
    assert bootstrap.intervals({'none': bootstrap.means([], [])}) == {'none': None}


@pytest.mark.parametrize(
    ('scenes', 'resamples', 'reason'), [(['a', 'a'], 10, 'at least 2'), ([], 10, 'at least 2'), (['a', 'b'], 0, 'off')]
)
def test_no_intervals(scenes, resamples, reason):
    bootstrap = SceneBootstrap(scenes, resamples)
    assert reason in bootstrap.off
    assert bootstrap.summary()['off'] == bootstrap.off


def test_bleu_from_sums_is_that_of_the_library():
    references = [['the car ahead stops now'], ['two cars'], ['a wet street with many parked cars'], ['no']]
    answers = ['the car stops', 'two cars', 'a street with many cars and more cars than that', '']
    counts = bleu_counts(references, answers)
    for chosen in ([0, 1, 2, 3], [0], [2, 2, 1]):
        corpus, _ = score_bleu([references[k] for k in chosen], [answers[k] for k in chosen])
        np.testing.assert_allclose(bleu_from_counts(counts[chosen].sum(axis=0)), [corpus[name] for name in BLEU])
    assert np.isnan(bleu_from_counts(np.zeros(10))).all()
