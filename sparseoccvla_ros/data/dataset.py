"""Training samples of a nuScenes-layout data set, official or synthetic: a map-style data set for torch's DataLoader.

Each sample is a flat dict. Keys that begin with ``target_`` are supervision: labels, boxes, and everything that comes
from the time after the keyframe. No other key depends on what comes later. Letters: T temporal frames, N cameras,
V = T x N views (frame-major, the current frame first), S steps of the future path, F future label sets, B boxes.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import numpy as np
import torch

from sparseoccvla_ros.data.image_augmentation import ImageAugmentation, ImageWarp
from sparseoccvla_ros.data.keyframes import NO_FRAME, camera_view, encoder_inputs
from sparseoccvla_ros.data.moments import Moment, scene_moments
from sparseoccvla_ros.data.nuscenes import CAMERAS, NuScenesError, NuScenesTables, SensorFrame
from sparseoccvla_ros.data.occ3d import GRID_SHAPE, UNLABELLED, load_labels
from sparseoccvla_ros.data.photometric import PhotometricChange, PhotometricDistortion
from sparseoccvla_ros.data.scene_augmentation import SceneAugmentation, SceneTransform
from sparseoccvla_ros.geometry import inverse
from sparseoccvla_ros.runtime.scene import Command
from sparseoccvla_ros.sensors.camera import CameraView, SurroundView
from sparseoccvla_ros.sensors.decode import CameraFault

logger = logging.getLogger(__name__)

Item = dict[str, Any]

#: Keys whose arrays differ in length from sample to sample: a batch holds a list of tensors.
RAGGED = ('target_box_centre_m', 'target_box_size_lwh_m', 'target_box_heading_rad', 'target_box_velocity_mps',
          'target_box_velocity_known')  # fmt: skip


@dataclass(frozen=True)
class SampleRequest:
    """What a sample holds.

    Raises:
        ValueError: a number is out of range, or the cameras are not distinct names.
    """

    #: Size of the network's images, pixels.
    width_px: int = 352
    height_px: int = 128
    #: Temporal frames, the current one included, and the time between them, seconds.
    frames: int = 1
    frame_interval_s: float = 0.5
    #: In the order of the model's slots.
    cameras: tuple[str, ...] = CAMERAS
    #: Times of the ego's future path, seconds after the keyframe.
    future_path_s: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
    #: Times of the future labels, seconds after the keyframe, for example 1, 2, 3.
    future_labels_s: tuple[float, ...] = ()
    #: Whether to read the boxes.
    boxes: bool = True
    #: Whether to read the images, which a stage that trains on stored queries has no use for.
    images: bool = True

    def __post_init__(self) -> None:
        for name in ('width_px', 'height_px', 'frames'):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f'{name} must be a whole number of at least 1, got {value!r}')
        if not (math.isfinite(self.frame_interval_s) and self.frame_interval_s > 0.0):
            raise ValueError(f'frame_interval_s must be positive, got {self.frame_interval_s}')
        if not self.cameras or isinstance(self.cameras, str) or len(set(self.cameras)) != len(self.cameras):
            raise ValueError(f'cameras must be distinct names, got {self.cameras!r}')
        for name in ('future_path_s', 'future_labels_s'):
            times_s = getattr(self, name)
            if not all(math.isfinite(time_s) and time_s > 0.0 for time_s in times_s):
                raise ValueError(f'{name} must be positive, the future only, got {times_s}')
            if list(times_s) != sorted(set(times_s)):
                raise ValueError(f'{name} must rise, got {times_s}')


@dataclass(frozen=True)
class Augmentation:
    """What changes at random; None leaves a part as it is. The default changes nothing."""

    image: ImageAugmentation | None = None
    photometric: PhotometricDistortion | None = None
    scene: SceneAugmentation | None = None


@dataclass(frozen=True)
class _Draws:
    """Everything random of one sample: per camera a warp and a change of colours, per view a seed for its noise."""

    scene: SceneTransform
    warps: list[ImageWarp | None]
    changes: list[PhotometricChange | None]
    noise_seeds: np.ndarray


class KeyframeDataset:
    """The keyframes of some scenes, in the scenes' order and time order.

    A sample depends on (seed, epoch, index) and the files only: not on the worker, on the order of access or on what
    was read before. All tables are read at construction; after it only images and labels are opened, and the tables
    themselves are not kept, so that workers stay small.

    Args:
        tables: of the data set.
        scenes: names, distinct.
        request: what a sample holds.
        gts_root: Occ3D's ``gts`` folder; None: samples have no occupancy labels.
        augmentation: what changes at random.
        seed: of the augmentation.
        commands: the driving command of each keyframe by its token, as the navigation knew it then (never derived from
            the recorded future); None: samples have no command.

    Raises:
        NuScenesError: an unknown scene or a broken row.
        ValueError: no scene, a scene twice, a negative seed, a camera that no keyframe has, future labels without
            ``gts_root``, or a ``gts_root`` without labels of any keyframe.
    """

    def __init__(
        self,
        tables: NuScenesTables,
        scenes: Sequence[str],
        request: SampleRequest,
        *,
        gts_root: Path | None = None,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        commands: Mapping[str, Command] | None = None,
    ) -> None:
        if not scenes or isinstance(scenes, str) or len(set(scenes)) != len(scenes):
            raise ValueError(f'scenes must be distinct names, at least one, got {scenes!r}')
        if seed < 0:
            raise ValueError(f'seed must not be negative, got {seed}')
        if request.future_labels_s and gts_root is None:
            raise ValueError(f'future_labels_s is {request.future_labels_s}, which needs a gts_root to read them from')
        self.request = request
        self.seed = seed
        self._augmentation = Augmentation() if augmentation is None else augmentation
        self._gts_root = gts_root
        self._commands = commands
        # in shared memory: workers that live through several epochs see a new value too
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._moments: list[Moment] = []
        #: Index of the first keyframe of the scene of each keyframe.
        self._scene_start: list[int] = []
        for scene in scenes:
            moments = scene_moments(
                tables,
                scene,
                cameras=request.cameras,
                frames=request.frames,
                frame_interval_s=request.frame_interval_s,
                future_path_s=request.future_path_s,
                future_keyframes_s=request.future_labels_s,
                boxes=request.boxes,
            )
            self._scene_start += [len(self._moments)] * len(moments)
            self._moments += moments
        self._check_cameras(tables)
        self._has_labels = self._find_labels()

    def __len__(self) -> int:
        return len(self._moments)

    @property
    def moments(self) -> Sequence[Moment]:
        """What is known of each keyframe without opening a file."""
        return tuple(self._moments)

    @property
    def unlabelled(self) -> Sequence[str]:
        """``<scene>/<token>`` of the keyframes whose labels are missing in ``gts_root``; all of them without one."""
        return tuple(
            f'{moment.scene}/{moment.token}'
            for moment, found in zip(self._moments, self._has_labels, strict=True)
            if not found
        )

    @property
    def epoch(self) -> int:
        """See :meth:`set_epoch`."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Other random changes from now on; call it before the epoch's iteration begins.

        Raises:
            ValueError: negative.
        """
        if epoch < 0:
            raise ValueError(f'epoch must not be negative, got {epoch}')
        self._epoch.fill_(epoch)

    def __getitem__(self, index: int) -> Item:
        """One sample of the present :attr:`epoch`; docs/data.md lists the keys.

        Raises:
            IndexError: beyond the last keyframe.
            NuScenesError: none of the current frame's images can be used (the message says why).
            Occ3DError: a label file is broken.
        """
        return self.sample(index, self.epoch)

    def sample(self, index: int, epoch: int) -> Item:
        """As ``self[index]``, with the random changes of an epoch of choice.

        Raises:
            IndexError, NuScenesError, Occ3DError: see :meth:`__getitem__`.
        """
        index = range(len(self))[index]
        moment = self._moments[index]
        draws = self._draw(index, epoch)
        return {
            'scene': moment.scene,
            'token': moment.token,
            'stamp_ns': np.int64(moment.stamp_ns),
            'global_from_ego': moment.global_from_ego,
            'augmented_from_ego': draws.scene.augmented_from_ego,
            **(self._views(moment, draws) if self.request.images else {}),
            **self._motion(moment, draws.scene),
            **(self._labels(index, draws.scene) if self._gts_root is not None else {}),
            **(_boxes(moment, draws.scene) if self.request.boxes else {}),
        }

    def _draw(self, index: int, epoch: int) -> _Draws:
        """In a fixed order and before any file is opened, so that a missing image changes nothing else."""
        rng = np.random.default_rng([self.seed, epoch, index])
        part, cameras = self._augmentation, len(self.request.cameras)
        return _Draws(
            scene=part.scene.draw(rng) if part.scene else SceneTransform(),
            warps=[part.image.draw(rng) if part.image else None for _ in range(cameras)],
            changes=[part.photometric.draw(rng) if part.photometric else None for _ in range(cameras)],
            noise_seeds=rng.integers(2**63, size=(self.request.frames, cameras)),
        )

    def _views(self, moment: Moment, draws: _Draws) -> Item:
        request = self.request
        shape = (request.frames, len(request.cameras))
        stamps_ns, taken = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=bool)
        missing: list[tuple[int, str, str]] = []
        frames = []
        for place, row in enumerate(moment.camera_frames):
            views, faults = [], {}
            for slot, (name, frame) in enumerate(zip(request.cameras, row, strict=True)):
                try:
                    views.append(self._view(frame, draws, place, slot))
                except CameraFault as fault:
                    faults[name] = fault.reason
                except NuScenesError:
                    faults[name] = 'unreadable_file'
                else:
                    stamps_ns[place, slot], taken[place, slot] = views[-1].stamp_ns, True
            if place == 0 and not views:
                raise NuScenesError(f'keyframe {moment.token} of {moment.scene} has no usable image: {faults}')
            # The pose of the current labels for every frame: each camera's own pose leads from there into its image.
            frames.append(SurroundView(moment.stamp_ns, moment.global_from_ego, tuple(views), faults))
            missing += [(place, name, reason) for name, reason in faults.items()]
        inputs = encoder_inputs(frames, request.cameras, request.width_px, request.height_px)
        projections = inputs.image_from_ego.astype(np.float64)
        seen = inputs.view_mask[:, None, None]
        projections = np.where(seen, draws.scene.projections(projections), projections)
        ages_s = np.where(taken, (stamps_ns - moment.stamp_ns) * 1e-9, 0.0)
        return {
            'images': inputs.images,
            'image_from_ego': projections.astype(np.float32),
            'view_mask': inputs.view_mask,
            'image_stamp_ns': stamps_ns.reshape(-1),
            'image_time_s': ages_s.reshape(-1).astype(np.float32),
            'missing': tuple(missing),
        }

    def _view(self, frame: SensorFrame | None, draws: _Draws, place: int, slot: int) -> CameraView:
        if frame is None:
            raise CameraFault(NO_FRAME, 'none at this time')
        view = camera_view(frame, self.request.width_px, self.request.height_px, draws.warps[slot])
        change = draws.changes[slot]
        if change is None:
            return view
        image = change.apply(view.image, np.random.default_rng(draws.noise_seeds[place, slot]))
        return CameraView(view.name, view.stamp_ns, image, view.intrinsics_px, view.ego_from_camera, view.odom_from_ego)

    def _motion(self, moment: Moment, change: SceneTransform) -> Item:
        state = moment.ego_state
        numbers = (state.speed_mps, state.accel_mps2, change.yaw_rate(state.yaw_rate_radps)) if state else (0.0,) * 3
        valid, headings_rad = moment.future_ego_valid, change.headings(moment.future_ego_heading_rad)
        item: Item = {
            'ego_state': np.array(numbers, dtype=np.float32),
            'ego_state_valid': np.bool_(state is not None),
            'target_future_ego_xy_m': change.points(moment.future_ego_xy_m).astype(np.float32),
            'target_future_ego_heading_rad': np.where(valid, headings_rad, 0.0).astype(np.float32),
            'target_future_ego_valid': valid,
        }
        if self._commands is not None:
            command = self._commands.get(moment.token)
            item['command'] = np.int64(Command.STRAIGHT if command is None else change.command(command))
            item['command_valid'] = np.bool_(command is not None)
        return item

    def _labels(self, index: int, change: SceneTransform) -> Item:
        item = {f'target_{name}': value for name, value in self._label_set(index, change).items()}
        if not self.request.future_labels_s:
            return item
        moment, start = self._moments[index], self._scene_start[index]
        later = [None if i is None else start + i for i in moment.future_keyframes]
        sets = [self._label_set(i, change) for i in later]
        item |= {f'target_future_{name}': np.stack([labels[name] for labels in sets]) for name in sets[0]}
        ego_from_global = inverse(moment.global_from_ego)
        poses = [
            np.eye(4) if i is None else change.between_egos(ego_from_global @ self._moments[i].global_from_ego)
            for i in later
        ]
        times_s = [0.0 if i is None else (self._moments[i].stamp_ns - moment.stamp_ns) * 1e-9 for i in later]
        item['target_current_ego_from_future_ego'] = np.stack(poses).astype(np.float32)
        item['target_future_labels_time_s'] = np.array(times_s, dtype=np.float32)
        return item

    def _label_set(self, index: int | None, change: SceneTransform) -> Item:
        """Labels of a keyframe in its own augmented ego frame; nothing is labelled where it has none."""
        if index is None or not self._has_labels[index]:
            nothing = np.zeros(GRID_SHAPE, dtype=np.uint8)
            present = {'labels_valid': False, 'has_mask_camera': False, 'has_mask_lidar': False}
            return {'semantics': np.full_like(nothing, UNLABELLED), 'mask_camera': nothing, 'mask_lidar': nothing} | {
                name: np.bool_(value) for name, value in present.items()
            }
        moment = self._moments[index]
        labels = load_labels(self._gts_root, moment.scene, moment.token)
        everywhere = np.ones(GRID_SHAPE, dtype=np.uint8)
        return {
            'semantics': change.grid(labels.semantics, outside=UNLABELLED),
            'mask_camera': change.grid(everywhere if labels.mask_camera is None else labels.mask_camera, outside=0),
            'mask_lidar': change.grid(everywhere if labels.mask_lidar is None else labels.mask_lidar, outside=0),
            'labels_valid': np.True_,
            'has_mask_camera': np.bool_(labels.mask_camera is not None),
            'has_mask_lidar': np.bool_(labels.mask_lidar is not None),
        }

    def _check_cameras(self, tables: NuScenesTables) -> None:
        for slot, name in enumerate(self.request.cameras):
            if not any(moment.camera_frames[0][slot] for moment in self._moments):
                sample = tables.scene(self._moments[0].scene).samples[0]
                known = sorted(channel for channel, frame in sample.sensors.items() if frame.modality == 'camera')
                raise ValueError(f'no keyframe has camera {name!r}; the first one has {", ".join(known) or "none"}')

    def _find_labels(self) -> list[bool]:
        if self._gts_root is None:
            return [False] * len(self)
        # a copy that was cut short has no zip directory at its end: better found now than hours into a training
        found = [is_zipfile(self._gts_root / m.scene / m.token / 'labels.npz') for m in self._moments]
        if not any(found):
            first = self._moments[0]
            raise ValueError(
                f'{self._gts_root} has labels for none of {len(self)} keyframes; expected for example '
                f'{self._gts_root / first.scene / first.token / "labels.npz"}'
            )
        if not all(found):
            lacking = found.count(False)
            logger.warning(
                '%d of %d keyframes have no labels, or broken ones, in %s', lacking, len(self), self._gts_root
            )
        return found


def _boxes(moment: Moment, change: SceneTransform) -> Item:
    boxes = moment.boxes
    assert boxes is not None
    return {
        'target_box_centre_m': change.points(boxes.centre_m).astype(np.float32),
        'target_box_size_lwh_m': boxes.size_lwh_m.astype(np.float32),
        'target_box_heading_rad': change.headings(boxes.heading_rad).astype(np.float32),
        'target_box_velocity_mps': change.points(boxes.velocity_mps).astype(np.float32),
        'target_box_velocity_known': boxes.velocity_known,
        'target_box_category': boxes.category,
        'target_box_instance_token': boxes.instance_token,
    }


def collate(items: Sequence[Item]) -> Item:
    """A batch: for DataLoader's ``collate_fn``.

    Arrays become tensors with the batch in front, those of :data:`RAGGED` lists of tensors, anything else lists.

    Raises:
        ValueError: no sample.
        KeyError: samples of data sets that hold different things.
    """
    if not items:
        raise ValueError('a batch needs at least one sample')
    batch: Item = {}
    for key, first in items[0].items():
        values = [item[key] for item in items]
        if key in RAGGED:
            batch[key] = [torch.from_numpy(np.ascontiguousarray(value)) for value in values]
        elif isinstance(first, np.ndarray | np.generic):
            batch[key] = torch.from_numpy(np.stack(values))
        else:
            batch[key] = values
    return batch
