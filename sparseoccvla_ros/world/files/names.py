"""Tokens, times and file names of one scene: functions of what was asked for, never of the clock."""

from __future__ import annotations

from dataclasses import dataclass

from sparseoccvla_ros.world.files.request import KEYFRAME_HZ
from sparseoccvla_ros.world.files.tables import token

#: 2026-01-01 08:00 UTC; scenes follow one another by ten minutes. A constant: nothing here asks what time it is.
FIRST_SCENE_US = 1_767_254_400_000_000
SCENE_SPACING_US = 600_000_000


@dataclass(frozen=True)
class SceneNames:
    """What the parts of scene ``index`` of a world are called."""

    seed: int
    index: int
    city: str
    duration_s: float
    vehicle: str

    @property
    def start_us(self) -> int:
        """Time stamp of the scene's time 0."""
        return FIRST_SCENE_US + self.index * SCENE_SPACING_US

    @property
    def logfile(self) -> str:
        """Name of the drive, with which names of images begin."""
        return f'{self.vehicle}-world-{self.seed}-{self.index + 1:04d}'

    def token(self, *parts: object) -> str:
        """Token of a row of this scene."""
        return token(self.seed, self.index, self.city, self.duration_s, *parts)

    def stamp_us(self, time_s: float) -> int:
        """Time stamp of a time of the scene."""
        return self.start_us + round(time_s * 1e6)

    def sample_token(self, number: int) -> str:
        """Token of keyframe ``number``."""
        return self.token('sample', number)

    def sample_us(self, number: int) -> int:
        """Time stamp of keyframe ``number``."""
        return self.start_us + number * 1_000_000 // KEYFRAME_HZ

    def instance_token(self, thing: int) -> str:
        """Token of thing ``thing`` of the scene, the same in all keyframes."""
        return self.token('instance', thing)

    def file(self, folder: str, channel: str, stamp_us: int, extension: str) -> str:
        """Path of a sensor's file below the data set's folder."""
        return f'{folder}/{channel}/{self.logfile}__{channel}__{stamp_us}.{extension}'
