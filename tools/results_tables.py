#!/usr/bin/env python3
"""Write the tables of docs/results.md from the files that `sparseoccvla eval ... --json` wrote.

    .venv/bin/python tools/results_tables.py out/results/held_out out/results/held_out_town

Each folder holds occupancy.json, forecast.json, language.json and planning.json of one data set. Nothing is computed
here: figures and 95 % intervals are the files', which must be of the same data and weights; the sources' revisions are
told, one for all or each part's.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

BEGIN, END = '<!-- results: begin -->', '<!-- results: end -->'
PAGE = Path(__file__).resolve().parents[1] / 'docs' / 'results.md'
#: Of a class, in the occupancy table.
CLASS = 'camera_mask/iou/'
#: Of planning: what the table has (L2 of `vad` and `omnidrive` is that of `stp3`), and what is compared.
SHOWN = (('stp3', 'l2'), ('uniad', 'l2'), *((name, 'collision') for name in ('stp3', 'uniad', 'vad', 'omnidrive')))
COMPARED = ('stp3/l2', 'stp3/collision', 'omnidrive/collision')


def main() -> None:
    """Read the folders, replace the part of the page between the markers."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('folders', type=Path, nargs='+', metavar='FOLDER')
    text = '\n\n'.join(section(folder) for folder in parser.parse_args().folders)
    before, begin, rest = PAGE.read_text(encoding='utf-8').partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f'{PAGE} lacks {BEGIN} or {END}')
    PAGE.write_text(f'{before}{BEGIN}\n{text}\n{END}{after}', encoding='utf-8')


def section(folder: Path) -> str:
    """Everything about one data set."""
    read = {
        name: json.loads((folder / f'{name}.json').read_text(encoding='utf-8'))
        for name in ('occupancy', 'forecast', 'language', 'planning')
    }
    data = read['occupancy']
    for name, document in read.items():
        for key in ('data', 'weights'):
            if document[key] != data[key]:
                raise SystemExit(f'{folder}/{name}.json has {key} {document[key]}, occupancy.json {data[key]}')
    revisions = {name: f'`{document["revision"]}`' for name, document in read.items()}
    if len(set(revisions.values())) == 1:
        revision = f'revision {revisions["occupancy"]}'
    else:
        revision = f'revisions: {", ".join(f"{name} {own}" for name, own in revisions.items())}'
    failures = ', '.join(f'{name} {len(document["failures"])}' for name, document in read.items())
    parts = [
        f'## {folder.name.replace("_", " ").capitalize()}',
        f'`{data["data"]}`: {len(data["scenes"])} scenes, {data["keyframes"]} keyframes; weights '
        f'`{data["weights"]}`, {revision}. Keyframes that failed: {failures}.',
        occupancy(data),
        forecast(read['forecast']),
        language(read['language']),
        planning(read['planning']),
    ]
    return '\n\n'.join(parts)


def occupancy(document: dict[str, Any]) -> str:
    """The model beside the constant predictors."""
    columns = {'model': document, **document['constants']}
    names = ['camera_mask/miou', 'camera_mask/geometric_iou', 'no_mask/miou', 'no_mask/geometric_iou',
             'rayiou/1m', 'rayiou/2m', 'rayiou/4m', 'rayiou/mean']  # fmt: skip
    names += [name for name in document['scores'] if name.startswith(CLASS)]
    rows = [
        [name, *(figure(one['scores'][name], one['intervals'].get(name)) for one in columns.values())]
        for name in names
        if document['scores'][name] is not None
    ]
    lines = [
        f'### Occupancy, %, least class probability {document["score_threshold"]:g}',
        table(['', 'model', *(f'constant, {name}' for name in document['constants'])], rows),
    ]
    for name, one in document['constants'].items():
        for score in ('camera_mask/miou', 'camera_mask/geometric_iou'):
            lines.append(f'- {score} against `{name}`: {compared(one["against"][score])}')
    return lines[0] + '\n\n' + lines[1] + '\n\n' + '\n'.join(lines[2:])


def forecast(document: dict[str, Any]) -> str:
    """In the current ego frame, which is what a planner has."""
    scores, ends = document['scores']['current_ego'], document['intervals']['current_ego']
    times = [f'{time_s:g}s' for time_s in document['horizons_s']]
    rows = []
    for mask in scores:
        for measure in ('geometric_iou', 'sparseworld/miou', 'movable_miou'):
            for row in scores[mask]:
                names = [f'{measure}/{time}' for time in times]
                cells = [figure(scores[mask][row].get(name), ends[mask][row].get(name)) for name in names]
                rows.append([f'{mask}/{measure}', f'`{row}`', *cells])
    counted = f'{document["scored"]} of {document["keyframes"]} keyframes have one at every horizon.'
    heading = f'### Forecast, %, current ego frame, least class probability {document["forecast_threshold"]:g}'
    return f'{heading}\n\n{counted}\n\n{table(["", "", *times], rows)}'


def language(document: dict[str, Any]) -> str:
    """By kind, beside the model without eyes."""
    scores, ends, against = document['scores'], document['intervals'], document['against']
    corpus = ', '.join(
        f'{name} {figure(scores[name], ends.get(name), 1.0, 3)}'
        for name in ('CIDEr', 'Bleu_4', 'ROUGE_L', 'METEOR')
        if scores[name] is not None
    )
    shares = [('exact_match', 'all, exact', document['questions'])]
    for kind, row in document['numeric'].items():
        shares += [(f'numeric/{kind}/{name}', f'{kind}, {name}', row['questions']) for name in row['shares']]
    for kind, row in document['by_kind'].items():
        shares.append((f'by_kind/{kind}/exact_match', f'{kind}, exact', row['questions']))
    rows = [
        [
            shown.replace('_', ' '),
            str(count),
            figure(one['own'], ends.get(name)),
            figure(one['other'], None),
            times_of(one),
        ]
        for name, shown, count in shares
        if (one := against.get(name)) is not None
    ]
    return (
        f'### Answers\n\n{document["questions"]} questions, {document["missing"]} without an answer; {corpus} '
        f'(tokenizer `{document["tokenizer"]}`). Shares in %:\n\n'
        f'{table(["", "questions", "model", "without eyes", "times"], rows)}'
    )


def planning(document: dict[str, Any]) -> str:
    """Distances by both protocols that there are, collisions by all of them, baselines beside."""
    rows = []
    for protocol, measure in SHOWN:
        for row, scores in document['scores'].items():
            names = [f'{protocol}/{measure}/{time}' for time in ('1s', '2s', '3s', 'mean_1_2_3s')]
            ends, factor, unit = document['intervals'].get(row, {}), 100.0, '%'
            if measure == 'l2':
                factor, unit = 1.0, 'm'
            cells = [figure(scores[name], ends.get(name), factor) for name in names]
            rows.append([f'{protocol}, {measure}, {unit}', f'`{row}`', *cells, str(scores['missing'])])
    lines = []
    for row, others in document['against'].items():
        for other, scores in others.items():
            l2, collision, fine = (scores[f'{name}/mean_1_2_3s'] for name in COMPARED)
            lines.append(
                f'- `{row}` against `{other}`, means: L2 (stp3) {compared(l2, 1.0, 3, " m")}; '
                f'collision (stp3) {compared(collision)}; collision (omnidrive) {compared(fine)}'
            )
    judged = f'{document["judged"]} of {document["keyframes"]} keyframes have 3 s ahead and a known motion.'
    head = ['', '', '1 s', '2 s', '3 s', 'mean', 'no plan']
    return f'### Planning\n\n{judged}\n\n{table(head, rows)}\n\n' + '\n'.join(lines)


def figure(value: float | None, ends: Sequence[float] | None, factor: float = 100.0, decimals: int = 2) -> str:
    """``value [low, high]``."""
    if value is None:
        return '-'
    shown = f'{factor * value:.{decimals}f}'
    return shown if ends is None else f'{shown} [{", ".join(f"{factor * end:.{decimals}f}" for end in ends)}]'


def times_of(one: dict[str, Any]) -> str:
    """The ratio with its interval."""
    return figure(one['ratio'], one['ratio_interval'], 1.0)


def compared(one: dict[str, Any], factor: float = 100.0, decimals: int = 2, unit: str = ' %') -> str:
    """Difference, and ratio where there is one."""
    ends = one['difference_interval']
    text = f'{factor * one["difference"]:+.{decimals}f}{unit}'
    if ends is not None:
        text += f' [{", ".join(f"{factor * end:+.{decimals}f}" for end in ends)}]'
    return text if one['ratio'] is None else f'{text}, {times_of(one)} times'


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown."""
    lines = [head, ['---'] * len(head), *rows]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


if __name__ == '__main__':
    main()
