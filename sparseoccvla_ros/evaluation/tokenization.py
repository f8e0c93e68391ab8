"""Text to space-separated tokens, as language metrics count them. Scores with different tokenizers do not compare."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pycocoevalcap.tokenizer import ptbtokenizer

#: PTB: Stanford's, lower case, punctuation dropped: the one of published scores; it needs Java.
#: SIMPLE: words of letters, digits, _ and ', lower case; needs nothing. WHITESPACE: the text as it is, cut at blanks.
PTB, SIMPLE, WHITESPACE = 'ptb', 'simple', 'whitespace'
TOKENIZERS = (PTB, SIMPLE, WHITESPACE)
NO_JAVA = 'no java in PATH (apt install default-jre-headless)'
JAVA_TIME_LIMIT_S = 600.0


class JavaError(RuntimeError):
    """A Java program of pycocoevalcap is missing or failed; the text says why."""


def java_missing() -> str:
    """Why Java programs cannot be run; '' if they can."""
    return '' if shutil.which('java') else NO_JAVA


def tokenize(name: str, texts: Sequence[str]) -> list[str]:
    """Each text as tokens with single blanks between them; WHITESPACE changes nothing.

    Args:
        name: one of :data:`TOKENIZERS`.
        texts: any.

    Raises:
        JavaError: PTB without Java, or it failed.
        ValueError: unknown name.
    """
    if name == PTB:
        return _ptb(texts)
    if name == SIMPLE:
        return [' '.join(re.findall(r"[\w']+", text.lower())) for text in texts]
    if name == WHITESPACE:
        return list(texts)
    raise ValueError(f'tokenizer must be one of {", ".join(TOKENIZERS)}, got {name!r}')


def _ptb(texts: Sequence[str]) -> list[str]:
    """As pycocoevalcap's PTBTokenizer, which writes into its own folder and does not notice that Java failed."""
    if missing := java_missing():
        raise JavaError(f'the PTB tokenizer needs Java: {missing}; the {SIMPLE} tokenizer does not')
    jar = Path(ptbtokenizer.__file__).with_name(ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR)
    with tempfile.NamedTemporaryFile('w', suffix='.txt', encoding='utf-8') as file:
        file.writelines(' '.join(text.split()) + '\n' for text in texts)  # one line each
        file.flush()
        command = ['java', '-Dfile.encoding=UTF-8', '-cp', str(jar), 'edu.stanford.nlp.process.PTBTokenizer',
                   '-preserveLines', '-lowerCase', file.name]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, timeout=JAVA_TIME_LIMIT_S, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            raise JavaError(f'the PTB tokenizer failed: {error}{_last_line(error)}') from error
    lines = done.stdout.decode('utf-8').removesuffix('\n').split('\n') if texts else []
    if len(lines) != len(texts):
        raise JavaError(f'the PTB tokenizer gave {len(lines)} lines for {len(texts)} texts')
    dropped = frozenset(ptbtokenizer.PUNCTUATIONS)
    return [' '.join(word for word in line.split() if word not in dropped) for line in lines]


def _last_line(error: Exception) -> str:
    output = getattr(error, 'stderr', None) or b''
    lines = output.decode('utf-8', errors='replace').strip().splitlines()
    return f': {lines[-1]}' if lines else ''
