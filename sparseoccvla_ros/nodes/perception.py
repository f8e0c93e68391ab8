"""Node ``perception``: synchronized cameras to occupancy queries, point cloud and grid."""

from __future__ import annotations

import sys
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from nav_msgs.msg import OccupancyGrid
from sensor_msgs.msg import CompressedImage, Image, PointCloud2

from sparseoccvla_ros.model.vla import build_perception
from sparseoccvla_ros.msg import OccupancyQueries, SceneStatus
from sparseoccvla_ros.nodes.base import ManagedNode, publish_if_heard, run_nodes
from sparseoccvla_ros.nodes.camera_filter import ApproximateTimeCameraFilter, CameraFilter
from sparseoccvla_ros.nodes.conversions.basic import header_from, stamp_ns_from
from sparseoccvla_ros.nodes.conversions.occupancy import cloud_message, grid_message, queries_message
from sparseoccvla_ros.nodes.conversions.status import status_message
from sparseoccvla_ros.nodes.ego_motion import EgoMotionInput
from sparseoccvla_ros.nodes.handover import HandOver
from sparseoccvla_ros.nodes.model_parts import build_part
from sparseoccvla_ros.nodes.parameters import PerceptionParameters
from sparseoccvla_ros.nodes.surround_input import SurroundInput
from sparseoccvla_ros.nodes.worker import LatestWorker
from sparseoccvla_ros.runtime.finite import NonFiniteOutput
from sparseoccvla_ros.runtime.occupancy import SelfFilter
from sparseoccvla_ros.runtime.perception import PerceptionEngine
from sparseoccvla_ros.runtime.scene import SceneQueries
from sparseoccvla_ros.sensors.camera import SurroundView
from sparseoccvla_ros.sensors.synchronizer import CameraSet

ImageSet = CameraSet[CompressedImage | Image]


class PerceptionNode(ManagedNode):
    """Wires camera topics to the PerceptionEngine and its scenes to topics and to the hand-over.

    The executor's thread files images into the synchronizer; decoding and inference run on one worker with one
    slot, so a set that waits is replaced by a newer one (counted as ``superseded_set``).
    """

    parameters: PerceptionParameters

    def __init__(self, handover: HandOver | None = None, **node_arguments: Any) -> None:
        super().__init__('perception', PerceptionParameters, handover, **node_arguments)
        self._worker: LatestWorker[ImageSet] | None = None
        self._input: SurroundInput | None = None
        self._ego_motion: EgoMotionInput | None = None
        self._filter: CameraFilter | ApproximateTimeCameraFilter | None = None
        self._last_missing: dict[str, str] = {}
        self._last_stage_ms: dict[str, float] = {}
        self._scenes = 0

    def configure(self) -> None:
        """Build model, engine, inputs and outputs."""
        parameters = self.parameters
        config, device, model = build_part(self, build_perception)
        box_m = parameters.self_filter_m
        self._engine = PerceptionEngine(
            model,
            config,
            device,
            parameters.cameras,
            parameters.score_threshold,
            max_gap_s=parameters.max_frame_gap_s,
            self_filter=SelfFilter(tuple(box_m[:3]), tuple(box_m[3:])),
        )
        self._queries = self.output(OccupancyQueries, 'occupancy_queries')
        self._cloud = self.output(PointCloud2, 'occupancy')
        self._grid = self.output(OccupancyGrid, 'occupancy_grid')
        self._status = self.output(SceneStatus, 'scene_status')
        self._worker = LatestWorker('perception', self._process, self._on_replaced, self._on_error)
        self._ego_motion = EgoMotionInput(self, parameters)
        self._filter = self._camera_filter()
        self._filter.registerCallback(self._worker.put)
        self._input = SurroundInput(self, parameters, config.image, self._ego_motion, self._on_image)

    def _camera_filter(self) -> CameraFilter | ApproximateTimeCameraFilter:
        parameters = self.parameters
        rig = (parameters.cameras, parameters.reference_camera)
        if parameters.sync == 'approximate_time':
            return ApproximateTimeCameraFilter(*rig, max_spread_s=parameters.max_spread_s)
        return CameraFilter(self, *rig, timeout_s=parameters.set_timeout_s, max_spread_s=parameters.max_spread_s)

    def release(self) -> None:
        """Stop the sets, then the worker, then what the worker reads from."""
        self.active = False
        if self._filter is not None:
            self._filter.destroy()
        if self._worker is not None:
            self._worker.close()
        for part in (self._input, self._ego_motion):
            if part is not None:
                part.destroy()
        self.destroy_outputs()
        self._input = self._filter = self._ego_motion = self._worker = None

    def forget(self) -> None:
        """The synchronizer and the feature memory see a jump by themselves; poses may come after the images."""
        self._ego_motion.forget()

    def status(self) -> list[DiagnosticStatus]:
        """Cameras, odometry, processing."""
        silent = {name: self.silence(name, name) for name in self.parameters.cameras}
        problems = [text for text in silent.values() if text]
        problems += [f'{name}: {reason}' for name, reason in self._last_missing.items() if not silent[name]]
        memory = {f'memory_cleared_{reason}': count for reason, count in self._engine.memory.clears.items()}
        untrained = '' if self.parameters.weights else 'untrained'
        return [
            self.diagnostic('cameras', '; '.join(problems), {'scenes': self._scenes, **self.drops(), **memory}),
            self._ego_motion.status(),
            self.diagnostic('model', untrained, {'device': self.parameters.device}),
            self.diagnostic('processing', '', {f'{name}_ms': f'{ms:.1f}' for name, ms in self._last_stage_ms.items()}),
        ]

    def drops(self) -> dict[str, int]:
        """Everything dropped or refused, by reason."""
        return {**self.counters, **(self._filter.drops if self._filter is not None else {})}

    def _on_image(self, camera: str, message: CompressedImage | Image) -> None:
        if self.active:
            self.heard(camera, stamp_ns_from(message.header.stamp))
            self._filter.add(camera, message)

    def _process(self, camera_set: ImageSet) -> None:
        if not self.active:
            return
        begin_s = time.perf_counter()
        view = self._input.view_of(camera_set)
        decode_ms = (time.perf_counter() - begin_s) * 1e3
        if len(view.views) < self.parameters.min_cameras:
            self._skip(view, 'too_few_cameras')
            return
        try:
            scene = self._engine.process(view)
        except NonFiniteOutput as error:
            self.get_logger().error(str(error))
            self._skip(view, 'non_finite_output')
            self._give_up(view.stamp_ns, 'non_finite_output')
            return
        scene.stage_ms.update(decode=decode_ms, perception=(time.perf_counter() - begin_s) * 1e3)
        self._scenes += 1
        self._last_missing, self._last_stage_ms = view.missing, scene.stage_ms
        self._hand_out(scene)
        self._tell(view, scene, '')

    def _hand_out(self, scene: SceneQueries) -> None:
        """By reference inside the process; a message is built only if somebody listens."""
        if self.handover is not None:
            self.handover.scene(scene)
        frame = self.parameters.base_frame
        header = header_from(scene.stamp_ns, frame)
        publish_if_heard(self._queries, lambda: queries_message(scene, frame))
        publish_if_heard(self._cloud, lambda: cloud_message(scene.occupancy, header))
        publish_if_heard(self._grid, lambda: grid_message(scene.occupancy, header))

    def _skip(self, view: SurroundView, reason: str) -> None:
        self.count(reason, f'set at {view.stamp_ns} ns')
        self._last_missing = view.missing
        self._tell(view, None, reason)

    def _give_up(self, stamp_ns: int, reason: str) -> None:
        """Tell the planner that no queries will come for a set that had its cameras."""
        if self.handover is not None:
            self.handover.failure(stamp_ns, reason)
        header = header_from(stamp_ns, self.parameters.base_frame)
        publish_if_heard(self._queries, lambda: OccupancyQueries(header=header, error=reason))

    def _tell(self, view: SurroundView, scene: SceneQueries | None, reason: str) -> None:
        publish_if_heard(
            self._status, lambda: status_message(view, scene, reason, self.drops(), self.parameters.base_frame)
        )

    def _on_replaced(self, camera_set: ImageSet) -> None:
        self.count('superseded_set')

    def _on_error(self, camera_set: ImageSet, error: BaseException) -> None:
        """Something no check foresaw: the set is told as skipped with the error, and the node goes on."""
        self.get_logger().error(f'set at {camera_set.stamp_ns} ns failed: {type(error).__name__}: {error}')
        view = SurroundView(camera_set.stamp_ns, None, (), dict.fromkeys(self.parameters.cameras, 'set failed'))
        self._skip(view, 'internal_error')
        self._give_up(camera_set.stamp_ns, f'internal_error: {type(error).__name__}')


def main(args: list[str] | None = None) -> int:
    """Run the node alone in a process."""
    return run_nodes(lambda: [PerceptionNode()], args)


if __name__ == '__main__':
    sys.exit(main())
