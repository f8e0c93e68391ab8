"""All scores of answers to a set of questions, by one of the named protocols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby

import numpy as np

from sparseoccvla_ros.data.qa.drivelm import SOURCE as DRIVELM
from sparseoccvla_ros.data.qa.drivelm import DriveLMFrame
from sparseoccvla_ros.data.qa.pairs import QAPair
from sparseoccvla_ros.evaluation.bootstrap import SceneBootstrap
from sparseoccvla_ros.evaluation.drivelm_metrics import challenge_questions, language_score, score_drivelm
from sparseoccvla_ros.evaluation.language_intervals import resampled_numeric, resampled_scores
from sparseoccvla_ros.evaluation.language_metrics import (
    BLEU,
    METRICS,
    LanguageScores,
    add_meteor,
    score_bleu,
    score_tokens,
    tokenized,
)
from sparseoccvla_ros.evaluation.numeric_answers import NumericScore, numeric_answers, score_numeric
from sparseoccvla_ros.evaluation.paired import Paired, paired
from sparseoccvla_ros.evaluation.tokenization import PTB, SIMPLE, TOKENIZERS, WHITESPACE, java_missing

#: ALL: every pair. HERMES: as the only public script for OmniDrive (LMD0311/HERMES, extra_tools/eval_hermes_results.py)
#: of each keyframe's description and conversation without the last two pairs, cut at blanks.
ALL, HERMES = 'all', 'hermes'
PROTOCOLS = (ALL, HERMES)
HERMES_FOLDERS = ('desc', 'conv', 'vqa')
HERMES_DROPS = 2
AUTO = 'auto'
#: Of references and answers.
Tokens = tuple[list[list[str]], list[str]]
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
class DriveLMReport:
    """DriveLM's scores, 0..1, None where no question has the tag; see :class:`~.drivelm_metrics.DriveLMScores`."""

    tags: str
    questions: dict[str, int]
    gated: int
    accuracy: float | None
    match_f1: float | None
    language: float | None
    left_out: str = 'GPT score and total: they need a paid service'


@dataclass(frozen=True)
class LanguageReport:
    """Scores over ``questions`` pairs; a ``missing`` answer counts as wrong. ``language`` is by name in METRICS.

    ``intervals`` [low, high] by the name in METRICS, ``exact_match``, ``by_kind/<kind>/<field>``,
    ``numeric/<type>/<share>`` and ``numeric/<type>/mean_error``. ``against``: exact and numeric answers beside those of
    somebody else, by the same names; empty without others.
    """

    protocol: str
    tokenizer: str
    questions: int
    missing: int
    exact_match: float
    language: LanguageScores
    by_kind: dict[str, KindScores]
    numeric: dict[str, NumericScore]
    drivelm: DriveLMReport | None
    intervals: dict[str, list[float] | None]
    against: dict[str, Paired]

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
            'numeric': {kind: asdict(score) for kind, score in self.numeric.items()},
            'drivelm': asdict(self.drivelm) if self.drivelm is not None else None,
            'intervals': self.intervals,
            'against': {name: found.summary() for name, found in self.against.items()},
        }


def chosen_tokenizer(wanted: str, protocol: str) -> str:
    """The protocol's own, else the wanted one; AUTO is PTB where there is Java and SIMPLE otherwise.

    Raises:
        ValueError: unknown name, another than the protocol's own, or PTB without Java.
    """
    if wanted not in (AUTO, *TOKENIZERS):
        raise ValueError(f'tokenizer must be one of {", ".join((AUTO, *TOKENIZERS))}, got {wanted!r}')
    if protocol == HERMES:
        if wanted not in (AUTO, WHITESPACE):
            raise ValueError(f'protocol {HERMES} has the tokenizer {WHITESPACE}, got {wanted!r}')
        return WHITESPACE
    missing = java_missing()
    if wanted == PTB and missing:
        raise ValueError(f'the PTB tokenizer needs Java: {missing}; the {SIMPLE} tokenizer does not')
    if wanted == AUTO:
        return SIMPLE if missing else PTB
    return wanted


def asked(pairs: Sequence[QAPair], protocol: str) -> list[int]:
    """Places of the pairs that count under a protocol.

    Raises:
        ValueError: unknown protocol, HERMES with another set than OmniDrive's form, or no pair is left.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f'protocol must be one of {", ".join(PROTOCOLS)}, got {protocol!r}')
    kept = list(range(len(pairs)))
    if protocol == HERMES:
        if any(pair.source == DRIVELM for pair in pairs):
            raise ValueError(f'protocol {HERMES} is for questions in the form of OmniDrive, not for {DRIVELM}')
        told = [place for place in kept if pairs[place].kind in HERMES_FOLDERS]
        kept = [
            place
            for _, group in groupby(told, key=lambda place: pairs[place].sample_token)
            for place in list(group)[:-HERMES_DROPS]
        ]
    if not kept:
        raise ValueError(f'no question is left to score under protocol {protocol}')
    return kept


def report(
    pairs: Sequence[QAPair],
    answers: Sequence[str],
    tokenizer: str,
    protocol: str = ALL,
    frames: Mapping[str, DriveLMFrame] | None = None,
    scenes: Sequence[str] = (),
    bootstrap: SceneBootstrap | None = None,
    others: Sequence[str] = (),
) -> LanguageReport:
    """Score one answer for each pair.

    Args:
        pairs: those that count, see :func:`asked`.
        answers: a blank one is missing.
        tokenizer: see :func:`chosen_tokenizer`.
        protocol: named in the report; HERMES gives no METEOR.
        frames: DriveLM's keyframes by sample token; None for other sets.
        scenes: of each pair, where there is a bootstrap.
        bootstrap: over these scenes, for intervals; None: without.
        others: somebody else's answers to the same pairs, to be compared with; none if empty.

    Raises:
        JavaError: the tokenizer needs Java, and there is none or it failed.
        ValueError: there are no pairs.
    """
    given = [answer.strip() for answer in answers]
    tokens = tokenized([[pair.answer] for pair in pairs], given, tokenizer)
    language = score_tokens(*tokens)
    if protocol == HERMES:
        language.unavailable['METEOR'] = _OTHER_METEOR
    else:
        add_meteor(language, *tokens)
    exact = [is_exact(answer, pair.answer) for pair, answer in zip(pairs, given, strict=True)]
    numeric = numeric_answers(pairs, given)
    intervals = {}
    if bootstrap is not None and not bootstrap.off:
        kinds = [pair.kind for pair in pairs]
        own = {name: language.per_answer[name] for name in ('ROUGE_L', 'CIDEr') if name in language.per_answer}
        scores = resampled_scores(bootstrap, scenes, kinds, tokens, {'exact_match': exact, **own})
        intervals = bootstrap.intervals(scores | resampled_numeric(bootstrap, scenes, numeric))
    return LanguageReport(
        protocol=protocol,
        tokenizer=tokenizer,
        questions=len(pairs),
        missing=sum(not answer for answer in given),
        exact_match=sum(exact) / len(exact),
        language=language,
        by_kind=_by_kind(pairs, given, exact, language, tokens),
        numeric=score_numeric(numeric),
        drivelm=None if frames is None else _drivelm(pairs, given, tokens, frames),
        intervals=intervals,
        against=_against(pairs, given, others, scenes, bootstrap) if others else {},
    )


def _against(
    pairs: Sequence[QAPair],
    answers: Sequence[str],
    others: Sequence[str],
    scenes: Sequence[str],
    bootstrap: SceneBootstrap | None,
) -> dict[str, Paired]:
    bootstrap = bootstrap or SceneBootstrap((), 0)
    scores: list[dict[str, float]] = []
    draws: list[dict[str, np.ndarray]] = []
    for given in (answers, [other.strip() for other in others]):
        exact = np.array([is_exact(answer, pair.answer) for pair, answer in zip(pairs, given, strict=True)])
        right = {'exact_match': (range(len(pairs)), exact)}
        for kind in dict.fromkeys(pair.kind for pair in pairs):
            places = [place for place, pair in enumerate(pairs) if pair.kind == kind]
            right[f'by_kind/{kind}/exact_match'] = places, exact[places]
        for name, found in numeric_answers(pairs, given).items():
            right |= {f'numeric/{name}/{share}': (found.places, values) for share, values in found.right.items()}
        scores.append({name: float(values.mean()) for name, (_, values) in right.items()})
        draws.append(
            {}
            if bootstrap.off
            else {n: bootstrap.means([scenes[place] for place in own], values) for n, (own, values) in right.items()}
        )
    return paired(*scores, *draws, bootstrap)


def is_exact(answer: str, reference: str) -> bool:
    """Equal but for case, blanks and a full stop at the end."""
    return _plain(answer) == _plain(reference)


def _plain(text: str) -> str:
    return ' '.join(text.lower().split()).removesuffix('.')


def _by_kind(
    pairs: Sequence[QAPair], answers: Sequence[str], exact: Sequence[bool], language: LanguageScores, tokens: Tokens
) -> dict[str, KindScores]:
    scores = {}
    cider = language.per_answer.get('CIDEr')
    for kind in dict.fromkeys(pair.kind for pair in pairs):
        places = [number for number, pair in enumerate(pairs) if pair.kind == kind]
        bleu, _ = score_bleu(*_part(tokens, places))
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
    pairs: Sequence[QAPair], answers: Sequence[str], tokens: Tokens, frames: Mapping[str, DriveLMFrame]
) -> DriveLMReport:
    has_tags = any(pair.tags for pair in pairs)
    chosen = list(enumerate(pairs)) if has_tags else challenge_questions(pairs, frames)
    scores = score_drivelm([pair for _, pair in chosen], [answers[place] for place, _ in chosen])
    language = None
    if scores.language:
        places = [chosen[number][0] for number in scores.language]
        language = language_score(score_tokens(*_part(tokens, places)).corpus)
    return DriveLMReport(
        tags='of the file' if has_tags else 'by the rule of extract_data.py, without multiple choice',
        questions=dict(scores.questions),
        gated=scores.gated,
        accuracy=scores.accuracy,
        match_f1=scores.match_f1,
        language=language,
    )


def _part(tokens: Tokens, places: Sequence[int]) -> Tokens:
    references, answers = tokens
    return [references[place] for place in places], [answers[place] for place in places]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
