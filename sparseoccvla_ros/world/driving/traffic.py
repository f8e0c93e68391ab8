"""The traffic around an ego that is driven from outside."""

from __future__ import annotations

from sparseoccvla_ros.world.traffic.simulation import EgoPlace, Simulation


class DrivenTraffic(Simulation):
    """A simulation whose vehicle 0 is where it is put, on its route too.

    Others react to where it is; its own acceleration is what a driver under the common rules would choose there, which
    nobody has to follow.
    """

    def put_ego(self, place: EgoPlace, along_m: float) -> None:
        """The ego's place, and the arc length of its route beside it; call before every :meth:`step`."""
        self.place_ego(place)
        self._along_m = along_m

    def advised_accel_mps2(self) -> float:
        """What a driver under the common rules would do in the ego's place now."""
        return float(self._moments[-1].accel_mps2[0])

    def _decide(self) -> None:
        if self._ego is not None:
            self._moments[-1].s_m[0] = self._along_m
            self._moments[-1].speed_mps[0] = self._ego.speed_mps
        super()._decide()
