"""What objects will do: where they will be, and how that lies to the ego's path."""

from __future__ import annotations

import numpy as np

from sparseoccvla_ros.world.labels.facts import FUTURE_S, EgoFacts, SeenObject
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
#: The ego's path is what it drives in 3 s, and straight on as far as its front is ahead; shorter ones are no path.
EXTENDED_M, SHORTEST_M = 4.0, 3.0
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
    """How an object in front moves relative to the path that the ego will drive."""
    drafts = []
    for index in view.visible:
        item = view[index]
        phrase = refer(view, index, rng)
        if phrase is None or item.position_m[0] < AHEAD_M or state_of(item) is None:
            continue
        found = _course(view.facts.ego, item)
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
    """The path [N, 2] of the ego's origin that is recorded, and straight on at its end."""
    points = [np.zeros(2)]
    for point in ego.future_m:
        if np.hypot(*(point - points[-1])) > 0.3:
            points.append(point)
    heading_rad = float(ego.future_heading_rad[-1])
    points.append(points[-1] + EXTENDED_M * np.array([np.cos(heading_rad), np.sin(heading_rad)]))
    return np.array(points)


def _course(ego: EgoFacts, item: SeenObject) -> tuple[str, str] | None:
    if len(item.future_m) < len(FUTURE_S) or len(ego.future_m) < len(FUTURE_S):
        return None
    path_m = ego_path(ego)
    length_m = float(np.hypot(*np.diff(path_m, axis=0).T).sum())
    if length_m < SHORTEST_M + EXTENDED_M:
        return None
    points = np.vstack([item.position_m, item.future_m])
    arcs_m, sides_m = np.array([along_path(path_m, point) for point in points]).T
    if arcs_m.min() <= AHEAD_M or arcs_m.max() >= length_m - 0.1:
        return None
    if np.abs(sides_m).min() > BESIDE_M and (sides_m > 0.0).all() == (sides_m > 0.0).any():
        side, gap_m = 'left' if sides_m[0] > 0.0 else 'right', float(np.abs(sides_m).min())
        far = next(name for name, below_m in GAPS_M if gap_m < below_m)
        return f'{side} {far}', f'will stay to the {side} of your path, {metres(gap_m)} from it at the closest'
    if np.abs(sides_m).max() < ON_M:
        stays = state_of(item) != 'moving' and np.hypot(*(points - points[0]).T).max() < STAYS_M
        moves = np.hypot(*(points[-1] - points[0])) > 1.5
        if stays:
            return 'stays on the path', 'will stay where it is, on your path'
        return ('moves on the path', 'will move ahead of you on your path') if moves else None
    if min(abs(sides_m[0]), abs(sides_m[-1])) < CROSSED_M or sides_m[0] * sides_m[-1] > 0.0:
        return None
    changes = np.nonzero(np.diff(np.sign(sides_m)))[0]
    if len(changes) != 1:
        return None
    before = int(changes[0])
    share = sides_m[before] / (sides_m[before] - sides_m[before + 1])
    times_s = (0.0, *FUTURE_S)
    when_s = times_s[before] + share * (times_s[before + 1] - times_s[before])
    way = 'from left to right' if sides_m[0] > 0.0 else 'from right to left'
    return f'crosses {way}', f'will cross your path {way} in {tenths(when_s)} s'
