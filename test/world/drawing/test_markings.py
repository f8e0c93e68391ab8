from dataclasses import replace

import numpy as np

from sparseoccvla_ros.world.drawing.markings import Markings, markings_of
from sparseoccvla_ros.world.streets.centreline import Centreline
from sparseoccvla_ros.world.streets.plan import Plan
from sparseoccvla_ros.world.streets.street import StopLine, Street

#: Along x from (100, 200): lane to 3.5 m, cycle lane to 5.0, parking to 7.0, sidewalk to 10.0.
STREET = Street(Centreline(np.zeros(2001), (100.0, 200.0)), 1, 3.5, 0.0, 1.5, 2.0, 3.0)


def seen(street: Street, s_m: list[float], d_m: list[float], pixel_m: float = 0.01) -> Markings:
    plan = Plan((street,))
    x, y = 100.0 + np.array(s_m), 200.0 + np.array(d_m)
    return markings_of(plan.near(x, y), plan.ground_at(x, y), np.full(len(x), pixel_m))


def test_lines_lie_where_the_cross_section_says():
    d_m = [0.0, 0.5, 3.5, 4.2, 5.0, 6.0, -3.5, -5.0]
    in_dash, between = seen(STREET, [91.0] * 8, d_m), seen(STREET, [95.0] * 8, d_m)
    assert in_dash.paint.tolist() == [1, 0, 1, 0, 1, 0, 1, 1]
    assert between.paint.tolist() == [0, 0, 1, 0, 1, 0, 1, 1]
    assert in_dash.cycle.tolist() == [False, False, False, True, False, False, False, False]
    assert seen(STREET, [91.0] * 3, [6.9, 7.09, 7.3]).kerb.tolist() == [0, 1, 0]


def test_a_crossing_has_stripes_and_interrupts_everything_else():
    street = replace(STREET, crossings_s_m=(93.0,))
    d_m = np.arange(-6.5, 6.5, 0.05)
    on = seen(street, [93.0] * len(d_m), d_m.tolist()).paint
    assert 0.4 < on.mean() < 0.6
    assert np.count_nonzero(np.diff(on > 0.5)) > 20
    beside = seen(street, [91.2] * len(d_m), d_m.tolist())
    assert not beside.paint.any()
    assert not beside.cycle.any()


def test_a_stop_line_covers_the_lanes_of_its_own_direction():
    street = replace(STREET, stop_lines=(StopLine(60.0, 1, 0),))
    assert seen(street, [60.0] * 4, [-1.0, -3.0, -4.3, 1.5]).paint.tolist() == [1, 1, 0, 0]
    back = replace(STREET, stop_lines=(StopLine(60.0, -1, 0),))
    assert seen(back, [60.0] * 2, [-1.0, 1.5]).paint.tolist() == [0, 1]


def test_paint_fades_to_its_share_of_a_pixel():
    """A line of 14 cm in a pixel of 1.4 m covers a tenth of it."""
    assert seen(STREET, [91.0], [3.5], pixel_m=1.4).paint[0] == np.float32(0.1)
