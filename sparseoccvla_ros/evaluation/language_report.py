"""All scores of answers to a set of questions, by one of the named protocols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby

from sparseoccvla_ros.data.qa.drivelm import DriveLMFrame
from sparseoccvla_ros.data.qa.pairs import QAPair
from sparseoccvla_ros.evaluation.drivelm_metrics import challenge_questions, language_score, score_drivelm
from sparseoccvla_ros.evaluation.language_metrics import (
    BLEU,
    METRICS,
    LanguageScores,
    score_language,
    score_tokens,
    tokenized,
)
from sparseoccvla_ros.evaluation.numeric_answers import score_numeric
from sparseoccvla_ros.evaluation.tokenization import PTB, SIMPLE, WHITESPACE, java_missing

#: ALL: every pair. HERMES: as the only public script for OmniDrive (LMD0311/HERMES, extra_tools/eval_hermes_results.py)
#: of each keyframe's description and conversation without the last two pairs, cut at blanks.
ALL, HERMES = 'all', 'hermes'
PROTOCOLS = (ALL, HERMES)
HERMES_FOLDERS = ('desc', 'conv', 'vqa')
HERMES_DROPS = 2
_OTHER_METEOR = 'the HERMES script takes the METEOR of NLTK, another implementation'


@dataclass(frozen=True)
class KindScores:
    """Of the questions of one kind. CIDEr and ROUGE-L are means of the answers' own scores within the whole set, BLEU
    counts within the kind; CIDEr is None where the whole set has none.
    """

    questions: int
    missing: int
    exact_match: float
    bleu_4: float
    rouge_l: float
    cider: float | None


@dataclass(frozen=True)
class LanguageReport:
    """Scores over ``questions`` pairs; a ``missing`` answer counts as wrong. ``language`` is by name in METRICS."""

    protocol: str
    tokenizer: str
    questions: int
    missing: int
    exact_match: float
    language: LanguageScores
    by_kind: dict[str, KindScores]
    numeric: dict[str, object]
    drivelm: dict[str, object] | None

    def summary(self) -> dict[str, object]:
        """All of it, for a JSON file; None where a score cannot be had."""
        return {
            'protocol': self.protocol,
            'tokenizer': self.tokenizer,
            'questions': self.questions,
            'missing': self.missing,
            'scores': {
                **{name: self.language.corpus.get(name) for name in METRICS},
                'exact_match': self.exact_match,
            },
            'unavailable': self.language.unavailable,
            'by_kind': {kind: asdict(scores) for kind, scores in self.by_kind.items()},
            'numeric': self.numeric,
            'drivelm': self.drivelm,
        }


def chosen_tokenizer(wanted: str, protocol: str) -> str:
    """The protocol's own, else the wanted one; 'auto' is PTB where there is Java and SIMPLE otherwise."""
    if protocol == HERMES:
        return WHITESPACE
    if wanted == 'auto':
        return SIMPLE if java_missing() else PTB
    return wanted


def asked(pairs: Sequence[QAPair], protocol: str) -> list[QAPair]:
    """The pairs that count under a protocol.

    Raises:
        ValueError: unknown protocol, HERMES with another set than OmniDrive's form, or no pair is left.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f'protocol must be one of {", ".join(PROTOCOLS)}, got {protocol!r}')
    if protocol == ALL:
        kept = list(pairs)
    else:
        foreign = sorted({pair.source for pair in pairs if pair.source == 'drivelm'})
        if foreign:
            raise ValueError(f'protocol {HERMES} is for questions in the form of OmniDrive, not {", ".join(foreign)}')
        told = [pair for pair in pairs if pair.kind in HERMES_FOLDERS]
        kept = [
            pair
            for _, group in groupby(told, key=lambda pair: pair.sample_token)
            for pair in list(group)[:-HERMES_DROPS]
        ]
    if not kept:
        raise ValueError(f'no question is left to score under protocol {protocol}')
    return kept


def report(
    pairs: Sequence[QAPair],
    answers: Mapping[tuple[str, str], str],
    tokenizer: str,
    protocol: str = ALL,
    frames: Mapping[str, DriveLMFrame] | None = None,
) -> LanguageReport:
    """Score answers by sample token and question.

    Args:
        pairs: those that count, see :func:`asked`.
        answers: what is not there, or blank, is missing.
        tokenizer: see :func:`chosen_tokenizer`.
        protocol: named in the report; HERMES gives no METEOR.
        frames: DriveLM's keyframes by sample token; None for other sets.

    Raises:
        JavaError: the tokenizer needs Java, and there is none or it failed.
        ValueError: there are no pairs.
    """
    given = [answers.get((pair.sample_token, pair.question), '').strip() for pair in pairs]
    references = [[pair.answer] for pair in pairs]
    if protocol == HERMES:
        language = score_tokens(references, given)
        language.unavailable['METEOR'] = _OTHER_METEOR
    else:
        language = score_language(references, given, tokenizer)
    exact = [is_exact(answer, pair.answer) for pair, answer in zip(pairs, given, strict=True)]
    return LanguageReport(
        protocol=protocol,
        tokenizer=tokenizer,
        questions=len(pairs),
        missing=sum(not answer for answer in given),
        exact_match=sum(exact) / len(exact),
        language=language,
        by_kind=_by_kind(pairs, given, exact, language, tokenizer),
        numeric={kind: asdict(score) for kind, score in score_numeric(pairs, given).items()},
        drivelm=None if frames is None else _drivelm(pairs, given, frames, tokenizer),
    )


def is_exact(answer: str, reference: str) -> bool:
    """Equal but for case, blanks and a full stop at the end."""
    return _plain(answer) == _plain(reference)


def _plain(text: str) -> str:
    return ' '.join(text.lower().split()).removesuffix('.')


def _by_kind(
    pairs: Sequence[QAPair], answers: Sequence[str], exact: Sequence[bool], language: LanguageScores, tokenizer: str
) -> dict[str, KindScores]:
    references, tokens = tokenized([[pair.answer] for pair in pairs], answers, tokenizer)
    scores = {}
    for kind in dict.fromkeys(pair.kind for pair in pairs):
        places = [number for number, pair in enumerate(pairs) if pair.kind == kind]
        bleu = score_tokens([references[place] for place in places], [tokens[place] for place in places]).corpus
        cider = language.per_answer.get('CIDEr')
        scores[kind] = KindScores(
            questions=len(places),
            missing=sum(not answers[place] for place in places),
            exact_match=_mean([float(exact[place]) for place in places]),
            bleu_4=bleu[BLEU[-1]],
            rouge_l=_mean([language.per_answer['ROUGE_L'][place] for place in places]),
            cider=_mean([cider[place] for place in places]) if cider is not None else None,
        )
    return scores


def _drivelm(
    pairs: Sequence[QAPair], answers: Sequence[str], frames: Mapping[str, DriveLMFrame], tokenizer: str
) -> dict[str, object]:
    has_tags = any(pair.tags for pair in pairs)
    tagged = list(pairs) if has_tags else challenge_questions(pairs, frames)
    by_question = {(pair.sample_token, pair.question): answer for pair, answer in zip(pairs, answers, strict=True)}
    scores = score_drivelm(tagged, [by_question[pair.sample_token, pair.question] for pair in tagged])
    language = None
    if scores.language:
        texts = [[pair.answer] for pair, _ in scores.language], [answer for _, answer in scores.language]
        language = language_score(score_tokens(*tokenized(*texts, tokenizer)).corpus)
    return {
        'tags': 'of the file' if has_tags else 'by the rule of extract_data.py, without multiple choice',
        'questions': dict(scores.questions),
        'gated': scores.gated,
        'accuracy': scores.accuracy,
        'match_f1': scores.match_f1,
        'language': language,
        'left_out': 'GPT score and total: they need a paid service',
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
