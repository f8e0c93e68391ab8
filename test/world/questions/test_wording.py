"""The grammar of wordings, and that training never shows a validation wording."""

import re

import numpy as np
import pytest

from sparseoccvla_ros.world.questions.generate import WORDINGS
from sparseoccvla_ros.world.questions.wording import choose, expand, fill, is_val


@pytest.mark.parametrize(
    ('template', 'wordings'),
    [
        ('Where is $object?', ('Where is $object?',)),
        ('{How far|Where} is it{ now|}?', ('How far is it now?', 'How far is it?', 'Where is it now?', 'Where is it?')),
        (
            '{Is {he|she}|Are they} {big|}?',
            ('Is he big?', 'Is he?', 'Is she big?', 'Is she?', 'Are they big?', 'Are they?'),
        ),
    ],
)
def test_expansion(template, wordings):
    assert expand(template) == wordings


@pytest.mark.parametrize('template', ['{a|b', 'a}', 'a|b', '{a|{b}'])
def test_unmatched_braces_are_refused(template):
    with pytest.raises(ValueError, match='unmatched'):
        expand(template)


@pytest.mark.parametrize('kind', WORDINGS)
def test_every_wording_is_one_clean_sentence(kind):
    for template in WORDINGS[kind]:
        for wording in expand(template):
            assert wording[-1] in '.?', wording
            assert not re.search(r'[{}|]|  | [?.,]|\?\?', wording), wording
            assert wording[0].isupper() or wording[0] == '$', wording


def test_train_and_val_share_no_wording():
    by_split = {'train': set(), 'val': set()}
    for templates in WORDINGS.values():
        for number, template in enumerate(templates):
            by_split['val' if is_val(number) else 'train'].update(expand(template))
    assert not by_split['train'] & by_split['val']


def test_there_are_hundreds_of_wordings():
    assert sum(len(templates) for templates in WORDINGS.values()) > 240
    numbers = {
        kind: {
            split: sum(len(expand(text)) for number, text in enumerate(templates) if is_val(number) == (split == 'val'))
            for split in ('train', 'val')
        }
        for kind, templates in WORDINGS.items()
    }
    assert sum(entry['train'] + entry['val'] for entry in numbers.values()) > 1800
    for kind, entry in numbers.items():
        assert entry['train'] >= 35, kind
        assert entry['val'] >= 6, kind


@pytest.mark.parametrize('split', ['train', 'val'])
def test_choice_stays_within_the_split(split):
    rng = np.random.default_rng(0)
    for templates in WORDINGS.values():
        for _ in range(30):
            number, wording = choose(templates, split, rng)
            assert is_val(number) == (split == 'val')
            assert wording in expand(templates[number])


def test_filling():
    assert fill('$object is where?', {'object': 'the bus'}) == 'The bus is where?'
    with pytest.raises(KeyError, match='other'):
        fill('Where is $other?', {'object': 'the bus'})


@pytest.mark.parametrize('kind', WORDINGS)
def test_every_distance_says_what_it_is_measured_from(kind):
    for template in WORDINGS[kind]:
        for wording in expand(template):
            told = re.findall(r'\b\d+ m\b', wording)
            named = re.findall(r'\b\d+ m (?:of|from) your (?:rear axle|front bumper)\b', wording)
            assert len(told) == len(named), wording
