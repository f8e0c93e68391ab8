"""What the images of a keyframe show well enough to ask about."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from sparseoccvla_ros.world.labels.facts import KeyframeFacts, SeenObject
from sparseoccvla_ros.world.questions.speech import noun, sectors_near

#: Pixels of a 352x128 image, in the camera that shows most of the object.
VISIBLE_PX = 10
#: With fewer nobody can tell that something is there; between the two, nothing is asked that depends on it.
BARELY_PX = 4
RANGE_M = 25.0
#: Colours need more pixels, and light.
COLOUR_PX = 24
FOG_COLOUR_M = 15.0
#: Distances are compared, and ranges have borders, with at least these gaps.
COMPARE_M = 1.5
RANGE_MARGIN_M = 1.0
STANDING_MPS, MOVING_MPS = 0.1, 0.5


def pixels(item: SeenObject) -> int:
    """In the camera that shows most of it."""
    return max(item.visible_px.values(), default=0)


def state_of(item: SeenObject) -> str | None:
    """'parked', 'standing' or 'moving'; None if it is between, or never moves by itself."""
    if item.attribute == '':
        return None
    speed_mps = float(np.hypot(*item.velocity_mps))
    if speed_mps > MOVING_MPS:
        return 'moving'
    if speed_mps >= STANDING_MPS:
        return None
    return 'parked' if item.attribute in ('vehicle.parked', 'cycle.without_rider') else 'standing'


class View:
    """Facts of a keyframe with the indices of its objects by how well they are seen.

    Attributes:
        facts: of the keyframe.
        place_m: [N, 2] positions of all objects.
        distance_m, near, word: of each object, its distance, the sectors it may be in, and its noun.
        visible: indices of objects with ``VISIBLE_PX`` within ``RANGE_M``, nearest first.
        noticed: indices of all objects with ``BARELY_PX`` at any range: what could be meant by a phrase.
    """

    def __init__(self, facts: KeyframeFacts) -> None:
        self.facts = facts
        self.place_m = np.array([item.position_m for item in facts.objects]).reshape(-1, 2)
        self.distance_m = [item.distance_m for item in facts.objects]
        self.near = [sectors_near(item.position_m) for item in facts.objects]
        self.word = [noun(item) for item in facts.objects]
        shown = [index for index, item in enumerate(facts.objects) if pixels(item) >= BARELY_PX]
        self.noticed = sorted(shown, key=lambda index: self.distance_m[index])
        self.visible = [
            index
            for index in self.noticed
            if pixels(facts.objects[index]) >= VISIBLE_PX and self.distance_m[index] <= RANGE_M
        ]

    def __getitem__(self, index: int) -> SeenObject:
        return self.facts.objects[index]

    @cached_property
    def rivals(self) -> dict[int, list[int]]:
        """By visible object: all others that the images show and that have the same noun, nearest first."""
        return {
            index: [other for other in self.noticed if other != index and self.word[other] == self.word[index]]
            for index in self.visible
        }

    def colour_is_clear(self, index: int) -> bool:
        """Whether the images show the object's colour, and there is a word for it."""
        item = self[index]
        return (
            item.paint != ''
            and pixels(item) >= COLOUR_PX
            and self.facts.time_of_day != 'night'
            and (self.facts.weather != 'fog' or item.distance_m <= FOG_COLOUR_M)
        )

    def is_apart(self, index: int, others: Sequence[int], least_m: float) -> bool:
        """Whether an object is farther than ``least_m`` from all these others."""
        gaps_m = np.hypot(*(self.place_m[list(others)] - self.place_m[index]).T)
        return bool((gaps_m > least_m).all())

    def within(self, range_m: float, sector: str | None = None) -> list[int] | None:
        """Visible objects within a range, of one sector or all around; None if it is not clear which these are.

        It is not clear where some object is barely visible, near the range's border or near the sector's border.
        """
        inside = []
        for index in self.noticed:
            distance_m, near = self.distance_m[index], self.near[index]
            if distance_m > range_m + RANGE_MARGIN_M:
                break
            if sector is not None and sector not in near:
                continue
            on_border = distance_m > range_m - RANGE_MARGIN_M or (sector is not None and len(near) > 1)
            if on_border or pixels(self[index]) < VISIBLE_PX:
                return None
            inside.append(index)
        return inside

    def nearest(self, sector: str | None = None) -> int | None:
        """The object that is clearly nearest, in one sector or all around; None if that is not clear."""
        inside = [index for index in self.noticed if sector is None or sector in self.near[index]]
        if not inside or inside[0] not in self.visible:
            return None
        if sector is not None and self.near[inside[0]] != (sector,):
            return None
        if len(inside) > 1 and self.distance_m[inside[1]] < self.distance_m[inside[0]] + COMPARE_M:
            return None
        return inside[0]
