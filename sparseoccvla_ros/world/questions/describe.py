"""Scene description: light and weather, the road, what is where."""

from __future__ import annotations

from collections import Counter

import numpy as np

from sparseoccvla_ros.world.labels.facts import KeyframeFacts
from sparseoccvla_ros.world.questions.pair import Draft
from sparseoccvla_ros.world.questions.speech import (
    DIRECTIONS,
    SECTORS,
    listing,
    metres,
    number_of,
    off,
    plural,
    sector,
    sentence,
    with_article,
    with_paint,
    within,
)
from sparseoccvla_ros.world.questions.view import RANGE_M, VISIBLE_PX, View

TIMES = {'day': 'by day', 'dusk': 'at dusk', 'night': 'at night'}
WEATHERS = {'clear': 'in clear weather', 'rain': 'in the rain', 'fog': 'in fog'}
BENDS = {'straight': 'runs straight on', 'left': 'bends to the left', 'right': 'bends to the right'}
#: Features of the road nearer than this are no longer ahead.
PASSED_M = 1.0
#: What is listed: poles, trees and walls are not.
THINGS = 'road users and movable objects'
#: More objects than this nobody lists.
LISTED = 6
#: More of one kind than this are not counted.
GREATEST = 4

WORDINGS = {
    'scene': (
        '{Describe|Please describe|Summarize|Sum up} the {current|present} {driving scene|traffic situation|scene}.',
        'What {can you tell|do the images tell} about the {current|present} {driving conditions|traffic situation}?',
        '{Can|Could} you {describe|summarize|sum up} {what the cameras show|the scene around the car|this scene}?',
        '{Give|Please give|Write} {an overview|a summary|a short description} of {the scene|the current scene|the '
        'surroundings}.',
        'What {is to be seen|do you see} {around the car|in the six images|around you} {right now|at present}?',
        'What {can be observed|do you notice} in the {surround view|panoramic images|six camera images}?',
        '{Tell me|Please tell me|Say} what {the scene looks like|is going on around you|the street looks like now}.',
        'How would you {describe|sum up} {the current situation|the driving conditions|the surroundings of the car}?',
        '{Explain|Please explain|Report} what {kind of scene|traffic scene} {the cameras show|you are driving in}.',
        '{Put|Please put} {this scene|the view of the cameras|what you see} into {words|a few words}.',
    ),
    'look': (
        '{What is the weather|What are the weather and the light|What are light and weather} like {now|right now|}?',
        'What {time of day|part of the day} is it, and {how is the weather|what is the weather like}?',
        '{Describe|Please describe} the {weather and the time of day|light and the weather|weather conditions and the '
        'light}.',
        'Under {what|which} {light and weather|weather and light} {are you driving|is the car driving|was this taken}?',
        'How {light is it|bright is it outside}, and is it {dry, raining or foggy|clear, rainy or foggy}?',
        '{Name|Tell me|Say} the {time of day|part of the day} and the weather {of this scene|in these images|now}.',
        'What do the images {tell|show} about {the time of day and the weather|daylight and weather}?',
        'Is it day, dusk or night, and {what is the weather|how is the weather|is it clear, rainy or foggy}?',
        'In {what|which} {weather|weather conditions} and at {what|which} time of day {are we|is the car} {driving|on '
        'the road}?',
        'What {are the visibility conditions|are the conditions}: {time of day|light} and weather?',
    ),
    'road': (
        'What does the road {ahead|in front of you|in front} look like {within 25 m of|for 25 m from} your front '
        'bumper?',
        '{Describe|Please describe} the {road|street} {ahead|in front of the car} {within 25 m of|for 25 m from} your '
        'front bumper.',
        'How does the {road|street} {go on|continue} {for 25 m from|within 25 m of} your front bumper?',
        'What is the {course|layout} of the {road|street} {for|over} 25 m from your front bumper?',
        'Which way does the {road|street} lead {within 25 m of|for 25 m from} your front bumper, and {what comes '
        'up|what lies on it}?',
        '{Tell me|Say} what the {road|street} {does|brings} {for 25 m from|within 25 m of} your front bumper.',
        'Does the {road|street} {bend|curve} {ahead|in front of you} within 25 m of your front bumper, and what '
        '{comes up|follows} on it?',
        'What {should a driver know|is there to know} about the {road|street} {within 25 m of|for 25 m from} your '
        'front bumper?',
        'What {comes up|is coming up} on {your|our} {road|street} {within 25 m of|for 25 m from} your front bumper?',
        '{Give|Please give} the {course and the features|shape and the features} of the {road|street} {for|over} 25 m '
        'from your front bumper.',
    ),
    'surroundings': (
        'What $things {are|can be seen} $direction within 25 m of your rear axle?',
        'What $things {do you see|can you see} $direction within 25 m of your rear axle?',
        'Which $things {are|are visible|are to be seen} $direction within 25 m of your rear axle?',
        '{Name|List} {all $things that are|the $things that are} visible $direction within 25 m of your rear axle.',
        '$Direction, {what|which} $things {are there|can be seen|do you see} {up to 25 m from|within 25 m of} your '
        'rear axle?',
        'What $things {are visible|are in sight} $direction {up to 25 m from|less than 25 m from} your rear axle?',
        'Which $things {are found|are present|are located} $direction within 25 m of your rear axle?',
        '{Looking|If you look} $direction, what $things {are there|do you find|do you see} within 25 m of your rear '
        'axle?',
        '{Tell me|Please tell me} {what|which} $things you {see|find} $direction within 25 m of your rear axle.',
        'Within 25 m of your rear axle, {which|what} $things are {in sight|visible} $direction?',
        '{Describe|Please describe} what $things {are|can be seen} $direction within 25 m of your rear axle.',
    ),
}


def describe(facts: KeyframeFacts) -> str:
    """Some sentences about a keyframe: true whatever its objects are."""
    view = View(facts)
    parts = [
        f'It is {facts.time_of_day} and {_weather(facts)}.',
        f'The road has {facts.lanes} {"lane" if facts.lanes == 1 else "lanes"} each way and {_road(facts)}.',
    ]
    inside = view.within(RANGE_M)
    if inside:
        counts = Counter(view.word[index] for index in inside)
        phrases = [
            number_of(n, word) if n <= GREATEST else f'more than {GREATEST} {plural(word)}'
            for word, n in counts.items()
        ]
        parts.append(f'In sight {within(RANGE_M)}: {listing(phrases)}.')
    nearest = view.nearest()
    if nearest is not None:
        named = with_article(_painted(view, nearest))
        parts.append(f'The nearest road user or movable object is {named}, {_whereabouts(view, nearest)}.')
    shown = {
        signal.state
        for signal in facts.signals
        if max(signal.visible_px.values(), default=0) >= VISIBLE_PX and np.hypot(*signal.position_m) <= RANGE_M
    }
    if len(shown) == 1:
        parts.append(f'The traffic light shows {next(iter(shown))}.')
    return ' '.join(parts)


def scene_drafts(view: View, rng: np.random.Generator) -> list[Draft]:
    """The whole scene in some sentences."""
    facts = view.facts
    first = view.nearest()
    nearest = '' if first is None else view.word[first]
    return [Draft('scene', f'{facts.time_of_day} {facts.weather} {facts.bend} {nearest}', describe(facts))]


def look_drafts(view: View, rng: np.random.Generator) -> list[Draft]:
    """Time of day and weather."""
    facts = view.facts
    answer = sentence(f'it is {facts.time_of_day} and {_weather(facts)}.')
    return [Draft('look', f'{facts.time_of_day} {facts.weather}', answer)]


def road_drafts(view: View, rng: np.random.Generator) -> list[Draft]:
    """Bend and features of the next 25 m, which are told from the car's front."""
    features = ' '.join(name for name, _ in _features(view.facts))
    return [Draft('road', f'{view.facts.bend} {features}', f'The road {_road(view.facts)}.')]


def surroundings_drafts(view: View, rng: np.random.Generator) -> list[Draft]:
    """What is in one sector."""
    drafts = []
    for name in SECTORS:
        inside = view.within(RANGE_M, name)
        # Beyond the range's border nothing is said: the nearest row may end with something at the border.
        if inside is None or len(inside) > LISTED:
            continue
        counts = Counter(view.word[index] for index in inside)
        if max(counts.values(), default=0) > GREATEST:
            continue
        alone = {view.word[index]: index for index in inside}
        phrases = [
            with_article(_painted(view, alone[word])) if n == 1 else number_of(n, word) for word, n in counts.items()
        ]
        answer = sentence(f'{listing(phrases)}.') if phrases else 'No road user and no movable object.'
        key = ' '.join(f'{n} {word}' for word, n in sorted(counts.items())) or 'nothing'
        words = DIRECTIONS[name]
        direction = words[rng.integers(len(words))]
        slots = {'things': THINGS, 'direction': direction, 'Direction': sentence(direction)}
        drafts.append(Draft('surroundings', key, answer, slots))
    return drafts


def scene_description(facts: list[KeyframeFacts]) -> str:
    """What happens in a whole scene: when, and what the ego does from its first to its last keyframe."""
    first = facts[0]
    commands = [facts[0].ego.command.value]
    for item in facts[1:]:
        if item.ego.command.value != commands[-1]:
            commands.append(item.ego.command.value)
    words = {'left': 'turns left', 'right': 'turns right', 'straight': 'goes straight on'}
    ways = ', then '.join(words[command] for command in commands)
    return f'The ego vehicle drives {TIMES[first.time_of_day]} {WEATHERS[first.weather]} and {ways}.'


def _weather(facts: KeyframeFacts) -> str:
    return {'clear': 'the weather is clear', 'rain': 'it is raining', 'fog': 'it is foggy'}[facts.weather]


def _features(facts: KeyframeFacts) -> list[tuple[str, float]]:
    named = (('crossing', facts.crossing_m), ('junction', facts.junction_m), ('work zone', facts.work_zone_m))
    return [(name, ahead_m) for name, ahead_m in named if ahead_m is not None and ahead_m > PASSED_M]


def _road(facts: KeyframeFacts) -> str:
    names = {'crossing': 'a pedestrian crossing', 'junction': 'a junction', 'work zone': 'a work zone'}
    features = [f'{names[name]} {metres(ahead_m)} ahead' for name, ahead_m in _features(facts)]
    inside = ' through a junction' if facts.junction_m is not None and facts.junction_m <= PASSED_M else ''
    way = BENDS[facts.bend] + inside
    return f'{way}, with {listing(features)} of your front bumper' if features else way


def _painted(view: View, index: int) -> str:
    word = view.word[index]
    return with_paint(word, view[index]) if view.colour_is_clear(index) else word


def _whereabouts(view: View, index: int) -> str:
    item = view[index]
    where = sector(item.position_m)
    return off(item.distance_m) + (f' {DIRECTIONS[where][0]}' if where else '')
