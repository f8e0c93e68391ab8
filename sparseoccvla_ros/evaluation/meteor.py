"""METEOR 1.5, a Java program that pycocoevalcap brings along and talks to."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType

from pycocoevalcap.meteor.meteor import Meteor

from sparseoccvla_ros.evaluation.tokenization import JavaError, java_missing


class MeteorProcess:
    """The running program; a context manager. It starts in seconds and takes up to 2 GB.

    Raises:
        JavaError: there is no Java.
    """

    def __init__(self) -> None:
        if missing := java_missing():
            raise JavaError(f'METEOR is a Java program: {missing}')
        self._scorer = Meteor()

    def __enter__(self) -> MeteorProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._scorer.meteor_p
        process.kill()
        for stream in (process.stdin, process.stdout, process.stderr):
            with suppress(BrokenPipeError):  # what it has not read is of no use to anybody
                stream.close()
        if self._scorer.lock.locked():  # left so by an error; its __del__ would wait for it for ever
            self._scorer.lock.release()

    def score(self, references: Sequence[Sequence[str]], answers: Sequence[str]) -> tuple[float, list[float]]:
        """Score of the whole set, which is not the mean of the others, and of each answer; 0..1.

        Args:
            references: tokens with single blanks, one or more texts for each answer.
            answers: likewise; an empty one scores 0.

        Raises:
            JavaError: the program failed; it cannot be used again.
        """
        truths = {number: [_line(text) for text in texts] for number, texts in enumerate(references)}
        given = {number: [_line(text)] for number, text in enumerate(answers)}
        try:
            score, values = self._scorer.compute_score(truths, given)
        except (ValueError, OSError) as error:  # it gave no number, or is gone
            self._scorer.meteor_p.kill()
            lines = self._scorer.meteor_p.stderr.read().decode('utf-8', errors='replace').strip().splitlines()
            raise JavaError(f'METEOR failed: {lines[-1] if lines else error}') from error
        return float(score), [float(value) for value in values]


def _line(text: str) -> str:
    """One line without the separator of the program's protocol."""
    return ' '.join(text.replace('|||', ' ').split())
