"""Which painter serves which texture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sparseoccvla_ros.world.bodies.solids import Texture
from sparseoccvla_ros.world.drawing import nature_paint, town_paint, vehicle_paint
from sparseoccvla_ros.world.drawing.paint import Surface


def plain(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """One colour."""
    return colour


#: Points on the surface and base colours [N, 3] give colours [N, 3], without light.
PAINTS: dict[Texture, Callable[[Surface, np.ndarray], np.ndarray]] = {
    Texture.PLAIN: plain,
    Texture.FACADE: town_paint.facade,
    Texture.CAR_BODY: vehicle_paint.car_body,
    Texture.CAR_CABIN: vehicle_paint.car_cabin,
    Texture.BUS: vehicle_paint.bus_side,
    Texture.CARGO: vehicle_paint.cargo,
    Texture.FOLIAGE: nature_paint.foliage,
    Texture.CLOTH: nature_paint.cloth,
    Texture.LORRY_CAB: vehicle_paint.lorry_cab,
    Texture.WHEEL: vehicle_paint.wheel,
    Texture.LIGHTS: vehicle_paint.lights,
    Texture.HEAD: nature_paint.head,
    Texture.VEST: nature_paint.vest,
    Texture.TRACK: vehicle_paint.track,
    Texture.STRIPES: town_paint.stripes,
    Texture.CONE: town_paint.cone,
    Texture.CONCRETE: town_paint.concrete,
    Texture.BRICK: town_paint.brick,
    Texture.PLANKS: town_paint.planks,
    Texture.ROOF: town_paint.roof,
    Texture.BARK: nature_paint.bark,
    Texture.STREET_LAMP: plain,
    Texture.SIGNAL: town_paint.signal,
    Texture.CROSSING_SIGN: town_paint.crossing_sign,
    Texture.SPEED_SIGN: town_paint.speed_sign,
    Texture.SHELTER: town_paint.shelter,
    Texture.GLASS_FACADE: town_paint.glass_facade,
    Texture.VAN: vehicle_paint.van,
}

#: Points on the surface and how dark it is (``Look.lamps``) give the light [N, 3] that the surface itself sends out.
LIGHTS: dict[Texture, Callable[[Surface, float], np.ndarray]] = {
    Texture.FACADE: town_paint.facade_light,
    Texture.CAR_BODY: vehicle_paint.car_body_light,
    Texture.CAR_CABIN: vehicle_paint.car_cabin_light,
    Texture.BUS: vehicle_paint.bus_light,
    Texture.CARGO: vehicle_paint.cargo_light,
    Texture.LORRY_CAB: vehicle_paint.lorry_cab_light,
    Texture.VAN: vehicle_paint.van_light,
    Texture.LIGHTS: vehicle_paint.lights_light,
    Texture.STREET_LAMP: town_paint.street_lamp_light,
    Texture.SIGNAL: town_paint.signal_light,
    Texture.GLASS_FACADE: town_paint.glass_facade_light,
}
#: Those that never shine by day.
NIGHT_ONLY = frozenset({Texture.FACADE, Texture.STREET_LAMP, Texture.GLASS_FACADE})
