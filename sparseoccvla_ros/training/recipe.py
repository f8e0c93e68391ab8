"""A training stage as a YAML file: what is built, what it learns from, which parts learn, and how.

Read as strictly as a model's configuration: an unknown key or a wrong type ends the program before anything is loaded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from sparseoccvla_ros.data.dataset import Augmentation
from sparseoccvla_ros.data.nuscenes import CAMERAS
from sparseoccvla_ros.model.config import LoraSettings, VLAConfig, dataclass_from, load_model_config
from sparseoccvla_ros.resources import share_path
from sparseoccvla_ros.training.losses import LossSettings

Term = Literal[
    'classes_in_image', 'depth_in_image', 'occupancy', 'distillation', 'forecast', 'planner', 'answers', 'reading'
]
#: Terms of the stage that trains on single images; they cannot be mixed with the others.
IMAGE_TERMS = ('classes_in_image', 'depth_in_image')
#: What a term needs beside the encoder.
LANGUAGE_TERMS = ('forecast', 'planner', 'answers', 'reading')
PARTS = ('perception', 'language', 'planner')
#: Keys of a recipe whose values are mappings of dotted keys: of the model's configuration, of parameters' names.
DOTTED = ('overrides', 'optimization.lr_factors')


@dataclass(frozen=True)
class DataSettings:
    """Which keyframes are learnt from."""

    #: Folder with samples/ and the tables.
    root: str
    version: str = 'v1.0-world'
    #: Scenes of this list in the data set's splits.json; empty: all scenes.
    split: str = 'train'
    #: Names of scenes, in place of the split.
    scenes: tuple[str, ...] = ()
    #: Only scenes recorded there (``location`` in log.json); empty: anywhere. To keep a town for validation.
    locations: tuple[str, ...] = ()
    cameras: tuple[str, ...] = CAMERAS
    #: Occ3D's labels, within ``root`` or absolute.
    gts: str = 'gts'
    #: Keyframes without a label file: end with a list of them, or leave them out.
    missing_labels: Literal['fail', 'skip'] = 'fail'
    #: Image files that are not there: end with a list of them, or learn without these cameras.
    missing_images: Literal['fail', 'mask'] = 'fail'
    #: Set of questions: 'world', 'omnidrive' or 'drivelm'; and where it lies, empty: in its usual place in ``root``.
    questions: Literal['none', 'world', 'omnidrive', 'drivelm'] = 'none'
    questions_path: str = ''
    #: At most so many of a keyframe's questions in one step, other ones each time.
    questions_per_keyframe: int = 8
    #: Commands where the data set has no routes: none (the planner learns from no keyframe), or derived from the
    #: recorded future, which tells the planner a part of the answer.
    commands: Literal['route', 'recorded_future_leak'] = 'route'
    #: Processes that read and augment.
    workers: int = 2
    #: Folder for the queries of an encoder that is not trained, computed once; empty: computed in every step.
    query_cache: str = ''

    def __post_init__(self) -> None:
        if self.questions_per_keyframe < 1:
            raise ValueError(f'data.questions_per_keyframe must be at least 1, got {self.questions_per_keyframe}')
        if self.workers < 0:
            raise ValueError(f'data.workers must not be negative, got {self.workers}')


@dataclass(frozen=True)
class OptimizationSettings:
    """AdamW with a warmed-up cosine."""

    steps: int
    #: Samples of one process in one forward pass; gradients of ``accumulate`` passes are averaged to one step.
    batch_size: int
    accumulate: int = 1
    peak_lr: float = 4e-4
    #: Factors of the learning rate by the beginning of a parameter's name, the longest that fits.
    lr_factors: dict[str, float] = field(default_factory=dict)
    weight_decay: float = 0.01
    warmup_steps: int = 100
    #: Largest norm of the gradient.
    clip_norm: float = 35.0
    #: Decay of the averaged weights, which are what a stage hands on; 0: the last ones.
    ema_decay: float = 0.999
    #: Number format of the forward pass; weights that are trained stay in fp32.
    precision: Literal['fp32', 'bf16'] = 'fp32'
    #: Keep the statistics of the backbone's batch norms as they are.
    freeze_batch_norm: bool = True

    def __post_init__(self) -> None:
        for name in ('steps', 'batch_size', 'accumulate'):
            if getattr(self, name) < 1:
                raise ValueError(f'optimization.{name} must be at least 1, got {getattr(self, name)}')
        for name in ('warmup_steps', 'weight_decay'):
            if getattr(self, name) < 0:
                raise ValueError(f'optimization.{name} must not be negative, got {getattr(self, name)}')
        for name in ('peak_lr', 'clip_norm'):
            if not getattr(self, name) > 0.0:
                raise ValueError(f'optimization.{name} must be positive, got {getattr(self, name)}')
        if not 0.0 <= self.ema_decay < 1.0:
            raise ValueError(f'optimization.ema_decay must be in [0, 1), got {self.ema_decay}')


@dataclass(frozen=True)
class Recipe:
    """One stage of a training.

    Raises:
        ValueError: a value is out of range or two do not go together.
    """

    #: Folder for the log, the state of the run and the checkpoint it ends with.
    out: str
    #: Model configuration: a name or a path; ``overrides``: dotted keys to values.
    model: str
    #: Losses that are summed up.
    terms: tuple[Term, ...]
    #: Beginnings of the names of the parameters that learn: ``perception.backbone``, ``language``, ``planner.scorer``.
    train: tuple[str, ...]
    data: DataSettings
    optimization: OptimizationSettings
    overrides: dict[str, Any] = field(default_factory=dict)
    #: Checkpoint folder that each part starts from, by part; others start as the model configuration says.
    start: dict[str, str] = field(default_factory=dict)
    #: Adapters put around the language model after it is loaded, and merged into it in the end.
    lora: LoraSettings | None = None
    losses: LossSettings = field(default_factory=LossSettings)
    #: Questions are not asked about mirrored keyframes: their words are not mirrored.
    augmentation: Augmentation = field(default_factory=Augmentation)
    #: Of the weights, the order of the samples and all augmentation.
    seed: int = 0
    #: Which GPU is seen is for CUDA_VISIBLE_DEVICES, or torchrun, to say.
    device: Literal['cpu', 'cuda'] = 'cpu'
    #: Steps between two saved states.
    save_every: int = 200

    def __post_init__(self) -> None:
        if not self.terms or not self.train:
            raise ValueError('terms and train must name something')
        images = [term for term in self.terms if term in IMAGE_TERMS]
        if images and len(images) < len(self.terms):
            raise ValueError(f'terms: {", ".join(images)} cannot be mixed with other terms, got {self.terms}')
        for name in self.train:
            if name.split('.')[0] not in (*PARTS, 'distillation', 'heads'):
                raise ValueError(f'train: {name!r} begins with none of {", ".join(PARTS)}, distillation, heads')
        for part in self.start:
            if part not in PARTS:
                raise ValueError(f'start: {part!r} is none of {", ".join(PARTS)}')
        if 'distillation' in self.terms and not self.trains('distillation'):
            raise ValueError("terms: 'distillation' needs its projection to learn: put it into train")
        if 'answers' in self.terms and self.data.questions == 'none':
            raise ValueError("terms: 'answers' needs data.questions")
        if self.data.query_cache and self.trains('perception'):
            raise ValueError('data.query_cache stores what the encoder says, but perception is trained')
        if self.data.query_cache and {'occupancy', 'distillation'} & set(self.terms):
            raise ValueError('data.query_cache has queries only; occupancy and distillation need the images')
        scene = self.augmentation.scene
        if (
            scene is not None
            and (scene.rotation_rad or scene.flip_x_probability)
            and {'planner', 'answers'} & set(self.terms)
        ):
            raise ValueError(
                'augmentation.scene: planner and answers allow flip_y_probability alone: ahead must stay ahead'
            )
        if self.data.query_cache and (self.augmentation.image or self.augmentation.photometric):
            raise ValueError('data.query_cache: queries are stored of images as they are; leave their augmentation out')
        if self.data.query_cache and scene is not None and (scene.rotation_rad or scene.flip_x_probability):
            raise ValueError('data.query_cache knows keyframes mirrored left to right, but none changed otherwise')
        if self.save_every < 1:
            raise ValueError(f'save_every must be at least 1, got {self.save_every}')

    @property
    def on_images(self) -> bool:
        """Whether this is the stage on single images."""
        return self.terms[0] in IMAGE_TERMS

    def trains(self, part: str) -> bool:
        """Whether any parameter of a part learns."""
        return any(name.split('.')[0] == part for name in self.train)

    def model_config(self) -> VLAConfig:
        """The model's configuration.

        Raises:
            FileNotFoundError, ValueError: see :func:`load_model_config`.
        """
        return load_model_config(self.model, self.overrides)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the log and the run's state."""
        return dataclasses.asdict(self)


def load_recipe(path: str, changes: Sequence[str] = ()) -> Recipe:
    """Read a stage.

    Args:
        path: a file, or one that comes with the package: ``tiny/stage1`` for ``config/train/tiny/stage1.yaml``.
        changes: ``key=value``; dotted keys, values as in YAML. What follows ``overrides.`` is one key of the model's
            configuration: ``overrides.image.frames=4``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: unknown key, wrong type or impossible value; names the key, what was expected and found.
    """
    file = Path(path)
    if not file.is_file():
        try:
            file = share_path(Path('config/train') / f'{path.removesuffix(".yaml")}.yaml')
        except (ValueError, FileNotFoundError) as error:
            raise FileNotFoundError(f'{path} is no file, and no recipe that comes with the package: {error}') from error
    values = _yaml(file.read_text(encoding='utf-8'), str(file))
    if not isinstance(values, dict):
        raise ValueError(f'{file}: expected keys and values, found {type(values).__name__}')
    for change in changes:
        dotted, equals, text = change.partition('=')
        if not equals:
            raise ValueError(f'expected key=value, got {change!r}')
        *sections, leaf = _path_of(dotted)
        section = values
        for name in sections:
            section = section.setdefault(name, {})
            if not isinstance(section, dict):
                raise ValueError(f'{dotted}: {name} is not a section')
        section[leaf] = _value(text, dotted)
    return dataclass_from(Recipe, values)


def _path_of(dotted: str) -> list[str]:
    """The keys of a change, from the outermost: those of :data:`DOTTED` hold dotted keys of their own."""
    for outer in DOTTED:
        if dotted.startswith(f'{outer}.'):
            return [*outer.split('.'), dotted.removeprefix(f'{outer}.')]
    return dotted.split('.')


def _yaml(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f'{where} is no YAML: {" ".join(str(error).split())}') from error


def _value(text: str, key: str) -> Any:
    """As in YAML, but 1e-3 is a number too, and nothing is an empty text (``data.split=``)."""
    value = _yaml(text, key) if text else ''
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value
