"""A model's chat template around the scene: what is said before the visual tokens, and what comes after them.

The template's special tokens stay special; those that somebody types are text. Between two special tokens template and
text are tokenized in one piece, as the model saw them in its training.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerFast

#: Stands in for a message's text while the template is rendered: a Unicode noncharacter, never part of a text.
PLACEHOLDER = '\ufdd0'


class ChatFormat:
    """Tokens of the system text, and of questions and answers behind the scene.

    The scene stands where the system's turn ends. A template that puts the system text into the first question's turn
    (Llama 2) has no such place: there the scene follows the system text directly.

    Args:
        tokenizer: of the language model.
        template: Jinja chat template; None: the tokenizer's own.
        system_prompt: the system text.

    Raises:
        ValueError: there is no template, it cannot be rendered, or it leaves the system text out.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, template: str | None, system_prompt: str) -> None:
        if template is None and tokenizer.chat_template is None:
            raise ValueError('the tokenizer has no chat template; set language.chat_template')
        self._tokenizer = tokenizer
        self._template = template
        # a separate copy, switched once: switching the shared one around each call would not be thread safe
        self._plain_text = copy.deepcopy(tokenizer.backend_tokenizer)
        self._plain_text.encode_special_tokens = True
        self._special = {
            token.content: index for index, token in tokenizer.added_tokens_decoder.items() if token.special
        }
        names = sorted(self._special, key=len, reverse=True)
        self._at_special = re.compile('|'.join(map(re.escape, names)) if names else r'(?!)')
        opening = self._find_opening()
        self.system_tokens: tuple[int, ...] = tuple(self._tokenize(opening, [system_prompt]))
        #: What ends the system's turn. What comes before the system text may hold the date, and is not compared.
        self._system_end = opening.partition(PLACEHOLDER)[2]

    def question_tokens(self, turns: Sequence[tuple[str, str | None]]) -> list[int]:
        """Tokens that follow the scene.

        Args:
            turns: questions with their answers, oldest first; the last answer is None where the model is to answer.

        Raises:
            ValueError: the template leaves one of them out.
        """
        texts = [text for turn in turns for text in turn if text is not None]
        rendered = self._render(len(texts), answered=len(texts) % 2 == 0)
        return self._tokenize(rendered.partition(PLACEHOLDER)[2].removeprefix(self._system_end), texts)

    def _find_opening(self) -> str:
        """What every rendered conversation begins with, up to the place of the scene."""
        whole = self._render(1, answered=False)
        try:
            alone = self._render(0, answered=True)
        except ValueError:  # a template may demand a question
            alone = ''
        if PLACEHOLDER in alone and whole.startswith(alone):
            return alone
        return whole[: whole.index(PLACEHOLDER) + 1]

    def _render(self, texts: int, *, answered: bool) -> str:
        """System text, then so many questions and answers in turn, every text a placeholder."""
        roles = ['system', *('user', 'assistant') * texts][: 1 + texts]
        try:
            rendered = self._tokenizer.apply_chat_template(
                [{'role': role, 'content': PLACEHOLDER} for role in roles],
                chat_template=self._template,
                add_generation_prompt=not answered,
                tokenize=False,
            )
        except TemplateError as error:
            raise ValueError(f'the chat template cannot render {", ".join(roles)}: {error}') from error
        shown = rendered.count(PLACEHOLDER)
        if shown != len(roles):
            raise ValueError(f'the chat template shows {shown} of {len(roles)} messages ({", ".join(roles)})')
        return rendered

    def _tokenize(self, rendered: str, texts: Sequence[str]) -> list[int]:
        """Tokens of a rendered part with the texts in its placeholders."""
        tokens: list[int] = []
        plain = ''
        frames = rendered.split(PLACEHOLDER)
        for frame, text in zip(frames, [*texts, ''], strict=True):
            start = 0
            for match in self._at_special.finditer(frame):
                tokens += self._plain(plain + frame[start : match.start()])
                tokens.append(self._special[match.group()])
                plain, start = '', match.end()
            plain += frame[start:] + text
        return tokens + self._plain(plain)

    def _plain(self, text: str) -> list[int]:
        return self._plain_text.encode(text, add_special_tokens=False).ids if text else []
