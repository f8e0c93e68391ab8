"""SceneStatus: what perception made of a camera set."""

from __future__ import annotations

from collections.abc import Mapping

from sparseoccvla_ros.msg import SceneStatus
from sparseoccvla_ros.nodes.conversions.basic import header_from
from sparseoccvla_ros.runtime.scene import SceneQueries
from sparseoccvla_ros.sensors.camera import SurroundView


def status_message(
    view: SurroundView, scene: SceneQueries | None, reason: str, drops: Mapping[str, int], frame_id: str
) -> SceneStatus:
    """SceneStatus of a set; ``scene`` is None and ``reason`` says why where it was not accepted."""
    stage_ms = scene.stage_ms if scene is not None else {}
    return SceneStatus(
        header=header_from(view.stamp_ns, frame_id),
        accepted=scene is not None,
        reason=reason,
        degraded=scene is not None and bool(view.missing),
        temporal=scene is not None and scene.temporal,
        cameras_used=[camera.name for camera in view.views],
        cameras_missing=list(view.missing),
        missing_reasons=list(view.missing.values()),
        stages=list(stage_ms),
        stage_ms=list(map(float, stage_ms.values())),
        drop_reasons=list(drops),
        drop_counts=list(drops.values()),
    )
