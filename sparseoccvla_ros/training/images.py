"""What the stage on single images learns from: photographs of keyframes with their rendered classes and depths."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from sparseoccvla_ros.data.dataset import Augmentation, Item
from sparseoccvla_ros.data.image_augmentation import ImageWarp, WarpedFit
from sparseoccvla_ros.data.nuscenes import NuScenesError, NuScenesTables, SensorFrame
from sparseoccvla_ros.data.occ3d import CLASS_NAMES, UNLABELLED
from sparseoccvla_ros.model.config import ImageConfig, VLAConfig
from sparseoccvla_ros.sensors.decode import CameraFault, decode_compressed
from sparseoccvla_ros.training.keyframes import chosen_scenes, missing_files
from sparseoccvla_ros.training.order import sample_at
from sparseoccvla_ros.training.recipe import Recipe

logger = logging.getLogger(__name__)

#: Class of a pixel that shows the sky; below it are Occ3D's.
SKY = len(CLASS_NAMES)
#: A depth image's units.
UNITS_PER_M = 256.0
#: Folder of a term's label images, beside ``samples/``.
FOLDERS = {'classes_in_image': 'semantics', 'depth_in_image': 'depth'}


@dataclass(frozen=True)
class LabelledImage:
    """A photograph and its label images by folder."""

    frame: SensorFrame
    labels: Mapping[str, Path]


class ImageStream:
    """Samples by their position in the training's endless row: for DataLoader.

    A sample depends on (seed, position) and the files only. ``image`` is uint8 [H, W, 3] RGB. ``target_class`` is uint8
    [H, W], Occ3D's classes, 17 for the sky, 255 where nothing is known; ``target_depth_m`` is float32 [H, W] along the
    optical axis, zero for the sky and where nothing is known: a photograph that is zoomed shows the depths that it did.
    Either is there if the images have that label.

    Args:
        images: at least one, all with the same kinds of labels.
        size: of the network's images.
        augmentation: of pixels and colours.
        seed: of order and augmentation.
    """

    def __init__(
        self, images: Sequence[LabelledImage], size: ImageConfig, augmentation: Augmentation, seed: int
    ) -> None:
        self._images, self._size, self._augmentation, self._seed = images, size, augmentation, seed

    def __len__(self) -> int:
        """Images of an epoch."""
        return len(self._images)

    def digest(self) -> str:
        """SHA-256 of what is learnt from: the images' names, in their order."""
        return hashlib.sha256('\n'.join(source.frame.path.name for source in self._images).encode()).hexdigest()

    def __getitem__(self, position: int) -> Item:
        """One sample.

        Raises:
            NuScenesError: a file is missing or broken; names it.
        """
        epoch, index = sample_at(position, self._seed, len(self._images))
        source, part = self._images[index], self._augmentation
        rng = np.random.default_rng([self._seed, epoch, index])
        warp = part.image.draw(rng) if part.image else ImageWarp()
        change = part.photometric.draw(rng) if part.photometric else None
        frame = source.frame
        try:
            fit = warp.fit(frame.width_px, frame.height_px, self._size.width_px, self._size.height_px)
            photograph = decode_compressed(frame.read_bytes(), reduce=fit.decode_reduction)
            image = fit.apply(photograph)
        except CameraFault as fault:
            raise NuScenesError(f'{frame.path}: {fault}') from fault
        # a white image stays white where the warped one shows nothing but the photograph
        shown = fit.apply(np.full_like(photograph, 255))[..., 0] == 255
        item: Item = {
            'photograph': str(frame.path),
            'image': image if change is None else change.apply(image, rng),
        }
        if 'semantics' in source.labels:
            classes = warp_labels(read_classes(source.labels['semantics'], frame), fit)
            item['target_class'] = np.where(shown, classes, np.uint8(UNLABELLED))
        if 'depth' in source.labels:
            units = warp_labels(read_labels(source.labels['depth'], frame, np.uint16), fit)
            item['target_depth_m'] = np.where(shown, units, np.uint16(0)) * np.float32(1.0 / UNITS_PER_M)
        return item


def image_stream(recipe: Recipe, config: VLAConfig) -> ImageStream:
    """The row of samples that a recipe asks for.

    Raises:
        FileNotFoundError: there are no label images, or some images are missing; they are counted and listed.
        NuScenesError: the tables are broken, or do not know the scenes.
        ValueError: no image is left, or the recipe wants the scene augmented, which single images do not show.
    """
    settings, root = recipe.data, Path(recipe.data.root)
    if recipe.augmentation.scene is not None:
        raise ValueError(f'augmentation.scene cannot be used with {", ".join(recipe.terms)}: images have no ego frame')
    folders = [FOLDERS[term] for term in recipe.terms]
    for name in folders:
        if not (root / name).is_dir():
            raise FileNotFoundError(f'{root / name} is not there: sparseoccvla world --semantics --depth writes it')
    tables = NuScenesTables(root, settings.version)
    images = [
        LabelledImage(frame, {name: label_path(frame, root, name) for name in folders})
        for scene in chosen_scenes(tables, settings)
        for sample in tables.scene(scene).samples
        for camera in settings.cameras
        if (frame := sample.sensors.get(camera)) is not None
    ]
    present = {path for name in folders for path in (root / name).glob('*/*.png')}
    missing = [path for image in images for path in image.labels.values() if path not in present]
    if missing and settings.missing_labels == 'fail':
        raise missing_files(
            f'{len(missing)} label images of {len(images)} photographs are missing in {root}',
            [path.relative_to(root) for path in missing],
            'data.missing_labels=skip leaves their photographs out',
        )
    lost = {image.frame.path for image in images if not image.frame.path.is_file()}
    if lost and settings.missing_images == 'fail':
        counted = f'{len(lost)} of {len(images)} photographs are not there'
        raise missing_files(counted, sorted(lost), 'data.missing_images=mask learns without them')
    usable = [i for i in images if present.issuperset(i.labels.values()) and i.frame.path not in lost]
    if not usable:
        raise ValueError(f'{root}: no image is left to learn from')
    logger.info('%d images, %d left out', len(usable), len(images) - len(usable))
    return ImageStream(usable, config.image, recipe.augmentation, recipe.seed)


def label_path(frame: SensorFrame, root: Path, folder: str) -> Path:
    """Where a photograph's label image lies: ``samples/CAM_FRONT/a.jpg`` has ``depth/CAM_FRONT/a.png``."""
    return root / folder / Path(*frame.path.relative_to(root).parts[1:]).with_suffix('.png')


def read_labels(path: Path, frame: SensorFrame, kind: type[np.unsignedinteger]) -> np.ndarray:
    """A label image of a photograph: [H, W] of its size, numbers of the given kind.

    Raises:
        NuScenesError: the file is missing or broken, or of another size or kind.
    """
    try:
        stored = np.fromfile(path, np.uint8)
    except OSError as error:
        raise NuScenesError(f'{path}: {error.strerror}') from error
    labels = cv2.imdecode(stored, cv2.IMREAD_UNCHANGED) if stored.size else None
    if labels is None:
        raise NuScenesError(f'{path}: {stored.size} bytes that are no image')
    if labels.shape != (frame.height_px, frame.width_px) or labels.dtype != kind:
        raise NuScenesError(
            f'{path}: expected {np.dtype(kind)} [{frame.height_px}, {frame.width_px}], '
            f'found {labels.dtype} {list(labels.shape)}'
        )
    return labels


def read_classes(path: Path, frame: SensorFrame) -> np.ndarray:
    """Classes of a photograph's pixels, uint8 [H, W].

    Raises:
        NuScenesError: see :func:`read_labels`; or a number that is no class.
    """
    classes = read_labels(path, frame, np.uint8)
    wrong = classes[(classes > SKY) & (classes != UNLABELLED)]
    if wrong.size:
        raise NuScenesError(f'{path}: {wrong[0]} is no class; expected 0..{SKY} or {UNLABELLED}')
    return classes


def warp_labels(labels: np.ndarray, fit: WarpedFit) -> np.ndarray:
    """Labels [H, W] of a full-size image to the warped one's: each pixel takes the label at its middle, never a mean.

    Outside the image it is 0, and where the window is smaller than the image, a rotation shows more of the labels than
    of the image: what is not shown there is the caller's to say.
    """
    # OpenCV counts from the middle of the first pixel, the intrinsics from the corner
    middle = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])
    warped_from_full = np.linalg.inv(middle) @ fit.intrinsics(middle)
    size_px = (fit.out_width_px, fit.out_height_px)
    return cv2.warpAffine(labels, warped_from_full[:2], size_px, flags=cv2.INTER_NEAREST)
