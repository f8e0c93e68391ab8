"""Which tokens come, and that streamed text never ends inside a character."""

import copy
from types import SimpleNamespace

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from sparseoccvla_ros.model.chat import ChatFormat
from sparseoccvla_ros.runtime.decoding import AllowedTokens, TextStream, TokenSampler, turn_end, visible
from sparseoccvla_ros.runtime.finite import NonFiniteOutput

TEXTS = [
    'Two cars ahead, one pedestrian.',
    'é ü ß €',
    '前方有两辆车。',
    '🚗🚦 👨‍👩‍👧 end',
    '  leading and   inner blanks ',
    'क्षि',
    'line\nbreak\ttab',
]


@pytest.fixture(scope='module')
def sentencepiece_like():
    """A tokenizer that marks blanks as Llama's does and falls back to bytes, without a download."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token='<unk>'))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme='first')
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace('▁', ' '), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(' ', 1, 0)]
    )
    names = ['<unk>', '<s>', '</s>', *(f'<0x{i:02X}>' for i in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=names[:3])
    tokenizer.train_from_iterator(['two cars ahead one pedestrian leading and inner blanks'] * 3, trainer)
    tokenizer.add_tokens(names[3:])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token='</s>', bos_token='<s>', unk_token='<unk>')


def stream(tokenizer, tokens):
    text_stream = TextStream(tokenizer)
    pieces = [text_stream.add(token) for token in tokens]
    pieces.append(text_stream.finish())
    assert ''.join(pieces) == text_stream.text
    return pieces


@pytest.mark.parametrize('text', TEXTS)
def test_streamed_pieces_are_whole_and_add_up(language, text):
    tokenizer = language.tokenizer
    tokens = tokenizer(text, add_special_tokens=False).input_ids
    pieces = stream(tokenizer, tokens)
    assert ''.join(pieces) == tokenizer.decode(tokens) == text
    assert all('\ufffd' not in piece for piece in pieces)
    assert len([piece for piece in pieces if piece]) > 1 or len(text) < 5


def test_a_character_of_four_bytes_comes_when_it_is_whole(language):
    tokens = language.tokenizer('🚗', add_special_tokens=False).input_ids
    assert len(tokens) == 4  # the tokenizer of the street world has no token for it
    assert stream(language.tokenizer, tokens) == ['', '', '', '🚗', '']
    assert stream(language.tokenizer, tokens[:3]) == ['', '', '', '']  # cut off: nothing rather than half


def test_sentencepiece_blanks_are_kept_between_tokens(sentencepiece_like):
    tokens = sentencepiece_like('two cars ahead one pedestrian', add_special_tokens=False).input_ids
    pieces = stream(sentencepiece_like, tokens)
    assert ''.join(pieces) == sentencepiece_like.decode(tokens)
    assert len(pieces) > 4


def test_bytes_that_are_no_text_do_not_break_the_stream(language):
    """An untrained model writes such bytes. What is valid after them still comes out, and the end is clean."""
    tokenizer = language.tokenizer
    car = tokenizer('🚗', add_special_tokens=False).input_ids
    word = tokenizer(' car', add_special_tokens=False).input_ids
    pieces = stream(tokenizer, [*car[1:3], *word, car[0]])
    assert ''.join(pieces).endswith(' car')


def test_random_tokens_add_up_to_the_decoded_whole(language):
    generator = torch.Generator().manual_seed(0)
    for _ in range(30):
        tokens = torch.randint(6, len(language.tokenizer), (60,), generator=generator).tolist()
        text = ''.join(stream(language.tokenizer, tokens))
        whole = language.tokenizer.decode(tokens).rstrip('\ufffd')
        # A run of invalid bytes may be shown as more or fewer replacement characters, according to where it is cut.
        assert text.replace('\ufffd', '') == whole.replace('\ufffd', '')


def test_special_tokens_never_come_and_the_end_not_first(language, config):
    vocabulary = config.language.vocabulary
    allowed = AllowedTokens(language.tokenizer, vocabulary)
    first = allowed.mask(torch.zeros(vocabulary), first=True).isfinite()
    later = allowed.mask(torch.zeros(vocabulary), first=False).isfinite()
    special = set(language.tokenizer.all_special_ids)
    assert len(special) >= 3
    assert set((~first).nonzero().flatten().tolist()) == special
    assert set((~later).nonzero().flatten().tolist()) == special - allowed.end_tokens


@pytest.mark.parametrize(('end', 'token'), [('<|im_end|>\n', '<|im_end|>'), ('</s>', '</s>'), ('\n', None)])
def test_the_chat_template_tells_what_ends_an_answer(language, end, token):
    """ChatML ends a turn with a token that is not the tokenizer's end token; some forms have none at all."""
    tokenizer = copy.deepcopy(language.tokenizer)
    tokenizer.add_special_tokens({'additional_special_tokens': ['<|im_end|>', '<|user|>', '<|assistant|>']})
    template = '{% for m in messages %}<|user|>{{ m.role }}\n{{ m.content }}' + end + '{% endfor %}{% if '
    template += 'add_generation_prompt %}<|user|>assistant\n{% endif %}'
    chat = ChatFormat(tokenizer, template, 'You drive.')
    model = SimpleNamespace(tokenizer=tokenizer, question_tokens=chat.question_tokens)
    expected = None if token is None else tokenizer.convert_tokens_to_ids(token)
    assert turn_end(model) == expected
    allowed = AllowedTokens(tokenizer, len(tokenizer), turn_end(model))
    assert allowed.end_tokens == {tokenizer.eos_token_id, expected} - {None}
    later = allowed.mask(torch.zeros(len(tokenizer)), first=False).isfinite()
    assert all(later[end_token] for end_token in allowed.end_tokens)


def test_the_own_model_ends_a_turn_with_its_end_token(language):
    assert turn_end(language) == language.tokenizer.eos_token_id


def test_padding_of_the_vocabulary_never_comes(language, config):
    allowed = AllowedTokens(language.tokenizer, config.language.vocabulary + 64)
    scores = allowed.mask(torch.arange(config.language.vocabulary + 64.0), first=False)
    assert int(scores.argmax()) == len(language.tokenizer) - 1


def test_a_model_that_is_too_small_is_refused(language):
    with pytest.raises(ValueError, match='scores 100'):
        AllowedTokens(language.tokenizer, 100)


def test_non_finite_scores_are_an_error(language, config):
    scores = torch.zeros(config.language.vocabulary)
    scores[7] = torch.nan
    with pytest.raises(NonFiniteOutput):
        AllowedTokens(language.tokenizer, config.language.vocabulary).mask(scores, first=False)


def test_sampling_is_from_the_softmax_and_repeatable():
    scores = torch.tensor([2.0, 0.0, -torch.inf, 1.0]).log_softmax(0)
    sampler = TokenSampler(0.5, seed=3)
    drawn = torch.tensor([sampler.pick(scores) for _ in range(20000)])
    expected = torch.tensor([4.0, 0.0, -torch.inf, 2.0]).softmax(0)
    assert (torch.bincount(drawn, minlength=4) / len(drawn) - expected).abs().max() < 0.015
    assert not (drawn == 2).any()
    torch.manual_seed(99)
    sampler = TokenSampler(0.5, seed=3)
    again = []
    for _ in range(100):
        torch.rand(3)  # whatever else draws numbers
        again.append(sampler.pick(scores))
    assert again == drawn[:100].tolist()
    other = TokenSampler(0.5, seed=4)
    assert [other.pick(scores) for _ in range(100)] != again


def test_greedy_and_nearly_zero_temperature_pick_the_best():
    scores = torch.tensor([1.0, 5.0, -torch.inf, 4.99])
    assert TokenSampler(0.0, seed=0).pick(scores) == 1
    assert {TokenSampler(1e-30, seed).pick(scores) for seed in range(20)} == {1}


@pytest.mark.parametrize(
    ('text', 'is_visible'), [('a', True), ('', False), (' \n\u200b', False), ('\ufffd\ufffd', False)]
)
def test_visible(text, is_visible):
    assert visible(text) is is_visible
