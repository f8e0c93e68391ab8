"""Next-token cross-entropy on answers alone, all questions about a scene behind one reading of it.

Letters: S scenes, R rows of questions about each, n tokens of a row.
"""

from __future__ import annotations

from torch import Tensor, nn

from sparseoccvla_ros.model.language import KeyValues, SceneLanguage
from sparseoccvla_ros.training.question_batch import QuestionBatch


def answer_loss(language: SceneLanguage, prefix: KeyValues, batch: QuestionBatch) -> Tensor:
    """Mean over all tokens of all answers; gradients reach the connector and the language model.

    Each scene's prefix is read once, as on the car; each of its questions continues on its keys and values as if it
    were the only one.

    Args:
        language: the model.
        prefix: keys and values of S scenes (:meth:`SceneLanguage.read_scene`).
        batch: questions with answers about each of them.

    Raises:
        ValueError: prefix and a question exceed the context.
    """
    tokens, is_answer, question = (rows.flatten(0, 1) for rows in (batch.token_ids, batch.is_answer, batch.question))
    past = prefix.repeated(batch.token_ids.shape[1])
    hidden = language.read_side_by_side(language.embed_text(tokens), question, past)  # [S * R, n, D]
    is_target = is_answer[:, 1:]
    # a question's first token is never part of the answer, so that each target has the token before it in its row
    return nn.functional.cross_entropy(language.logits(hidden[:, :-1][is_target]), tokens[:, 1:][is_target])
