"""Import of released OPUS checkpoints: small ones of the real form, and what must not be imported."""

import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from sparseoccvla_ros.model.checkpoint import CheckpointError
from sparseoccvla_ros.model.config import config_to_yaml, load_model_config
from sparseoccvla_ros.model.occupancy_encoder import OccupancyEncoder
from sparseoccvla_ros.model.opus import SPACE_BUFFERS, opus_name, opus_perception_name
from sparseoccvla_ros.model.opus_import import import_opus, opus_sizes, read_opus
from sparseoccvla_ros.model.vla import build_perception

STEM, STAGES, DEPTHS, PYRAMID = 8, (16, 32, 32, 64), (2, 1, 2, 1), 16
GROUPS, LEVELS, CLASSES = 4, 4, 17
#: Every size is another one than in the configuration that the import starts from.
QUERIES, WIDTH, POINTS, FRAMES = 24, 48, (1, 2, 4, 4), 3
SAMPLE_POINTS, MIXING_POINTS, HEADS, FFN = 2, 6, 6, 40
BASE = {
    'backbone.stem_width': STEM,
    'backbone.stage_widths': list(STAGES),
    'backbone.depths': list(DEPTHS),
    'backbone.fpn_width': PYRAMID,
    'encoder.queries': 30,
    'encoder.width': 32,
    'encoder.points_per_layer': [1, 4, 8],
    'encoder.groups': GROUPS,
    'encoder.sample_points': 4,
    'encoder.mixing_points': 8,
    'encoder.attention_heads': 4,
    'encoder.ffn_width': 32,
    'image.frames': 2,
    'language.context_length': 256,
}
META = {
    'epoch': 100,
    'mmcv_version': '1.6.0',
    'CLASSES': ('car', 'truck'),
    'PALETTE': [[255, 0, 0]],
    'hook_msgs': {'best_score': np.float64(0.332), 'iter': np.int64(7), 'ratio': np.float32(0.5)},
}


# ---- the released network, by mmdet's names and in plain torch


class Block(nn.Module):
    """A residual block of mmdet's ResNet, 'pytorch' style: the stride sits in the 3 x 3 convolution."""

    def __init__(self, in_width: int, width: int, stride: int, layer_type: str) -> None:
        super().__init__()
        if layer_type == 'bottleneck':
            inner = width // 4
            convolutions = [(in_width, inner, 1, 1), (inner, inner, 3, stride), (inner, width, 1, 1)]
        else:
            convolutions = [(in_width, width, 3, stride), (width, width, 3, 1)]
        self.count = len(convolutions)
        for k, (a, b, kernel, step) in enumerate(convolutions, 1):
            setattr(self, f'conv{k}', nn.Conv2d(a, b, kernel, step, kernel // 2, bias=False))
            setattr(self, f'bn{k}', nn.BatchNorm2d(b, eps=1e-5))
        self.downsample = None
        if stride != 1 or in_width != width:
            self.downsample = nn.Sequential(nn.Conv2d(in_width, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x):
        y = x
        for k in range(1, self.count + 1):
            y = getattr(self, f'bn{k}')(getattr(self, f'conv{k}')(y))
            y = F.relu(y) if k < self.count else y
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    def __init__(self, layer_type: str) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, STEM, 7, 2, 3, bias=False), nn.BatchNorm2d(STEM)
        in_width = STEM
        for stage, (width, depth) in enumerate(zip(STAGES, DEPTHS, strict=True), 1):
            blocks = []
            for block in range(depth):
                blocks.append(Block(in_width, width, 2 if stage > 1 and block == 0 else 1, layer_type))
                in_width = width
            setattr(self, f'layer{stage}', nn.Sequential(*blocks))

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        stages = []
        for stage in range(1, 5):
            x = getattr(self, f'layer{stage}')(x)
            stages.append(x)
        return stages


class Pyramid(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lateral_convs = nn.ModuleList(nn.ModuleDict({'conv': nn.Conv2d(c, PYRAMID, 1)}) for c in STAGES)
        self.fpn_convs = nn.ModuleList(nn.ModuleDict({'conv': nn.Conv2d(PYRAMID, PYRAMID, 3, 1, 1)}) for _ in STAGES)

    def forward(self, stages):
        laterals = [conv['conv'](stage) for conv, stage in zip(self.lateral_convs, stages, strict=True)]
        for level in (3, 2, 1):
            size = laterals[level - 1].shape[2:]
            laterals[level - 1] = laterals[level - 1] + F.interpolate(laterals[level], size=size, mode='nearest')
        return [conv['conv'](lateral) for conv, lateral in zip(self.fpn_convs, laterals, strict=True)]


def decoder_layer(points_in: int, points_out: int) -> nn.Module:
    C = WIDTH
    mixing = PYRAMID * C // GROUPS + GROUPS * MIXING_POINTS * FRAMES * SAMPLE_POINTS
    attention = nn.ModuleDict({'attn': nn.MultiheadAttention(C, HEADS)})
    return nn.ModuleDict(
        {
            'position_encoder': nn.Sequential(
                nn.Linear(3 * points_in, C), nn.LayerNorm(C), nn.ReLU(), nn.Linear(C, C), nn.LayerNorm(C), nn.ReLU()
            ),
            'self_attn': nn.ModuleDict({'attention': attention, 'gen_tau': nn.Linear(C, HEADS)}),
            'sampling': nn.ModuleDict(
                {
                    'sampling_offset': nn.Linear(C, GROUPS * SAMPLE_POINTS * 3),
                    'scale_weights': nn.Linear(C, GROUPS * SAMPLE_POINTS * LEVELS),
                }
            ),
            'mixing': nn.ModuleDict(
                {'parameter_generator': nn.Linear(C, mixing), 'out_proj': nn.Linear(MIXING_POINTS * C, C)}
            ),
            'ffn': nn.ModuleDict(
                {'layers': nn.Sequential(nn.Sequential(nn.Linear(C, FFN), nn.ReLU()), nn.Linear(FFN, C))}
            ),
            **{f'norm{k}': nn.LayerNorm(C) for k in (1, 2, 3)},
            'cls_branch': nn.Sequential(
                nn.Linear(C, C), nn.LayerNorm(C), nn.ReLU(), nn.Linear(C, C), nn.LayerNorm(C), nn.ReLU(),
                nn.Linear(C, CLASSES * points_out),
            ),
            'reg_branch': nn.Sequential(
                nn.Linear(C, C), nn.ReLU(), nn.Linear(C, C), nn.ReLU(), nn.Linear(C, 3 * points_out)
            ),
        }
    )  # fmt: skip


class Released(nn.Module):
    def __init__(self, layer_type: str) -> None:
        super().__init__()
        self.img_backbone, self.img_neck = ResNet(layer_type), Pyramid()
        layers = nn.ModuleList(decoder_layer(a, b) for a, b in zip((1, *POINTS), POINTS, strict=False))
        decoder = nn.ModuleDict({'decoder': nn.ModuleDict({'decoder_layers': layers})})
        head = nn.ModuleDict({'transformer': decoder, 'init_points': nn.Embedding(QUERIES, 3)})
        head.register_buffer('pc_range', torch.tensor([-40.0, -40.0, -1.0, 40.0, 40.0, 5.4]))
        head.register_buffer('scene_size', torch.tensor([80.0, 80.0, 6.4]))
        head.register_buffer('voxel_size', torch.tensor([0.4, 0.4, 0.4]))
        head.register_buffer('voxel_num', torch.tensor([200, 200, 16]))
        self.pts_bbox_head = head

    def features(self, images_bgr):
        """Images uint8 [N, H, W, 3] BGR to pyramid levels, normalized by the numbers of the released configurations."""
        rgb = images_bgr.flip(-1).to(self.img_backbone.conv1.weight.dtype)
        pixels = (rgb - rgb.new_tensor([123.675, 116.28, 103.53])) / rgb.new_tensor([58.395, 57.12, 57.375])
        return self.img_neck(self.img_backbone(pixels.permute(0, 3, 1, 2)))


def released(layer_type: str) -> Released:
    """With a value of its own in every place, batch statistics included."""
    torch.manual_seed(0)
    model = Released(layer_type).eval()
    for k, module in enumerate(m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(module.weight, 0.5, 1.5)
        nn.init.normal_(module.bias)
        nn.init.normal_(module.running_mean)
        nn.init.uniform_(module.running_var, 0.5, 1.5)
        module.num_batches_tracked.fill_(k + 1)
    return model


@pytest.fixture(scope='module', params=['bottleneck', 'basic'])
def model(request) -> Released:
    return released(request.param)


@pytest.fixture(scope='module')
def state() -> OrderedDict:
    return released('bottleneck').state_dict()


def base_config(folder, layer_type='bottleneck', **overrides):
    path = folder / f'base-{layer_type}.yaml'
    values = {**BASE, 'backbone.layer_type': layer_type, **overrides}
    path.write_text(config_to_yaml(load_model_config('tiny', values)))
    return path


@pytest.fixture
def base(tmp_path):
    return base_config(tmp_path)


def checkpoint(folder, state, **beside):
    path = folder / 'opus.pth'
    torch.save({'meta': META, 'state_dict': state, **beside}, path)
    return path


# ---- what is imported


@pytest.fixture(scope='module')
def imported(model, tmp_path_factory):
    """(the released network, folder of the imported checkpoint, what the import said)."""
    folder = tmp_path_factory.mktemp('import')
    layer_type = 'bottleneck' if hasattr(model.img_backbone.layer1[0], 'conv3') else 'basic'
    optimizer = {'state': {0: {'exp_avg': torch.ones(3)}}, 'param_groups': [{'lr': 2e-4, 'params': [0]}]}
    path = checkpoint(folder, model.state_dict(), optimizer=optimizer)
    return model, folder / 'out', import_opus(path, folder / 'out', base_config(folder, layer_type))


def test_every_tensor_arrives_bit_equal(imported):
    model, out, done = imported
    theirs = model.state_dict()
    ours = load_file(out / 'model.safetensors')
    assert len(ours) == len(theirs) - len(SPACE_BUFFERS) == done.tensors
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[opus_perception_name(name.removeprefix('perception.'))]), name
    assert done.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert done.left_out == ('meta', 'optimizer')
    assert done.notes == ()


def test_features_are_those_of_the_released_network(imported):
    """Stride, padding, batch norm, pyramid and normalization, at a size that does not divide by the strides."""
    model, out, _ = imported
    perception = build_perception(load_model_config(out / 'config.yaml'), weights=out).double()
    rgb = torch.randint(0, 256, (2, 72, 104, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        ours = perception.extract(rgb)
        theirs = model.double().features(rgb.flip(-1))
    model.float()
    assert [tuple(level.shape[2:]) for level in ours] == [(18, 26), (9, 13), (5, 7), (3, 4)]
    for a, b in zip(ours, theirs, strict=True):
        # our buffers hold the normalization in float32
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_configuration_has_the_checkpoints_sizes_and_choices(imported):
    _, out, done = imported
    config = load_model_config(out / 'config.yaml')
    assert config == done.config
    encoder = config.encoder
    assert (config.name, config.precision, config.image.frames) == ('tiny-opus', 'fp32', FRAMES)
    assert (encoder.queries, encoder.width, encoder.points_per_layer) == (QUERIES, WIDTH, POINTS)
    assert (encoder.groups, encoder.sample_points, encoder.mixing_points) == (GROUPS, SAMPLE_POINTS, MIXING_POINTS)
    assert (encoder.attention_heads, encoder.ffn_width) == (HEADS, FFN)
    assert (encoder.level_weights, encoder.unseen_points, encoder.shared_points) == ('opus', 'view0', 'first')
    assert encoder.spread == 'unbiased'


@pytest.mark.parametrize(
    ('ours', 'theirs'),
    [
        ('backbone.resnet.embedder.embedder.convolution.weight', 'img_backbone.conv1.weight'),
        ('backbone.resnet.embedder.embedder.normalization.running_var', 'img_backbone.bn1.running_var'),
        ('backbone.resnet.encoder.stages.2.layers.5.layer.1.convolution.weight', 'img_backbone.layer3.5.conv2.weight'),
        ('backbone.resnet.encoder.stages.3.layers.0.layer.2.normalization.bias', 'img_backbone.layer4.0.bn3.bias'),
        (
            'backbone.resnet.encoder.stages.0.layers.0.shortcut.convolution.weight',
            'img_backbone.layer1.0.downsample.0.weight',
        ),
        (
            'backbone.resnet.encoder.stages.0.layers.0.shortcut.normalization.num_batches_tracked',
            'img_backbone.layer1.0.downsample.1.num_batches_tracked',
        ),
        ('backbone.pyramid.lateral_convs.3.bias', 'img_neck.lateral_convs.3.conv.bias'),
        ('backbone.pyramid.fpn_convs.0.weight', 'img_neck.fpn_convs.0.conv.weight'),
        ('encoder.init_points.weight', 'pts_bbox_head.init_points.weight'),
        (
            'encoder.layers.5.self_attn.in_proj.bias',
            'pts_bbox_head.transformer.decoder.decoder_layers.5.self_attn.attention.attn.in_proj_bias',
        ),
        (
            'encoder.layers.11.ffn.2.weight',
            'pts_bbox_head.transformer.decoder.decoder_layers.11.ffn.layers.1.weight',
        ),
    ],
)
def test_names(ours, theirs):
    assert opus_perception_name(ours) == theirs


def test_name_of_no_part():
    with pytest.raises(ValueError, match=r"'backbone\.resnet\.pooler\.x' is no weight of the perception"):
        opus_perception_name('backbone.resnet.pooler.x')


@pytest.mark.parametrize(
    ('queries', 'sample_points', 'points'),
    [
        (600, 4, [1, 4, 16, 32, 64, 128]),
        (1200, 2, [1, 4, 8, 16, 32, 64]),
        (2400, 2, [1, 2, 4, 8, 16, 32]),
        (4800, 2, [1, 2, 4, 8, 16, 16]),
    ],
    ids=['OPUS-T', 'OPUS-S', 'OPUS-M', 'OPUS-L'],
)
def test_sizes_of_the_released_models(queries, sample_points, points):
    """Numbers of the public configurations; OPUS-L needs a longer context than Vicuna's."""
    overrides = {
        'encoder.queries': queries,
        'encoder.sample_points': sample_points,
        'encoder.points_per_layer': points,
        'language.context_length': 8296 if queries == 4800 else 4096,
    }
    config = load_model_config('full', overrides)
    with torch.device('meta'):
        encoder = OccupancyEncoder(config.encoder, config.image, config.space, config.backbone.fpn_width, LEVELS)
    shapes = {opus_name(name): tuple(tensor.shape) for name, tensor in encoder.state_dict().items()}
    sizes = opus_sizes(shapes, load_model_config('full'))
    assert load_model_config('full', sizes) == config
    assert ('language.context_length' in sizes) == (queries == 4800)


def test_bare_state_dict_in_half_precision(state, base, tmp_path):
    path = tmp_path / 'bare.pth'
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    half.update({name: state[name] for name in SPACE_BUFFERS})
    torch.save(half, path)
    assert import_opus(path, tmp_path / 'out', base).left_out == ()
    for name, tensor in load_file(tmp_path / 'out' / 'model.safetensors').items():
        stored = half[opus_perception_name(name.removeprefix('perception.'))]
        assert tensor.dtype == (torch.float32 if stored.is_floating_point() else torch.int64)
        assert torch.equal(tensor, stored.to(tensor.dtype)), name


def test_more_queries_than_the_context_holds(state, tmp_path):
    path = checkpoint(tmp_path, {**state, 'pts_bbox_head.init_points.weight': torch.rand(256, 3)})
    done = import_opus(path, tmp_path / 'out', base_config(tmp_path))
    assert done.config.language.context_length == 256 + 256 - 30
    (note,) = done.notes
    assert note.startswith('language.context_length 256 does not hold 256 queries, 482 is written')


def test_another_space_is_imported_into_its_configuration(state, tmp_path):
    wide = {'space.range_m': [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0], 'space.voxel_m': 0.8}
    values = ([-51.2, -51.2, -5.0, 51.2, 51.2, 3.0], [102.4, 102.4, 8.0], [0.8, 0.8, 0.8], [128, 128, 10])
    space = {name: torch.tensor(value) for name, value in zip(SPACE_BUFFERS, values, strict=True)}
    path = checkpoint(tmp_path, {**state, **space})
    assert import_opus(path, tmp_path / 'out', base_config(tmp_path, **wide)).config.space.voxel_m == 0.8


def test_full_normalizes_as_opus_does():
    image = load_model_config('full').image
    assert [255 * value for value in image.mean] == pytest.approx([123.675, 116.28, 103.53], abs=1e-9)
    assert [255 * value for value in image.std] == pytest.approx([58.395, 57.12, 57.375], abs=1e-9)
    # of 1600 x 900: scaled by 0.44 to 704 x 396, the top 140 rows cut
    assert (image.width_px, image.height_px, image.frames, image.frame_interval_s) == (704, 256, 8, 0.5)


# ---- what is refused: nothing is written then

LAYER1 = 'pts_bbox_head.transformer.decoder.decoder_layers.1.'


def drop(*names):
    return lambda state: {name: tensor for name, tensor in state.items() if name not in names}


def put(name, tensor):
    return lambda state: {**state, name: tensor}


def nan_in(name):
    return lambda state: {**state, name: torch.full_like(state[name], float('nan'))}


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (drop('img_backbone.layer3.1.bn2.num_batches_tracked'), '1 missing: img_backbone.layer3.1.bn2.num_batches_'),
        (drop(f'{LAYER1}reg_branch.4.weight'), f'1 missing: {LAYER1}reg_branch.4.weight'),
        (drop('pts_bbox_head.voxel_num'), '1 missing: pts_bbox_head.voxel_num'),
        (put('pts_bbox_head.code_weights', torch.ones(8)), '1 unexpected: pts_bbox_head.code_weights'),
        (
            put('img_neck.lateral_convs.0.conv.bias', torch.ones(17)),
            '1 of wrong shape: img_neck.lateral_convs.0.conv.bias (expected [16], found [17])',
        ),
        (
            put('img_backbone.bn1.bias', torch.ones(8, dtype=torch.int64)),
            '1 of wrong type: img_backbone.bn1.bias (expected torch.float32, found torch.int64)',
        ),
        (nan_in(f'{LAYER1}norm1.bias'), f'1 not finite: {LAYER1}norm1.bias'),
        (
            put('pts_bbox_head.pc_range', torch.tensor([-51.2, -51.2, -5.0, 51.2, 51.2, 3.0])),
            '1 of wrong value: pts_bbox_head.pc_range (expected [-40.0, -40.0, -1.0, 40.0, 40.0, 5.4], found [-51.2,',
        ),
        (
            put('pts_bbox_head.voxel_size', torch.tensor([0.4, 0.4, 0.2])),
            'pts_bbox_head.voxel_size (expected [0.4, 0.4, 0.4], found [0.4, 0.4, 0.2])',
        ),
        (
            put('pts_bbox_head.voxel_num', torch.tensor([200, 200, 15])),
            'pts_bbox_head.voxel_num (expected [200, 200, 16], found [200, 200, 15])',
        ),
        (put(f'{LAYER1}reg_branch.4.weight', torch.ones(24, WIDTH)), 'must be positive and never fall'),
    ],
    ids=lambda value: value if isinstance(value, str) else '',
)
def test_what_does_not_fit_is_refused(state, base, tmp_path, change, message):
    with pytest.raises(CheckpointError) as refused:
        import_opus(checkpoint(tmp_path, change(state)), tmp_path / 'out', base)
    assert 'does not fit' in str(refused.value)
    assert message in str(refused.value)
    assert not (tmp_path / 'out').exists()


def test_all_kinds_come_in_one_bounded_message(state, base, tmp_path):
    """A checkpoint of some other network: the message counts everything and shows a few of each."""
    foreign = {f'bbox_head.{k}.weight': torch.zeros(1) for k in range(1000)}
    kept = {name: tensor for name, tensor in state.items() if name.startswith('img_neck')}
    kept['img_neck.fpn_convs.0.conv.bias'] = torch.zeros(3)
    with pytest.raises(CheckpointError) as refused:
        import_opus(checkpoint(tmp_path, {**kept, **foreign}), tmp_path / 'out', base)
    message = str(refused.value)
    assert ' missing: ' in message
    assert '; 1000 unexpected: bbox_head.0.weight, ' in message
    assert '; 1 of wrong shape: img_neck.fpn_convs.0.conv.bias' in message
    assert len(message) < 2000


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ([1, 2], 'expected a state dict, found list'),
        ({'state_dict': 3}, 'expected a state dict, found int'),
        ({'state_dict': {'a': torch.zeros(1), 'b': 'text'}}, "expected names and tensors, found str at 'b'"),
        ({'state_dict': {7: torch.zeros(1)}}, 'expected names and tensors, found Tensor at 7'),
        ({'epoch': 3}, "expected names and tensors, found int at 'epoch'"),
        ({'state_dict': {'a': torch.eye(2).to_sparse()}}, "found Tensor at 'a'"),
    ],
    ids=str,
)
def test_contents_of_another_form(tmp_path, content, message):
    torch.save(content, tmp_path / 'opus.pth')
    with pytest.raises(CheckpointError) as refused:
        read_opus(tmp_path / 'opus.pth')
    assert message in str(refused.value)


def test_file_that_is_cut_short_or_no_checkpoint(state, base, tmp_path):
    path = checkpoint(tmp_path, state)
    whole = path.read_bytes()
    for content in (b'', whole[:10], whole[: len(whole) // 2], whole[:-1], b'<html>quota exceeded</html>', b'PK\3\4'):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r'opus\.pth is damaged or no PyTorch checkpoint: .'):
            import_opus(path, tmp_path / 'out', base)
    with pytest.raises(FileNotFoundError, match='is no file'):
        import_opus(tmp_path, tmp_path / 'out', base)
    assert not (tmp_path / 'out').exists()


class RunsCode:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder) -> None:
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_code_in_the_file_is_refused_and_not_run(state, base, tmp_path):
    trap = tmp_path / 'trap'
    path = checkpoint(tmp_path, state, hooks=RunsCode(trap))
    with pytest.raises(CheckpointError, match=r'may run code when loaded \(.*\.mkdir\); only tensors and plain'):
        import_opus(path, tmp_path / 'out', base)
    # without the zip around it, as PyTorch before 1.6 and plain pickle write
    path.write_bytes(pickle.dumps({'state_dict': {}, 'meta': RunsCode(trap)}))
    with pytest.raises(CheckpointError, match='no PyTorch checkpoint'):
        import_opus(path, tmp_path / 'out', base)
    assert not trap.exists()
    assert not (tmp_path / 'out').exists()


def test_code_that_the_listing_misses_is_not_run_either(state, tmp_path, monkeypatch):
    """Torch's listing of unsafe names is static, and may miss what is put together while loading."""
    monkeypatch.setattr('torch.serialization.get_unsafe_globals_in_checkpoint', lambda _path: [])
    with pytest.raises(CheckpointError, match='is damaged or no PyTorch checkpoint: Weights only load failed'):
        read_opus(checkpoint(tmp_path, state, hooks=RunsCode(tmp_path / 'trap')))
    assert not (tmp_path / 'trap').exists()


@pytest.mark.parametrize('name', ['model.safetensors', 'config.yaml'])
def test_nothing_is_overwritten(state, base, tmp_path, name):
    out = tmp_path / 'out'
    out.mkdir()
    (out / name).write_text('mine')
    with pytest.raises(CheckpointError, match=f'{name} is there already; nothing is overwritten'):
        import_opus(checkpoint(tmp_path, state), out, base)
    assert [path.name for path in out.iterdir()] == [name]
    assert (out / name).read_text() == 'mine'
