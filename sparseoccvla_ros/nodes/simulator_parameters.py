"""Parameters of node ``simulator``; ``config/simulator.yaml`` and its page are tested against this class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparseoccvla_ros.nodes.parameters import parameter
from sparseoccvla_ros.world.files.request import LONGEST_S


@dataclass(frozen=True)
class SimulatorParameters:
    """Parameters of node ``simulator``."""

    autostart: bool = parameter(True, 'configure and activate at start; false: wait for lifecycle transitions')
    seed: int = parameter(
        0, 'of the world; the same seed and scene give the same street and the same traffic', 0, 2**31 - 1
    )
    scene: int = parameter(0, 'which scene of that world to drive in', 0, 9999)
    duration_s: float = parameter(20.0, 'the drive ends after this time of the world; seconds', 1.0, LONGEST_S)
    city: str = parameter('', 'harbour, oldtown or suburb, or several with commas, visited in turn; empty: all')
    car: int = parameter(0, 'number of the car in the fleet: its cameras deviate a little from all others', 0, 9999)
    image_width_px: int = parameter(352, 'width of the camera images; pixels', 32, 3200)
    image_height_px: int = parameter(128, 'height, at most 9/16 of the width; pixels', 16, 1800)
    lens: bool = parameter(True, 'exposure, blur, noise and drops of a real camera; false: exact colours')
    camera_hz: float = parameter(2.0, 'camera cycles per second of the world', 0.5, 12.0)
    topics: str = parameter('default', 'topics and frames: a preset in config/topics or a path to a YAML file')
    real_time_factor: float = parameter(
        1.0,
        'seconds of the world per second, if the computer keeps up; 0: lockstep, the world waits for the trajectory of '
        'every camera cycle',
        0.0,
        20.0,
    )
    lockstep_timeout_s: float = parameter(
        10.0, 'in lockstep, a trajectory that has not come by then (steady clock) is given up; seconds', 0.1, 600.0
    )
    start_when_heard: bool = parameter(
        True, 'begin when somebody reads every camera and somebody publishes trajectories; false: at once'
    )
    max_plan_age_s: float = parameter(
        1.5, 'a trajectory whose stamp is older is not followed any more, the car brakes to a stop; seconds', 0.1, 3.0
    )
    end_at_collision: bool = parameter(True, 'the drive is over at the first collision; false: drive on, and count')
    vehicle_config: str = parameter('default', 'vehicle limits: a name in config/vehicle or a path to a YAML file')
    summary_file: str = parameter('', 'JSON file to write when the drive is over; empty: the log has it')
    exit_at_end: bool = parameter(False, 'end the process when the drive is over')
    silence_warning_s: float = parameter(
        2.0, 'diagnostics warn of trajectories that have been silent this long (steady clock); seconds', 0.1, 3600.0
    )

    #: Nothing here runs on torch.
    num_threads: ClassVar[int] = 0

    def __post_init__(self) -> None:
        if self.image_height_px > 0.5625 * self.image_width_px:
            highest_px = int(0.5625 * self.image_width_px)
            raise ValueError(
                f'parameter image_height_px is {self.image_height_px}; expected at most {highest_px}, '
                f'9/16 of image_width_px ({self.image_width_px})'
            )
