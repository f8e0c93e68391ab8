"""The page's tables hold what `eval --json` wrote, and nothing of two different models stands side by side."""

import json
import shutil

import pytest
import results_tables as tool
from typer.testing import CliRunner

from sparseoccvla_ros.cli.main import app
from sparseoccvla_ros.model.config import config_to_yaml, load_model_config
from sparseoccvla_ros.world.files.tables import VERSION
from sparseoccvla_ros.world.files.writer import WorldRequest, write_world


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """What the four commands say of an untrained model of small images, on two scenes of ten keyframes."""
    root = tmp_path_factory.mktemp('results')
    data, train, model, out = root / 'data', root / 'train', root / 'small.yaml', root / 'own_world'
    write_world(data, WorldRequest(2, 0, 64, 32, 2, 5.0, None), 1, lambda _: None)
    write_world(train, WorldRequest(1, 9, 64, 32, 2, 5.0, None), 1, lambda _: None)
    changes = {'image.width_px': 64, 'image.height_px': 32, 'language.layers': 1}
    model.write_text(config_to_yaml(load_model_config('tiny', changes)))
    asked = ['--questions', 'world', '--split', 'all', '--limit', '40', '--max-tokens', '2']
    more = {
        'occupancy': ['--constant-from', train],
        'forecast': [],
        'planning': ['--baselines-from', train],
        'language': [*asked, '--compare', out / 'others.json'],
    }
    out.mkdir()
    (out / 'others.json').write_text('[]')
    for name, arguments in more.items():
        common = ['--data', data, '--version', VERSION, '--model', model, '--threads', 1, '--bootstrap', 50]
        common += ['--json', out / f'{name}.json']
        result = CliRunner().invoke(app, ['eval', name, *map(str, [*common, *arguments])])
        assert result.exit_code == 0, result.output
    return out


@pytest.fixture
def page(tmp_path, monkeypatch):
    page = tmp_path / 'results.md'
    page.write_text(f'# Results\n\n{tool.BEGIN}\nof yesterday\n{tool.END}\n\nthe end\n')
    monkeypatch.setattr(tool, 'PAGE', page)
    return page


def write(monkeypatch, *folders):
    monkeypatch.setattr('sys.argv', ['', *map(str, folders)])
    tool.main()


def rows_of(text):
    """{(first cells): the others} of all tables."""
    rows = [[cell.strip() for cell in line.strip('| ').split('|')] for line in text.splitlines() if line[:1] == '|']
    return {tuple(row[:2]): row[2:] for row in rows}


def shown(value, ends, factor=100.0):
    """As the page writes a share, or with ``factor`` 1 a length."""
    text = f'{factor * value:.2f}'
    return text if ends is None else f'{text} [{factor * ends[0]:.2f}, {factor * ends[1]:.2f}]'


def test_figures_are_those_of_the_files(folder, page, monkeypatch):
    write(monkeypatch, folder)
    text = page.read_text()
    assert text.startswith('# Results\n\n<!-- results: begin -->\n## Own world\n')
    assert text.endswith('<!-- results: end -->\n\nthe end\n')
    assert 'of yesterday' not in text
    occupancy, forecast, language, planning = (
        json.loads((folder / f'{name}.json').read_text()) for name in ('occupancy', 'forecast', 'language', 'planning')
    )
    tables = rows_of(text)

    for score in ('camera_mask/miou', 'camera_mask/geometric_iou', 'camera_mask/iou/car', 'rayiou/mean'):
        columns = [occupancy, *occupancy['constants'].values()]
        cells = next([second, *rest] for (first, second), rest in tables.items() if first == score)
        assert cells == [shown(one['scores'][score], one['intervals'][score]) for one in columns]
    row, ends = (forecast[part]['current_ego']['no_mask']['forecast'] for part in ('scores', 'intervals'))
    names = [f'geometric_iou/{time}s' for time in (1, 2, 3)]
    assert tables['no_mask/geometric_iou', '`forecast`'] == [shown(row[name], ends[name]) for name in names]
    for name, scores in planning['scores'].items():
        for measure, unit, factor in (('l2', 'm', 1.0), ('collision', '%', 100.0)):
            for protocol in ('stp3', 'uniad') if measure == 'l2' else ('stp3', 'uniad', 'vad', 'omnidrive'):
                of = [f'{protocol}/{measure}/{time}' for time in ('1s', '2s', '3s', 'mean_1_2_3s')]
                cells = [shown(scores[one], planning['intervals'][name][one], factor) for one in of]
                assert tables[f'{protocol}, {measure}, {unit}', f'`{name}`'] == [*cells, str(scores['missing'])]
    own = language['scores']['exact_match'], language['intervals']['exact_match']
    assert tables['all, exact', '40'] == [shown(*own), '0.00', '-']
    assert language['numeric']
    for kind, numeric in language['numeric'].items():
        for name, value in numeric['shares'].items():
            cells = tables[f'{kind}, {name}'.replace('_', ' '), str(numeric['questions'])]
            assert cells == [shown(value, language['intervals'].get(f'numeric/{kind}/{name}')), '0.00', '-']


def test_intervals_and_comparisons_are_in_the_unit_of_the_value():
    assert tool.figure(0.25, [0.2, 0.305]) == '25.00 [20.00, 30.50]'
    assert tool.figure(None, None) == '-'
    own = {'difference': -0.05, 'difference_interval': [-0.1, 0.02], 'ratio': 0.5, 'ratio_interval': [0.3, 0.9]}
    assert tool.compared(own) == '-5.00 % [-10.00, +2.00], 0.50 [0.30, 0.90] times'
    assert tool.compared(own | {'ratio': None}, 1.0, 3, ' m') == '-0.050 m [-0.100, +0.020]'


@pytest.mark.parametrize('key', ['weights', 'data'])
def test_files_of_different_models_or_data_are_refused(folder, page, monkeypatch, tmp_path, key):
    own = tmp_path / 'mixed'
    shutil.copytree(folder, own)
    file = own / 'planning.json'
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: 'another'}))
    before = page.read_text()
    with pytest.raises(SystemExit, match=f'planning.json has {key} another'):
        write(monkeypatch, own)
    assert page.read_text() == before


def test_sources_of_different_revisions_are_told(folder, page, monkeypatch, tmp_path):
    own = tmp_path / 'mixed'
    shutil.copytree(folder, own)
    file = own / 'planning.json'
    file.write_text(json.dumps(json.loads(file.read_text()) | {'revision': 'another'}))
    write(monkeypatch, own)
    here = json.loads((own / 'forecast.json').read_text())['revision']
    assert f'forecast `{here}`, language `{here}`, planning `another`.' in page.read_text()


def test_a_page_without_the_place_for_tables_is_left_as_it_is(folder, page, monkeypatch):
    page.write_text('# Results\n')
    with pytest.raises(SystemExit, match='results: begin'):
        write(monkeypatch, folder)
    assert page.read_text() == '# Results\n'
