"""From next-token scores to tokens, and from tokens to text that can be shown while it grows."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import takewhile

import torch
from transformers import PreTrainedTokenizerBase

from sparseoccvla_ros.model.language import SceneLanguage
from sparseoccvla_ros.runtime.finite import NonFiniteOutput

INCOMPLETE = '\N{REPLACEMENT CHARACTER}'


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Tokens that are no text."""
    added = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    return added | set(tokenizer.all_special_ids)


def turn_end(model: SceneLanguage) -> int | None:
    """The special token that the chat template puts behind an answer (ChatML's <|im_end|>); None if it puts none."""
    backwards = (reversed(model.question_tokens([('?', answer)])) for answer in ('a', '7'))
    # what does not depend on the answer, from the end on, is behind it
    behind = [one for one, _ in takewhile(lambda pair: pair[0] == pair[1], zip(*backwards, strict=False))]
    special = special_tokens(model.tokenizer)
    return next((token for token in reversed(behind) if token in special), None)


class AllowedTokens:
    """Which tokens an answer may hold: text, and an end token anywhere but first.

    Args:
        tokenizer: of the language model. Its end token ends an answer.
        vocabulary: width of the model's scores; it may exceed the tokenizer's (padding), never fall short.
        turn_end: ends an answer too, see :func:`turn_end`.

    Raises:
        ValueError: the tokenizer has no end token, or has tokens that the model has no scores for.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, vocabulary: int, turn_end: int | None = None) -> None:
        if tokenizer.eos_token_id is None:
            raise ValueError('the tokenizer has no end token')
        if len(tokenizer) > vocabulary:
            raise ValueError(f'the tokenizer has {len(tokenizer)} tokens, the language model scores {vocabulary}')
        self.end_tokens = frozenset({tokenizer.eos_token_id, turn_end} - {None})
        self._forbidden = torch.zeros(vocabulary, dtype=torch.bool)
        self._forbidden[len(tokenizer) :] = True
        self._forbidden[sorted(special_tokens(tokenizer))] = True
        self._forbidden_first = self._forbidden.clone()
        self._forbidden[sorted(self.end_tokens)] = False

    def mask(self, logits: torch.Tensor, *, first: bool) -> torch.Tensor:
        """Scores [vocab] as float32 on the CPU, minus infinity where a token may not come.

        Raises:
            NonFiniteOutput: a score is NaN or infinite.
        """
        scores = logits.float().cpu()
        if not bool(torch.isfinite(scores).all()):
            raise NonFiniteOutput('language model: next-token scores are not finite')
        return scores.masked_fill(self._forbidden_first if first else self._forbidden, -torch.inf)


class TokenSampler:
    """Picks tokens: the best one at temperature 0, else at random from a generator of its own, so that what else runs
    has no influence.
    """

    def __init__(self, temperature: float, seed: int) -> None:
        self._temperature = temperature
        # torch takes seeds below 2^64 and counts negative ones from there.
        self._generator = torch.Generator().manual_seed(seed % 2**63)

    def pick(self, scores: torch.Tensor) -> int:
        """The next token from masked scores [vocab]."""
        if self._temperature == 0.0:
            return int(scores.argmax())
        # Relative to the best, so that a tiny temperature gives 0 and minus infinity instead of overflowing.
        probabilities = ((scores.double() - scores.max()) / self._temperature).softmax(dim=-1)
        return int(torch.multinomial(probabilities, 1, generator=self._generator))


class TextStream:
    """Text of a growing list of tokens, in pieces that never end inside a character.

    A token of a byte-level vocabulary may hold a part of a character only; a piece comes out when its last character is
    whole. Decoding starts a few tokens back, because the text of a token depends on those before it (sentencepiece
    drops a leading blank), not on all of them, which would take time that grows with the square of the length.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._tokens: list[int] = []
        self._context = 0
        self._shown = 0
        self.text = ''

    def add(self, token: int) -> str:
        """Take a token; the text that became whole with it, often ''."""
        self._tokens.append(token)
        shown = self._decode(self._tokens[self._context : self._shown])
        text = self._decode(self._tokens[self._context :])
        if len(text) <= len(shown) or text.endswith(INCOMPLETE):
            return ''
        return self._show(text[len(shown) :])

    def finish(self) -> str:
        """The rest, without the bytes of a character that was not completed."""
        shown = self._decode(self._tokens[self._context : self._shown])
        return self._show(self._decode(self._tokens[self._context :])[len(shown) :].rstrip(INCOMPLETE))

    def _show(self, piece: str) -> str:
        self._context = self._shown
        self._shown = len(self._tokens)
        self.text += piece
        return piece

    def _decode(self, tokens: Iterable[int]) -> str:
        return self._tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)


def visible(text: str) -> bool:
    """Whether a reader would see anything: a printable character that is neither blank nor U+FFFD."""
    return any(character.isprintable() and not character.isspace() and character != INCOMPLETE for character in text)
