"""L2 and collision of planned paths by named protocols, which must not be mixed.

With e(k) the distance between planned and driven position at step k (0.5 s), and c(k) = 1 if the ego box meets an
object at step k though the box on the driven path does not (where that one collides as well, c(k) = 0 and the step
stays in the denominator), each at t = 1, 2, 3 s averaged over samples:

========== ==================== ================== ===================================================================
protocol   L2                   collision          box and objects
========== ==================== ================== ===================================================================
stp3       mean of e(1..2t)     mean of c(1..2t)   0.5 m cells, box not rotated; vehicles and pedestrians
vad        mean of e(1..2t)     mean of c(1..2t)   the same drawn the other way round; only objects that are there now
uniad      e(2t)                c(2t)              as stp3; vehicles only
omnidrive  mean of e(1..2t)     any of c(1..2t)    0.1 m cells, box turned into each step; vehicles that are there now
========== ==================== ================== ===================================================================

``omnidrive`` has the boundary as well: 1 if the ego footprint of any of the steps 1..2t leaves the drivable area,
though that of t = 0 does not. ``centre_collision`` is ST-P3's ``obj_col``: the LiDAR's place instead of the box.

Sources: see :mod:`sparseoccvla_ros.evaluation.planning_raster`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from sparseoccvla_ros.evaluation.bootstrap import SceneBootstrap
from sparseoccvla_ros.evaluation.planning_drivable import leaves_drivable
from sparseoccvla_ros.evaluation.planning_raster import CoarseGrid, FineGrid, FutureObjects

Array = np.ndarray

STEPS, STEP_S = 6, 0.5
#: The times that papers compare, and their mean.
REPORTED_S = (1, 2, 3)
PROTOCOLS = ('stp3', 'vad', 'uniad', 'omnidrive')


def mean_up_to(steps: Array) -> Array:
    """Of values [S, T] at the steps, the mean over steps 1..k for every k, [S, T]."""
    return np.cumsum(steps, axis=1) / np.arange(1, steps.shape[1] + 1)


def any_up_to(steps: Array) -> Array:
    """Of flags [S, T], whether any of the steps 1..k is set, [S, T]."""
    return np.logical_or.accumulate(steps, axis=1)


def at_step(steps: Array) -> Array:
    """Values [S, T] as they are."""
    return steps


@dataclass(frozen=True, eq=False)
class StepFigures:
    """One path against one sample's truth, per step: ``distance_m`` [T]; bool [T] per name in ``collisions``;
    ``boundary`` bool [T], already accumulated over the steps, None without a drivable area.
    """

    distance_m: Array
    collisions: dict[str, Array]
    boundary: Array | None


class PlanningTruth:
    """What happened after one keyframe; paths of several planners are measured against it.

    Args:
        path_ego_m: [6, 2], where the ego drove, at 0.5 s steps, x forward and y left in the keyframe's ego frame.
        objects: at the same six times, in the same frame.
        drivable: uint8 [1000, 1000] around the ego, see :mod:`planning_drivable`; None if unknown.

    Raises:
        ValueError: wrong shapes, or a path that is not finite.
    """

    def __init__(self, path_ego_m: Array, objects: FutureObjects, drivable: Array | None) -> None:
        self.path_ego_m = _checked(path_ego_m)
        if len(objects.valid) != STEPS:
            raise ValueError(f'objects at {len(objects.valid)} times, expected {STEPS}')
        self._drivable = drivable
        self._fine = FineGrid()
        around_lidar = objects.around_lidar()
        counted = objects.vehicle | objects.human
        stp3, vad = CoarseGrid('stp3'), CoarseGrid('vad')
        everything, vehicles = stp3.draw(around_lidar, counted), stp3.draw(around_lidar, objects.vehicle)
        tracked = vad.draw(around_lidar, counted & objects.seen_now)
        fine = self._fine.draw(objects, objects.vehicle & objects.seen_now)
        # name -> (test of a path, test whose hit on the driven path excuses a step)
        self._tests: dict[str, tuple[Callable[[Array], Array], Array]] = {}
        for name, box, centre, raster in (
            ('stp3', stp3.box_collides, stp3.centre_collides, everything),
            ('uniad', stp3.box_collides, stp3.centre_collides, vehicles),
            ('vad', vad.box_collides, None, tracked),
            ('omnidrive', self._fine.box_collides, None, fine),
        ):
            excused = box(self.path_ego_m, raster)
            self._tests[f'{name}/collision'] = (_on(box, raster), excused)
            if centre is not None:
                self._tests[f'{name}/centre_collision'] = (_on(centre, raster), excused)

    def driven_into_objects(self, protocol: str) -> Array:
        """Whether the box on the driven path meets an object, bool [6]: those steps never count."""
        return self._tests[f'{protocol}/collision'][1].copy()

    def measure(self, path_ego_m: Array) -> StepFigures:
        """Figures of a planned path [6, 2].

        Raises:
            ValueError: wrong shape, or not finite.
        """
        path_ego_m = _checked(path_ego_m)
        boundary = None
        if self._drivable is not None:
            boundary = leaves_drivable(self._fine.footprints(path_ego_m), self._drivable)
        return StepFigures(
            np.hypot(*(path_ego_m - self.path_ego_m).T),
            {name: test(path_ego_m) & ~excused for name, (test, excused) in self._tests.items()},
            boundary,
        )

    def measure_missing(self) -> StepFigures:
        """Figures of a plan that was not given: it collides and leaves the road at every step.

        So no rate gets better by silence. Its distance is that of standing still, which a bad plan may exceed: read
        ``missing`` with it.
        """
        still_m = np.zeros((STEPS, 2))
        boundary = None
        if self._drivable is not None:
            inside_now = bool((self._drivable[self._fine.footprints(still_m)[0] > 0] != 0).all())
            boundary = np.full(STEPS, inside_now)
        return StepFigures(
            np.hypot(*self.path_ego_m.T), {name: ~excused for name, (_, excused) in self._tests.items()}, boundary
        )


class PlanningScore:
    """Scores of one planner over samples that are added one by one; ``missing`` counts those without a plan."""

    def __init__(self) -> None:
        self.missing = 0
        self._figures: list[StepFigures] = []
        self._scenes: list[str] = []

    @property
    def samples(self) -> int:
        """Samples so far, the missing ones included."""
        return len(self._figures)

    @property
    def scenes(self) -> list[str]:
        """The scene of each sample."""
        return list(self._scenes)

    def add(self, truth: PlanningTruth, path_ego_m: Array | None, scene: str = '') -> None:
        """Add one sample of a scene; ``path_ego_m`` [6, 2], None for a plan that was not given.

        Raises:
            ValueError: see :meth:`PlanningTruth.measure`; the sample is then not added.
        """
        self._figures.append(truth.measure_missing() if path_ego_m is None else truth.measure(path_ego_m))
        self._scenes.append(scene)
        self.missing += path_ego_m is None

    def result(self) -> dict[str, float]:
        """Averages over the samples: ``<protocol>/l2/<t>s`` in metres, ``<protocol>/collision/<t>s`` in 0..1,
        ``stp3/centre_collision``, ``uniad/centre_collision`` and ``omnidrive/boundary`` likewise (the last over the
        samples with a drivable area), each with ``mean_1_2_3s``. nan without samples.
        """
        means = _reported(
            {
                name: steps.mean(axis=0) if len(steps) else np.full(STEPS, np.nan)
                for name, (_, steps) in self._steps().items()
            }
        )
        return {name: float(mean) for name, mean in means.items()}

    def resampled(self, bootstrap: SceneBootstrap) -> dict[str, Array]:
        """The same [R] of each resample."""
        return _reported({name: bootstrap.means(*figures) for name, figures in self._steps().items()})

    def _steps(self) -> dict[str, tuple[list[str], Array]]:
        """By name the scenes of the samples that count, and their values [S, T] for each time."""
        distance_m = np.array([figures.distance_m for figures in self._figures]).reshape(-1, STEPS)
        upto, single = (mean_up_to, mean_up_to), (at_step, at_step)
        ways = {'stp3': upto, 'vad': upto, 'uniad': single, 'omnidrive': (mean_up_to, any_up_to)}
        values: dict[str, tuple[list[str], Array]] = {}
        for protocol, (of_distance, of_collision) in ways.items():
            values[f'{protocol}/l2'] = self._scenes, of_distance(distance_m)
            for kind in ('collision', 'centre_collision'):
                name = f'{protocol}/{kind}'
                if kind == 'collision' or protocol in ('stp3', 'uniad'):
                    flags = np.array([figures.collisions[name] for figures in self._figures], dtype=bool)
                    values[name] = self._scenes, of_collision(flags.reshape(-1, STEPS))
        known = [(s, f.boundary) for s, f in zip(self._scenes, self._figures, strict=True) if f.boundary is not None]
        boundary = np.array([flags for _, flags in known], dtype=bool).reshape(-1, STEPS)
        values['omnidrive/boundary'] = [scene for scene, _ in known], boundary
        return values


def _reported(means: Mapping[str, Array]) -> dict[str, Array]:
    """Means [..., T] at the times that count, and their mean."""
    reported = {}
    for name, steps in means.items():
        at_time = [steps[..., round(t / STEP_S) - 1] for t in REPORTED_S]
        reported |= {f'{name}/{t}s': value for t, value in zip(REPORTED_S, at_time, strict=True)}
        reported[f'{name}/mean_1_2_3s'] = np.mean(at_time, axis=0)
    return reported


def _on(test: Callable[[Array, Array], Array], raster: Array) -> Callable[[Array], Array]:
    return lambda path_m: test(path_m, raster)


def _checked(path_ego_m: Array) -> Array:
    path_ego_m = np.asarray(path_ego_m, dtype=np.float64)
    if path_ego_m.shape != (STEPS, 2) or not np.isfinite(path_ego_m).all():
        raise ValueError(f'a path must be {STEPS} finite positions [{STEPS}, 2], got {path_ego_m.shape}')
    return path_ego_m
