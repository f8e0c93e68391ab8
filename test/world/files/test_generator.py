from pathlib import Path

import pytest

from sparseoccvla_ros.world.files.generator import digest_of, generator_version

FILES = {'a.py': 'one', 'room/b.py': 'two'}


def tree(folder: Path, files: dict[str, str]) -> dict[str, Path]:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return {'code/*.py': folder}


def test_the_version_is_that_of_the_sources_wherever_they_lie(tmp_path):
    one = digest_of(tree(tmp_path / 'one', FILES))
    assert one == digest_of(tree(tmp_path / 'two', {**FILES, '__pycache__/a.pyc': 'x', 'notes.txt': 'x'}))
    assert len(generator_version()) == len(one) == 16


@pytest.mark.parametrize(
    'files',
    [
        {'a.py': 'one ', 'room/b.py': 'two'},
        {'a.py': 'one', 'b.py': 'two'},
        {'a.py': 'two', 'room/b.py': 'one'},
        {'a.py': 'one'},
        {**FILES, 'room/c.py': ''},
    ],
)
def test_every_edit_gives_another_version(tmp_path, files):
    assert digest_of(tree(tmp_path / 'one', FILES)) != digest_of(tree(tmp_path / 'two', files))
