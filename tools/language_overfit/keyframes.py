"""What a fixed encoder says about keyframes, computed once.

Letters: K keyframes, Q queries, C query width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from sparseoccvla_ros.data.keyframes import keyframe_view
from sparseoccvla_ros.data.nuscenes import CAMERAS, NuScenesTables
from sparseoccvla_ros.model.config import VLAConfig
from sparseoccvla_ros.model.perception import OccupancyPerception
from sparseoccvla_ros.runtime.perception import PerceptionEngine
from sparseoccvla_ros.runtime.scene import SceneQueries


@dataclass(frozen=True)
class Keyframes:
    """K keyframes, with the name of each one's scene."""

    sample_tokens: tuple[str, ...]
    scenes: tuple[str, ...]
    stamps_ns: tuple[int, ...]
    #: float32 [K, Q, C], [K, Q, 3] (metres, ego frame), [K, Q].
    features: Tensor
    positions_m: Tensor
    scores: Tensor

    def queries(self, place: int, stamp_ns: int) -> SceneQueries:
        """One keyframe's, as perception hands them over, with a stamp of choice."""
        return SceneQueries(
            stamp_ns, self.features[place], self.positions_m[place], self.scores[place], CAMERAS, {}, True
        )

    def save(self, path: Path) -> None:
        """Write a file that :meth:`load` reads."""
        partial = path.with_suffix('.partial')
        torch.save({field.name: getattr(self, field.name) for field in fields(self)}, partial)
        partial.replace(path)

    @staticmethod
    def load(path: Path) -> Keyframes:
        """Read what :meth:`save` wrote."""
        return Keyframes(**torch.load(path, weights_only=True))


def encode_keyframes(
    tables: NuScenesTables, scenes: Sequence[str], every: int, model: OccupancyPerception, config: VLAConfig
) -> Keyframes:
    """Every ``every``-th keyframe of these scenes, through the engine of the car: with the frames before it."""
    engine = PerceptionEngine(model, config, torch.device('cpu'), CAMERAS)
    samples, names, queries = [], [], []
    for name in scenes:
        engine.memory.clear()
        for number, sample in enumerate(tables.scene(name).samples):
            view = keyframe_view(sample, CAMERAS, config.image.width_px, config.image.height_px)
            encoded = engine.process(view)
            if number % every == every - 1:
                samples.append(sample)
                names.append(name)
                queries.append(encoded)
    return Keyframes(
        tuple(sample.token for sample in samples),
        tuple(names),
        tuple(sample.stamp_ns for sample in samples),
        torch.stack([encoded.features for encoded in queries]),
        torch.stack([encoded.positions_ego for encoded in queries]),
        torch.stack([encoded.scores for encoded in queries]),
    )


def deranged(scenes: Sequence[str]) -> list[int]:
    """For each keyframe another one, of another scene; each is taken once.

    Raises:
        ValueError: one scene has more than half of the keyframes.
    """
    order = sorted(range(len(scenes)), key=lambda place: scenes[place])
    most = max(scenes.count(name) for name in set(scenes))
    if 2 * most > len(scenes):
        raise ValueError(f'a scene has {most} of {len(scenes)} keyframes: they cannot all be given to other scenes')
    # turned by the largest scene's size, nobody lands in his own
    taken = [0] * len(scenes)
    for number, place in enumerate(order):
        taken[place] = order[(number + most) % len(scenes)]
    return taken
