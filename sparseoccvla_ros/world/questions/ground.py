"""3D grounding: what is at a position, where something is, which camera shows it, its colour, the ground under it."""

from __future__ import annotations

import numpy as np

from sparseoccvla_ros.world.questions.pair import Draft
from sparseoccvla_ros.world.questions.refer import APART_M, refer
from sparseoccvla_ros.world.questions.speech import place, sector, sentence, with_article, with_paint
from sparseoccvla_ros.world.questions.view import View, pixels, state_of

#: The camera that shows most of an object shows this many times as much as any other.
CAMERA_RATIO = 2.0
CAMERAS = {
    'CAM_FRONT': 'front',
    'CAM_FRONT_LEFT': 'front left',
    'CAM_FRONT_RIGHT': 'front right',
    'CAM_BACK': 'back',
    'CAM_BACK_LEFT': 'back left',
    'CAM_BACK_RIGHT': 'back right',
}
GROUNDS = {
    'driveable_surface': 'the road',
    'sidewalk': 'the sidewalk',
    'terrain': 'grass or soil',
    'other_flat': 'a traffic island or another paved area',
}

WORDINGS = {
    'identify': (
        'What is at $place?',
        'What {is located|is to be found|can be found} at $place?',
        'Which object {is|is located|stands} at {position|the position|the point} $place?',
        '{Identify|Please identify|Name} the object at {position |the point |}$place.',
        '{What|Which} {kind|type|sort} of object {is|stands|is located} at $place?',
        'There is something at $place. What is it?',
        '{Tell me|Please tell me|Say} what {you see|is|is located} at $place.',
        '{Looking|If you look} at $place, what {is there|do you see}?',
        'At {position|the point|the place} $place there is {an object|something}. {What is it?|Name it.}',
        'Who or what is at {position |}$place?',
        '{What|Which object} occupies {the point|the position|the place} $place?',
        '{Classify|Please classify|Describe} the object at $place.',
    ),
    'locate': (
        'Where {is|exactly is} $object?',
        'Where {is $object located|can $object be found|do you see $object}?',
        'At {what|which} position is $object?',
        'What are the {coordinates|ego-frame coordinates|x and y coordinates} of $object?',
        '{Give|Please give|Tell me|Report|Write down} the {position|coordinates|place} of $object.',
        'What is the position of $object {in the ego frame|relative to you|in metres|}?',
        '{Locate|Please locate|Localize} $object{ in the ego frame| in metres|}.',
        '{Tell me|Please tell me|Say} where $object is {in the ego frame|relative to you|}.',
        'At {what|which} {coordinates|point} {does $object stand|is $object|do you see $object}?',
        'Which {coordinates|x and y} {does $object have|belong to $object}?',
        'Where exactly {do you find|would you find|do the images show} $object?',
    ),
    'camera': (
        'Which camera {shows|sees|captures} $object best?',
        'In which camera {is $object seen|is $object|do you see $object} {best|most clearly}?',
        'Which {of the six cameras|camera} {shows|sees|captures} most of $object?',
        '{Name|Tell me|Give} the camera that shows most of $object.',
        'Which {image|view|camera image|picture} {contains|shows|holds} most of $object?',
        'In which {view|image|camera image} {does $object appear|is $object} largest?',
        '{Looking|If you look} for $object, which camera {do you use|shows it best|helps you most}?',
        'Through which camera do you see $object {best|most clearly}?',
        'Most of $object is {seen|shown|captured} by one camera. {Which|Which one|Which is it}?',
        'To see $object {best|most clearly}, which camera {should I look at|is the one to use|do you choose}?',
    ),
    'colour': (
        'What colour {is|would you say is} $object?',
        'What is the {colour|main colour} of $object?',
        'Which {colour|main colour} {does $object have|do you see on $object}?',
        '{Tell me|Please tell me|Say|Name|Please name} the {colour|main colour} of $object.',
        '{Of what|Of which} colour is $object{ mainly|}?',
        '{Looking|If you look} at $object, {what colour is it|what is its colour|which colour do you see}?',
        'How {is $object coloured|would you describe the colour of $object|would you name the colour of $object}?',
        'What colour {do the images show on|do you notice on|can be seen on} $object?',
        '{Describe|Please describe|Give|Report} the {colour|main colour} of $object.',
        '{Judging|Going} by the {image|images}, what {colour is $object|is the colour of $object}?',
    ),
    'surface': (
        '{On what|On which} {ground|surface|kind of ground} is $object, and does it move?',
        'Is $object on the road, {on the sidewalk or on grass|the sidewalk or elsewhere}, and does it {move|stand}?',
        'What is $object doing, and {on what ground|on which surface|on what kind of ground}?',
        '{Tell me|Please tell me|Say} whether $object moves and {what ground|which surface|which part of the street} '
        'it is on.',
        '{On|In} which part of the street {is|do you see|do you find} $object, and is it {moving|standing still}?',
        'What {kind of ground|surface|ground} is {under|below|underneath} $object, and does it {move|stand still}?',
        '{Describe|Please describe|Name} the {ground|surface} under $object and {whether it moves|its motion}.',
        'Does $object move or stand, and {on what|on which surface|on which ground}?',
        '{Where in the street|On which part of the street} is $object, and what is it doing?',
        'Which {ground|surface|kind of ground} does $object {stand or move on|use}, and {is it moving|does it move}?',
    ),
}


def identify_drafts(view: View, rng: np.random.Generator) -> list[Draft]:
    """What stands at the position of each visible object."""
    drafts = []
    for index in view.visible:
        item = view[index]
        if not view.is_apart(index, [other for other in view.noticed if other != index], APART_M):
            continue
        word = view.word[index]
        phrase = with_paint(word, item) if view.colour_is_clear(index) else word
        state = state_of(item)
        answer = sentence(f'{with_article(phrase if state is None else f"{state} {phrase}")}.')
        drafts.append(Draft('identify', word, answer, {'place': place(item.position_m)}))
    return drafts


def locate_drafts(view: View, rng: np.random.Generator) -> list[Draft]:
    """Where each visible object is that has a phrase of its own."""
    drafts = []
    for index in view.visible:
        item = view[index]
        phrase = refer(view, index, rng, without=('sector', 'distance', 'position'))
        where = sector(item.position_m)
        if phrase is not None and where is not None:
            answer = sentence(f'{phrase} is at {place(item.position_m)}.')
            drafts.append(Draft('locate', where, answer, {'object': phrase}, ((phrase, index),)))
    return drafts


def camera_drafts(view: View, rng: np.random.Generator) -> list[Draft]:
    """Which camera shows most of an object."""
    drafts = []
    for index in view.visible:
        item = view[index]
        others = [count for name, count in item.visible_px.items() if name != item.camera]
        phrase = refer(view, index, rng, without=('sector', 'position'))
        if phrase is None or CAMERA_RATIO * max(others, default=0) > pixels(item):
            continue
        slots = {'object': phrase, 'Object': sentence(phrase)}
        answer = f'The {CAMERAS[item.camera]} camera.'
        drafts.append(Draft('camera', item.camera, answer, slots, ((phrase, index),)))
    return drafts


def colour_drafts(view: View, rng: np.random.Generator) -> list[Draft]:
    """The colour of an object whose class can have several."""
    drafts = []
    for index in view.visible:
        phrase = refer(view, index, rng, without=('paint',))
        if phrase is None or not view.colour_is_clear(index):
            continue
        item = view[index]
        answer = f'{sentence(phrase)} is {"dressed in " if view.word[index] == "pedestrian" else ""}{item.paint}.'
        drafts.append(Draft('colour', item.paint, answer, {'object': phrase}, ((phrase, index),)))
    return drafts


def surface_drafts(view: View, rng: np.random.Generator) -> list[Draft]:
    """The ground under an object, and whether it moves there."""
    drafts = []
    for index in view.visible:
        item, state = view[index], state_of(view[index])
        phrase = refer(view, index, rng, without=('state',))
        if phrase is None or item.on_ground not in GROUNDS or state is None:
            continue
        answer = f'{sentence(phrase)} is {state} on {GROUNDS[item.on_ground]}.'
        drafts.append(Draft('surface', f'{state} {item.on_ground}', answer, {'object': phrase}, ((phrase, index),)))
    return drafts
