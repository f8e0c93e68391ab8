import pytest
import torch
from typer.testing import CliRunner

from sparseoccvla_ros.cli.main import app
from sparseoccvla_ros.model.config import config_to_yaml, load_model_config
from sparseoccvla_ros.model.opus import SPACE_BUFFERS, opus_perception_name
from sparseoccvla_ros.model.vla import build_perception

SMALL = {
    'backbone.stage_widths': [8, 8, 16, 16],
    'backbone.fpn_width': 16,
    'encoder.queries': 10,
    'encoder.points_per_layer': [1, 4],
    'encoder.width': 16,
}


@pytest.fixture
def run(tmp_path):
    """Runs ``import opus`` on ``opus.pth`` with the small configuration as its base."""

    def invoke(*arguments):
        paths = [str(tmp_path / name) for name in ('opus.pth', 'out', 'base.yaml')]
        return CliRunner().invoke(
            app, ['import', 'opus', paths[0], '--out', paths[1], '--config', paths[2], *arguments]
        )

    return invoke


@pytest.fixture(autouse=True)
def written(tmp_path):
    """A checkpoint of the released form; returns its state dict."""
    config = load_model_config('tiny', SMALL)
    (tmp_path / 'base.yaml').write_text(config_to_yaml(config))
    weights = build_perception(config, weights=None).state_dict()
    state = {opus_perception_name(name): tensor for name, tensor in weights.items()}
    space = ([-40.0, -40.0, -1.0, 40.0, 40.0, 5.4], [80.0, 80.0, 6.4], [0.4, 0.4, 0.4], [200, 200, 16])
    state.update({name: torch.tensor(values) for name, values in zip(SPACE_BUFFERS, space, strict=True)})
    torch.save({'meta': {'epoch': 100}, 'state_dict': state, 'optimizer': {}}, tmp_path / 'opus.pth')
    return state


def test_it_says_what_it_wrote_and_how_to_use_it(run, tmp_path, written):
    result = run()

    out = tmp_path / 'out'
    assert result.exit_code == 0, result.output
    assert f'{out}: {len(written) - 4} tensors, ' in result.stdout
    assert ' parameters; 10 queries, 2 layers with 1, 4 points, 2 frames\n' in result.stdout
    assert 'not imported: meta, optimizer\n' in result.stdout
    assert f'perception node: weights: {out}, model_config: {out}/config.yaml,\n' in result.stdout
    assert (
        'cameras: [CAM_FRONT, CAM_FRONT_RIGHT, CAM_FRONT_LEFT, CAM_BACK, CAM_BACK_LEFT, CAM_BACK_RIGHT]'
        in result.stdout
    )
    # what it says to do: the two paths are all that the perception takes
    config = load_model_config(str(out / 'config.yaml'))
    assert len(build_perception(config, weights=out).state_dict()) == len(written) - 4


def test_what_is_wrong_comes_in_one_line(run, tmp_path):
    def error_of(result):
        assert result.exit_code == 2
        assert result.stdout == ''
        assert result.stderr.count('\n') == 1
        return result.stderr

    (tmp_path / 'bad.yaml').write_text('name: [\n')
    assert 'bad.yaml: while parsing a flow node ' in error_of(run('--config', str(tmp_path / 'bad.yaml')))
    assert "no model configuration 'huge'; known: full, tiny" in error_of(run('--config', 'huge'))
    assert 'error: ' in error_of(run('--out', str(tmp_path / 'opus.pth')))
    assert 'does not fit tiny: ' in error_of(run('--config', 'tiny'))
    assert not (tmp_path / 'out').exists()

    assert run().exit_code == 0
    assert 'model.safetensors is there already; nothing is overwritten' in error_of(run())
    (tmp_path / 'opus.pth').write_bytes(b'not a checkpoint')
    assert 'is damaged or no PyTorch checkpoint' in error_of(run('--out', str(tmp_path / 'other')))
