"""What objects do now, and what lamps show."""

from __future__ import annotations

import numpy as np

from sparseoccvla_ros.geometry import wrap_angle
from sparseoccvla_ros.world.bodies.thing import BICYCLE, BUS, CAR, MOTORCYCLE, PEDESTRIAN, TRAILER, TRUCK
from sparseoccvla_ros.world.labels.facts import SeenObject
from sparseoccvla_ros.world.questions.pair import Draft
from sparseoccvla_ros.world.questions.refer import refer
from sparseoccvla_ros.world.questions.speech import off, sentence
from sparseoccvla_ros.world.questions.view import BARELY_PX, VISIBLE_PX, View, pixels, state_of

#: Within this of an axis of the ego something moves along it; a yaw rate of more is a turn, of less none.
ALONG_RAD = np.deg2rad(25.0)
TURNING_RADPS, NOT_TURNING_RADPS, TURNING_MPS = np.deg2rad(10.0), np.deg2rad(4.0), 1.0
#: Lamps are small: they need more of the vehicle, from behind, and not from afar.
LAMP_PX, LAMP_RANGE_M, REAR_RAD = 60, 20.0, np.deg2rad(55.0)
TOWING_M = 15.0
SIGNAL_RANGE_M, NEAR_LIGHT_M = 40.0, 20.0
#: With a junction nearer than this, that no light is seen does not tell that there is none.
NO_JUNCTION_M = 5.0

WORDINGS = {
    'motion': (
        'What {is $object doing|does $object do}?',
        'What is $object doing {right now|at the moment|at present|in this scene}?',
        '{How|In which way} is $object moving, if {at all|it moves at all}?',
        'What is the {motion state|state of motion|moving status|status} of $object?',
        '{Describe|Please describe} {what $object does|how $object moves|the motion of $object}.',
        'Does $object move, and {if so, where to|if so, how|in which direction}?',
        '{Tell me|Please tell me|Say} {what $object is doing|how $object moves|whether and where $object moves}.',
        'Is $object {parked, standing or moving|standing or moving}, and {where to|in which direction}?',
        'In {what|which} direction {does $object move|is $object moving}, if {at all|any}?',
        'What {do you observe|can you say} about the {motion|movement} of $object?',
        'What {does $object do|motion does $object show} {at the moment|now|in this scene}?',
    ),
    'lamps': (
        'What do the {lamps|lights|rear lamps|rear lights} of $object show?',
        '{Which|What} {rear lamps|rear lights|lamps} of $object are {lit|on}?',
        'Is $object {signalling|indicating} or braking?',
        'Does $object {brake or indicate|show brake lights or an indicator}?',
        '{Describe|Please describe} the {rear lamps|rear lights|lamps} of $object.',
        '{Look|If you look} at the {lamps|lights} of $object: what do they {show|tell}?',
        'What {does $object signal|is $object signalling} with its {lamps|lights}?',
        '{Tell me|Please tell me|Say} what the {lamps|lights|rear lamps} of $object {show|tell}.',
        'Are {brake lights or indicators|brake lamps or indicators} of $object {on|lit}?',
        'What can you {read|tell} from the {rear lamps|lamps|rear lights} of $object?',
    ),
    'light': (
        'What does the traffic light {for you|for your lane} show within 40 m of your rear axle?',
        '{Which|What} colour is the traffic light {for you|for your lane} within 40 m of your rear axle?',
        'What is the {state|colour|signal} of the traffic light {ahead|for you|for your lane} within 40 m of your '
        'rear axle?',
        'Red, amber or green: what {is|does one see at} {the traffic light|your traffic light} within 40 m of your '
        'rear axle?',
        '{Tell me|Please tell me|Say} what the traffic light within 40 m of your rear axle {shows|tells you}.',
        '{Describe|Please describe} the traffic light {for you|for your lane} within 40 m of your rear axle.',
        'Within 40 m of your rear axle, {which|what} signal {does the traffic light give you|is given to you by the '
        'traffic light}?',
        'Which of red, amber and green {is lit|is on|shines} at {the|your} traffic light within 40 m of your rear '
        'axle?',
        'What does the {signal|traffic signal|traffic light} ahead within 40 m of your rear axle {show|tell you}?',
        '{Read|Please read} the {traffic light|traffic signal} {for you|for your lane} within 40 m of your rear axle: '
        '{what|which colour} is it?',
    ),
    'light_or_none': (
        'Is there a traffic light for {you|your lane} within 40 m of your rear axle, and {what does it show|which '
        'colour is it}?',
        'Do you {see|find} {a traffic light|any traffic light} {for you|for your lane} within 40 m of your rear axle, '
        'and which {colour|state} has it?',
        'If a traffic light {holds|is meant} for {you|your lane} within 40 m of your rear axle, {what|which colour} '
        'does it show?',
        '{Tell me|Please tell me|Say} whether a traffic light {for you|for your lane} is within 40 m of your rear '
        'axle, and {its colour|what it shows}.',
        'Red, amber, green or none: {what|which} {traffic light|signal} do you {see|have} within 40 m of your rear '
        'axle?',
        '{Does|Would} any {traffic light|traffic signal} within 40 m of your rear axle {hold|apply} {for you|for your '
        'lane}, and what colour is it?',
        '{Look|Please look} for a traffic light {for you|for your lane} within 40 m of your rear axle: {is there '
        'one|do you see one}, and what does it show?',
        'Within 40 m of your rear axle, is {any|a} {traffic light|traffic signal} {in sight|visible} for your lane, '
        'and in which state?',
        '{Check|Please check} for {a traffic light|traffic lights} within 40 m of your rear axle and {tell|report} '
        'what {you find|is shown}.',
        'What, if anything, does {a|any} {traffic light|traffic signal} {for you|for your lane} show within 40 m of '
        'your rear axle?',
    ),
}


def motion_drafts(view: View, rng: np.random.Generator) -> list[Draft]:
    """What each object does: parked, standing, or moving and where to."""
    drafts = []
    for index in view.visible:
        phrase = refer(view, index, rng, without=('state',))
        found = _motion(view[index])
        if phrase is None or found is None:
            continue
        key, words = found
        answer = f'{sentence(phrase)} is {words}.'
        drafts.append(Draft('motion', key, answer, {'object': phrase}, ((phrase, index),)))
    return drafts


def lamps_drafts(view: View, rng: np.random.Generator) -> list[Draft]:
    """What the lamps of a vehicle show that is seen from behind."""
    drafts = []
    for index in view.visible:
        item = view[index]
        phrase = refer(view, index, rng)
        if phrase is None or not _rear_is_clear(view, index):
            continue
        shown = [*(['braking'] if item.braking else []), *([f'indicating {item.indicator}'] if item.indicator else [])]
        answer = f'{sentence(phrase)} is {" and ".join(shown) or "neither braking nor indicating"}.'
        drafts.append(Draft('lamps', ' '.join(shown) or 'none', answer, {'object': phrase}, ((phrase, index),)))
    return drafts


def light_drafts(view: View, rng: np.random.Generator) -> list[Draft]:
    """The traffic light for the ego, where there is one."""
    return _light(view, 'light')


def light_or_none_drafts(view: View, rng: np.random.Generator) -> list[Draft]:
    """The same, or that there is none."""
    facts = view.facts
    # A light that no pixel shows may be there: hidden ones and those far off are no answer either way, nor is one that
    # the ego has just passed.
    if not facts.signals and (facts.junction_m is None or facts.junction_m > NO_JUNCTION_M):
        return [Draft('light_or_none', 'none', 'No traffic light for you is in sight.')]
    return _light(view, 'light_or_none')


def _light(view: View, kind: str) -> list[Draft]:
    near = []
    for number, signal in enumerate(view.facts.signals):
        shown_px = max(signal.visible_px.values(), default=0)
        distance_m = float(np.hypot(*signal.position_m))
        if distance_m > SIGNAL_RANGE_M + 1.0 or shown_px < BARELY_PX:
            continue
        if distance_m > SIGNAL_RANGE_M - 1.0:
            return []
        near.append((distance_m, shown_px, number))
    states = {view.facts.signals[number].state for _, _, number in near}
    if not near:
        return []
    distance_m, shown_px, number = min(near)
    if len(states) != 1 or shown_px < VISIBLE_PX:
        return []
    state = view.facts.signals[number].state
    # Amber is rare: with three states alone, a cap on each would leave next to no questions.
    key = f'{state}, {"near" if distance_m < NEAR_LIGHT_M else "far"}'
    return [Draft(kind, key, f'The traffic light is {state}, {off(distance_m)}.')]


def _motion(item: SeenObject) -> tuple[str, str] | None:
    state = state_of(item)
    if state != 'moving':
        return None if state is None else (state, state)
    verb = 'walking' if item.label == PEDESTRIAN else 'riding' if item.label in (BICYCLE, MOTORCYCLE) else 'driving'
    turn_radps = item.yaw_rate_radps
    if abs(turn_radps) >= NOT_TURNING_RADPS:
        if abs(turn_radps) <= TURNING_RADPS or np.hypot(*item.velocity_mps) <= TURNING_MPS:
            return None
        side = 'left' if turn_radps > 0.0 else 'right'
        return f'turning {side}', f'turning to its {side}'
    direction_rad = float(np.arctan2(item.velocity_mps[1], item.velocity_mps[0]))
    ways = (
        (0.0, 'same', f'{verb} in your direction'),
        (np.pi, 'opposite', f'{verb} in the opposite direction'),
        (0.5 * np.pi, 'to the left', f'{verb} from right to left'),
        (-0.5 * np.pi, 'to the right', f'{verb} from left to right'),
    )
    for axis_rad, key, words in ways:
        if abs(wrap_angle(direction_rad - axis_rad)) < ALONG_RAD:
            return key, words
    return None


def _rear_is_clear(view: View, index: int) -> bool:
    item = view[index]
    if item.label not in (CAR, BUS, TRUCK) or pixels(item) < LAMP_PX or item.distance_m > LAMP_RANGE_M:
        return False
    if state_of(item) == 'parked':
        return False
    # A trailer hides the lamps of what pulls it.
    trailers = [view[other] for other in view.noticed if view[other].label == TRAILER]
    if any(np.hypot(*(trailer.position_m - item.position_m)) < TOWING_M for trailer in trailers):
        return False
    sight_rad = float(np.arctan2(item.position_m[1], item.position_m[0]))
    return abs(wrap_angle(sight_rad - item.heading_rad)) < REAR_RAD
