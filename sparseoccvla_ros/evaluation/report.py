"""``report.html`` of a replay: one file, no script, nothing loaded from elsewhere."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from sparseoccvla_ros.data.occ3d import CLASS_NAMES, PALETTE_RGB
from sparseoccvla_ros.data.topics import TopicPreset
from sparseoccvla_ros.evaluation.bag_input import ReplaySet
from sparseoccvla_ros.evaluation.replay_summary import SENSOR_TO_TRAJECTORY, ReplayOutputs
from sparseoccvla_ros.evaluation.report_scenes import SceneMaterial, collect_scenes
from sparseoccvla_ros.evaluation.scene_figures import (
    EGO_BACK_M,
    EGO_FRONT_M,
    EGO_HALF_WIDTH_M,
    birds_eye_uri,
    camera_picture_uri,
    trajectory_lines,
)

SHOWN_SCENES = 6
COMMANDS = ('right', 'left', 'straight')  # DrivingCommand's constants
NS_PER_S = 1e9


def write_report(
    path: Path,
    *,
    input_bag: Path,
    output_bag: Path,
    preset: TopicPreset,
    sets: Sequence[ReplaySet],
    outputs: ReplayOutputs,
    summary: Mapping[str, Any],
) -> None:
    """Write the report of a finished replay.

    Args:
        path: the HTML file.
        input_bag: the bag that was played: pictures, calibration, poses.
        output_bag: what the stack published: occupancy, grid, trajectories.
        preset: topics and frames of ``input_bag``.
        sets: its camera sets.
        outputs: statuses and trajectories of ``output_bag``.
        summary: the replay's summary.
    """
    asked = [answer['scene_stamp_ns'] for answer in summary['answers'] if answer['success']]
    shown = shown_sets([entry for entry in sets if entry.stamp_ns in outputs.accepted], asked)
    scenes = collect_scenes(input_bag, output_bag, preset, shown, outputs.trajectories)
    path.write_text(render_report(scenes, sets, outputs, summary), encoding='utf-8')


def shown_sets(accepted: Sequence[ReplaySet], asked_stamps_ns: Sequence[int]) -> list[ReplaySet]:
    """About ``SHOWN_SCENES`` of the sets: those that questions were asked about, the rest spread over the run."""
    asked = [entry for entry in accepted if entry.stamp_ns in asked_stamps_ns][:SHOWN_SCENES]
    others = [entry for entry in accepted if entry not in asked]
    places = np.linspace(0, len(others) - 1, min(len(others), SHOWN_SCENES - len(asked))).round().astype(int)
    return sorted([*asked, *(others[place] for place in places)], key=lambda entry: entry.stamp_ns)


def render_report(
    scenes: Sequence[SceneMaterial],
    sets: Sequence[ReplaySet],
    outputs: ReplayOutputs,
    summary: Mapping[str, Any],
) -> str:
    """The report's HTML. Every text is escaped: answers, reasons and names come from outside."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    start_ns = min((entry.stamp_ns for entry in sets), default=0)
    slowest_ms = max((row['p99'] for row in summary['latency_ms'].values()), default=1.0)
    return environment.get_template('report.html.j2').render(
        summary=summary,
        config=summary['config'],
        tiles=_tiles(summary, len(sets)),
        untrained=str(summary['config'].get('model', {}).get('weights', '')).startswith('untrained'),
        strip=[_strip_cell(number, entry, outputs, start_ns) for number, entry in enumerate(sets)],
        answers=[
            {**answer, 'time_s': (answer['scene_stamp_ns'] - start_ns) / NS_PER_S} for answer in summary['answers']
        ],
        reasons=_reasons(outputs),
        scenes=[_scene(scene, _number_of(scene, sets), start_ns, summary['answers']) for scene in scenes],
        scale_ms=slowest_ms,
        ego={'x': -EGO_HALF_WIDTH_M, 'y': -EGO_FRONT_M, 'w': 2 * EGO_HALF_WIDTH_M, 'h': EGO_FRONT_M - EGO_BACK_M},
        config_text=json.dumps(summary['config'], indent=2),
    )


def _tiles(summary: Mapping[str, Any], sets: int) -> list[tuple[str, str]]:
    answers = summary['answers']
    whole = summary['latency_ms'].get(SENSOR_TO_TRAJECTORY)
    tiles = [
        (f'{summary["scenes"]}', f'scenes of {sets} camera sets'),
        (f'{summary["trajectories"]}', 'trajectories'),
        (f'{summary["valid_trajectories"]}', 'of them valid'),
        (f'{sum(answer["success"] for answer in answers)}', f'answers to {len(answers)} questions'),
    ]
    if whole:
        tiles.append((f'{whole["p50"]:.0f} ms', 'sensor to trajectory, median'))
    return tiles


def _strip_cell(number: int, entry: ReplaySet, outputs: ReplayOutputs, start_ns: int) -> dict[str, str]:
    """One cell of the run's strip: what became of a set."""
    status, trajectory = outputs.statuses.get(entry.stamp_ns), outputs.trajectories.get(entry.stamp_ns)
    if status is None:
        state, text = 'lost', 'no scene status'
    elif not status.accepted:
        state, text = 'refused', status.reason
    elif trajectory is None:
        state, text = 'lost', 'no trajectory'
    elif trajectory.valid:
        state, text = 'valid', 'valid trajectory'
    else:
        state, text = 'invalid', '; '.join(trajectory.reasons)
    return {'state': state, 'text': f'set {number + 1}, {(entry.stamp_ns - start_ns) / NS_PER_S:.2f} s: {text}'}


def _reasons(outputs: ReplayOutputs) -> list[tuple[str, int]]:
    """Why trajectories were invalid, most frequent first. Figures inside a reason (``at 2.31 s``) differ each time, so
    reasons are counted by the part before the first colon.
    """
    counts: Counter[str] = Counter()
    for trajectory in outputs.trajectories.values():
        if not trajectory.valid:
            counts.update({reason.split(':')[0].strip() for reason in trajectory.reasons})
    return counts.most_common()


def _number_of(scene: SceneMaterial, sets: Sequence[ReplaySet]) -> int:
    return next(number for number, entry in enumerate(sets, 1) if entry.stamp_ns == scene.stamp_ns)


def _scene(scene: SceneMaterial, number: int, start_ns: int, answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    trajectory = scene.trajectory
    labels = np.unique(scene.occupancy.labels) if scene.occupancy is not None else ()
    return {
        'number': number,
        'time_s': (scene.stamp_ns - start_ns) / NS_PER_S,
        'stamp_ns': scene.stamp_ns,
        'pictures': [
            (camera, camera_picture_uri(scene.pictures[camera], scene.occupancy)) for camera in _seated(scene.pictures)
        ],
        'points': len(scene.occupancy.labels) if scene.occupancy is not None else 0,
        'birds_eye': birds_eye_uri(scene),
        'lines': trajectory_lines(scene),
        'legend': [(CLASS_NAMES[label], '#{:02x}{:02x}{:02x}'.format(*PALETTE_RGB[label])) for label in labels],
        'command': COMMANDS[trajectory.command] if trajectory is not None else '',
        'command_source': trajectory.command_source if trajectory is not None else '',
        'valid': bool(trajectory.valid) if trajectory is not None else False,
        'reasons': list(trajectory.reasons) if trajectory is not None else ['no trajectory'],
        'answers': [answer for answer in answers if answer['scene_stamp_ns'] == scene.stamp_ns and answer['success']],
    }


def _seated(cameras: Iterable[str]) -> list[str]:
    """Cameras as one sees them sitting in the car.

    The rig's order runs clockwise, so the second half (behind) is turned round to have what is left on the left.
    """
    names = list(cameras)
    half = (len(names) + 1) // 2
    return names[:half] + names[half:][::-1]
