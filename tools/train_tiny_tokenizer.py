#!/usr/bin/env python3
"""Train the tokenizer of the shipped tiny language model (seconds, no data needed).

    .venv/bin/python tools/train_tiny_tokenizer.py weights/tiny/tokenizer

A byte-level BPE over street questions and answers made here from templates: any UTF-8 text is representable, every
digit is its own token (so that numbers are spelled the same way whatever their length), and the same tokenizer comes
out on every run. Changing it invalidates every checkpoint of the tiny language model.
"""

from __future__ import annotations

import argparse
import itertools
import random
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

VOCABULARY = 1536
SPECIAL_TOKENS = ['<pad>', '<s>', '</s>', '<|system|>', '<|user|>', '<|assistant|>']
CHAT_TEMPLATE = (
    '{% for message in messages %}'
    "{% if message.role == 'system' %}{{ bos_token }}<|system|>{{ message.content }}"
    "{% elif message.role == 'user' %}<|user|>{{ message.content }}<|assistant|>"
    '{% else %}{{ message.content }}{{ eos_token }}{% endif %}'
    '{% endfor %}'
)

THINGS = [
    'car', 'truck', 'bus', 'trailer', 'construction vehicle', 'motorcycle', 'bicycle', 'cyclist', 'pedestrian',
    'traffic cone', 'barrier', 'traffic light', 'stop sign', 'crosswalk', 'building', 'wall', 'tree', 'vegetation',
    'sidewalk', 'driveable surface', 'terrain', 'lane', 'intersection', 'parked car', 'child', 'animal', 'pole',
]  # fmt: skip
COLORS = ['white', 'black', 'gray', 'silver', 'red', 'blue', 'green', 'yellow', 'orange', 'brown']
MOTIONS = [
    'moving', 'stopped', 'parked', 'waiting', 'turning left', 'turning right', 'crossing the road', 'going ahead',
    'braking', 'accelerating', 'reversing', 'overtaking', 'approaching', 'driving away', 'merging', 'standing',
]  # fmt: skip
PLACES = [
    'ahead', 'behind', 'to the left', 'to the right', 'to the front left', 'to the front right', 'to the back left',
    'to the back right', 'on the sidewalk', 'in our lane', 'in the next lane', 'at the intersection', 'nearby',
]  # fmt: skip
ACTIONS = [
    'keep going at the same speed', 'slow down', 'brake gently to a stop', 'stop', 'wait', 'accelerate', 'turn left',
    'turn right', 'go straight', 'change lanes to the left', 'change lanes to the right', 'yield', 'remain stationary',
]  # fmt: skip
REASONS = [
    'the way is clear', 'a {thing} is {motion} {place}', 'there is a {thing} {place}', 'the light is red',
    'the light is green', 'the {thing} may cross', 'the distance is only {number} meters', 'there is no traffic',
]  # fmt: skip
#: Common English, so that questions in other words than the templates' stay short.
WORDS = """
about above according across act action actual additional after again against agent all allow almost alone along
already also although always among amount and angle another any anything apart apparent appear area around
arrive as aside aspect assume at attention avoid away back backward base because become been before begin being
below beside best better between beyond big both bottom box bright bridge brief broken brown building busy but
by call camera camping capable careful carefully carry case cause caution center central certain chance change
check choose city class clear clearly close closer cloudy cold collide collision color come command common
compare complete concern condition confirm congestion consider constant construction contain continue control
corner correct could count couple course cover cross crossing current currently curve cut danger dangerous dark
day decide decrease deep degree delivery depend describe description detail detect determine deviation
difference different difficult direction directly distance divide do does door double down drive driver driving
due during dusk each early east easily edge effect either else emergency empty end engine enough ensure enter
entire entrance environment estimate even event every everything evidence exact exactly example except exist
exit expect explain extend eye face facing fact fall far farther fast faster few field final find fine first
five fixed flat flow follow following for forecast forward four free freely frequent from front full further
future gap garage gate general get give given go goal good grass great ground group guard guess had half halt
hand happen hard has have having hazard he head heading heavy height help her here high highway hill his hold
house how however human hydrant idea identify if image immediate immediately important in increase indicate
inside instance instead intend intention interact into involve it items its itself join jump junction just keep
kept kind know known large last late later lateral lead leading least leave less let level light like likely
limit line list little load local location long look low lower main maintain make man manmade many map mark
marking match matter maximum may maybe mean measure medium meet might minimum minute mirror miss mode moment
more most motion motor moved movement much must name narrow near nearby necessary need neither never new next
night no none nor normal north not note nothing notice now number object observe obstacle occupied occupy occur
of off often old on once oncoming one only onto open opposite option or order other ought out outside over own
pace pass passage passenger passing past path pattern pavement pay people perceive per perhaps person
perspective pick place plan planning plate point police position possible potential predict prediction prepare
presence present prevent previous priority probability probable probably proceed properly protect public pull
purpose push question queue quick quickly quiet quite railing rain rainy range rapid rather reach react reading
ready real rear reason recommend reduce region relation relative relevant remain remove report request require
respect respond rest result return reverse rider right rise risk road roadside roof round roundabout route row
rule run rush safe safely safety same say scenario school scooter second see seem seen segment sense separate
series several shadow shape share sharp she shift short should show shoulder side sign signal similar simple
since single situation size slight slightly slope slow slowly small smooth snow so some someone something soon
south space special speed split stable start state static stationary status stay steady steer step still
stopping straight street strong structure such sudden suddenly sufficient suggest sunny sure surface surrounding
surroundings take taxi tell ten than that the their them then there these they thin thing think this those
though three through tight time to together too top total toward towards track traffic trajectory travel trees
trunk try tunnel turn two type under unknown unlikely unsafe until up upcoming upper urban urgent us use used
useful usually van vehicle velocity very via view visibility visible wait walk walking want was watch water way
we weather well were west wet what when where whether which while who whole why wide width will window with
within without work worker would wrong yard yes yet you young zebra zero zone
""".split()
TEMPLATES = [
    'What do you see?', 'Describe the scene.', 'What is {place}?', 'Is there a {thing} {place}?',
    'Is the {thing} {motion}?',
    'How many {thing}s are there?', 'How many {thing}s are {place}?', 'How many objects are within {number} meters?',
    'Where is the nearest {thing}?', 'How far is the nearest {thing}?', 'What is the {color} {thing} {place} doing?',
    'What should the ego vehicle do next?', 'What should we do if a {thing} appears {place}?',
    'Why should we {action}?', 'Can we {action}?', 'Is it safe to {action}?',
    'What will happen in the next {number} seconds?',
    'What will the {thing} {place} do?', 'What is at position ({decimal}, {decimal})?', 'Which objects are {motion}?',
    'What are the important objects in the current scene?', 'What is the future state of the {thing} {place}?',
    'Please describe the current scene of the surrounding cameras.', 'assign scores to trajectory anchors',
    'Answer questions about the street scene around the ego vehicle.', 'Yes, there is one.', 'No, there is none.',
    'Yes, a {color} {thing} is {motion} {place}.', 'No, there is no {thing} {place}.', 'There are {number} {thing}s.',
    'There are {number} {thing}s and {number} {thing}s {place}.', 'The nearest {thing} is {decimal} meters {place}.',
    'The {color} {thing} {place} is {motion}.', 'It is at ({decimal}, {decimal}).',
    'The ego vehicle should {action}, because {reason}.',
    'We should {action} because {reason}.', 'A {thing} will be {motion} {place} in {number} seconds.', 'I do not know.',
    'Going straight. The speed is {decimal} meters per second.', 'The {thing} is occluded by the {thing}.',
]  # fmt: skip


def street_sentences(count: int, seed: int) -> Iterator[str]:
    """Templates filled at random, and loose words between them; the same sentences for the same seed."""
    rng = random.Random(seed)
    words = {'thing': THINGS, 'color': COLORS, 'motion': MOTIONS, 'place': PLACES, 'action': ACTIONS}
    for template in itertools.islice(itertools.cycle(TEMPLATES), count):
        text = template.replace('{reason}', rng.choice(REASONS))
        for name, options in words.items():
            while f'{{{name}}}' in text:
                text = text.replace(f'{{{name}}}', rng.choice(options), 1)
        while '{number}' in text:
            text = text.replace('{number}', str(rng.randint(0, 60)), 1)
        while '{decimal}' in text:
            text = text.replace('{decimal}', f'{rng.uniform(-40.0, 40.0):.1f}', 1)
        yield text
        yield ' ' + ' '.join(rng.choices(WORDS, k=6))


def train(sentences: Iterator[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE with single-digit tokens and the chat template of the tiny model."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sentences, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token='<pad>',
        bos_token='<s>',
        eos_token='</s>',
        additional_special_tokens=SPECIAL_TOKENS[3:],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('out', type=Path, help='folder to write')
    out = parser.parse_args().out
    tokenizer = train(street_sentences(20_000, seed=0))
    tokenizer.save_pretrained(out)
    print(f'{len(tokenizer)} tokens -> {out}')


if __name__ == '__main__':
    main()
