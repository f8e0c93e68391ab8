"""Node ``reasoning``: scene queries to answers, forecast and reasoning tokens."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.subscription import Subscription
from rclpy.task import Future

from sparseoccvla_ros import __version__
from sparseoccvla_ros.action import StreamAnswer
from sparseoccvla_ros.model.adapters import adapter_names
from sparseoccvla_ros.model.vla import build_language
from sparseoccvla_ros.msg import OccupancyForecast, OccupancyQueries, ReasoningTokens
from sparseoccvla_ros.nodes.base import ManagedNode, publish_if_heard, run_nodes
from sparseoccvla_ros.nodes.conversions.basic import header_from, time_from
from sparseoccvla_ros.nodes.conversions.occupancy import forecast_message, scene_from, tokens_message
from sparseoccvla_ros.nodes.conversions.questions import Reply, fill_answer, question_from
from sparseoccvla_ros.nodes.ego_motion import EgoMotionInput
from sparseoccvla_ros.nodes.handover import HandOver
from sparseoccvla_ros.nodes.model_parts import build_part, weights_text
from sparseoccvla_ros.nodes.parameters import ReasoningParameters
from sparseoccvla_ros.nodes.qos import ACTION_SERVICES, FEEDBACK, REQUESTS, RESULT
from sparseoccvla_ros.runtime.questions import Answer, PendingAnswer, Question, QuestionLimits
from sparseoccvla_ros.runtime.reasoning import ReasoningEngine, SceneResult
from sparseoccvla_ros.runtime.scene import SceneQueries
from sparseoccvla_ros.srv import AskScene, DescribeModel, SetAdapter

#: Packages that an answer depends on, beside ours.
LIBRARIES = ('torch', 'transformers', 'peft')


class ReasoningNode(ManagedNode):
    """Wires scenes and questions to the ReasoningEngine, whose one thread does all language work.

    Service and action callbacks are asynchronous: the executor goes on while an answer is made. The engine's
    callbacks come on its thread; what touches the ROS graph beyond a publish is sent to the executor as a task.
    """

    parameters: ReasoningParameters

    def __init__(self, handover: HandOver | None = None, **node_arguments: Any) -> None:
        super().__init__('reasoning', ReasoningParameters, handover, **node_arguments)
        self._engine: ReasoningEngine | None = None
        self._ego_motion: EgoMotionInput | None = None
        self._subscription: Subscription | None = None
        self._last_stage_ms: dict[str, float] = {}
        self._streams: dict[bytes, PendingAnswer] = {}
        self._offer_services()
        if handover is not None:
            handover.scene_consumers.append(self._on_scene)

    def _offer_services(self) -> None:
        """They live as long as the node and tell when it is inactive: an answer may be due at any transition."""
        # A mutually exclusive group, the default, would hold back the node's other callbacks until the answer is there.
        waiting = ReentrantCallbackGroup()
        self.create_service(AskScene, 'ask', self._on_ask, qos_profile=REQUESTS, callback_group=waiting)
        self.create_service(DescribeModel, 'describe', self._on_describe)
        self.create_service(SetAdapter, 'set_adapter', self._on_set_adapter, callback_group=waiting)
        self._action = ActionServer(
            self,
            StreamAnswer,
            'stream_answer',
            execute_callback=self._on_stream,
            goal_callback=self._on_goal,
            cancel_callback=self._on_cancel,
            feedback_pub_qos_profile=FEEDBACK,
            callback_group=waiting,
            **ACTION_SERVICES,
        )

    def configure(self) -> None:
        """Build model, engine, services, action and outputs."""
        parameters = self.parameters
        self._config, self._device, model = build_part(self, build_language)
        self._adapters_folder = Path(parameters.adapters_folder).expanduser()
        self._adapters = adapter_names(self._adapters_folder) if parameters.adapters_folder else ()
        limits = QuestionLimits(
            kept_scenes=parameters.kept_scenes,
            max_waiting=parameters.max_waiting_questions,
            max_running=parameters.max_running_answers,
            max_question_chars=parameters.max_question_chars,
            max_conversations=parameters.max_conversations,
            max_turns=parameters.max_turns,
            default_max_tokens=parameters.default_max_tokens,
            max_answer_tokens=parameters.max_answer_tokens,
            time_limit_s=parameters.answer_timeout_s,
        )
        self._engine = ReasoningEngine(
            model, self._config, self._device, limits, score_threshold=parameters.forecast_score_threshold
        )
        self._forecast = self.output(OccupancyForecast, 'forecast')
        self._tokens = self.output(ReasoningTokens, 'reasoning_tokens')
        if self.handover is None:
            # only for its stamps: the ages of scenes count from the newest stamp of any input
            self._ego_motion = EgoMotionInput(self, parameters)
            self._subscription = self.create_subscription(
                OccupancyQueries, 'occupancy_queries', self._on_queries, RESULT
            )

    def destroy_node(self) -> None:
        """Give up the action, which rclpy does not count among a node's parts."""
        self._action.destroy()
        super().destroy_node()

    def release(self) -> None:
        """Stop the engine: whatever waits is answered. Services and action stay, see :meth:`_offer_services`."""
        self.active = False
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()
        if self._ego_motion is not None:
            self._ego_motion.destroy()
        if self._subscription is not None:
            self.destroy_subscription(self._subscription)
        self._ego_motion = self._subscription = None
        self.destroy_outputs()

    def forget(self) -> None:
        """Forget scenes and conversations."""
        engine = self._engine
        if engine is not None:
            engine.reset()

    def status(self) -> list[DiagnosticStatus]:
        """Model, scenes, processing."""
        untrained = '' if self.parameters.weights else 'untrained'
        values = {'kept': len(self._engine.kept_scenes), **self._engine.counts, **self.counters}
        stage_ms = {f'{name}_ms': f'{ms:.1f}' for name, ms in self._last_stage_ms.items()}
        # a defect ended it; it does not come back by itself
        stopped = 'the language thread has stopped: see the log, restart the node' if self._engine.stopped else ''
        return [
            self.diagnostic('model', untrained, {'device': self.parameters.device, 'name': self._config.name}),
            self.diagnostic('scenes', self.silence('scenes', 'occupancy_queries'), values),
            self.diagnostic('processing', stopped, stage_ms, DiagnosticStatus.ERROR),
        ]

    def _on_queries(self, message: OccupancyQueries) -> None:
        if message.error:
            return
        try:
            scene = scene_from(message, self._device)
        except ValueError as error:
            self.count('queries_malformed', str(error))
            return
        self.clock.observe('scenes', scene.stamp_ns)
        self._on_scene(scene)

    def _on_scene(self, scene: SceneQueries) -> None:
        engine = self._engine
        if self.active and engine is not None:
            self.heard('scenes')
            engine.submit_scene(scene, self._on_result)

    def _on_result(self, result: SceneResult) -> None:
        """On the engine's thread."""
        frame = self.parameters.base_frame
        if result.reasoning is None:
            self.count(f'scene_{result.failure.split(":")[0]}', result.failure)
            if self.handover is not None:
                self.handover.failure(result.stamp_ns, result.failure)
            header = header_from(result.stamp_ns, frame)
            publish_if_heard(self._tokens, lambda: ReasoningTokens(header=header, error=result.failure))
            return
        self._last_stage_ms = result.reasoning.stage_ms
        if self.handover is not None:
            self.handover.reasoning(result.reasoning)
        publish_if_heard(self._tokens, lambda: tokens_message(result.reasoning, frame))
        publish_if_heard(self._forecast, lambda: forecast_message(result.stamp_ns, result.forecast, frame))

    async def _on_ask(self, request: AskScene.Request, response: AskScene.Response) -> AskScene.Response:
        question = question_from(request)
        return self._reply(response, question, await self._answer(question))

    def _reply(self, reply: Reply, question: Question, answer: Answer) -> Reply:
        """Fill a response or a result; an answer that used up its tokens, and may lack its end, is told as cut off."""
        limit = question.max_tokens or self.parameters.default_max_tokens
        if answer.success and answer.generated_tokens >= limit:
            answer = replace(answer, message=f'cut off at max_tokens ({limit})')
        return fill_answer(reply, answer, self.clock.age_s(answer.scene_stamp_ns))

    def _answer(self, question: Question, goal: ServerGoalHandle | None = None) -> Future:
        """A future of the answer that wakes the executor; with a goal its text is streamed as feedback."""
        future: Future = Future(executor=self.executor)
        engine = self._engine
        if not self.active or engine is None:
            future.set_result(Answer(success=False, message='the node is not active'))
            return future

        def on_done(answer: Answer) -> None:
            if not answer.success:
                self.count('question_not_answered', answer.message)
            self._resolve(future, answer)

        def on_text(text: str, generated_tokens: int) -> None:
            # on the engine's thread: executor tasks would run in reverse (Jazzy) or after the result (Kilted)
            goal.publish_feedback(StreamAnswer.Feedback(text=text, generated_tokens=generated_tokens))

        pending = engine.ask(question, on_done, on_text if goal is not None else None)
        if goal is not None:
            self._streams[bytes(goal.goal_id.uuid)] = pending
            if goal.is_cancel_requested:  # the cancel came before there was anything to cancel
                pending.cancel()
        return future

    def _resolve(self, future: Future, result: Any) -> None:
        """From any thread. The executor looks at waiting coroutines only when it is woken; it may be gone already."""
        future.set_result(result)
        executor = self.executor
        if executor is not None:
            executor.wake()

    def _on_goal(self, request: StreamAnswer.Goal) -> GoalResponse:
        """Every goal is accepted: a refused question ends as an aborted goal that carries the reason."""
        return GoalResponse.ACCEPT

    def _on_cancel(self, goal: ServerGoalHandle) -> CancelResponse:
        pending = self._streams.get(bytes(goal.goal_id.uuid))
        if pending is not None:
            pending.cancel()
        return CancelResponse.ACCEPT

    async def _on_stream(self, goal: ServerGoalHandle) -> StreamAnswer.Result:
        question = replace(question_from(goal.request), time_limit_s=self.parameters.stream_timeout_s)
        try:
            answer = await self._answer(question, goal)
        finally:
            self._streams.pop(bytes(goal.goal_id.uuid), None)
        if goal.is_cancel_requested:
            goal.canceled()
        elif answer.success:
            goal.succeed()
        else:
            goal.abort()
        return self._reply(StreamAnswer.Result(), question, answer)

    def _on_describe(self, request: DescribeModel.Request, response: DescribeModel.Response) -> DescribeModel.Response:
        libraries = ', '.join(f'{name} {metadata.version(name)}' for name in LIBRARIES)
        response.package_version = f'{__version__} ({libraries})'
        response.weights = weights_text(self.parameters)
        engine = self._engine
        if engine is None:
            return response
        language = self._config.language
        response.name = self._config.name
        response.language_model = language.pretrained or f'own Llama, {language.layers} layers of {language.width}'
        response.adapter = engine.adapter
        response.adapters = list(self._adapters)
        response.device = str(self._device)
        response.precision = self._config.precision
        response.context_length = engine.context_length
        response.scene_prefix_tokens = engine.prefix_tokens
        response.kept_scenes = [time_from(stamp_ns) for stamp_ns in engine.kept_scenes]
        return response

    async def _on_set_adapter(self, request: SetAdapter.Request, response: SetAdapter.Response) -> SetAdapter.Response:
        """Only names that the folder held at start are taken, so a request never becomes a path."""
        engine = self._engine
        if not self.active or engine is None:
            response.message = 'the node is not active'
        elif request.name and request.name not in self._adapters:
            known = ', '.join(self._adapters) or 'none'
            response.message = f'no adapter {request.name!r}; adapters here: {known}'
        else:
            future: Future = Future(executor=self.executor)

            folder = self._adapters_folder / request.name if request.name else None
            engine.set_adapter(request.name, folder, lambda refusal: self._resolve(future, refusal))
            response.message = await future
            response.success = not response.message
        return response


def main(args: list[str] | None = None) -> int:
    """Run the node alone in a process."""
    return run_nodes(lambda: [ReasoningNode()], args)


if __name__ == '__main__':
    sys.exit(main())
