#!/usr/bin/env python3
"""Train the tokenizer of the shipped tiny language model on the world's questions (seconds).

    .venv/bin/sparseoccvla world --out out/world --scenes 100 --seed 1
    .venv/bin/python tools/train_tiny_tokenizer.py out/world/questions/pairs/train.jsonl weights/tiny/tokenizer

A byte-level BPE over the questions and answers of the training scenes, and over common English words, so that people's
own questions stay short: any UTF-8 text is representable, and every digit is its own token (so that numbers are spelled
the same way whatever their length). The same file gives the same tokenizer. Changing it invalidates every checkpoint of
the tiny language model. --compare FILE... reports tokens per question and answer on other files of pairs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from sparseoccvla_ros.model.config import LanguageConfig

#: Of the tokens, 256 are bytes and 6 are special. The world's text has some 550 words, which with a capital or without
#: a space before them make about 700 tokens; the others are common words and pieces of words.
VOCABULARY = LanguageConfig.vocabulary
SPECIAL_TOKENS = ['<pad>', '<s>', '</s>', '<|system|>', '<|user|>', '<|assistant|>']
CHAT_TEMPLATE = (
    '{% for message in messages %}'
    "{% if message.role == 'system' %}{{ bos_token }}<|system|>{{ message.content }}"
    "{% elif message.role == 'user' %}<|user|>{{ message.content }}<|assistant|>"
    '{% else %}{{ message.content }}{{ eos_token }}{% endif %}'
    '{% endfor %}'
)
#: The prompts are read with every scene: they count this often, so that none of their words is split.
PROMPT_COUNT = 1000
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


def load_pairs(path: Path) -> list[dict[str, str]]:
    """Pairs as `sparseoccvla world` writes them, one a line.

    Raises:
        ValueError: no pair in it.
    """
    pairs = [json.loads(line) for line in path.read_text(encoding='utf-8').splitlines()]
    if not pairs:
        raise ValueError(f'{path} has no question')
    return pairs


def texts(pairs: Sequence[dict[str, str]]) -> Iterator[str]:
    """What the tokenizer is trained on, in a fixed order."""
    for _ in range(PROMPT_COUNT):
        yield LanguageConfig.system_prompt
        yield LanguageConfig.planning_prompt
    yield ' '.join(['', *WORDS])
    for pair in pairs:
        yield pair['question']
        yield pair['answer']


def train(sentences: Iterator[str], vocabulary: int = VOCABULARY) -> PreTrainedTokenizerFast:
    """Byte-level BPE with single-digit tokens and the chat template of the tiny model."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
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


def figures(tokenizer: PreTrainedTokenizerBase, pairs: Sequence[dict[str, str]]) -> dict[str, float]:
    """Mean tokens of a question and of an answer, and the share of words (as they stand in the text) that are split."""
    split_into_words = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str
    length = {
        key: sum(len(tokenizer.encode(pair[key], add_special_tokens=False)) for pair in pairs) / len(pairs)
        for key in ('question', 'answer')
    }
    pieces: dict[str, int] = {}
    words = split = 0
    for text in (pair[key] for pair in pairs for key in length):
        for _, (start, end) in split_into_words(text):
            word = text[start:end]
            if word.strip().isalpha():
                if word not in pieces:
                    pieces[word] = len(tokenizer.encode(word, add_special_tokens=False))
                words, split = words + 1, split + (pieces[word] > 1)
    return {**length, 'split_words': split / words}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('pairs', type=Path, help='questions/pairs/train.jsonl of a world')
    parser.add_argument('out', type=Path, help='folder to write')
    parser.add_argument('--compare', type=Path, nargs='*', default=[], help='other files of pairs')
    arguments = parser.parse_args()
    before = AutoTokenizer.from_pretrained(arguments.out, local_files_only=True) if arguments.out.is_dir() else None
    tokenizer = train(texts(load_pairs(arguments.pairs)))
    tokenizer.save_pretrained(arguments.out)
    print(f'{len(tokenizer)} tokens -> {arguments.out}')
    for path in (arguments.pairs, *arguments.compare):
        for name, measured in (('before', before), ('now', tokenizer)):
            if measured is not None:
                told = figures(measured, load_pairs(path))
                print(f'{path} {name}: ' + ', '.join(f'{key} {value:.3f}' for key, value in told.items()))


if __name__ == '__main__':
    main()
