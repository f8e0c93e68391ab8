"""Questions and answers: the service and the action carry the same fields."""

from __future__ import annotations

from typing import TypeVar

from sparseoccvla_ros.action import StreamAnswer
from sparseoccvla_ros.nodes.conversions.basic import stamp_ns_from, time_from
from sparseoccvla_ros.runtime.questions import Answer, Question
from sparseoccvla_ros.srv import AskScene

Reply = TypeVar('Reply', AskScene.Response, StreamAnswer.Result)


def question_from(request: AskScene.Request | StreamAnswer.Goal) -> Question:
    """The question of a service request or an action goal."""
    return Question(
        text=request.question,
        conversation_id=request.conversation_id,
        stamp_ns=stamp_ns_from(request.stamp),
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        seed=request.seed,
    )


def fill_answer(reply: Reply, answer: Answer, scene_age_s: float) -> Reply:
    """Fill a service response or an action result; ``scene_age_s`` counts only where a scene was found."""
    reply.success = answer.success
    reply.message = answer.message
    reply.answer = answer.answer
    reply.scene_stamp = time_from(answer.scene_stamp_ns)
    reply.scene_age_s = float(scene_age_s) if answer.scene_stamp_ns else 0.0
    reply.prompt_tokens = answer.prompt_tokens
    reply.cached_tokens = answer.cached_tokens
    reply.generated_tokens = answer.generated_tokens
    reply.first_token_ms = float(answer.first_token_ms)
    reply.total_ms = float(answer.total_ms)
    return reply
