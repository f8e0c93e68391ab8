#!/usr/bin/env python3
"""Writes constraints.txt: the versions of what our pinned requirements pull in, for every supported Python.

Run it after a change of a requirements file, with one interpreter per supported minor version:

    tools/lock.py python3.10 python3.11 python3.12 python3.13

Nothing is installed: pip resolves (``--dry-run``) and reports. It needs network and takes a minute or two.
"""

import argparse
import json
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ('requirements-ros-kilted.txt', 'requirements.txt', 'requirements-dev.txt')

# torch pins the CUDA packages that belong to it, and a CPU build of torch has none
LEFT_TO_TORCH = re.compile(r'nvidia-.*|cuda-.*|triton')

HEADER = """\
# Versions of indirect dependencies, written by tools/lock.py: do not edit by hand.
"""


def normalized(name: str) -> str:
    """Package name as PyPI compares it."""
    return re.sub(r'[-_.]+', '-', name).lower()


def direct_names() -> set[str]:
    """Names that a requirements file pins itself."""
    lines = [line for file in REQUIREMENTS for line in (ROOT / file).read_text().splitlines()]
    return {normalized(re.split(r'[\[<>=!;\s]', line)[0]) for line in lines if line and not line.startswith('#')}


def resolve(python: str) -> tuple[str, dict[str, str]]:
    """(minor version of the interpreter, package -> version that pip would install)."""
    arguments = [argument for file in REQUIREMENTS for argument in ('-r', str(ROOT / file))]
    command = [python, '-m', 'pip', 'install', '--quiet', '--dry-run', '--ignore-installed', '--report', '-']
    output = subprocess.run([*command, *arguments], check=True, capture_output=True, text=True).stdout
    report = json.loads(output[output.index('{') :])
    version = '.'.join(report['environment']['python_full_version'].split('.')[:2])
    packages = {normalized(item['metadata']['name']): item['metadata']['version'] for item in report['install']}
    return version, packages


def constraints(resolved: dict[str, dict[str, str]]) -> list[str]:
    """One line per package and version; a marker where not every Python takes that version."""
    pinned = direct_names()
    lines = []
    for name in sorted(set().union(*resolved.values()) - pinned):
        if LEFT_TO_TORCH.fullmatch(name):
            continue
        pythons_by_version: dict[str, list[str]] = {}
        for python, packages in resolved.items():
            if name in packages:
                pythons_by_version.setdefault(packages[name].split('+')[0], []).append(python)
        for version, pythons in pythons_by_version.items():
            marker = ' or '.join(f'python_version == "{python}"' for python in pythons)
            everywhere = len(pythons) == len(resolved)
            lines.append(f'{name}=={version}' if everywhere else f'{name}=={version}; {marker}')
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('python', nargs='+', help='one interpreter per supported minor version')
    resolved = dict(sorted(resolve(python) for python in parser.parse_args().python))
    lines = constraints(resolved)
    (ROOT / 'constraints.txt').write_text(HEADER + '\n'.join(lines) + '\n')
    print(f'constraints.txt: {len(lines)} pins for Python {", ".join(resolved)}')


if __name__ == '__main__':
    main()
