"""``sparseoccvla eval language`` as a user calls it."""

import json

import pytest
from typer.testing import CliRunner

from sparseoccvla_ros.cli.main import app
from sparseoccvla_ros.data.qa.world import load_world
from sparseoccvla_ros.evaluation import tokenization
from sparseoccvla_ros.model.config import config_to_yaml, load_model_config
from sparseoccvla_ros.world.files.tables import VERSION
from sparseoccvla_ros.world.files.writer import WorldRequest, write_world


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp('world') / 'data'
    write_world(root, WorldRequest(1, 0, 176, 64, 2, 1.0, None), 1)
    return root


@pytest.fixture(scope='module')
def pairs(world):
    return load_world(world / 'questions' / 'pairs', 'train').pairs


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp('model') / 'small.yaml'
    path.write_text(config_to_yaml(load_model_config('tiny', {'image.width_px': 64, 'image.height_px': 32})))
    return path


@pytest.fixture
def no_java(monkeypatch):
    monkeypatch.setattr(tokenization.shutil, 'which', lambda program: None)


def call(world, *more, questions='world'):
    fixed = ['eval', 'language', '--data', str(world), '--questions', questions, '--split', 'train']
    return CliRunner().invoke(app, [*fixed, *map(str, more)], terminal_width=200)


def predictions(tmp_path, pairs):
    path = tmp_path / 'answers.json'
    entries = [{'sample_token': p.sample_token, 'question': p.question, 'answer': p.answer} for p in pairs]
    path.write_text(json.dumps(entries))
    return path


def test_perfect_answers_of_a_file(world, pairs, no_java, tmp_path):
    out = tmp_path / 'new' / 'scores.json'
    result = call(world, '--predictions', predictions(tmp_path, pairs), '--json', out)
    assert result.exit_code == 0, result.output
    stored = json.loads(out.read_text())
    assert (stored['questions'], stored['missing'], stored['set']) == (len(pairs), 0, 'world')
    assert stored['scores']['exact_match'] == 1.0
    assert stored['scores']['ROUGE_L'] == pytest.approx(1.0)
    assert stored['scores']['METEOR'] is None
    assert set(stored['by_kind']) == {pair.kind for pair in pairs}
    assert all(score['without_value'] == 0 for score in stored['numeric'].values())
    assert stored['tokenizer'] == 'simple'
    assert 'warning: no java in PATH' in result.stderr
    assert 'protocol all, tokenizer simple' in result.stdout
    assert 'no METEOR: METEOR is a Java program' in result.stdout
    assert stored['intervals'] == {}
    assert 'no intervals: they need at least 2 known scenes with scores, found 1' in result.stdout


def test_intervals_over_scenes(pairs, no_java, tmp_path):
    """The keyframes are of two scenes by the table; answers of the second are missing."""
    tokens = list(dict.fromkeys(pair.sample_token for pair in pairs))
    data, out = tmp_path / 'data', tmp_path / 'scores.json'
    for pair in pairs:
        path = data / 'conv' / 'train' / f'{pair.sample_token}.json'
        path.parent.mkdir(parents=True, exist_ok=True)
        own = [{'question': p.question, 'answer': p.answer} for p in pairs if p.sample_token == pair.sample_token]
        path.write_text(json.dumps(own))
    (data / VERSION).mkdir()
    rows = [{'token': token, 'scene_token': f'scene {number}'} for number, token in enumerate(tokens)]
    (data / VERSION / 'sample.json').write_text(json.dumps(rows))
    file = predictions(tmp_path, [pair for pair in pairs if pair.sample_token == tokens[0]])
    asking = ['--predictions', file, '--version', VERSION, '--bootstrap', 60, '--json', out, '--allow-failures']
    result = call(data, *asking, questions='omnidrive')
    assert result.exit_code == 0, result.output
    stored = json.loads(out.read_text())
    assert len(tokens) == stored['bootstrap']['scenes'] == 2
    assert stored['intervals']['exact_match'] == stored['intervals']['by_kind/conv/exact_match'] == [0.0, 1.0]
    for name in ('Bleu_4', 'ROUGE_L', 'CIDEr'):
        low, high = stored['intervals'][name]
        assert low < 1e-6 < stored['scores'][name] < high
    assert 'METEOR' not in stored['intervals']
    shown = f'{100 * stored["scores"]["exact_match"]:.2f} [0.00, 100.00]'
    assert shown in next(line for line in result.stdout.splitlines() if 'all' in line and 'protocol' not in line)
    (data / VERSION / 'sample.json').write_text(json.dumps(rows[:1]))
    result = call(data, *asking, questions='omnidrive')
    assert result.exit_code == 2
    assert f'has no keyframe {tokens[1]}' in result.output


def test_missing_answers_count_as_wrong_and_fail_the_run(world, pairs, no_java, tmp_path):
    file, out = predictions(tmp_path, pairs[: len(pairs) // 2]), tmp_path / 'scores.json'
    result = call(world, '--predictions', file, '--json', out)
    assert result.exit_code == 1
    stored = json.loads(out.read_text())
    assert stored['missing'] == len(pairs) - len(pairs) // 2
    assert stored['scores']['exact_match'] == pytest.approx(len(pairs) // 2 / len(pairs))
    assert call(world, '--predictions', file, '--allow-failures').exit_code == 0


def test_answers_beside_somebody_elses(world, pairs, no_java, tmp_path):
    """Here every second of the own answers is missing, and none of the others'."""
    own, others = tmp_path / 'own', tmp_path / 'others'
    for folder in (own, others):
        folder.mkdir()
    file, out = predictions(own, pairs[::2]), tmp_path / 'scores.json'
    asking = ['--predictions', file, '--compare', predictions(others, pairs), '--json', out, '--allow-failures']
    result = call(world, *asking)
    assert result.exit_code == 0, result.output
    against = json.loads(out.read_text())['against']
    share = len(pairs[::2]) / len(pairs)
    assert against['exact_match']['own'] == pytest.approx(share)
    assert (against['exact_match']['other'], against['exact_match']['ratio']) == (1.0, pytest.approx(share))
    assert {f'by_kind/{pair.kind}/exact_match' for pair in pairs} < against.keys()
    assert any(name.startswith('numeric/position') for name in against)
    assert f'exact_match: {100 * share:.2f} %, {100 * (share - 1.0):+.2f}, {share:.2f} times' in result.stdout


def test_a_model_is_asked_and_its_answers_can_be_scored_again(world, no_java, model, tmp_path):
    out, saved, again = tmp_path / 'scores.json', tmp_path / 'answers.json', tmp_path / 'again.json'
    asking = ['--model', model, '--version', VERSION, '--threads', 1, '--max-tokens', 4, '--limit', 3]
    result = call(world, *asking, '--json', out, '--save-predictions', saved, '--allow-failures')
    assert result.exit_code == 0, result.output
    stored = json.loads(out.read_text())
    assert (stored['questions'], stored['weights'], stored['scenes']) == (3, 'untrained', ['scene-0001'])
    assert stored['missing'] == len(stored['failures'])
    assert len(json.loads(saved.read_text())) == 3 - stored['missing']
    result = call(world, '--predictions', saved, '--limit', 3, '--json', again, '--allow-failures')
    assert result.exit_code == 0, result.output
    repeated = json.loads(again.read_text())
    for name in ('scores', 'by_kind', 'numeric', 'questions', 'missing'):
        assert repeated[name] == stored[name]


@pytest.mark.drivelm
def test_drivelm(drivelm_dir, no_java, tmp_path):
    from sparseoccvla_ros.data.qa.drivelm import load_drivelm

    found = load_drivelm(drivelm_dir / 'qa.json')
    asking = ['--questions', 'drivelm', '--qa', drivelm_dir / 'qa.json', '--json', tmp_path / 'scores.json']
    result = call(drivelm_dir, *asking, '--predictions', predictions(tmp_path, found.pairs))
    assert result.exit_code == 0, result.output
    stored = json.loads((tmp_path / 'scores.json').read_text())
    assert {kind: row['questions'] for kind, row in stored['by_kind'].items()} == found.kinds()
    assert stored['drivelm']['accuracy'] == 1.0
    assert stored['drivelm']['tags'] == 'by the rule of extract_data.py, without multiple choice'
    assert 'GPT' in stored['drivelm']['left_out']
    assert 'DriveLM (tags by the rule' in result.stdout


@pytest.mark.parametrize(
    ('more', 'message'),
    [
        ([], 'give either --predictions or --model'),
        (['--predictions', 'a.json', '--model', 'tiny'], 'give either --predictions or --model'),
        (['--predictions', 'a.json'], 'cannot read a.json: No such file'),
        (['--predictions', 'a.json', '--questions', 'lingoqa'], "one of omnidrive, drivelm, world, got 'lingoqa'"),
        (['--predictions', 'a.json', '--scene', 'scene-0001'], '--scene and --scenes-file belong to --model'),
        (['--predictions', 'a.json', '--tokenizer', 'words'], 'tokenizer must be one of auto, ptb, simple, whitespace'),
        (['--predictions', 'a.json', '--split', 'val'], 'no question is left to score'),
        (['--predictions', 'a.json', '--protocol', 'gpt'], "one of all, hermes, got 'gpt'"),
        (['--model', 'tiny', '--version', 'v0'], 'is not a folder'),
        (['--model', 'tiny', '--version', VERSION, '--scene', 'scene-9'], '1 scenes are not in v1.0-world'),
        (['--model', 'tiny', '--version', VERSION, '--weights', 'nowhere'], "weights is 'nowhere'"),
        (['--model', 'tiny', '--version', VERSION, '--cameras', 'CAM_TOP'], "no keyframe has 'CAM_TOP'"),
        (['--predictions', 'a.json', '--json', '/'], '/ is a folder'),
    ],
)
def test_wrong_requests_are_refused_in_one_line(world, no_java, more, message):
    result = call(world, *more)
    assert result.exit_code == 2
    assert message in result.output
    assert 'Traceback' not in result.output


def test_ptb_without_java_is_refused(world, pairs, no_java, tmp_path):
    result = call(world, '--predictions', predictions(tmp_path, pairs), '--tokenizer', 'ptb')
    assert result.exit_code == 2
    assert 'the PTB tokenizer needs Java' in result.output
