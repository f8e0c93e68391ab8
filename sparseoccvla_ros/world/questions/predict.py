"""What objects will do: where they will be, and how that lies to the ego's path."""

from __future__ import annotations

import numpy as np

from sparseoccvla_ros.geometry import wrap_angle
from sparseoccvla_ros.world.labels.facts import FUTURE_S, Command, EgoFacts, KeyframeFacts, SeenObject
from sparseoccvla_ros.world.questions.pair import Draft
from sparseoccvla_ros.world.questions.refer import refer
from sparseoccvla_ros.world.questions.speech import metres, place, sector, sentence, tenths
from sparseoccvla_ros.world.questions.view import View, state_of

HORIZONS_S = (1.0, 2.0, 3.0)
STAYS_M = 0.2
#: Beside the path is beyond the first, on it within the second: half a car's width and half an object's.
BESIDE_M, ON_M = 2.0, 0.8
#: What crosses the path goes from one side to the other by at least this on both.
CROSSED_M = 1.2
#: The ego's path is what it drives in 3 s and goes on from there as it bends at last: some metres for sure, more where
#: the road and the route go straight on. Beyond it only what is on the path is asked about.
SURE_M, SURE_STRAIGHT_M, EXTENDED_M, EXTENSION_STEP_M = 4.0, 15.0, 40.0, 2.0
#: A shorter recorded path does not show where it goes.
SHORTEST_M = 3.0
STRAIGHT_RAD = np.deg2rad(3.0)
AHEAD_M = 2.0
#: Names of the least distance from the path, with their upper borders.
GAPS_M = (('near', 4.0), ('away', 7.0), ('far', 12.0), ('very far', np.inf))

WORDINGS = {
    'future': (
        'Where will $object be in $time, {in the present ego frame|in your present axes}?',
        'At {what|which} position will $object be {in|after} $time, {measured from where you are now|seen from here}?',
        '{Predict|Please predict|Forecast} the position of $object in $time {in the present ego frame|in your present '
        'axes}.',
        'What will the {position|coordinates} of $object be {in|after} $time, {in your present axes|seen from here}?',
        'In $time, where {will $object be|do you expect $object to be}, {in the present ego frame|measured from where '
        'you are now}?',
        '{Give|Tell me|Please give} the {position|coordinates} that $object will have in $time, {in your present '
        'axes|seen from here}.',
        'Where {does $object get to|will $object have moved to} {in|within} $time, {in the present ego frame|measured '
        'from where you are now}?',
        '{Looking $time ahead|$Time from now}: where is $object{ then|}, in {the present ego frame|your present axes}?',
        'Which {point|position} {will $object reach|does $object reach} in $time, {seen from here|in the present ego '
        'frame}?',
        '{Extrapolate|Look} $time {ahead|into the future}: at which {position|point} is $object, in the present ego '
        'frame?',
        'What is the {expected|future} position of $object $time from now, {in your present axes|in the present ego '
        'frame}?',
    ),
    'path': (
        'How will $object move relative to {your path|the path of the ego car} in the next 3 s?',
        'Will $object {cross|come into|get into} {your path|your way} {within|in} the next 3 s, or {stay beside '
        'it|where does it stay}?',
        'What will $object do with respect to {your path|the path of the ego car} {within|in} 3 s?',
        '{Predict|Please predict} how $object {lies|moves} relative to {your path|your planned path} for the next 3 s.',
        'In the next 3 s, {does|will} $object cross {your path|your way} or stay {beside it|where it is}?',
        'On which side of your path {will $object be|does $object stay} {within|in} the next 3 s, or does it cross?',
        '{Tell me|Say|Please say} whether and how $object {gets in your way|crosses your path} in the next 3 s.',
        'Is $object going to {cross your path|be in your way} {within|in} the next 3 s, and {how|from which side}?',
        '{Look|Looking} 3 s ahead: where is $object relative to {your path|your way}?',
        'What is the {course|motion} of $object relative to {your path|your way} {during|over|in} the next 3 s?',
        'Should you expect $object {on|to cross} your path {within|in} the next 3 s, and how?',
    ),
}


def future_drafts(view: View, rng: np.random.Generator) -> list[Draft]:
    """Where an object will be in 1, 2 or 3 s, in the ego frame of the keyframe."""
    drafts = []
    for index in view.visible:
        item = view[index]
        horizon_s = HORIZONS_S[rng.integers(len(HORIZONS_S))]
        step = FUTURE_S.index(horizon_s)
        phrase = refer(view, index, rng, without=('position',))
        if phrase is None or state_of(item) is None or len(item.future_m) <= step:
            continue
        there_m = item.future_m[step]
        where = sector(there_m)
        if where is None:
            continue
        moved_m = float(np.hypot(*(there_m - item.position_m)))
        key = 'stays' if moved_m < STAYS_M else where
        time = f'{horizon_s:.0f} s'
        answer = f'{sentence(phrase)} will be at {place(there_m)}.'
        slots = {'object': phrase, 'time': time, 'Time': time}
        drafts.append(Draft('future', key, answer, slots, ((phrase, index),)))
    return drafts


def path_drafts(view: View, rng: np.random.Generator) -> list[Draft]:
    """How an object in front moves relative to the path that the ego will drive; keys begin with whether it is ever in
    the way.
    """
    drafts = []
    for index in view.visible:
        item = view[index]
        phrase = refer(view, index, rng)
        if phrase is None or item.position_m[0] < AHEAD_M or state_of(item) is None:
            continue
        found = _course(view.facts, item)
        if found is None:
            continue
        key, words = found
        answer = f'{sentence(phrase)} {words}.'
        drafts.append(Draft('path', key, answer, {'object': phrase}, ((phrase, index),)))
    return drafts


def along_path(path_m: np.ndarray, point_m: np.ndarray) -> tuple[float, float]:
    """Of a point [2], how far along the path [N, 2] its nearest point is, and how far left of the path it is."""
    starts, steps = path_m[:-1], np.diff(path_m, axis=0)
    lengths = np.hypot(*steps.T)
    shares = np.clip(((point_m - starts) * steps).sum(axis=1) / lengths**2, 0.0, 1.0)
    feet = starts + shares[:, None] * steps
    number = int(np.argmin(np.hypot(*(point_m - feet).T)))
    offset_m = point_m - feet[number]
    side = steps[number, 0] * offset_m[1] - steps[number, 1] * offset_m[0]
    arc_m = lengths[:number].sum() + shares[number] * lengths[number]
    return float(arc_m), float(np.copysign(np.hypot(*offset_m), side))


def ego_path(ego: EgoFacts) -> np.ndarray:
    """The path [N, 2] of the ego's origin that is recorded, and ``EXTENDED_M`` on with its last curvature."""
    points, headings = [np.zeros(2)], [0.0]
    for point, heading_rad in zip(ego.future_m, ego.future_heading_rad, strict=True):
        if np.hypot(*(point - points[-1])) > 0.3:
            points.append(point)
            headings.append(float(heading_rad))
    heading_rad, curvature = headings[-1], 0.0
    if len(points) > 1:
        turned_rad = float(wrap_angle(headings[-1] - headings[-2]))
        curvature = turned_rad / float(np.hypot(*(points[-1] - points[-2])))
    turn_rad = curvature * EXTENSION_STEP_M
    for _ in range(round(EXTENDED_M / EXTENSION_STEP_M)):
        middle_rad = heading_rad + 0.5 * turn_rad
        points.append(points[-1] + EXTENSION_STEP_M * np.array([np.cos(middle_rad), np.sin(middle_rad)]))
        heading_rad += turn_rad
    return np.array(points)


def _course(facts: KeyframeFacts, item: SeenObject) -> tuple[str, str] | None:
    ego = facts.ego
    if len(item.future_m) < len(FUTURE_S) or len(ego.future_m) < len(FUTURE_S):
        return None
    path_m = ego_path(ego)
    length_m = float(np.hypot(*np.diff(path_m, axis=0).T).sum())
    recorded_m = length_m - EXTENDED_M
    straight = (
        facts.bend == 'straight'
        and ego.command is Command.STRAIGHT
        and np.abs(wrap_angle(ego.future_heading_rad)).max() < STRAIGHT_RAD
    )
    if recorded_m < SHORTEST_M and not straight:
        return None
    points = np.vstack([item.position_m, item.future_m])
    arcs_m, sides_m = np.array([along_path(path_m, point) for point in points]).T
    if arcs_m.min() <= AHEAD_M or arcs_m.max() >= length_m - 0.1:
        return None
    away_m = np.abs(sides_m)
    if away_m.max() < ON_M:
        stays = state_of(item) != 'moving' and np.hypot(*(points - points[0]).T).max() < STAYS_M
        moves = arcs_m[-1] - arcs_m[0] > 1.5
        if stays and arcs_m.max() < recorded_m + SURE_STRAIGHT_M:
            return 'yes, stays on the path', 'will stay where it is, on your path'
        return ('yes, moves on the path', 'will stay on your path, moving ahead of you') if moves else None
    if arcs_m.max() >= recorded_m + (SURE_STRAIGHT_M if straight else SURE_M):
        return None
    if away_m.min() > BESIDE_M and (sides_m > 0.0).all() == (sides_m > 0.0).any():
        side, gap_m = 'left' if sides_m[0] > 0.0 else 'right', float(away_m.min())
        far = next(name for name, below_m in GAPS_M if gap_m < below_m)
        return f'no, {side} {far}', f'will stay to the {side} of your path, {metres(gap_m)} from it at the closest'
    if away_m[0] < ON_M and away_m[-1] > BESIDE_M:
        side = 'left' if sides_m[-1] > 0.0 else 'right'
        return f'yes, leaves to the {side}', f'is on your path and will leave it to the {side}'
    if away_m[0] > BESIDE_M and away_m[-1] < ON_M:
        side = 'left' if sides_m[0] > 0.0 else 'right'
        return f'yes, comes from the {side}', f'will come onto your path from the {side}'
    return _crossing(sides_m)


def _crossing(sides_m: np.ndarray) -> tuple[str, str] | None:
    if min(abs(sides_m[0]), abs(sides_m[-1])) < CROSSED_M or sides_m[0] * sides_m[-1] > 0.0:
        return None
    changes = np.nonzero(np.diff(sides_m > 0.0))[0]
    if len(changes) != 1:
        return None
    before = int(changes[0])
    share = sides_m[before] / (sides_m[before] - sides_m[before + 1])
    times_s = (0.0, *FUTURE_S)
    when_s = times_s[before] + share * (times_s[before + 1] - times_s[before])
    way = 'from left to right' if sides_m[0] > 0.0 else 'from right to left'
    return f'yes, crosses {way}', f'will cross your path {way} in {tenths(when_s)} s'
