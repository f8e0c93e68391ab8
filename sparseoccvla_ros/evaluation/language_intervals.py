"""Language scores of resampled scenes.

Exact and numeric answers, CIDEr and ROUGE-L are means of the answers' own scores, and BLEU comes from sums of counts.
CIDEr's word weights stay those of the whole set's references: an answer keeps its score in every resample. METEOR of a
set is neither a mean nor a ratio of sums that its program tells, and has no interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sparseoccvla_ros.evaluation.bootstrap import SceneBootstrap, SceneSums
from sparseoccvla_ros.evaluation.language_metrics import BLEU, bleu_counts, bleu_from_counts
from sparseoccvla_ros.evaluation.numeric_answers import NumericAnswers

Array = np.ndarray


def resampled_scores(
    bootstrap: SceneBootstrap,
    scenes: Sequence[str],
    kinds: Sequence[str],
    tokens: tuple[Sequence[Sequence[str]], Sequence[str]],
    per_answer: Mapping[str, Sequence[float]],
) -> dict[str, Array]:
    """Scores [R] of the resamples: ``Bleu_1`` .. ``Bleu_4`` and those of ``per_answer``, and each of one kind as
    ``by_kind/<kind>/<score in lower case>``, BLEU-4 alone.

    Args:
        bootstrap: over the scenes.
        scenes: of each answer.
        kinds: of each answer's question.
        tokens: references and answers.
        per_answer: an answer's own scores, whose means are those of the set.
    """
    counts = bleu_counts(*tokens)

    def bleu(places: Sequence[int]) -> Array:
        sums = SceneSums(counts.shape[1])
        for place in places:
            sums.add(scenes[place], counts[place])
        return bleu_from_counts(bootstrap.sums(sums))

    def mean(name: str, places: Sequence[int]) -> Array:
        return bootstrap.means([scenes[place] for place in places], [per_answer[name][place] for place in places])

    everything = range(len(scenes))
    corpus = bleu(everything)
    scores = {name: corpus[:, number] for number, name in enumerate(BLEU)}
    scores |= {name: mean(name, everything) for name in per_answer}
    for kind in dict.fromkeys(kinds):
        places = [place for place in everything if kinds[place] == kind]
        scores[f'by_kind/{kind}/bleu_4'] = bleu(places)[:, -1]
        scores |= {f'by_kind/{kind}/{name.lower()}': mean(name, places) for name in per_answer}
    return scores


def resampled_numeric(
    bootstrap: SceneBootstrap, scenes: Sequence[str], answers: Mapping[str, NumericAnswers]
) -> dict[str, Array]:
    """Shares and mean errors [R] of the resamples as ``numeric/<type>/<share>`` and ``numeric/<type>/mean_error``.

    Args:
        bootstrap: over the scenes.
        scenes: of each answer of the whole set.
        answers: by type, see :func:`~.numeric_answers.numeric_answers`.
    """
    scores = {}
    for kind, found in answers.items():
        own = [scenes[place] for place in found.places]
        scores |= {f'numeric/{kind}/{name}': bootstrap.means(own, right) for name, right in found.right.items()}
        held = np.flatnonzero(~np.isnan(found.errors))
        scores[f'numeric/{kind}/mean_error'] = bootstrap.means([own[place] for place in held], found.errors[held])
    return scores
