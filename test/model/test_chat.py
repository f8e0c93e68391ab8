"""Chat templates of several families around the scene, with made-up tokenizers of their kinds."""

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from sparseoccvla_ros.model.chat import ChatFormat
from sparseoccvla_ros.model.config import load_model_config
from sparseoccvla_ros.model.language import load_tokenizer

SYSTEM = 'Answer questions about the street scene.'
TURNS = [('What is ahead?', 'A car.'), ('How far?', 'In 12.5 m.'), ('And now?', None)]
LLAMA_3 = (
    "{% for message in messages %}{{ (bos_token if loop.first else '') + '<|start_header_id|>' + message.role"
    " + '<|end_header_id|>\n\n' + message.content | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
CHAT_ML = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
ZEPHYR = (  # TinyLlama's: the generation prompt comes with the last message; the markers are plain text
    "{% for message in messages %}{{ '<|' + message.role + '|>\n' + message.content + eos_token + '\n' }}"
    "{% if loop.last and add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}{% endfor %}"
)
LLAMA_2 = (  # the system text stands inside the first question's turn
    "{% for message in messages[1:] %}{% if message.role == 'user' %}{{ bos_token + '[INST] '"
    " + ('<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' if loop.first else '') + message.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + message.content + ' ' + eos_token }}{% endif %}{% endfor %}"
)
TEMPLATES = {
    'tiny': None,
    'vicuna': load_model_config('full').language.chat_template,
    'llama 3': LLAMA_3,
    'chat ml': CHAT_ML,
    'zephyr': ZEPHYR,
    'llama 2': LLAMA_2,
}
SPECIAL = ['<s>', '</s>', '<|system|>', '<|user|>', '<|assistant|>', '<|start_header_id|>', '<|end_header_id|>',
           '<|eot_id|>', '<|im_start|>', '<|im_end|>']  # fmt: skip


@pytest.fixture(scope='module', params=['bytes', 'sentencepiece'])
def tokenizer(request):
    """Byte-level as Llama 3's and ours; with blanks marked and one in front of every piece, as Vicuna's is."""
    if request.param == 'bytes':
        tokenizer = load_tokenizer('weights/tiny/tokenizer')
        tokenizer.add_special_tokens({'additional_special_tokens': SPECIAL[2:]})
        return tokenizer
    made = Tokenizer(models.BPE(byte_fallback=True, unk_token='<unk>'))
    made.normalizer = normalizers.Sequence([normalizers.Prepend('▁'), normalizers.Replace(' ', '▁')])
    made.pre_tokenizer = pre_tokenizers.Split('▁', 'merged_with_next')
    made.decoder = decoders.Sequence(
        [decoders.Replace('▁', ' '), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(' ', 1, 0)]
    )
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=['<unk>', *SPECIAL])
    made.train_from_iterator([SYSTEM, *(text for turn in TURNS for text in turn if text), 'USER: ASSISTANT:'], trainer)
    made.add_tokens([f'<0x{byte:02X}>' for byte in range(256)])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token='<s>', eos_token='</s>', unk_token='<unk>',
        additional_special_tokens=SPECIAL[2:], chat_template=load_tokenizer('weights/tiny/tokenizer').chat_template,
    )  # fmt: skip


@pytest.fixture(params=TEMPLATES.values(), ids=TEMPLATES)
def template(request):
    return request.param


@pytest.fixture
def chat(tokenizer, template):
    return ChatFormat(tokenizer, template, SYSTEM)


def rendered(tokenizer, template, turns, **more):
    messages = [{'role': 'system', 'content': SYSTEM}]
    for question, answer in turns:
        messages.append({'role': 'user', 'content': question})
        if answer is not None:
            messages.append({'role': 'assistant', 'content': answer})
    return tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, **more)


def test_both_parts_are_the_rendered_conversation(tokenizer, template, chat):
    """And tokenized as the tokenizer does it, but for the cut where the scene stands."""
    whole = rendered(tokenizer, template, TURNS, add_generation_prompt=True)
    opening = next(cut for cut in range(len(whole) + 1) if list(chat.system_tokens) == encoded(tokenizer, whole[:cut]))
    assert whole[:opening].split(SYSTEM)[1].strip() in ('', '</s>', '<|eot_id|>', '<|im_end|>')
    assert chat.question_tokens(TURNS) == encoded(tokenizer, whole[opening:])


def encoded(tokenizer, text):
    return tokenizer(text, add_special_tokens=False).input_ids


def test_an_answer_continues_the_prompt_that_asked_for_it(chat):
    for end in range(1, len(TURNS) + 1):
        asked = chat.question_tokens([*TURNS[: end - 1], (TURNS[end - 1][0], None)])
        told = chat.question_tokens([*TURNS[: end - 1], (TURNS[end - 1][0], 'Yes.')])
        # Llama 2 and Vicuna put a blank before the answer: a byte-level token of its own, or part of the first
        assert told[: len(asked)] == asked
        assert len(told) > len(asked) + 1


def test_the_beginning_comes_once_and_before_the_scene(tokenizer, chat, template):
    """What the question follows is not said again: a second <s> would be a new text."""
    if template != LLAMA_2:  # whose every question begins with one
        assert tokenizer.bos_token_id not in chat.question_tokens(TURNS)
    assert chat.system_tokens.count(tokenizer.bos_token_id) == (template not in (CHAT_ML, ZEPHYR))


@pytest.mark.parametrize('name', SPECIAL)
def test_a_special_token_that_is_typed_stays_text(tokenizer, chat, name):
    special = set(tokenizer.convert_tokens_to_ids(SPECIAL))
    plain = chat.question_tokens([('Is it?', 'x'), ('b', None)])
    typed = chat.question_tokens([(f'Is it?{name}Yes.{name}', name), ('b', None)])
    assert [token for token in typed if token in special] == [token for token in plain if token in special]


def test_what_cannot_hold_the_scene_is_refused(tokenizer):
    with pytest.raises(ValueError, match=r'shows 1 of 2 messages \(system, user\)'):
        ChatFormat(tokenizer, '{% for message in messages[1:] %}{{ message.content }}{% endfor %}', SYSTEM)
    with pytest.raises(ValueError, match='cannot render system, user: no system here'):
        ChatFormat(tokenizer, "{{ raise_exception('no system here') }}", SYSTEM)
    with pytest.raises(ValueError, match='cannot render system, user'):
        ChatFormat(tokenizer, '{% for message in messages %}', SYSTEM)


def test_a_tokenizer_without_a_template_is_refused():
    bare = load_tokenizer('weights/tiny/tokenizer')
    bare.chat_template = None
    with pytest.raises(ValueError, match=r'no chat template; set language\.chat_template'):
        ChatFormat(bare, None, SYSTEM)
