"""The tokenizer's own tool, on a few pairs."""

import json
import re

import pytest
from train_tiny_tokenizer import CHAT_TEMPLATE, SPECIAL_TOKENS, VOCABULARY, figures, load_pairs, texts, train

from sparseoccvla_ros.model.config import load_model_config
from sparseoccvla_ros.model.language import load_tokenizer
from sparseoccvla_ros.world.questions.generate import WORDINGS
from sparseoccvla_ros.world.questions.wording import expand, is_val

PAIRS = [{'question': 'How many bollards are 12 m away?', 'answer': '3 bollards.'}]


def test_same_pairs_same_tokenizer_and_digits_alone():
    tokenizers = [train(texts(PAIRS), 600) for _ in range(2)]
    first, second = (tokenizer.backend_tokenizer.to_str() for tokenizer in tokenizers)
    assert first == second
    assert [tokenizers[0].decode([token]) for token in tokenizers[0].encode('120.5')] == list('120.5')


def test_more_tokens_split_fewer_words():
    few, many = (figures(train(texts(PAIRS), size), PAIRS) for size in (264, 1400))
    assert few['split_words'] == 1.0  # two merges
    assert many['split_words'] == 0.0
    assert many['question'] < few['question']


def test_a_file_without_pairs_is_refused(tmp_path):
    path = tmp_path / 'train.jsonl'
    path.write_text('')
    with pytest.raises(ValueError, match='no question'):
        load_pairs(path)
    path.write_text(json.dumps(PAIRS[0]) + '\n')
    assert load_pairs(path) == PAIRS


def test_the_shipped_one_is_of_this_form_and_knows_the_words_of_the_world():
    shipped = load_tokenizer('weights/tiny/tokenizer')
    assert len(shipped) == VOCABULARY == load_model_config('tiny').language.vocabulary
    assert [shipped.decode([token]) for token in range(len(SPECIAL_TOKENS))] == SPECIAL_TOKENS
    assert set(shipped.all_special_ids) == set(range(len(SPECIAL_TOKENS)))
    assert shipped.chat_template == CHAT_TEMPLATE
    learned = [
        {'question': re.sub(r'\$\w+', '', wording), 'answer': ''}
        for templates in WORDINGS.values()
        for number, template in enumerate(templates)
        if not is_val(number)
        for wording in expand(template)
    ]
    # a few words may be new since it was trained; more: train it again
    assert figures(shipped, learned)['split_words'] < 0.05
