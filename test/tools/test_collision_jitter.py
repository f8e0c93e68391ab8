"""A driven path collides nowhere; a few millimetres are told by what they change."""

import collision_jitter as tool
import pytest

from sparseoccvla_ros.world.files.writer import WorldRequest, write_world


@pytest.fixture(scope='module')
def street(tmp_path_factory):
    root = tmp_path_factory.mktemp('world') / 'data'
    write_world(root, WorldRequest(1, 0, 64, 32, 2, 5.0, None), 1, lambda _: None)
    return root


def shown(capsys, monkeypatch, street, offset_m):
    """{(path, side): shares} as printed."""
    monkeypatch.setenv('COLUMNS', '120')
    monkeypatch.setattr('sys.argv', ['', '--data', str(street), '--offset-m', offset_m])
    tool.main()
    lines = [[cell.strip() for cell in line.split('│')[1:-1]] for line in capsys.readouterr().out.splitlines()]
    return {tuple(cells[:2]): [float(cell) for cell in cells[2:]] for cells in lines if cells}


def test_the_driven_path_is_free_where_it_is(capsys, monkeypatch, street):
    found = shown(capsys, monkeypatch, street, '0.003')
    assert len(found) == 6
    assert found['driven', ''] == [0.0] * 4
    for protocol in (1, 3):  # vad and omnidrive draw no edge there
        assert found['driven', 'left'][protocol] == found['driven', 'right'][protocol] == 0.0


def test_far_beside_the_street_things_are_hit(capsys, monkeypatch, street):
    found = shown(capsys, monkeypatch, street, '4.0')
    assert max(found['driven', 'left'] + found['driven', 'right']) > 0.0
