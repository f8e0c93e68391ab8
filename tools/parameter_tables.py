"""Write the parameter tables of docs/nodes/*.md from the declarations.

Run after changing a parameter:  .venv/bin/python tools/parameter_tables.py
A test compares the pages with the declarations.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from sparseoccvla_ros.nodes.parameters import PerceptionParameters, PlannerParameters, ReasoningParameters
from sparseoccvla_ros.nodes.simulator_parameters import SimulatorParameters

PAGES = {
    'perception': PerceptionParameters,
    'reasoning': ReasoningParameters,
    'planner': PlannerParameters,
    'simulator': SimulatorParameters,
}
BEGIN, END = '<!-- parameters: begin -->', '<!-- parameters: end -->'


def table(kind: type) -> str:
    """Markdown table of a parameter class."""
    rows = ['| parameter | default | range | meaning |', '|---|---|---|---|']
    for spec in dataclasses.fields(kind):
        default = spec.default if spec.default is not dataclasses.MISSING else spec.default_factory()
        low, high = spec.metadata.get('low'), spec.metadata.get('high')
        limits = '' if low is None else f'{low} .. {high}'
        rows.append(f'| `{spec.name}` | `{json.dumps(default)}` | {limits} | {spec.metadata["description"]} |')
    return '\n'.join(rows)


def with_table(page: str, kind: type) -> str:
    """The page with the text between the markers replaced.

    Raises:
        ValueError: the page has no markers.
    """
    before, marker, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (marker and end):
        raise ValueError(f'the page lacks {BEGIN} or {END}')
    return f'{before}{BEGIN}\n{table(kind)}\n{END}{after}'


if __name__ == '__main__':
    for name, kind in PAGES.items():
        path = Path(__file__).resolve().parents[1] / 'docs' / 'nodes' / f'{name}.md'
        path.write_text(with_table(path.read_text(), kind))
