"""What differs from one town of the synthetic world to the next: layout and colours."""

from __future__ import annotations

from dataclasses import dataclass

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class City:
    """Statistics that scenes are drawn from. Ranges are (least, greatest); lengths in metres, colours RGB 0..1."""

    name: str
    lanes: tuple[int, ...]
    lane_width_m: tuple[float, float]
    sidewalk_width_m: tuple[float, float]
    setback_m: tuple[float, float]
    building_height_m: tuple[float, float]
    building_length_m: tuple[float, float]
    building_share: float
    tree_spacing_m: float
    parked_share: float
    island_share: float
    cycle_lane_share: float
    work_zone_share: float
    pedestrians_per_100m: float
    traffic_gap_m: tuple[float, float]
    facades: tuple[Colour, ...]
    asphalt: Colour
    pavement: Colour
    grass: Colour
    sky_high: Colour
    sky_low: Colour


def harbour() -> City:
    """Wide streets, tall pale blocks, few trees."""
    return City(
        name='harbour',
        lanes=(1, 2, 2),
        lane_width_m=(3.4, 3.7),
        sidewalk_width_m=(3.0, 4.5),
        setback_m=(0.5, 4.0),
        building_height_m=(12.0, 36.0),
        building_length_m=(16.0, 34.0),
        building_share=0.9,
        tree_spacing_m=26.0,
        parked_share=0.4,
        island_share=0.45,
        cycle_lane_share=0.3,
        work_zone_share=0.7,
        pedestrians_per_100m=7.0,
        traffic_gap_m=(24.0, 75.0),
        facades=((0.74, 0.72, 0.68), (0.60, 0.65, 0.70), (0.82, 0.80, 0.76), (0.52, 0.55, 0.58), (0.68, 0.60, 0.52)),
        asphalt=(0.33, 0.34, 0.36),
        pavement=(0.62, 0.61, 0.59),
        grass=(0.36, 0.44, 0.24),
        sky_high=(0.36, 0.56, 0.84),
        sky_low=(0.80, 0.87, 0.93),
    )


def oldtown() -> City:
    """Narrow streets, brick row houses at the sidewalk, cars parked nearly everywhere."""
    return City(
        name='oldtown',
        lanes=(1,),
        lane_width_m=(3.2, 3.4),
        sidewalk_width_m=(2.2, 3.2),
        setback_m=(0.0, 0.6),
        building_height_m=(8.0, 15.0),
        building_length_m=(8.0, 15.0),
        building_share=0.97,
        tree_spacing_m=34.0,
        parked_share=0.7,
        island_share=0.3,
        cycle_lane_share=0.45,
        work_zone_share=0.7,
        pedestrians_per_100m=10.0,
        traffic_gap_m=(24.0, 80.0),
        facades=((0.58, 0.30, 0.23), (0.66, 0.42, 0.28), (0.78, 0.66, 0.46), (0.48, 0.27, 0.24), (0.72, 0.70, 0.64)),
        asphalt=(0.29, 0.29, 0.30),
        pavement=(0.56, 0.52, 0.48),
        grass=(0.33, 0.40, 0.22),
        sky_high=(0.46, 0.58, 0.74),
        sky_low=(0.86, 0.86, 0.84),
    )


def suburb() -> City:
    """Low houses behind gardens, rows of trees, little traffic."""
    return City(
        name='suburb',
        lanes=(1,),
        lane_width_m=(3.3, 3.6),
        sidewalk_width_m=(1.8, 2.6),
        setback_m=(6.0, 12.0),
        building_height_m=(5.0, 8.0),
        building_length_m=(10.0, 17.0),
        building_share=0.62,
        tree_spacing_m=11.0,
        parked_share=0.3,
        island_share=0.35,
        cycle_lane_share=0.35,
        work_zone_share=0.6,
        pedestrians_per_100m=4.0,
        traffic_gap_m=(35.0, 110.0),
        facades=((0.86, 0.83, 0.75), (0.70, 0.74, 0.78), (0.80, 0.68, 0.55), (0.63, 0.44, 0.35), (0.90, 0.89, 0.86)),
        asphalt=(0.38, 0.37, 0.36),
        pavement=(0.68, 0.66, 0.62),
        grass=(0.34, 0.52, 0.22),
        sky_high=(0.30, 0.54, 0.88),
        sky_low=(0.78, 0.88, 0.96),
    )


def cities() -> tuple[City, ...]:
    """All towns, in the order that scenes visit them when none is asked for."""
    return harbour(), oldtown(), suburb()


def cities_named(names: str) -> tuple[City, ...]:
    """The towns of these names, ``harbour,suburb``, in this order.

    Raises:
        ValueError: one does not exist (names those that do), or is named twice.
    """
    listed = names.split(',')
    if len(set(listed)) < len(listed):
        raise ValueError(f'city is {names!r}; each town once expected')
    return tuple(city_named(name) for name in listed)


def city_named(name: str) -> City:
    """The town of that name.

    Raises:
        ValueError: there is none; names those that exist.
    """
    known = {city.name: city for city in cities()}
    if name not in known:
        raise ValueError(f'unknown city {name!r}; expected one of {", ".join(known)}')
    return known[name]
