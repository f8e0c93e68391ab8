"""From camera topics to a SurroundView: subscriptions, calibration, decoding, each camera's own ego pose."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tf2_msgs.msg import TFMessage

from sparseoccvla_ros.model.config import ImageConfig
from sparseoccvla_ros.nodes.base import ManagedNode
from sparseoccvla_ros.nodes.conversions.sensors import CameraCalibration, calibration_from, rgb_from
from sparseoccvla_ros.nodes.ego_motion import EgoMotionInput
from sparseoccvla_ros.nodes.parameters import PerceptionParameters
from sparseoccvla_ros.nodes.qos import LATCHED, images
from sparseoccvla_ros.nodes.static_transforms import StaticTransforms
from sparseoccvla_ros.sensors.camera import CameraView, SurroundView
from sparseoccvla_ros.sensors.decode import CameraFault
from sparseoccvla_ros.sensors.preprocess import ImageFit
from sparseoccvla_ros.sensors.synchronizer import CameraSet

#: Decoding releases the interpreter lock, so a few images decode at once.
DECODE_THREADS = 2


class SurroundInput:
    """Camera inputs of the perception node.

    The executor's thread only files messages; :meth:`view_of` runs on the node's worker.
    """

    def __init__(
        self,
        node: ManagedNode,
        parameters: PerceptionParameters,
        image: ImageConfig,
        ego_motion: EgoMotionInput,
        on_image: Callable[[str, CompressedImage | Image], None],
    ) -> None:
        self._node = node
        self._parameters = parameters
        self._size_px = (image.width_px, image.height_px)
        self._ego_motion = ego_motion
        self._on_image = on_image
        self._calibrations: dict[str, CameraCalibration] = {}
        self._calibration_faults: dict[str, CameraFault] = {}
        self._transforms = StaticTransforms()
        self._calibration_arrived = threading.Condition()
        self._calibration_waited = False
        self._decoders = ThreadPoolExecutor(DECODE_THREADS, thread_name_prefix='decode')
        self._subscriptions = self._subscribe()

    def destroy(self) -> None:
        """Stop listening and decoding."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._decoders.shutdown()

    def view_of(self, camera_set: CameraSet[CompressedImage | Image]) -> SurroundView:
        """Decode a set's images to the network's size, with calibration and the pose at each image's time.

        A camera that cannot be used is left out and named in ``missing`` with the reason.
        """
        if not self._calibration_waited:
            self._wait_for_calibration(camera_set)
        if camera_set.stamps_ns:
            self._ego_motion.wait_until_covered(max(camera_set.stamps_ns.values()))
        cameras = [name for name in self._parameters.cameras if name in camera_set.items]
        decoded = self._decoders.map(partial(self._view_or_fault, camera_set), cameras)
        missing = dict.fromkeys(camera_set.missing, 'no_image')
        views = []
        for name, view in zip(cameras, decoded, strict=True):
            if isinstance(view, CameraFault):
                missing[name] = str(view)
                self._node.count(f'camera_{view.reason}', f'{name}: {view.detail}')
            else:
                views.append(view)
        return SurroundView(
            stamp_ns=camera_set.stamp_ns,
            odom_from_ego=self._ego_motion.poses.pose_at(camera_set.stamp_ns),
            views=tuple(views),
            missing=missing,
        )

    def _subscribe(self) -> list[Subscription]:
        parameters, node = self._parameters, self._node
        image_type = CompressedImage if parameters.image_type == 'compressed' else Image
        qos = images(parameters.sensor_reliability)
        subscriptions = [node.create_subscription(TFMessage, parameters.tf_static_topic, self._on_transforms, LATCHED)]
        for camera in parameters.cameras:
            subscriptions.append(
                node.create_subscription(
                    CameraInfo,
                    parameters.camera_topic(parameters.camera_info_topic, camera),
                    partial(self._on_camera_info, camera),
                    qos,
                )
            )
            subscriptions.append(
                node.create_subscription(
                    image_type,
                    parameters.camera_topic(parameters.image_topic, camera),
                    partial(self._on_image, camera),
                    qos,
                )
            )
        return subscriptions

    def _on_camera_info(self, camera: str, info: CameraInfo) -> None:
        with self._calibration_arrived:
            try:
                self._calibrations[camera] = calibration_from(info)
                self._calibration_faults.pop(camera, None)
            except CameraFault as fault:
                self._calibrations.pop(camera, None)
                self._calibration_faults[camera] = fault
            self._calibration_arrived.notify_all()

    def _on_transforms(self, message: TFMessage) -> None:
        with self._calibration_arrived:
            try:
                self._transforms.add(message)
            except ValueError as error:
                self._node.count('static_transform_invalid', str(error))
            self._calibration_arrived.notify_all()

    def _wait_for_calibration(self, camera_set: CameraSet[CompressedImage | Image]) -> None:
        """The first images may overtake the first camera_info and the latched transforms; later ones never wait."""
        with self._calibration_arrived:
            self._calibration_arrived.wait_for(
                lambda: all(self._is_calibrated(name, message) for name, message in camera_set.items.items()),
                self._parameters.calibration_timeout_s,
            )
        self._calibration_waited = True

    def _is_calibrated(self, camera: str, message: CompressedImage | Image) -> bool:
        if camera in self._calibration_faults:
            return True
        calibration = self._calibrations.get(camera)
        return calibration is not None and self._ego_from_camera(calibration, message) is not None

    def _ego_from_camera(self, calibration: CameraCalibration, message: CompressedImage | Image) -> np.ndarray | None:
        frame = message.header.frame_id or calibration.frame_id
        return self._transforms.lookup(self._parameters.base_frame, frame)

    def _view_or_fault(self, camera_set: CameraSet[CompressedImage | Image], camera: str) -> CameraView | CameraFault:
        try:
            return self._view(camera, camera_set.stamps_ns[camera], camera_set.items[camera])
        except CameraFault as fault:
            return fault

    def _view(self, camera: str, stamp_ns: int, message: CompressedImage | Image) -> CameraView:
        with self._calibration_arrived:
            if camera in self._calibration_faults:
                raise self._calibration_faults[camera]
            calibration = self._calibrations.get(camera)
            if calibration is None:
                raise CameraFault('camera_info_missing', f'nothing received on {self._parameters.camera_info_topic}')
            ego_from_camera = self._ego_from_camera(calibration, message)
        if ego_from_camera is None:
            frame = message.header.frame_id or calibration.frame_id
            raise CameraFault('extrinsics_missing', f'no static transform {self._parameters.base_frame} <- {frame}')
        fit = ImageFit.to(calibration.width_px, calibration.height_px, *self._size_px)
        return CameraView(
            name=camera,
            stamp_ns=stamp_ns,
            image=fit.apply(rgb_from(message, calibration, fit.decode_reduction)),
            intrinsics_px=fit.intrinsics(calibration.intrinsics_px),
            ego_from_camera=ego_from_camera,
            odom_from_ego=self._ego_motion.poses.pose_at(stamp_ns),
        )
