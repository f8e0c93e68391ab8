#!/usr/bin/env python3
"""A picture of a written data set: of some scenes six images, the labels from above, and a question with its answer.

    .venv/bin/python tools/world_contact_sheet.py DATA --out sheet.png [--scenes 6] [--time 8] [--lidar]

Images: front left, front, front right over back left, back, back right. From above, 80 x 80 m: the class of the highest
occupied voxel of each column, dark where no camera sees any voxel of the column; the ego in the middle, forward is up.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
from world_measures.questions import Pair, read_pairs

from sparseoccvla_ros.data.keyframes import label_frame
from sparseoccvla_ros.data.nuscenes import (
    LIDAR,
    NuScenesError,
    NuScenesTables,
    Sample,
    SensorFrame,
    load_lidar_points,
)
from sparseoccvla_ros.data.occ3d import (
    CLASS_NAMES,
    FREE,
    PALETTE_RGB,
    RANGE_M,
    Occ3DError,
    OccupancyLabels,
    load_labels,
)
from sparseoccvla_ros.geometry import inverse, transform_points

ROWS = (('CAM_FRONT_LEFT', 'CAM_FRONT', 'CAM_FRONT_RIGHT'), ('CAM_BACK_LEFT', 'CAM_BACK', 'CAM_BACK_RIGHT'))
IMAGE_WIDTH_PX, TEXT_WIDTH_PX, GAP_PX = 480, 430, 6
PAPER, INK, GREY = (255, 255, 255), (20, 20, 20), (110, 110, 110)
NOTHING_RGB = (40, 40, 40)
UNSEEN_BRIGHTNESS = 0.45
#: x0, y0, x1, y1 of the ego in its frame.
EGO_M = (-0.74, -0.87, 3.34, 0.87)


def main() -> int:
    """Draw and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('data', type=Path)
    parser.add_argument('--out', type=Path, required=True, help='picture to write, .png or .jpg')
    parser.add_argument('--version', default='v1.0-world')
    parser.add_argument('--scenes', type=int, default=6, help='so many, evenly spread over the data set')
    parser.add_argument('--time', type=float, default=8.0, help='seconds after the first keyframe of each scene')
    parser.add_argument('--lidar', action='store_true', help='LiDAR points over the labels')
    arguments = parser.parse_args()
    if arguments.scenes < 1:
        parser.error(f'--scenes is {arguments.scenes}; at least 1 expected')
    try:
        sheet = contact_sheet(arguments.data, arguments.version, arguments.scenes, arguments.time, arguments.lidar)
    except (NuScenesError, Occ3DError, OSError, ValueError) as error:
        print(f'{arguments.data}: {error}', file=sys.stderr)
        return 2
    encoded, data = cv2.imencode(arguments.out.suffix, sheet[..., ::-1])
    if not encoded:
        print(f'{arguments.out}: cannot encode as {arguments.out.suffix}', file=sys.stderr)
        return 2
    arguments.out.write_bytes(data.tobytes())
    print(f'{arguments.out}: {sheet.shape[1]} x {sheet.shape[0]} px')
    return 0


def contact_sheet(dataroot: Path, version: str, scenes: int, time_s: float, lidar: bool = False) -> np.ndarray:
    """RGB picture uint8 [H, W, 3] with a strip for each of ``scenes`` scenes, at the keyframes nearest to ``time_s``.

    Raises:
        NuScenesError, Occ3DError, OSError: something is missing or broken.
        ValueError: an image cannot be decoded.
    """
    tables = NuScenesTables(dataroot, version)
    names = tables.scene_names
    chosen = dict.fromkeys(names[number] for number in np.linspace(0, len(names) - 1, scenes).round().astype(int))
    pairs = read_pairs(dataroot)
    kinds = sorted({pair['kind'] for pair in pairs})
    strips = []
    for number, name in enumerate(chosen):
        scene = tables.scene(name)
        sample = min(scene.samples, key=lambda item: abs(item.stamp_ns - scene.samples[0].stamp_ns - time_s * 1e9))
        images = [[_image(sample.sensors[camera]) for camera in row] for row in ROWS]
        pictures = _tiled(images)
        labels = load_labels(dataroot / 'gts', name, sample.token)
        above = from_above(labels, len(pictures), _points_ego(sample) if lidar else None)
        question = _question(pairs, sample, kinds[number * 5 % max(len(kinds), 1) :] + kinds)
        lines = [(name, INK), (scene.description, GREY)]
        if question is not None:
            lines += [(f'{question["kind"]} ({question["split"]})', GREY)]
            lines += [(f'Q: {question["question"]}', INK), (f'A: {question["answer"]}', INK)]
        gap = np.full((len(pictures), GAP_PX, 3), 255, dtype=np.uint8)
        strips.append(np.hstack([pictures, gap, above, _written(lines, TEXT_WIDTH_PX, len(pictures))]))
        strips.append(np.full((GAP_PX, strips[-1].shape[1], 3), 255, dtype=np.uint8))
    return np.vstack([*strips, _legend(strips[0].shape[1])])


def from_above(labels: OccupancyLabels, side_px: int, points_ego: np.ndarray | None = None) -> np.ndarray:
    """Labels from above, RGB uint8 [side_px, side_px, 3]; ``points_ego`` [N, 3] are drawn as dots."""
    occupied = labels.semantics < FREE
    top = occupied.shape[2] - 1 - occupied[:, :, ::-1].argmax(axis=2)
    highest = np.take_along_axis(labels.semantics, top[:, :, None], axis=2)[:, :, 0]
    any_there = occupied.any(axis=2)
    image = np.where(any_there[..., None], PALETTE_RGB[np.where(any_there, highest, 0)], np.uint8(NOTHING_RGB))
    if labels.mask_camera is not None:
        seen = (labels.mask_camera > 0).any(axis=2)
        image = np.where(seen[..., None], image, (UNSEEN_BRIGHTNESS * image).astype(np.uint8))
    # Rows are x, columns y: forward becomes up, left stays left.
    image = cv2.resize(np.ascontiguousarray(image[::-1, ::-1]), (side_px, side_px), interpolation=cv2.INTER_NEAREST)
    px_per_m = side_px / (RANGE_M[3] - RANGE_M[0])
    if points_ego is not None:
        row, column = ((RANGE_M[3] - points_ego[:, axis]) * px_per_m for axis in (0, 1))
        inside = (row >= 0) & (row < side_px) & (column >= 0) & (column < side_px)
        image[row[inside].astype(int), column[inside].astype(int)] = 0
    x0, y0, x1, y1 = EGO_M
    corners_m = np.array([[x0, y0], [x0, y1], [x1, y1], [x1 + 1.0, 0.0], [x1, y0]])
    corners_px = np.round((RANGE_M[3] - corners_m[:, ::-1]) * px_per_m).astype(np.int32)
    cv2.fillPoly(image, [corners_px], (0, 0, 0), cv2.LINE_AA)
    cv2.polylines(image, [corners_px], True, (255, 255, 255), 1, cv2.LINE_AA)
    return image


def _points_ego(sample: Sample) -> np.ndarray:
    """LiDAR points [N, 3] in the labels' frame."""
    frame = sample.sensors[LIDAR]
    ego_from_lidar = inverse(label_frame(sample).global_from_ego) @ frame.global_from_ego @ frame.ego_from_sensor
    return transform_points(ego_from_lidar, load_lidar_points(frame)[:, :3].astype(np.float64))


def _image(frame: SensorFrame) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(frame.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f'{frame.path} cannot be decoded')
    size_px = (IMAGE_WIDTH_PX, round(IMAGE_WIDTH_PX * image.shape[0] / image.shape[1]))
    scaled = cv2.resize(image, size_px, interpolation=cv2.INTER_AREA if size_px[0] < len(image[0]) else cv2.INTER_CUBIC)
    return scaled[..., ::-1]


def _tiled(rows: list[list[np.ndarray]]) -> np.ndarray:
    """Images of equal size in rows, with thin lines between them."""
    framed = [
        [cv2.copyMakeBorder(image, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=PAPER) for image in row] for row in rows
    ]
    return np.vstack([np.hstack(row) for row in framed])


def _question(pairs: list[Pair], sample: Sample, kinds: list[str]) -> Pair | None:
    """A pair about the keyframe: of the first of these kinds that it has."""
    about = {pair['kind']: pair for pair in reversed(pairs) if pair['sample_token'] == sample.token}
    return next((about[kind] for kind in kinds if kind in about), None)


def _written(lines: list[tuple[str, tuple[int, int, int]]], width_px: int, height_px: int) -> np.ndarray:
    """Paragraphs in their colours, wrapped to the width; what does not fit in the height is cut."""
    image = np.full((height_px, width_px, 3), PAPER, dtype=np.uint8)
    y_px = 18
    for text, colour in lines:
        for line in _wrapped(text, width_px - 24):
            cv2.putText(image, line, (14, y_px), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)
            y_px += 20
        y_px += 7
    return image


def _wrapped(text: str, width_px: int) -> list[str]:
    lines = ['']
    for word in text.split():
        longer = f'{lines[-1]} {word}'.strip()
        fits = cv2.getTextSize(longer, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)[0][0] <= width_px
        if fits or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _legend(width_px: int) -> np.ndarray:
    image = np.full((30, width_px, 3), PAPER, dtype=np.uint8)
    step_px = width_px // len(CLASS_NAMES)
    for label, name in enumerate(CLASS_NAMES):
        x_px = 4 + label * step_px
        cv2.rectangle(image, (x_px, 9), (x_px + 12, 21), PALETTE_RGB[label].tolist(), cv2.FILLED)
        text = name.replace('_', ' ')
        cv2.putText(image, text, (x_px + 17, 19), cv2.FONT_HERSHEY_SIMPLEX, 0.36, INK, 1, cv2.LINE_AA)
    return image


if __name__ == '__main__':
    sys.exit(main())
