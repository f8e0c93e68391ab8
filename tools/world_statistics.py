#!/usr/bin/env python3
"""What a written data set of the synthetic world holds, and whether that is what was asked of it.

    .venv/bin/python tools/world_statistics.py DATA [--version v1.0-world] [--workers 2] [--json FILE]

Reads tables, label files, CAN bus, ego states and questions; knows nothing of the generator. Prints Markdown tables and
a verdict for each requirement; exit code 1 if one is missed, 2 if the data set cannot be read.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from world_measures.dataset import Measures, Recording, measure
from world_measures.occupancy import BESIDE_M
from world_measures.questions import SPLITS, KindFigures, Pair, counts, kind_figures, overlaps, read_pairs
from world_measures.table import Table, Verdict, percent, spread

from sparseoccvla_ros.data.nuscenes import NuScenesError
from sparseoccvla_ros.data.occ3d import CLASS_NAMES, Occ3DError
from sparseoccvla_ros.planning.vehicle import VehicleLimits, load_vehicle_limits

#: Length, width and middle before the ego frame's origin of the ego's box, metres.
EGO_BOX_M = (4.08, 1.73, 1.3)
CLASS_SCENES, CLASS_VOXELS, ANSWER_PRIOR = 0.2, 0.0005, 0.25
#: Of poses of two files at the same time, metres: what rounding and interpolation leave.
AGREE_M = 0.01
SIDE_M = 2.0
#: Curvature of what is neither straight nor a turn at a junction.
BEND_1PM = (1.0 / 300.0, 1.0 / 20.0)
BEGIN, END = '<!-- statistics: begin -->', '<!-- statistics: end -->'


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('data', type=Path)
    parser.add_argument('--version', default='v1.0-world')
    parser.add_argument('--workers', type=int, default=2)
    parser.add_argument('--json', type=Path, help='write tables and verdicts here, too')
    parser.add_argument('--page', type=Path, help='put them between the markers of this Markdown page, too')
    arguments = parser.parse_args()
    try:
        measures = measure(
            arguments.data,
            arguments.version,
            EGO_BOX_M,
            arguments.workers,
            lambda name: print(f'\r{name}', end='', file=sys.stderr, flush=True),
        )
        pairs = read_pairs(arguments.data)
    except (NuScenesError, Occ3DError, OSError, KeyError, ValueError) as error:
        print(f'{arguments.data}: {error}', file=sys.stderr)
        return 2
    print(file=sys.stderr)
    figures = kind_figures(pairs)
    tables = [*world_tables(measures), *question_tables(pairs, figures)]
    verdicts = [*world_verdicts(measures, load_vehicle_limits()), *question_verdicts(pairs, figures)]
    judged = '\n'.join(['### Verdicts', '', *(f'- {verdict.line()}' for verdict in verdicts)])
    text = '\n\n'.join([judged, *(table.markdown() for table in tables)])
    print(text)
    if arguments.page is not None:
        arguments.page.write_text(with_statistics(arguments.page.read_text(), text))
    if arguments.json is not None:
        content = {
            'tables': [dataclasses.asdict(table) for table in tables],
            'verdicts': [dataclasses.asdict(verdict) for verdict in verdicts],
        }
        arguments.json.write_text(json.dumps(content, indent=1))
    return 0 if all(verdict.met for verdict in verdicts) else 1


def with_statistics(page: str, text: str) -> str:
    """The page with what is between the markers replaced.

    Raises:
        ValueError: the page has no markers.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f'the page lacks {BEGIN} or {END}')
    return f'{before}{BEGIN}\n\n{text}\n\n{END}{after}'


def class_shares(measures: Measures) -> tuple[np.ndarray, np.ndarray]:
    """By class [17]: share of scenes in which a camera sees a voxel of it, and of all visible occupied voxels."""
    visible = np.stack([scene.voxels.visible.sum(axis=0) for scene in measures.scenes])
    return (visible > 0).mean(axis=0), visible.sum(axis=0) / max(visible.sum(), 1)


def world_tables(measures: Measures) -> list[Table]:
    """Classes, scenes, boxes and motion."""
    return [
        _classes(measures),
        _scenes(measures),
        _boxes(measures),
        _manoeuvres(measures),
        _kept_promises(measures),
        _motion(measures),
        _surroundings(measures),
    ]


def world_verdicts(measures: Measures, limits: VehicleLimits) -> list[Verdict]:
    """Requirements on classes, contacts and the ego's motion."""
    in_scenes, of_voxels = class_shares(measures)
    rarest, least = int(in_scenes.argmin()), int(of_voxels.argmin())
    contacts = [contact for scene in measures.scenes for contact in scene.contacts]
    agents = [contact for contact in contacts if 'ego' not in (contact.first, contact.second)]
    hits = [contact for contact in contacts if 'ego' in (contact.first, contact.second)]
    buried = [
        f'{scene.name} keyframe {number}' for scene in measures.scenes for number in np.flatnonzero(scene.voxels.in_ego)
    ]
    apart_m = max(max(scene.recording.apart_m, scene.recording.future_apart_m) for scene in measures.scenes)
    return [
        Verdict(
            f'every class in >= {percent(CLASS_SCENES)} of the scenes',
            f'least {CLASS_NAMES[rarest]} in {percent(in_scenes[rarest])}' + _below(in_scenes, CLASS_SCENES),
            bool(in_scenes.min() >= CLASS_SCENES),
        ),
        Verdict(
            f'every class in >= {percent(CLASS_VOXELS)} of the visible occupied voxels',
            f'least {CLASS_NAMES[least]} with {percent(of_voxels[least])}' + _below(of_voxels, CLASS_VOXELS),
            bool(of_voxels.min() >= CLASS_VOXELS),
        ),
        Verdict('no two boxes overlap at a keyframe', _named(agents), not agents),
        Verdict('no box overlaps the ego, checked every 0.1 s', _named(hits), not hits),
        Verdict(
            "no obstacle voxel in the ego's footprint",
            f'{len(buried)} keyframes{_listed(buried)}',
            not buried,
        ),
        *_limit_verdicts(measures, limits),
        Verdict(
            f'poses of images, CAN bus and targets agree within {AGREE_M:g} m',
            f'greatest difference {apart_m:.4f} m',
            apart_m <= AGREE_M,
        ),
    ]


def question_tables(pairs: Sequence[Pair], figures: Sequence[KindFigures]) -> list[Table]:
    """Types with their priors, counts, and what val shares with train."""
    kinds = tuple(
        (
            item.kind,
            item.split,
            str(item.pairs),
            str(item.wordings),
            str(item.answers),
            f'{percent(item.answer_share)} {_short(item.top_answer)}',
            f'{percent(item.key_share)} {_short(item.top_key)}',
        )
        for item in figures
    )
    shared = tuple(
        (item.what, str(item.val), str(item.shared), percent(item.shared / max(item.val, 1)))
        for item in overlaps(pairs)
    )
    numbers = tuple(
        (split, *(str(counts(pairs, split).get(str(number), 0)) for number in range(5))) for split in SPLITS
    )
    columns = ('type', 'split', 'pairs', 'wordings', 'answers', 'most frequent answer', 'most frequent key')
    return [
        Table(f'Questions: {len(pairs)} pairs', columns, kinds),
        Table('Answers of counting questions', ('split', '0', '1', '2', '3', '4'), numbers),
        Table('What val shares with train', ('distinct', 'in val', 'also in train', 'share'), shared),
    ]


def question_verdicts(pairs: Sequence[Pair], figures: Sequence[KindFigures]) -> list[Verdict]:
    """Requirements on priors and on the splits."""
    if not figures:
        return [Verdict('questions with answers', 'no questions/pairs/*.jsonl', False)]
    answer = max(figures, key=lambda item: item.answer_share)
    key = max(figures, key=lambda item: item.key_share)
    shared = {item.what: item for item in overlaps(pairs)}
    numbers = {number for split in SPLITS for number in counts(pairs, split)}
    apart = (shared['scenes'], shared['templates'], shared['wordings (slots open)'])
    return [
        Verdict(
            f'no answer of a type and split above {percent(ANSWER_PRIOR)}',
            f'{answer.kind}, {answer.split}: {percent(answer.answer_share)} of {answer.pairs} '
            f'{_short(answer.top_answer)}',
            answer.answer_share <= ANSWER_PRIOR,
        ),
        Verdict(
            f'no key of a type and split above {percent(ANSWER_PRIOR)}',
            f'{key.kind}, {key.split}: {percent(key.key_share)} of {key.pairs} {_short(key.top_key)}',
            key.key_share <= ANSWER_PRIOR,
        ),
        Verdict(
            'val shares no scene, template or wording with train',
            ', '.join(f'{item.shared} of {item.val} {item.what}' for item in apart),
            not any(item.shared for item in apart) and shared['scenes'].val > 0,
        ),
        Verdict('counts from 0 to 4', ', '.join(sorted(numbers)) or 'none', numbers <= set('01234') and bool(numbers)),
    ]


def _limit_verdicts(measures: Measures, limits: VehicleLimits) -> list[Verdict]:
    """The ego against config/vehicle/default.yaml, by both sources of poses."""
    motions = [motion for scene in measures.scenes for motion in (scene.recording.can_bus, scene.recording.camera)]
    bus = [scene.recording.can_bus for scene in measures.scenes]
    extremes = [
        ('speed', max(m.speed_mps.max() for m in motions), limits.max_speed_mps, 'm/s'),
        ('speed backwards', max(-m.speed_mps.min() for m in motions), limits.max_reverse_speed_mps, 'm/s'),
        ('acceleration', max(m.acceleration_mps2.max() for m in motions), limits.max_accel_mps2, 'm/s^2'),
        ('deceleration', max(-m.acceleration_mps2.min() for m in motions), limits.max_decel_mps2, 'm/s^2'),
        ('acceleration to the side', max(np.abs(m.lateral_mps2).max() for m in motions),
         limits.max_lateral_accel_mps2, 'm/s^2'),
        ('jerk', max(np.abs(m.jerk_mps3).max() for m in bus), limits.max_jerk_mps3, 'm/s^3'),
        ('curvature', max(np.abs(m.curvature_1pm).max(initial=0.0) for m in bus), limits.max_curvature_1pm, '1/m'),
    ]  # fmt: skip
    return [
        Verdict(f"ego's {name} <= {limit:g} {unit}", f'{max(0.0, value):.2f} {unit}', bool(value <= limit))
        for name, value, limit, unit in extremes
    ]


def _classes(measures: Measures) -> Table:
    in_scenes, of_voxels = class_shares(measures)
    boxes = sum((scene.boxes for scene in measures.scenes), Counter())
    rows = []
    for label, name in enumerate(CLASS_NAMES):
        boxed = np.mean([scene.boxes[name] > 0 for scene in measures.scenes]) if boxes[name] else None
        rows.append(
            (
                name,
                percent(in_scenes[label]),
                percent(of_voxels[label]),
                str(boxes[name]) if boxed is not None else '',
                percent(boxed) if boxed is not None else '',
            )
        )
    columns = ('class', 'scenes that show it', 'visible occupied voxels', 'boxes', 'scenes with a box')
    return Table(f'Classes in {len(measures.scenes)} scenes', columns, tuple(rows))


def _scenes(measures: Measures) -> Table:
    rows = []
    for title, place in (('town', 0), ('time of day', 1), ('weather', 2), ('street', 3), ('manoeuvre', 4)):
        values = Counter(_described(scene.description)[place] for scene in measures.scenes)
        rows += [(title, value, percent(number / len(measures.scenes))) for value, number in values.most_common()]
    return Table('Scenes by their descriptions', ('what', 'value', 'scenes'), tuple(rows))


def _described(description: str) -> tuple[str, str, str, str, str]:
    """'oldtown, dusk, fog: bending street, 1 lane each way, turn left' in its five parts."""
    look, _, rest = description.partition(': ')
    town, time_of_day, weather = (part.strip() for part in look.split(','))
    bend, lanes, manoeuvre = rest.split(', ', maxsplit=2)
    return town, time_of_day, weather, f'{bend}, {lanes}', manoeuvre


def _boxes(measures: Measures) -> Table:
    scenes = measures.scenes
    in_boxes = [points for scene in scenes for points in scene.lidar_in_boxes]
    total = max(sum(measures.attributes.values()), 1)
    rows = [
        ('boxes a keyframe', spread([number for scene in scenes for number in scene.boxes_per_keyframe], 0)),
        ('LiDAR points a sweep', spread([points for scene in scenes for points in scene.lidar_points], 0)),
        ('LiDAR points in a box', spread(in_boxes, 0)),
        ('boxes without a LiDAR point', percent(float(np.mean(np.array(in_boxes) == 0))) if in_boxes else '-'),
        *(
            (f'boxes with attribute {name}', percent(number / total))
            for name, number in sorted(measures.attributes.items())
        ),
    ]
    return Table('Boxes and LiDAR: median (5th to 95th percentile), shares', ('what', 'value'), tuple(rows))


def _manoeuvres(measures: Measures) -> Table:
    recordings = [scene.recording for scene in measures.scenes]
    commands = sum((recording.commands for recording in recordings), Counter())
    ends_m = np.concatenate([recording.future_end_m for recording in recordings])
    acts = {
        'turn left at a junction': [item.manoeuvres.turns_left for item in recordings],
        'turn right at a junction': [item.manoeuvres.turns_right for item in recordings],
        'stop, then stand more than 1 s': [item.manoeuvres.stops for item in recordings],
        'stand more than 1 s, then start': [item.manoeuvres.starts for item in recordings],
    }
    curvature_1pm = np.abs(np.concatenate([recording.can_bus.curvature_1pm for recording in recordings]))
    bending = (curvature_1pm > BEND_1PM[0]) & (curvature_1pm < BEND_1PM[1])
    rows = [
        *(
            (f'keyframes with command {name}', percent(number / commands.total()))
            for name, number in sorted(commands.items())
        ),
        *((f'scenes: {name}', percent(float(np.mean(there)))) for name, there in acts.items()),
        ('moving time on a bend (radius 20 to 300 m)', percent(float(bending.mean()))),
        ('moving time on a tighter turn', percent(float((curvature_1pm >= BEND_1PM[1]).mean()))),
    ]
    if len(ends_m):
        rows += [
            ('3 s later, metres ahead', spread(ends_m[:, 0])),
            ('3 s later, metres to the left', spread(ends_m[:, 1])),
            (f'3 s later more than {SIDE_M:g} m to the left', percent(float((ends_m[:, 1] > SIDE_M).mean()))),
            (f'3 s later more than {SIDE_M:g} m to the right', percent(float((ends_m[:, 1] < -SIDE_M).mean()))),
            ('3 s later less than 1 m away', percent(float((np.abs(ends_m).max(axis=1) < 1.0).mean()))),
        ]
    return Table('Manoeuvres by poses and commands', ('what', 'value'), tuple(rows))


def _kept_promises(measures: Measures) -> Table:
    """What the ego does by its poses in the scenes of each description."""
    groups: dict[str, list[Recording]] = {}
    for scene in measures.scenes:
        groups.setdefault(_described(scene.description)[4], []).append(scene.recording)
    rows = []
    for name, recordings in sorted(groups.items()):
        acts = [recording.manoeuvres for recording in recordings]
        slowest_mps = [recording.can_bus.speed_mps.min() for recording in recordings]
        counts_of = (
            sum(values) for values in zip(*((a.turns_left, a.turns_right, a.stands) for a in acts), strict=True)
        )
        slowest = f'{max(0.0, min(slowest_mps)):.1f} to {max(0.0, max(slowest_mps)):.1f}'
        rows.append((name, str(len(recordings)), *(str(count) for count in counts_of), slowest))
    columns = ('described as', 'scenes', 'turn left', 'turn right', 'stand more than 1 s', 'lowest speed, m/s')
    return Table('Descriptions against poses', columns, tuple(rows))


def _motion(measures: Measures) -> Table:
    bus = [scene.recording.can_bus for scene in measures.scenes]
    speed_mps = np.concatenate([motion.speed_mps for motion in bus])
    lateral_mps2 = np.abs(np.concatenate([motion.lateral_mps2 for motion in bus]))
    curvature_1pm = np.abs(np.concatenate([motion.curvature_1pm for motion in bus]))
    acceleration_mps2 = np.concatenate([motion.acceleration_mps2 for motion in bus])
    yaw_rate = np.abs(np.concatenate([motion.yaw_rate_radps for motion in bus]))
    jerk_mps3 = np.abs(np.concatenate([motion.jerk_mps3 for motion in bus]))
    rows = (
        ('speed, m/s', spread(speed_mps), f'{speed_mps.max():.2f}'),
        ('acceleration, m/s^2', spread(acceleration_mps2, 2), f'{acceleration_mps2.max():.2f}'),
        ('deceleration, m/s^2', '', f'{-acceleration_mps2.min():.2f}'),
        ('acceleration to the side, m/s^2', spread(lateral_mps2, 2), f'{lateral_mps2.max():.2f}'),
        ('yaw rate, rad/s', spread(yaw_rate, 3), f'{yaw_rate.max():.3f}'),
        ('jerk, m/s^3', spread(jerk_mps3, 2), f'{jerk_mps3.max():.2f}'),
        ('curvature, 1/m', spread(curvature_1pm, 3), f'{curvature_1pm.max(initial=0.0):.3f}'),
        ('slip of the rear axle to the side, m/s', '', f'{max(np.abs(m.sideways_mps).max() for m in bus):.3f}'),
        ('stated speed minus that of the poses, m/s', '', f'{_greatest(measures, 0):.3f}'),
        ('stated acceleration minus that of the poses, m/s^2', '', f'{_greatest(measures, 1):.2f}'),
    )
    return Table("The ego's motion by CAN bus poses 0.1 s apart", ('what', 'median (5th to 95th)', 'greatest'), rows)


def _greatest(measures: Measures, which: int) -> float:
    return max(scene.recording.stated_apart[which] for scene in measures.scenes)


def _surroundings(measures: Measures) -> Table:
    beside_m = np.concatenate([scene.voxels.free_beside_m for scene in measures.scenes])
    kerb_m = np.concatenate([scene.voxels.kerb_m for scene in measures.scenes])
    narrow = (beside_m < 1.0).any(axis=1)
    rows = (
        ('metres from the middle of the ego to the right border of the road', spread(kerb_m[np.isfinite(kerb_m)])),
        (f'keyframes without such a border within {BESIDE_M:g} m', percent(float((~np.isfinite(kerb_m)).mean()))),
        ('keyframes with an obstacle less than 1 m beside the ego', percent(float(narrow.mean()))),
        ('keyframes with obstacles less than 2 m beside it on both sides',
         percent(float((beside_m < SIDE_M).all(axis=1).mean()))),
    )  # fmt: skip
    return Table('Beside the ego, by the labels', ('what', 'value'), rows)


def _below(shares: np.ndarray, limit: float) -> str:
    missing = [f'{CLASS_NAMES[label]} {percent(shares[label])}' for label in np.flatnonzero(shares < limit)]
    return f'; below: {", ".join(missing)}' if missing else ''


def _named(contacts: list) -> str:
    found = [f'{item.scene} at {item.time_s:.1f} s {item.first} and {item.second}' for item in contacts]
    return f'{len(found)}{_listed(found)}'


def _listed(found: Sequence[str], most: int = 5) -> str:
    return f': {"; ".join(found[:most])}{", ..." if len(found) > most else ""}' if found else ''


def _short(text: str, longest: int = 48) -> str:
    text = text.replace('|', '/')
    return f'"{text if len(text) <= longest else text[: longest - 3] + "..."}"'


if __name__ == '__main__':
    sys.exit(main())
