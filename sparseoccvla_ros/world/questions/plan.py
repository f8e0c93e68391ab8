"""What the ego should do and why, what it should watch, and the path that it will drive."""

from __future__ import annotations

import numpy as np

from sparseoccvla_ros.world.labels.facts import FUTURE_S, Command, EgoFacts, Reason
from sparseoccvla_ros.world.questions.pair import Draft
from sparseoccvla_ros.world.questions.refer import place_of
from sparseoccvla_ros.world.questions.speech import off, place, sentence
from sparseoccvla_ros.world.questions.view import RANGE_M, VISIBLE_PX, View

STOPPED_MPS, GOING_MPS = 0.2, 1.5
#: A change of speed within 3 s; between the two nothing is asked.
SAME_MPS, CHANGED_MPS = 0.4, 1.2
#: The same for the heading.
STRAIGHT_RAD, TURNED_RAD = np.deg2rad(6.0), np.deg2rad(15.0)
#: Mean speeds over 3 s: the lower and upper ends of what is called slow, moderate and fast.
PACES_MPS = (('slowly', 0.5, 3.5), ('at a moderate speed', 4.2, 7.5), ('fast', 8.3, 50.0))

#: What each reason can lead to; other combinations come from what happens later, which nobody sees now.
FITTING: dict[Reason, frozenset[str]] = {
    Reason.FREE_ROAD: frozenset(('keep', 'faster', 'start')),
    Reason.BEND: frozenset(('keep', 'slower')),
    Reason.LEADER: frozenset(('keep', 'slower', 'stop', 'wait')),
    Reason.RED_LIGHT: frozenset(('slower', 'stop', 'wait')),
    Reason.PEDESTRIAN: frozenset(('slower', 'stop', 'wait')),
    Reason.NARROW: frozenset(('keep', 'slower')),
}
ACTIONS = {
    'wait': 'keep standing',
    'start': 'start moving',
    'stop': 'brake to a stop',
    'slower': 'slow down',
    'keep': 'keep your speed',
    'faster': 'speed up',
}
TURNS = {'left': ' and turn left', 'right': ' and turn right', 'straight': ''}

WORDINGS = {
    'plan': (
        'What should you do {now|next|in this situation}, and why?',
        'What is {the right|the best|a sensible} {action|thing to do|decision} {now|here}, and {why|for what reason}?',
        'How should {you|the ego car|the ego vehicle} {drive|behave|act} {in the next 3 s|now}, and why?',
        '{Plan|Decide|Please decide} {what to do next|the next action|your next action} and give {the|a} reason.',
        '{Explain|Please explain|State} what {you|the ego vehicle|the ego car} should do {now|next} and why.',
        'What {would a good driver do|do you do} {now|in this situation|next}, and {why|for what reason}?',
        'What {driving decision|decision|manoeuvre} {is called for|do you take} {now|here}? {Give|State} the reason.',
        'Which action {should|would} {you|the ego vehicle} take {now|here}, and what is the reason{ for it|}?',
        '{Should you brake, keep your speed or speed up|Faster, slower or the same speed|Stop or go on}{ now|}? Why?',
        'What is {your|the} {plan|driving plan} for the next 3 s, and {why|what is it based on}?',
        '{Give|State|Tell me} the {action|decision} for the next 3 s {with its reason|and its reason|and say why}.',
    ),
    'attention': (
        'What should {you|the ego car} pay {most |}attention to {now|here}?',
        'What {matters most|is most important} for your {next decision|driving|speed} {now|here}?',
        'Which {object|thing|circumstance} {decides|determines|limits} your speed {now|at the moment}?',
        'What do you have to {watch|look out for|mind} {now|here|in this situation}?',
        'What is the {most important|most relevant} thing to {watch|consider} {here|now}?',
        '{Name|Tell me|Please name} what {deserves your attention|you must watch} {most|now|first}.',
        'What should {the ego car|the ego vehicle|you} {notice|consider} first {in this scene|}?',
        '{On what|On whom or what} does your {speed|next action} depend {now|here}?',
        'Who or what {decides|determines} what you do {now|next}?',
        'What {restricts|limits} {you|your driving} {now|here}, if anything?',
    ),
    'behaviour': (
        '{Predict|Please predict} the behaviour of {the ego vehicle|the ego car|your car}.',
        '{Predict|Please predict} what {the ego vehicle|the ego car} will do {in|within} the next 3 s.',
        'How will {the ego vehicle|the ego car|your car} move {in|during} the next 3 s?',
        'Where {does|will} {the ego vehicle|the ego car} {go|head} {in|during} the next 3 s, and how fast?',
        '{Shortly|Briefly|In a few words,} describe {your|the} driving {action|behaviour|manoeuvre}.',
        'Please {shortly|briefly} {state|report} your driving {action|behaviour}.',
        'What will {the ego vehicle|the ego car|your car} be doing {in|during} the next 3 s?',
        '{Tell me|Say} how {the ego car|your car|the ego vehicle} {goes on|will drive on}.',
        'What is the {target action|intended motion} of {the ego vehicle|the ego car|your car}?',
        'In which direction and {how fast|at what pace} {will you drive|do you drive on|will the ego car go on}{ '
        'in the next 3 s|}?',
    ),
    'trajectory': (
        '{Provide|Please provide} the planning trajectory for {the ego car|the ego vehicle}{ without reasons|}.',
        '{Give|Please give|Tell me} your {planned trajectory|path} {for the next 3 s|for 3 s, every 0.5 s}.',
        'What is {your planned trajectory|the planned trajectory|your path} for the next 3 s?',
        '{Plan|Please plan} the {trajectory|path} of {the ego car|the ego vehicle} for 3 s{ in steps of 0.5 s|}.',
        'Where will {you|the ego car|the ego vehicle} be {after 0.5, 1.0, 1.5, 2.0, 2.5 and 3.0 s|every 0.5 s of the '
        'next 3 s}?',
        'Which waypoints {will you|does the ego car|do you} {follow|drive through} {in|during} the next 3 s?',
        '{List|Please list|Write down} the {waypoints|positions} of your path for {the next 3 s|3 s}.',
        'Along which {six points|waypoints} {should|will} {you|the ego car} drive {in|during} the next 3 s?',
        '{Output|Report} the {planned path|planning trajectory} of {the ego car|your car} for the next 3 s.',
        'How does your {planned path|trajectory} {run|go} {in|during} the next 3 s?',
    ),
}


def plan_drafts(view: View, rng: np.random.Generator) -> list[Draft]:
    """The decision and its reason."""
    ego = view.facts.ego
    action, turn, reason = _action(ego), _turn(ego), _reason(view)
    if action is None or turn is None or reason is None or action not in FITTING[ego.reason]:
        return []
    words, mentions = reason
    moving = action not in ('wait', 'stop')
    if moving and turn != 'straight' and view.facts.bend == turn and ego.command is Command.STRAIGHT:
        way = f' and follow the bend to the {turn}'
    else:
        way = TURNS[turn] if moving else ''
    answer = f'{sentence(ACTIONS[action])}{way}, because {words}.'
    return [Draft('plan', f'{action}, {ego.reason.value}', answer, {}, mentions)]


def attention_drafts(view: View, rng: np.random.Generator) -> list[Draft]:
    """What determines the ego's speed now."""
    ego, reason = view.facts.ego, _reason(view)
    if reason is None:
        return []
    named = {
        Reason.FREE_ROAD: 'Nothing in particular: the road ahead is free.',
        Reason.BEND: 'The bend or turn ahead.',
        Reason.NARROW: 'The narrow passage.',
    }
    if ego.reason in named:
        return [Draft('attention', ego.reason.value, named[ego.reason])]
    words, mentions = reason
    phrase, index = mentions[0]
    key = view.word[index] if index >= 0 else ego.reason.value
    answer = f'{sentence(phrase)}, {"who" if key == "pedestrian" else "which"}{words.removeprefix(phrase)}.'
    return [Draft('attention', key, answer, {}, mentions)]


def behaviour_drafts(view: View, rng: np.random.Generator) -> list[Draft]:
    """Direction and pace of the next 3 s."""
    ego = view.facts.ego
    turn = _turn(ego)
    if turn is None:
        return []
    driven_m = float(np.hypot(*np.diff(np.vstack([np.zeros(2), ego.future_m]), axis=0).T).sum())
    mean_mps = driven_m / FUTURE_S[-1]
    if mean_mps < 0.1:
        return [Draft('behaviour', 'standing', 'The ego car is not moving.')]
    pace = next((name for name, low, high in PACES_MPS if low <= mean_mps <= high), None)
    if pace is None:
        return []
    way = 'going straight on' if turn == 'straight' else f'going to the {turn}'
    return [Draft('behaviour', f'{turn} {pace}', f'The ego car is {way}, {pace}.')]


def trajectory_drafts(view: View, rng: np.random.Generator) -> list[Draft]:
    """The six positions of the next 3 s."""
    future_m = view.facts.ego.future_m
    if len(future_m) < len(FUTURE_S):
        return []
    end_m = future_m[-1]
    key = f'{5 * round(float(end_m[0]) / 5.0)}, {2 * round(float(end_m[1]) / 2.0)}'
    points = ', '.join(place(point) for point in future_m)
    return [Draft('trajectory', key, f'[PT, {points}].')]


def _action(ego: EgoFacts) -> str | None:
    if len(ego.future_speed_mps) < len(FUTURE_S):
        return None
    now_mps, then_mps = ego.speed_mps, float(ego.future_speed_mps[-1])
    greatest_mps, least_mps = float(ego.future_speed_mps.max()), float(ego.future_speed_mps.min())
    if now_mps < STOPPED_MPS:
        return 'wait' if greatest_mps < STOPPED_MPS else 'start' if then_mps > GOING_MPS else None
    if now_mps < GOING_MPS:
        return None
    if least_mps < STOPPED_MPS:
        return 'stop' if then_mps < STOPPED_MPS else None
    if max(greatest_mps - now_mps, now_mps - least_mps) < SAME_MPS:
        return 'keep'
    if now_mps - then_mps > CHANGED_MPS and greatest_mps - now_mps < SAME_MPS:
        return 'slower'
    if then_mps - now_mps > CHANGED_MPS and now_mps - least_mps < SAME_MPS:
        return 'faster'
    return None


def _turn(ego: EgoFacts) -> str | None:
    if len(ego.future_heading_rad) < len(FUTURE_S):
        return None
    turned_rad = float(ego.future_heading_rad[-1])
    if abs(turned_rad) < STRAIGHT_RAD and np.abs(ego.future_heading_rad).max() < TURNED_RAD:
        return 'straight'
    if abs(turned_rad) < TURNED_RAD:
        return None
    return 'left' if turned_rad > 0.0 else 'right'


def _reason(view: View) -> tuple[str, tuple[tuple[str, int], ...]] | None:
    """The reason in words, with the object it mentions; None if the images do not show it."""
    ego = view.facts.ego
    if ego.reason is Reason.RED_LIGHT:
        for number, signal in enumerate(view.facts.signals):
            distance_m = float(np.hypot(*signal.position_m))
            shown = distance_m <= RANGE_M and max(signal.visible_px.values(), default=0) >= VISIBLE_PX
            if signal.state in ('red', 'amber') and shown:
                phrase = f'the traffic light {off(distance_m)}'
                return f'{phrase} is {signal.state}', ((phrase, -1 - number),)
        return None
    if ego.reason in (Reason.LEADER, Reason.PEDESTRIAN):
        if ego.reason_object not in view.visible:
            return None
        phrase = place_of(view, ego.reason_object)
        why = 'is ahead of you' if ego.reason is Reason.LEADER else 'is on or at the crossing'
        return f'{phrase} {why}', ((phrase, ego.reason_object),)
    words = {
        Reason.FREE_ROAD: 'the road ahead is free',
        Reason.BEND: 'there is a bend or turn ahead',
        Reason.NARROW: 'the passage is narrow',
    }
    return words[ego.reason], ()
