"""What would happen if the ego did something else."""

from __future__ import annotations

import numpy as np

from sparseoccvla_ros.world.labels.facts import Option, Outcome
from sparseoccvla_ros.world.questions.pair import Draft
from sparseoccvla_ros.world.questions.refer import place_of
from sparseoccvla_ros.world.questions.speech import sentence, tenths
from sparseoccvla_ros.world.questions.view import VISIBLE_PX, View

ROAD = 'driveable_surface'
ONTO = {
    'sidewalk': 'onto the sidewalk',
    'terrain': 'onto the grass or soil',
    'other_flat': 'onto a traffic island or another paved area',
}
ACTIONS: dict[Option, tuple[str, ...]] = {
    Option.LEFT: ('turn left now', 'turn left right here', 'steer sharply to the left now'),
    Option.RIGHT: ('turn right now', 'turn right at this very spot', 'steer sharply to the right now'),
    Option.ACCELERATE: ('accelerate', 'speed up now', 'step on the gas'),
    Option.KEEP: ('keep your speed', 'hold your present speed', 'go on at the same speed'),
    Option.BRAKE: ('brake firmly', 'brake hard now', 'step firmly on the brake'),
}
GERUNDS: dict[Option, str] = {
    Option.LEFT: 'turning left now',
    Option.RIGHT: 'turning right now',
    Option.ACCELERATE: 'accelerating',
    Option.KEEP: 'keeping the speed',
    Option.BRAKE: 'braking firmly',
}

WORDINGS = {
    'counterfactual': (
        'What {would happen|happens} within 3 s if you $action?',
        'What if you $action{ instead|}? {Tell me what follows|What follows} within 3 s.',
        'If you $action, what {would be the result|would the outcome be|happens} {within|in the next} 3 s?',
        'Suppose you $action. What {happens|would happen|follows} {within|in} the next 3 s?',
        '{What is|What would be} the {outcome|consequence|result} of $gerund, {within|in the next} 3 s?',
        'What would $gerund lead to {within|in} the next 3 s?',
        '{Imagine|Assume} that you $action: what {happens|comes of it} {within|in} the next 3 s?',
        'Would it be {safe|a good idea} to $action, {looking 3 s ahead|for the next 3 s}? {What would happen|Why}?',
        '{Predict|Please predict} what {happens|would happen} {within|in} 3 s if you $action.',
        'How would {the next 3 s go|things go in the next 3 s} {if you $action|after $gerund}?',
        'Where would $gerund take you {within|in} 3 s, and would you {hit|touch} anything?',
        '{Consider|Think of} $gerund: what {is|would be} the {outcome|result} {within|in the next} 3 s?',
    )
}


def counterfactual_drafts(view: View, rng: np.random.Generator) -> list[Draft]:
    """Each option whose outcome the images let one foresee."""
    drafts = []
    for option in Option:
        outcome = view.facts.outcomes.get(option)
        found = None if outcome is None else _outcome(view, outcome)
        if found is None:
            continue
        key, answer, mentions = found
        words = ACTIONS[option]
        slots = {'action': words[rng.integers(len(words))], 'gerund': GERUNDS[option]}
        drafts.append(Draft('counterfactual', key, answer, slots, mentions))
    return drafts


def _outcome(view: View, outcome: Outcome) -> tuple[str, str, tuple[tuple[str, int], ...]] | None:
    leaves = outcome.ends_on != ROAD
    # Nobody foresees that a light changes, or what one shows that is hidden; at amber some must stop and some not.
    if outcome.light_unsure or (outcome.runs_red and not _shows_red(view)):
        return None
    after = '' if outcome.time_s is None else f' after {tenths(outcome.time_s)} s'
    if leaves and outcome.ends_on not in ONTO:
        return None
    if outcome.runs_red:
        return _outcome_after_red(view, outcome, f'you would run a red light{after}')
    leaving = f'you would leave the road {ONTO[outcome.ends_on]}{after}' if leaves else ''
    if outcome.hits is not None:
        if outcome.hits not in view.visible:
            return None
        phrase = place_of(view, outcome.hits)
        hitting = f'hit {phrase}'
        key = f'{f"{outcome.ends_on} " if leaves else ""}hit {view.word[outcome.hits]}'
        answer = f'{leaving} and then {hitting}' if leaves else f'you would {hitting}{after}'
        return key, sentence(f'{answer}.'), ((phrase, outcome.hits),)
    if outcome.hits_other:
        # Off the road there are walls, trees and poles; on it, it would be somebody whom the images do not show.
        return (f'{outcome.ends_on} hit', sentence(f'{leaving} and then hit an obstacle.'), ()) if leaves else None
    if leaves:
        return outcome.ends_on, sentence(f'{leaving}.'), ()
    return 'safe', 'You would stay on the road and touch nobody.', ()


def _outcome_after_red(
    view: View, outcome: Outcome, running: str
) -> tuple[str, str, tuple[tuple[str, int], ...]] | None:
    leaves = outcome.ends_on != ROAD
    steps = [running, *([f'leave the road {ONTO[outcome.ends_on]}'] if leaves else [])]
    names = ['red light', *([outcome.ends_on] if leaves else [])]
    mentions: tuple[tuple[str, int], ...] = ()
    if outcome.hits is not None:
        if outcome.hits not in view.visible:
            return None
        phrase = place_of(view, outcome.hits)
        steps.append(f'hit {phrase}')
        names.append(f'hit {view.word[outcome.hits]}')
        mentions = ((phrase, outcome.hits),)
    elif outcome.hits_other:
        if not leaves:
            return None
        steps.append('hit an obstacle')
        names.append('hit')
    return ' '.join(names), sentence(f'{", then ".join(steps)}.'), mentions


def _shows_red(view: View) -> bool:
    shown = [item.state for item in view.facts.signals if max(item.visible_px.values(), default=0) >= VISIBLE_PX]
    return bool(shown) and set(shown) == {'red'}
