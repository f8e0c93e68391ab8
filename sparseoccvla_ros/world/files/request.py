"""What a data set is asked to be."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass

from sparseoccvla_ros.resources import share_path
from sparseoccvla_ros.world.city import cities, cities_named, city_named
from sparseoccvla_ros.world.rig import load_rig

RIG = 'config/rig/nuscenes.yaml'
KEYFRAME_HZ = 2
QUESTIONS_PER_KEYFRAME = 16
SWEEP_RATES_HZ = (2, 4, 6, 8, 10, 12)
#: Of a scene or a drive. Stamps of two scenes begin ten minutes apart: half of that is a safe distance.
LONGEST_S = 300.0


@dataclass(frozen=True)
class WorldRequest:
    """What to generate. Scene ``i`` depends on everything here but the number of scenes.

    ``depth`` and ``semantics`` ask for such images beside the keyframes' photographs; ``lens`` for blur, noise and
    exposure of a real camera instead of exact colours; ``questions_per_keyframe`` are the most that are asked about
    one. Numbers are kept as ``int`` and ``float`` whatever type they have: tokens are made of them.

    Raises:
        ValueError: an option is impossible; the message tells the value and what was expected.
    """

    scenes: int
    seed: int
    width_px: int = 352
    height_px: int = 128
    sweep_hz: int = 2
    seconds: float = 20.0
    city: str | None = None
    depth: bool = False
    semantics: bool = False
    lens: bool = True
    questions_per_keyframe: int = QUESTIONS_PER_KEYFRAME

    def __post_init__(self) -> None:
        for name in ('scenes', 'seed', 'width_px', 'height_px', 'sweep_hz', 'questions_per_keyframe'):
            object.__setattr__(self, name, _whole(name, getattr(self, name)))
        for name in ('depth', 'semantics', 'lens'):
            object.__setattr__(self, name, bool(getattr(self, name)))
        object.__setattr__(self, 'seconds', float(self.seconds))
        if not 1 <= self.scenes <= 10_000:
            raise ValueError(f'scenes is {self.scenes}; 1 to 10000 expected')
        if not 0 <= self.seed < 2**32:
            raise ValueError(f'seed is {self.seed}; 0 to {2**32 - 1} expected')
        if self.sweep_hz not in SWEEP_RATES_HZ:
            raise ValueError(f'sweep_hz is {self.sweep_hz}; one of {", ".join(map(str, SWEEP_RATES_HZ))} expected')
        if not (math.isfinite(self.seconds) and 1.0 <= self.seconds <= LONGEST_S):
            raise ValueError(f'seconds is {self.seconds}; 1 to {LONGEST_S:g} expected')
        if not (32 <= self.width_px <= 3200 and self.height_px >= 16):
            size = f'{self.width_px}x{self.height_px}'
            raise ValueError(f'size is {size}; a width of 32 to 3200 px and a height of at least 16 px expected')
        if self.questions_per_keyframe < 1:
            raise ValueError(f'questions_per_keyframe is {self.questions_per_keyframe}; at least 1 expected')
        if self.city is not None:
            cities_named(self.city)
        # Refuses a height that the full image does not have.
        load_rig(share_path(RIG), self.width_px, self.height_px, vehicle=0, seed=self.seed)

    @property
    def keyframes_per_scene(self) -> int:
        """Keyframes of one scene."""
        return int(self.seconds * KEYFRAME_HZ)

    @property
    def keyframes(self) -> int:
        """Keyframes of all scenes."""
        return self.scenes * self.keyframes_per_scene

    def options(self) -> dict[str, object]:
        """Every option by name, as JSON can hold them."""
        return asdict(self)


def _whole(name: str, value: float) -> int:
    if not (math.isfinite(value) and value == int(value)):
        raise ValueError(f'{name} is {value}; a whole number expected')
    return int(value)


def parse_size(text: str) -> tuple[int, int]:
    """Width and height in pixels from ``352x128``.

    Raises:
        ValueError: another form.
    """
    match = re.fullmatch(r'(\d+)x(\d+)', text)
    if match is None:
        raise ValueError(f'size is {text!r}; WIDTHxHEIGHT in pixels expected, for example 352x128')
    return int(match[1]), int(match[2])


def parse_city(text: str) -> str:
    """Name of a town from its name or its number, the first being 1; of several, separated by commas.

    Raises:
        ValueError: there is no such town, or one is named twice.
    """
    names = ','.join(_one_city(part) for part in text.split(','))
    cities_named(names)
    return names


def _one_city(text: str) -> str:
    if not text.isdecimal():
        return city_named(text).name
    names = [city.name for city in cities()]
    if not 1 <= int(text) <= len(names):
        known = ', '.join(f'{number} ({name})' for number, name in enumerate(names, start=1))
        raise ValueError(f'city is {text}; one of {known} expected')
    return names[int(text) - 1]
