"""Draws a scene: camera pictures with the occupancy in them, and the bird's-eye view."""

from __future__ import annotations

import base64
from typing import Any

import cv2
import numpy as np

from sparseoccvla_ros.data.occ3d import PALETTE_RGB, RANGE_M
from sparseoccvla_ros.evaluation.report_scenes import CameraPicture, SceneMaterial
from sparseoccvla_ros.geometry import image_from_ego, project_points, transform_points
from sparseoccvla_ros.runtime.scene import OccupancyPoints

PICTURE_WIDTH_PX = 520
JPEG_QUALITY = 82
#: Side of a drawn point in the world; near points are drawn larger, between the two limits.
POINT_SIZE_M = 0.28
POINT_SIDES_PX = (2, 7)
POINT_OPACITY = 0.78
NEAREST_M = 0.5

BIRDS_EYE_PX_PER_M = 10
GROUND_RGBA = (46, 58, 73, 255)
OBSTACLE_RGBA = (88, 100, 118, 255)
#: Renault Zoe, nuScenes' vehicle, around its rear axle: rear and front overhang, half width; metres.
EGO_BACK_M, EGO_FRONT_M, EGO_HALF_WIDTH_M = -0.6, 3.48, 0.87


def camera_picture_uri(picture: CameraPicture, occupancy: OccupancyPoints | None) -> str:
    """The picture at report size with the occupancy drawn in, as a ``data:`` address (JPEG)."""
    height_px, width_px = picture.image.shape[:2]
    scale = PICTURE_WIDTH_PX / width_px
    size = (PICTURE_WIDTH_PX, round(height_px * scale))
    canvas = cv2.resize(picture.image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    if occupancy is not None and picture.intrinsics_px is not None and picture.camera_from_ego is not None:
        intrinsics_px = np.diag([scale, scale, 1.0]) @ picture.intrinsics_px
        canvas = _with_points(canvas, image_from_ego(intrinsics_px, picture.camera_from_ego), occupancy)
    _, data = cv2.imencode('.jpg', canvas[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return _uri('jpeg', data)


def _with_points(canvas: np.ndarray, projection: np.ndarray, occupancy: OccupancyPoints) -> np.ndarray:
    pixels, depth_m = project_points(projection, occupancy.points_ego.astype(np.float64))
    height_px, width_px = canvas.shape[:2]
    seen = depth_m > NEAREST_M
    # compared as floats: a point near the image plane projects beyond the range of integers
    seen[seen] = ((pixels[seen] >= 0) & (pixels[seen] < (width_px, height_px))).all(axis=1)
    order = np.flatnonzero(seen)
    order = order[np.argsort(-depth_m[order])]
    column, row = pixels[order].astype(int).T
    focal_px = np.linalg.norm(projection[0, :3])
    sides = np.clip(focal_px * POINT_SIZE_M / depth_m[order], *POINT_SIDES_PX).astype(int)
    colours = PALETTE_RGB[occupancy.labels[order]]
    painted = canvas.copy()
    # far to near in a few layers of equal size: within a layer numpy keeps the last, nearest value
    for side in range(POINT_SIDES_PX[0], POINT_SIDES_PX[1] + 1):
        chosen = sides == side
        for down in range(side):
            for right in range(side):
                rows = np.clip(row[chosen] + down - side // 2, 0, height_px - 1)
                columns = np.clip(column[chosen] + right - side // 2, 0, width_px - 1)
                painted[rows, columns] = colours[chosen]
    return cv2.addWeighted(painted, POINT_OPACITY, canvas, 1.0 - POINT_OPACITY, 0.0)


def birds_eye_uri(scene: SceneMaterial) -> str:
    """Grid and occupancy from above, forward up, left left, as a ``data:`` address (PNG with transparency)."""
    x0, y0, _, x1, y1, _ = RANGE_M
    height_px, width_px = round((x1 - x0) * BIRDS_EYE_PX_PER_M), round((y1 - y0) * BIRDS_EYE_PX_PER_M)
    canvas = np.zeros((height_px, width_px, 4), np.uint8)
    if scene.grid is not None:
        info = scene.grid.info
        cells = np.asarray(scene.grid.data, np.int8).reshape(info.height, info.width)
        colours = np.zeros((*cells.shape, 4), np.uint8)
        colours[cells == 0] = GROUND_RGBA
        colours[cells > 50] = OBSTACLE_RGBA
        # rows run along y (left), columns along x (forward)
        canvas = cv2.resize(_forward_up(colours), (width_px, height_px), interpolation=cv2.INTER_NEAREST)
    if scene.occupancy is not None:
        points, labels = scene.occupancy.points_ego, scene.occupancy.labels
        order = np.argsort(points[:, 2])  # the highest point of a place is the one seen from above
        row = ((x1 - points[order, 0]) * BIRDS_EYE_PX_PER_M).astype(int)
        column = ((y1 - points[order, 1]) * BIRDS_EYE_PX_PER_M).astype(int)
        for down in (0, 1):
            for right in (0, 1):
                rows, columns = np.clip(row + down, 0, height_px - 1), np.clip(column + right, 0, width_px - 1)
                canvas[rows, columns, :3] = PALETTE_RGB[labels[order]]
                canvas[rows, columns, 3] = 255
    _, data = cv2.imencode('.png', cv2.cvtColor(canvas, cv2.COLOR_RGBA2BGRA), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    return _uri('png', data)


def _forward_up(cells: np.ndarray) -> np.ndarray:
    """Cells [y, x, ...] of an OccupancyGrid (x forward, y left) to picture rows [-x, -y, ...]."""
    return np.swapaxes(cells, 0, 1)[::-1, ::-1]


def trajectory_lines(scene: SceneMaterial) -> dict[str, Any] | None:
    """Candidates and chosen trajectory as SVG point lists, metres, in the ego frame of the scene, forward up.

    Returns:
        ``candidates`` (points, score, feasible, chosen), ``points`` and ``dots`` of the trajectory itself; None
        without a trajectory or a pose.
    """
    if scene.trajectory is None or scene.ego_from_odom is None:
        return None
    chosen = scene.trajectory.chosen
    candidates = [
        {
            'points': _svg_points(_positions(candidate.points, scene.ego_from_odom)),
            'score': float(candidate.score),
            'feasible': bool(candidate.feasible),
            'chosen': number == chosen,
        }
        for number, candidate in enumerate(scene.trajectory.candidates)
    ]
    positions = _positions(scene.trajectory.points, scene.ego_from_odom)
    return {'candidates': candidates, 'points': _svg_points(positions), 'dots': [_svg_xy(xy) for xy in positions]}


def _positions(points: Any, ego_from_odom: np.ndarray) -> np.ndarray:
    """Positions [N, 2] in the ego frame, with the vehicle's own first; metres."""
    xyz_odom = np.array([[p.pose.position.x, p.pose.position.y, p.pose.position.z] for p in points]).reshape(-1, 3)
    return np.vstack([np.zeros((1, 2)), transform_points(ego_from_odom, xyz_odom)[:, :2]])


def _svg_xy(xy_ego: np.ndarray) -> tuple[float, float]:
    """Forward is up and left is left: SVG x runs right, y down."""
    return round(-float(xy_ego[1]), 2), round(-float(xy_ego[0]), 2)


def _svg_points(positions: np.ndarray) -> str:
    return ' '.join('{},{}'.format(*_svg_xy(xy)) for xy in positions)


def _uri(kind: str, data: np.ndarray) -> str:
    return f'data:image/{kind};base64,{base64.b64encode(data.tobytes()).decode()}'
