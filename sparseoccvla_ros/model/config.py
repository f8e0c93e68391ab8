"""What a model is made of: frozen dataclasses, read strictly from YAML.

The device is not part of a model's configuration: it is chosen where the model is run.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from sparseoccvla_ros.data.occ3d import CLASS_NAMES, RANGE_M, VOXEL_M
from sparseoccvla_ros.resources import share_path


def _require_divisible(what: str, value: int, by_what: str, by: int) -> None:
    if by < 1 or value % by:
        raise ValueError(f'{what} ({value}) must be a multiple of {by_what} ({by})')


def _require_positive(config: Any, *names: str) -> None:
    for name in names:
        if not getattr(config, name) > 0:
            raise ValueError(f'{type(config).__name__}.{name} must be positive, got {getattr(config, name)}')


@dataclass(frozen=True)
class ImageConfig:
    """What the backbone is given."""

    #: Width and height of the network's images, pixels.
    width_px: int = 352
    height_px: int = 128
    #: Frames fused by the occupancy encoder, the current one included.
    frames: int = 2
    #: Time between those frames, seconds.
    frame_interval_s: float = 0.5
    #: Normalization of RGB values in 0..1; the defaults are ImageNet's.
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        _require_positive(self, 'width_px', 'height_px', 'frames', 'frame_interval_s')
        if min(self.std) <= 0:
            raise ValueError(f'image.std must be positive, got {self.std}')


@dataclass(frozen=True)
class SpaceConfig:
    """The labelled space, in the ego frame."""

    #: x0, y0, z0, x1, y1, z1, metres.
    range_m: tuple[float, float, float, float, float, float] = RANGE_M
    #: Edge of a voxel, metres.
    voxel_m: float = VOXEL_M
    #: Names of the occupied classes, in label order.
    classes: tuple[str, ...] = CLASS_NAMES

    def __post_init__(self) -> None:
        _require_positive(self, 'voxel_m')
        for axis, low, high in zip('xyz', self.range_m[:3], self.range_m[3:], strict=True):
            if low >= high:
                raise ValueError(f'space.range_m along {axis}: low ({low}) must be below high ({high})')
            cells = (high - low) / self.voxel_m
            if abs(cells - round(cells)) > 1e-6:
                raise ValueError(
                    f'space.range_m along {axis} ({high - low} m) is no multiple of voxel_m ({self.voxel_m})'
                )
        if not self.classes or len(set(self.classes)) != len(self.classes):
            raise ValueError(f'space.classes must be distinct names, got {self.classes}')

    @property
    def grid_shape(self) -> tuple[int, int, int]:
        """Voxels along x, y and z."""
        x, y, z = (
            round((high - low) / self.voxel_m) for low, high in zip(self.range_m[:3], self.range_m[3:], strict=True)
        )
        return x, y, z


@dataclass(frozen=True)
class BackboneConfig:
    """A ResNet (transformers' ResNetConfig) and a feature pyramid over its four stages."""

    layer_type: Literal['basic', 'bottleneck'] = 'basic'
    #: Blocks per stage.
    depths: tuple[int, ...] = (1, 1, 1, 1)
    #: Width of the stem, and of each stage's output.
    stem_width: int = 32
    stage_widths: tuple[int, ...] = (32, 64, 128, 256)
    #: Width of every pyramid level.
    fpn_width: int = 64
    #: Folder or hub id of pretrained ResNet weights, None: random.
    pretrained: str | None = None

    def __post_init__(self) -> None:
        _require_positive(self, 'stem_width', 'fpn_width')
        if len(self.depths) != len(self.stage_widths):
            raise ValueError(f'backbone.depths {self.depths} and stage_widths {self.stage_widths} differ in length')
        if not self.depths or min(*self.depths, *self.stage_widths, 1) < 1:
            raise ValueError(f'backbone.depths {self.depths} and stage_widths {self.stage_widths} must be positive')


@dataclass(frozen=True)
class EncoderConfig:
    """The occupancy encoder. The last four fields name what released OPUS checkpoints were trained with instead."""

    queries: int = 300
    width: int = 128
    #: Points per query after each layer; as many layers as numbers, never falling.
    points_per_layer: tuple[int, ...] = (1, 4, 16, 64)
    #: Channel groups, and sampling points of each, per query and frame.
    groups: int = 4
    sample_points: int = 4
    #: Rows that adaptive mixing turns the sampled points into.
    mixing_points: int = 32
    attention_heads: int = 8
    ffn_width: int = 256
    #: Metres per unit of the point head's output.
    offset_scale_m: float = 0.5
    #: Whose level weights a group uses. 'group': its own. 'opus': those at place (frame x groups + group) // frames,
    #: which is what released OPUS checkpoints were trained with (an axis order).
    level_weights: Literal['group', 'opus'] = 'group'
    #: A point that no camera sees. 'masked': contributes zero. 'view0': is sampled out of range in the first camera, so
    #: that border texels bleed in, as in released OPUS checkpoints.
    unseen_points: Literal['masked', 'view0'] = 'masked'
    #: A point that several cameras see. 'central': the camera where it lies farthest from the image border, whatever
    #: the order of the cameras. 'first': the first of the rig's order, as in released OPUS checkpoints.
    shared_points: Literal['central', 'first'] = 'central'
    #: The spread of a query's points, which its sampling offsets are measured in. 'floored': the deviation, at least
    #: `offset_scale_m` along every axis, so that a query looks around itself from the first layer on. 'unbiased': the
    #: deviation with divisor n - 1, zero for one point, as in released OPUS checkpoints.
    spread: Literal['floored', 'unbiased'] = 'floored'

    def __post_init__(self) -> None:
        _require_positive(
            self, 'queries', 'width', 'groups', 'sample_points', 'mixing_points', 'attention_heads', 'ffn_width',
            'offset_scale_m',
        )  # fmt: skip
        _require_divisible('encoder.width', self.width, 'encoder.groups', self.groups)
        _require_divisible('encoder.width', self.width, 'encoder.attention_heads', self.attention_heads)
        points = self.points_per_layer
        if not points or points[0] < 1 or list(points) != sorted(points):
            raise ValueError(f'encoder.points_per_layer must be positive and never fall, got {points}')


TokenOrder = Literal['as_produced', 'space_filling', 'distance']
PrefixAttention = Literal['causal', 'bidirectional']
Quantization = Literal['4bit', '8bit']


@dataclass(frozen=True)
class LoraSettings:
    """Low-rank adapters of the language model (peft)."""

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.05
    #: Names of the linear layers that get an adapter.
    targets: tuple[str, ...] = ('q_proj', 'k_proj', 'v_proj', 'o_proj')

    def __post_init__(self) -> None:
        _require_positive(self, 'rank', 'alpha')
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f'lora.dropout must be in [0, 1), got {self.dropout}')
        if not self.targets:
            raise ValueError('lora.targets names no layer')


@dataclass(frozen=True)
class RopeScaling:
    """How rotary positions were stretched for a longer context; the numbers stand in the pretrained model's config."""

    #: 'linear': all by ``factor``. 'llama3': slow frequencies only (Llama 3.1 and later).
    kind: Literal['linear', 'llama3']
    factor: float
    #: Of 'llama3': the wavelengths between which the stretching sets in, as fractions of the original context, tokens.
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context: int = 8192

    def __post_init__(self) -> None:
        _require_positive(self, 'factor', 'low_freq_factor', 'high_freq_factor', 'original_context')


@dataclass(frozen=True)
class LanguageConfig:
    """A Llama-architecture language model, the connector in front of it, and what is said to it."""

    #: Architecture; must be the pretrained model's own where one is named.
    width: int = 256
    ffn_width: int = 704
    layers: int = 4
    attention_heads: int = 4
    key_value_heads: int = 4
    vocabulary: int = 1536
    #: Longest prompt and answer together, scene prefix included, tokens.
    context_length: int = 1024
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    #: Width of an attention head, None: width / attention_heads.
    head_width: int | None = None
    #: Whether the scores are made with the token embeddings' own weights (small Llamas: yes).
    tied_embeddings: bool = False
    norm_eps: float = 1e-5
    #: Folder or hub id of a pretrained model (architecture as above), None: random.
    pretrained: str | None = None
    #: Tokenizer: a folder that comes with the package, any folder, or a hub id.
    tokenizer: str = 'weights/tiny/tokenizer'
    #: Jinja chat template, None: the tokenizer's own.
    chat_template: str | None = None
    #: Global tokens pooled from the queries.
    global_tokens: int = 1
    system_prompt: str = 'Answer questions about the street scene around the ego vehicle.'
    planning_prompt: str = 'assign scores to trajectory anchors'
    lora: LoraSettings | None = None
    #: Zeros in place of the scene's tokens: the baseline that answers from the words of a question alone.
    blind: bool = False
    #: Order of the occupancy tokens. 'as_produced': the encoder's; 'space_filling': along a Hilbert curve; 'distance':
    #: nearest to the ego first.
    token_order: TokenOrder = 'as_produced'
    #: What a visual token attends to. 'causal': the tokens before it; 'bidirectional': the system text and all visual
    #: tokens. Text attends to what is before it either way.
    prefix_attention: PrefixAttention = 'causal'
    #: Number format that a pretrained model's linear layers are loaded in (bitsandbytes, on a GPU), None: `precision`.
    quantization: Quantization | None = None

    def __post_init__(self) -> None:
        _require_positive(
            self, 'width', 'ffn_width', 'layers', 'attention_heads', 'key_value_heads', 'vocabulary',
            'context_length', 'rope_theta', 'norm_eps', 'global_tokens',
        )  # fmt: skip
        _require_divisible('language.width', self.width, 'language.attention_heads', self.attention_heads)
        _require_divisible(
            'language.attention_heads', self.attention_heads, 'language.key_value_heads', self.key_value_heads
        )
        if self.quantization is not None and self.pretrained is None:
            raise ValueError(f'language.quantization is {self.quantization}; it needs language.pretrained')


@dataclass(frozen=True)
class ForecasterConfig:
    """Occupancy at future times, in the current ego frame."""

    #: Times ahead, seconds, rising.
    horizons_s: tuple[float, ...] = (1.0, 2.0, 3.0)
    #: Points per query at each of them; as many as the encoder's last layer has, or the forecast cannot be as dense.
    points: int = 64
    #: Metres per unit of the heads' outputs: how a query's centre moves, and how its points lie about it.
    motion_scale_m: float = 5.0
    offset_scale_m: float = 0.5

    def __post_init__(self) -> None:
        _require_positive(self, 'points', 'motion_scale_m', 'offset_scale_m')
        if not self.horizons_s or self.horizons_s[0] <= 0 or list(self.horizons_s) != sorted(set(self.horizons_s)):
            raise ValueError(f'forecaster.horizons_s must be positive and rise, got {self.horizons_s}')


@dataclass(frozen=True)
class PlannerConfig:
    """Anchor scores and the truncated diffusion around the anchors."""

    #: Anchor file: one that comes with the package, or any path.
    anchors: str = 'config/anchors/default.json'
    width: int = 128
    attention_heads: int = 4
    layers: int = 2
    ffn_width: int = 256
    #: DDIM steps at inference.
    steps: int = 2
    #: Timestep whose noise is put on the anchors, and the window that the steps are spread over (of 1000).
    noise_timestep: int = 8
    step_window: int = 20
    #: In training the noise is that of a random timestep below this one.
    train_timesteps: int = 50
    #: What the planner reads, for ablations. Without `llm_scoring` nothing of the language model: the scorer reads the
    #: mean of the scene's queries in place of T_r. Without `scene_fusion` or `ego_fusion` the decoder lacks that stage:
    #: queries and positions; speed, acceleration, yaw rate and command.
    llm_scoring: bool = True
    scene_fusion: bool = True
    ego_fusion: bool = True
    #: Whether the scorer reads speed, acceleration and yaw rate too; the paper's does not. Anchors of one command
    #: differ mostly in speed.
    ego_scoring: bool = False
    #: Whether those that see the ego's motion (decoder by `ego_fusion`, scorer by `ego_scoring`) are also told, for
    #: each anchor, where holding speed and yaw rate would lead from it. The paper's find that out from the numbers.
    ego_rollout: bool = False
    #: Refined candidates of a command whose ends lie closer together than this share of its anchors' have collapsed
    #: (model/candidates.py). 0: never.
    min_diversity: float = 0.25

    def __post_init__(self) -> None:
        _require_positive(
            self, 'width', 'attention_heads', 'layers', 'ffn_width', 'steps', 'step_window', 'train_timesteps'
        )
        _require_divisible('planner.width', self.width, 'planner.attention_heads', self.attention_heads)
        if not 0 <= self.noise_timestep < 1000:
            raise ValueError(f'planner.noise_timestep must be in 0..999, got {self.noise_timestep}')
        if not self.steps <= self.step_window <= 1000:
            raise ValueError(f'planner.step_window ({self.step_window}) must be in steps ({self.steps})..1000')
        if self.train_timesteps > 1000:
            raise ValueError(f'planner.train_timesteps must be in 1..1000, got {self.train_timesteps}')
        if not 0.0 <= self.min_diversity <= 1.0:
            raise ValueError(f'planner.min_diversity must be in 0..1, got {self.min_diversity}')


@dataclass(frozen=True)
class VLAConfig:
    """The whole model."""

    name: str
    image: ImageConfig = field(default_factory=ImageConfig)
    space: SpaceConfig = field(default_factory=SpaceConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    language: LanguageConfig = field(default_factory=LanguageConfig)
    forecaster: ForecasterConfig = field(default_factory=ForecasterConfig)
    planner: PlannerConfig = field(default_factory=PlannerConfig)
    #: Number format of the backbone and the language model; geometry, heads and planner stay in fp32.
    precision: Literal['fp32', 'bf16'] = 'fp32'

    def __post_init__(self) -> None:
        _require_divisible('backbone.fpn_width', self.backbone.fpn_width, 'encoder.groups', self.encoder.groups)
        visual = self.encoder.queries + self.language.global_tokens
        if visual >= self.language.context_length:
            raise ValueError(
                f'language.context_length ({self.language.context_length}) does not hold the {visual} visual tokens'
            )


def load_model_config(name_or_path: str | Path, overrides: Mapping[str, Any] | None = None) -> VLAConfig:
    """Read a model's configuration.

    Args:
        name_or_path: ``tiny``, ``full`` (any YAML in ``config/model/``), or the path of a YAML file.
        overrides: dotted keys to values, for example ``{'encoder.queries': 450}``; a section's mapping of some of its
            keys leaves the others as they are.

    Raises:
        FileNotFoundError: no such file or name; the known names are listed.
        ValueError: unknown key, wrong type or impossible combination; names the key, what was expected and found.
    """
    path = Path(name_or_path)
    if path.suffix not in ('.yaml', '.yml'):
        folder = share_path('config/model')
        known = sorted(file.stem for file in folder.glob('*.yaml'))
        if str(name_or_path) not in known:
            raise FileNotFoundError(
                f'no model configuration {str(name_or_path)!r}; known: {", ".join(known)}, or a .yaml path'
            )
        path = folder / f'{name_or_path}.yaml'
    values = yaml.safe_load(path.read_text(encoding='utf-8'))
    if not isinstance(values, dict):
        raise ValueError(f'{path}: expected keys and values, found {type(values).__name__}')
    for dotted, value in (overrides or {}).items():
        *parents, leaf = dotted.split('.')
        section = values
        for parent in parents:
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):
                raise ValueError(f'{dotted}: {parent} is not a section')
        _override(section, leaf, value)
    return config_from_dict(values)


def _override(section: dict[str, Any], key: str, value: Any) -> None:
    """A section keeps what a mapping does not name: its other keys would fall back to defaults, which are tiny's."""
    if isinstance(value, Mapping) and isinstance(section.get(key), dict):
        for name, own in value.items():
            _override(section[key], name, own)
    else:
        section[key] = value


def config_from_dict(values: Mapping[str, Any]) -> VLAConfig:
    """Build a configuration from nested mappings, strictly (see :func:`load_model_config`)."""
    return dataclass_from(VLAConfig, values)


def config_to_yaml(config: VLAConfig) -> str:
    """The whole configuration as YAML; :func:`load_model_config` gives it back."""
    return yaml.safe_dump(_plain(dataclasses.asdict(config)), sort_keys=False, allow_unicode=True)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def dataclass_from(kind: type, values: Any, prefix: str = '') -> Any:
    """A dataclass of ``kind`` from nested mappings, strictly.

    Args:
        kind: a dataclass with annotated fields.
        values: mapping of its fields.
        prefix: of the keys that an error names, for example ``'forecast.'``.

    Raises:
        ValueError: unknown or missing key, wrong type or impossible value; names the key, what was expected and found.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f'{prefix.rstrip(".")}: expected a section, found {values!r}')
    hints = typing.get_type_hints(kind)
    unknown = sorted(str(key) for key in values if key not in hints)
    if unknown:
        raise ValueError(f'unknown key {prefix}{unknown[0]}; known keys: {", ".join(sorted(hints))}')
    required = [f.name for f in dataclasses.fields(kind) if f.default is f.default_factory is dataclasses.MISSING]
    for name in required:
        if name not in values:
            raise ValueError(f'missing key {prefix}{name}')
    return kind(**{key: _typed(hints[key], value, f'{prefix}{key}') for key, value in values.items()})


def _typed(hint: Any, value: Any, key: str) -> Any:
    """``value`` as the annotated type, without any conversion but int -> float and list -> tuple."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        return _typed(next(a for a in arguments if a is not type(None)), value, key)
    if origin is Literal:
        if value not in arguments:
            raise ValueError(f'{key}: expected one of {", ".join(map(repr, arguments))}, found {value!r}')
        return value
    if origin is tuple:
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise ValueError(f'{key}: expected a list, found {value!r}')
        if arguments[-1] is Ellipsis:
            arguments = (arguments[0],) * len(value)
        if len(arguments) != len(value):
            raise ValueError(f'{key}: expected {len(arguments)} values, found {len(value)}: {list(value)!r}')
        return tuple(_typed(a, v, f'{key}[{i}]') for i, (a, v) in enumerate(zip(arguments, value, strict=True)))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ValueError(f'{key}: expected keys and values, found {value!r}')
        return {_typed(arguments[0], k, key): _typed(arguments[1], v, f'{key}.{k}') for k, v in value.items()}
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint):
        return dataclass_from(hint, value, f'{key}.')
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not hint:
        raise ValueError(f'{key}: expected {hint.__name__}, found {value!r} ({type(value).__name__})')
    return value
