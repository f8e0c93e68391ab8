"""What the scene stages learn from: keyframes with labels, paths and some of their questions, in a shuffled row."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sparseoccvla_ros.data.dataset import Augmentation, Item, KeyframeDataset, SampleRequest
from sparseoccvla_ros.data.ego_future import commands_by_token, scene_ego_futures
from sparseoccvla_ros.data.keyframes import NO_FRAME
from sparseoccvla_ros.data.moments import Moment
from sparseoccvla_ros.data.nuscenes import NuScenesError, NuScenesTables
from sparseoccvla_ros.data.qa.sources import PLACES, load_questions
from sparseoccvla_ros.data.splits import split_scenes
from sparseoccvla_ros.model.config import VLAConfig
from sparseoccvla_ros.runtime.scene import Command
from sparseoccvla_ros.training.order import sample_at
from sparseoccvla_ros.training.query_cache import QueryCache
from sparseoccvla_ros.training.recipe import DataSettings, Recipe

logger = logging.getLogger(__name__)

#: So many names of missing files are listed.
SHOWN = 10


class KeyframeStream:
    """Samples by their position in the training's endless row: for DataLoader.

    A sample depends on (seed, position) and the files only. ``questions`` is a list of (question, answer), empty for
    mirrored keyframes, whose words would be wrong; ``query_features`` and ``query_positions_m`` are there if queries
    are cached.

    Args:
        data: keyframes.
        usable: indices of those that are learnt from.
        questions: (question, answer) by sample token.
        per_keyframe: at most so many of them at once.
    """

    def __init__(
        self,
        data: KeyframeDataset,
        usable: Sequence[int],
        questions: dict[str, list[tuple[str, str]]],
        per_keyframe: int,
    ) -> None:
        self._data, self._usable, self._questions = data, usable, questions
        self._per_keyframe = per_keyframe
        self._queries: QueryCache | None = None

    def __len__(self) -> int:
        """Keyframes of an epoch."""
        return len(self._usable)

    def digest(self) -> str:
        """SHA-256 of what is learnt from: keyframes and their questions, in their order."""
        tokens = [self._data.moments[index].token for index in self._usable]
        learnt = [(token, self._questions.get(token, [])) for token in tokens]
        return hashlib.sha256(json.dumps(learnt).encode()).hexdigest()

    def read_queries(self, queries: QueryCache) -> None:
        """Take the queries of a fixed encoder from now on."""
        self._queries = queries

    def __getitem__(self, position: int) -> Item:
        """Raises what :meth:`KeyframeDataset.sample` does."""
        epoch, place = sample_at(position, self._data.seed, len(self._usable))
        index = self._usable[place]
        item = self._data.sample(index, epoch)
        mirrored = bool(np.linalg.det(item['augmented_from_ego']) < 0.0)
        asked = [] if mirrored else self._questions.get(item['token'], [])
        rng = np.random.default_rng([self._data.seed, epoch, index, 1])
        chosen = rng.permutation(len(asked))[: self._per_keyframe]
        item['questions'] = tuple(asked[number] for number in chosen)
        for frame, camera, reason in item.get('missing', ()):
            if reason != NO_FRAME:
                logger.warning('%s: %s, frame %d: %s; learnt without it', item['token'], camera, frame, reason)
        if self._queries is not None:
            item['query_features'], item['query_positions_m'] = self._queries.read(item['token'], mirrored)
        return item


def keyframe_data(recipe: Recipe, config: VLAConfig, augmentation: Augmentation, *, images: bool) -> KeyframeDataset:
    """The keyframes that a recipe names.

    Raises:
        FileNotFoundError: label files are missing; they are counted and listed.
        NuScenesError, ValueError: see :class:`KeyframeDataset`; or there is no such split.
    """
    settings = recipe.data
    root = Path(settings.root)
    tables = NuScenesTables(root, settings.version)
    scenes = chosen_scenes(tables, settings)
    labelled = bool({'occupancy', 'forecast'} & set(recipe.terms))
    data = KeyframeDataset(
        tables,
        scenes,
        SampleRequest(
            width_px=config.image.width_px,
            height_px=config.image.height_px,
            frames=config.image.frames,
            frame_interval_s=config.image.frame_interval_s,
            cameras=settings.cameras,
            future_labels_s=config.forecaster.horizons_s if 'forecast' in recipe.terms else (),
            boxes=False,
            images=images,
        ),
        gts_root=root / settings.gts if labelled else None,
        augmentation=augmentation,
        seed=recipe.seed,
        commands=_commands(tables, scenes, settings) if 'planner' in recipe.terms else None,
    )
    if labelled and data.unlabelled and settings.missing_labels == 'fail':
        raise missing_files(
            f'{len(data.unlabelled)} of {len(data)} keyframes have no labels.npz, or a broken one, in '
            f'{root / settings.gts}',
            data.unlabelled,
            'data.missing_labels=skip leaves them out',
        )
    if images:
        _require_images(data, settings)
    return data


def _require_images(data: KeyframeDataset, settings: DataSettings) -> None:
    """Of all frames, before hours are spent on what they show.

    Raises:
        FileNotFoundError: image files are missing; they are counted and listed.
    """
    paths = {frame.path for moment in data.moments for row in moment.camera_frames for frame in row if frame}
    missing = sorted(path for path in paths if not path.is_file())
    if not missing:
        return
    counted = f'{len(missing)} of {len(paths)} images are not there'
    if settings.missing_images == 'mask':
        logger.warning('%s, for example %s; learnt without them', counted, missing[0])
        return
    raise missing_files(counted, missing, 'data.missing_images=mask learns without these cameras')


def shows_something(moment: Moment) -> bool:
    """Whether the file of any camera's image of the present is there."""
    return any(frame is not None and frame.path.is_file() for frame in moment.camera_frames[0])


def missing_files(counted: str, names: Sequence[str | Path], advice: str) -> FileNotFoundError:
    """The error that counts and lists them, the first :data:`SHOWN`."""
    listed = [f'  {name}' for name in names[:SHOWN]] + ['  ...'] * (len(names) > SHOWN)
    return FileNotFoundError('\n'.join([f'{counted}:', *listed, advice]))


def keyframe_stream(recipe: Recipe, data: KeyframeDataset) -> KeyframeStream:
    """The row of samples that a recipe asks for.

    Raises:
        QAError: the questions cannot be read.
        ValueError: no keyframe is left, or none of them has a question.
    """
    settings = recipe.data
    unlabelled = set(data.unlabelled) if {'occupancy', 'forecast'} & set(recipe.terms) else set()
    dark = set() if settings.missing_images == 'fail' else {m.token for m in data.moments if not shows_something(m)}
    if dark:
        logger.warning('%d keyframes have no image at all; left out', len(dark))
    usable = [
        i
        for i, moment in enumerate(data.moments)
        if f'{moment.scene}/{moment.token}' not in unlabelled and moment.token not in dark
    ]
    questions: dict[str, list[tuple[str, str]]] = defaultdict(list)
    if 'answers' in recipe.terms:
        place = (
            Path(settings.questions_path)
            if settings.questions_path
            else PLACES[settings.questions](Path(settings.root))
        )
        tokens = {data.moments[i].token for i in usable}
        split = settings.split or ('all' if settings.questions == 'world' else 'train')
        for pair in load_questions(settings.questions, place, split).pairs:
            if pair.sample_token in tokens:
                questions[pair.sample_token].append((pair.question, pair.answer))
        if not questions:
            raise ValueError(f'{place}: no question is about any of the {len(usable)} keyframes')
        usable = [i for i in usable if recipe.terms != ('answers',) or data.moments[i].token in questions]
    if not usable:
        raise ValueError(f'{settings.root}: no keyframe is left to learn from')
    logger.info('%d keyframes, %d questions', len(usable), sum(map(len, questions.values())))
    return KeyframeStream(data, usable, dict(questions), settings.questions_per_keyframe)


def chosen_scenes(tables: NuScenesTables, settings: DataSettings) -> list[str]:
    """Names of the scenes that a recipe learns from.

    Raises:
        NuScenesError: unknown scenes, or no such split.
    """
    names = list(settings.scenes)
    if not names and settings.split:
        try:
            names = split_scenes(tables, settings.split)
        except NuScenesError as error:
            raise NuScenesError(f"{error}; name scenes in data.scenes, or take all with data.split=''") from error
    unknown = sorted(set(names) - set(tables.scene_names))
    if unknown:
        raise NuScenesError(f'{len(unknown)} scenes are not in {tables.version}, for example {unknown[0]}')
    names = names or list(tables.scene_names)
    if settings.locations:
        places = {name: tables.location(name) for name in names}
        unknown = sorted(set(settings.locations) - set(places.values()))
        if unknown:
            known = ', '.join(sorted(set(places.values())))
            raise NuScenesError(f'data.locations: no scene is at {unknown[0]!r}; scenes are at {known}')
        names = [name for name in names if places[name] in settings.locations]
    return names


def _commands(tables: NuScenesTables, scenes: Sequence[str], settings: DataSettings) -> dict[str, Command]:
    leak = settings.commands == 'recorded_future_leak'
    if leak:
        logger.warning('driving commands are derived from the RECORDED future: a leak, results must say so')
    commands = commands_by_token(
        future for scene in scenes for future in scene_ego_futures(tables, scene, leaky_command=leak)
    )
    if not commands:
        logger.warning('no keyframe has a driving command: the planner learns nothing (see data.commands)')
    return commands
