"""BLEU, METEOR, ROUGE-L and CIDEr through pycocoevalcap.

BLEU uses the closest reference length. ROUGE_L has beta 1.2, best precision and best recall over the references. CIDEr
is CIDEr-D, scale 0..10; its word weights come from the references of the whole set, so that scores of subsets and of
different sets do not compare, and with one question every weight is 0. METEOR 1.5 is a Java program.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.bleu.bleu_scorer import BleuScorer
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from sparseoccvla_ros.evaluation.meteor import MeteorProcess
from sparseoccvla_ros.evaluation.tokenization import JavaError, tokenize

BLEU = ('Bleu_1', 'Bleu_2', 'Bleu_3', 'Bleu_4')
METRICS = (*BLEU, 'METEOR', 'ROUGE_L', 'CIDEr')
ONE_QUESTION = 'CIDEr weighs words by how many questions they are rare in, and is 0 for a single one'


@dataclass(frozen=True)
class LanguageScores:
    """Scores of a set of answers: of the whole ``corpus`` and ``per_answer`` in their order, by name in METRICS.

    All are 0..1, but CIDEr 0..10. A score that cannot be had is in neither, but in ``unavailable`` with the reason.
    """

    corpus: dict[str, float]
    per_answer: dict[str, list[float]]
    unavailable: dict[str, str]


def tokenized(
    references: Sequence[Sequence[str]], answers: Sequence[str], tokenizer: str
) -> tuple[list[list[str]], list[str]]:
    """References and answers as tokens with single blanks between them, by one run of the tokenizer.

    Args:
        references: for each question, at least one.
        answers: one for each question; an empty one scores 0.
        tokenizer: see :func:`~.tokenization.tokenize`.

    Raises:
        JavaError: the tokenizer needs Java, and there is none or it failed.
        ValueError: no question, one without reference, or not one answer for each.
    """
    if not answers or len(references) != len(answers) or not all(references):
        raise ValueError(f'expected answers with references each, got {len(answers)} and {len(references)}')
    tokens = iter(tokenize(tokenizer, [*answers, *(text for texts in references for text in texts)]))
    answer_tokens = [next(tokens) for _ in answers]
    return [[next(tokens) for _ in texts] for texts in references], answer_tokens


def score_tokens(references: Sequence[Sequence[str]], answers: Sequence[str]) -> LanguageScores:
    """All METRICS but METEOR, of what :func:`tokenized` gave."""
    corpus, per_answer = score_bleu(references, answers)
    unavailable: dict[str, str] = {}
    truths, given = _numbered(references, answers)
    score, values = Rouge().compute_score(truths, given)
    corpus['ROUGE_L'], per_answer['ROUGE_L'] = float(score), [float(value) for value in values]
    if len(answers) > 1:
        score, values = Cider().compute_score(truths, given)
        corpus['CIDEr'], per_answer['CIDEr'] = float(score), [float(value) for value in values]
    else:
        unavailable['CIDEr'] = ONE_QUESTION
    return LanguageScores(corpus, per_answer, unavailable)


def score_bleu(
    references: Sequence[Sequence[str]], answers: Sequence[str]
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """BLEU-1 to 4 of tokens: of the whole set, and of each answer."""
    scores, values = Bleu(len(BLEU)).compute_score(*_numbered(references, answers), verbose=0)
    corpus = {name: float(score) for name, score in zip(BLEU, scores, strict=True)}
    return corpus, {name: [float(value) for value in row] for name, row in zip(BLEU, values, strict=True)}


def bleu_counts(references: Sequence[Sequence[str]], answers: Sequence[str]) -> np.ndarray:
    """What BLEU adds up over the answers, integers [N, 10]: tokens of the answer, of the reference nearest in length,
    n-grams of the answer, and those that are right, n = 1 to 4.
    """
    orders = len(BLEU)
    scorer = BleuScorer(n=orders)
    for texts, answer in zip(references, answers, strict=True):
        scorer += (answer, list(texts))
    counts = [
        (
            found['testlen'],
            min(found['reflen'], key=lambda length: (abs(length - found['testlen']), length)),
            *found['guess'],
            *found['correct'],
        )
        for found in scorer.ctest
    ]
    return np.array(counts, dtype=np.int64).reshape(-1, 2 + 2 * orders)


def bleu_from_counts(sums: np.ndarray) -> np.ndarray:
    """BLEU-1 to 4 [..., 4] of sums [..., 10] of :func:`bleu_counts`, as pycocoevalcap rounds them; nan without any."""
    small, tiny = 1e-9, 1e-15  # pycocoevalcap's
    length, reference = sums[..., :1], sums[..., 1:2]
    guessed, right = np.split(sums[..., 2:], 2, axis=-1)
    orders = np.arange(1, guessed.shape[-1] + 1)
    precision = np.cumprod((right + tiny) / (guessed + small), axis=-1) ** (1.0 / orders)
    shortness = np.minimum((length + tiny) / (reference + small), 1.0)
    return np.where(reference > 0, precision * np.exp(1.0 - 1.0 / shortness), np.nan)


def add_meteor(scores: LanguageScores, references: Sequence[Sequence[str]], answers: Sequence[str]) -> None:
    """Add METEOR of tokens to the scores, or the reason why it is not there."""
    try:
        with MeteorProcess() as meteor:
            scores.corpus['METEOR'], scores.per_answer['METEOR'] = meteor.score(references, answers)
    except JavaError as error:
        scores.unavailable['METEOR'] = str(error)


def _numbered(
    references: Sequence[Sequence[str]], answers: Sequence[str]
) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    """In pycocoevalcap's form."""
    truths = {number: list(texts) for number, texts in enumerate(references)}
    return truths, {number: [text] for number, text in enumerate(answers)}
