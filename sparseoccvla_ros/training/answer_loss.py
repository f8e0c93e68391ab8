"""Next-token cross-entropy on answers alone, several questions about each scene.

Letters: S scenes, B questions about them, n tokens of the longest question with its answer, L of a scene's prefix,
V vocabulary.
"""

from __future__ import annotations

from torch import Tensor, nn

from sparseoccvla_ros.model.language import KeyValues, SceneLanguage
from sparseoccvla_ros.training.question_batch import QuestionBatch


def answer_loss(language: SceneLanguage, prefix: KeyValues, batch: QuestionBatch, scene_of: Tensor) -> Tensor:
    """Mean over all tokens of all answers; gradients reach the connector and the language model.

    Each scene's prefix is read once, as on the car; its questions continue on its keys and values.

    Args:
        language: the model.
        prefix: keys and values of S scenes (:meth:`SceneLanguage.read_scene`).
        batch: B questions with answers.
        scene_of: int64 [B], the scene (0..S-1) that each is asked about.

    Raises:
        ValueError: prefix and text exceed the context.
    """
    # [S, heads, L, head width] -> [B, heads, L, head width]
    repeated = KeyValues(tuple((keys[scene_of], values[scene_of]) for keys, values in prefix.layers))
    hidden, _ = language.forward_embeddings(language.embed_text(batch.token_ids[:, :-1]), repeated)  # [B, n - 1, D]
    is_target = batch.is_answer[:, 1:]
    # a question's first token is never part of the answer, so that each target has the token before it in its row
    return nn.functional.cross_entropy(language.logits(hidden[is_target]), batch.token_ids[:, 1:][is_target])
