"""A recipe put together: the parts, the losses over them, and the row of samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from sparseoccvla_ros.data.dataset import Augmentation, KeyframeDataset, collate
from sparseoccvla_ros.data.scene_augmentation import SceneAugmentation
from sparseoccvla_ros.model.checkpoint import MODEL_FILE, file_sha256
from sparseoccvla_ros.model.config import VLAConfig
from sparseoccvla_ros.model.placement import checkpoint_folder
from sparseoccvla_ros.training.image_objective import ImageObjective
from sparseoccvla_ros.training.images import ImageStream, image_stream
from sparseoccvla_ros.training.keyframes import KeyframeStream, keyframe_data, keyframe_stream, shows_something
from sparseoccvla_ros.training.parts import build_parts, choose_trained
from sparseoccvla_ros.training.query_cache import QueryCache, fill_query_cache, fingerprint, make_query_cache
from sparseoccvla_ros.training.recipe import Recipe
from sparseoccvla_ros.training.scene_objective import SceneObjective, encode
from sparseoccvla_ros.training.teacher import load_teacher

#: Keyframes that the fixed encoder reads at once, and what it reads of them.
ENCODED_AT_ONCE = 8
INPUTS = ('images', 'image_from_ego', 'view_mask')


@dataclass(frozen=True)
class Stage:
    """``parts`` are what a checkpoint holds, ``objective`` is what is trained; they share their parameters.

    ``origins``: digests of the weight files that were read, by part, and of the teacher's.
    """

    config: VLAConfig
    parts: dict[str, nn.Module]
    objective: nn.Module
    samples: KeyframeStream | ImageStream
    origins: dict[str, str]


def build_stage(recipe: Recipe, accelerator: Accelerator) -> Stage:
    """Build and load everything; the objective is on the accelerator's device.

    Raises:
        FileNotFoundError, ValueError: what the recipe names is missing, or does not go together.
    """
    config, device = recipe.model_config(), accelerator.device
    if 'reading' in recipe.terms and config.language.blind:
        raise ValueError("terms: 'reading' needs occupancy tokens, but language.blind hides them")
    parts = build_parts(recipe, config)
    if recipe.on_images:
        objective: nn.Module = ImageObjective(
            parts['perception'], {term: getattr(recipe.losses.weights, term) for term in recipe.terms}
        )
        samples: KeyframeStream | ImageStream = image_stream(recipe, config)
    else:
        teacher = load_teacher(recipe.losses.distillation, device) if 'distillation' in recipe.terms else None
        cached = bool(recipe.data.query_cache)
        samples = keyframe_stream(recipe, keyframe_data(recipe, config, recipe.augmentation, images=not cached))
        objective = SceneObjective(
            config,
            recipe.losses,
            recipe.terms,
            perception=None if cached else parts['perception'],
            language=parts.get('language'),
            planner=parts.get('planner'),
            teacher=teacher,
            sights=parts['perception'].encoder.sights,
        )
    choose_trained(objective, recipe)
    if recipe.data.query_cache:  # last, as it takes longest
        samples.read_queries(cached_queries(recipe, config, parts['perception'].to(device), accelerator))
    folders = {part: checkpoint_folder(start) for part, start in recipe.start.items()}
    if 'distillation' in recipe.terms:
        folders['teacher'] = Path(recipe.losses.distillation.teacher)
    origins = {
        name: file_sha256(folder / MODEL_FILE)
        for name, folder in folders.items()
        if folder is not None and (folder / MODEL_FILE).is_file()
    }
    return Stage(config, parts, objective.to(device), samples, origins)


def cached_queries(recipe: Recipe, config: VLAConfig, perception: nn.Module, accelerator: Accelerator) -> QueryCache:
    """The encoder's queries of all keyframes of the recipe, as they are and mirrored if the recipe mirrors.

    All processes compute them together. Images are as the running model gets them: neither warped nor with other
    colours.
    """
    mirrors = recipe.augmentation.scene is not None and recipe.augmentation.scene.flip_y_probability > 0.0
    images_only = replace(
        recipe, terms=('distillation',), train=('distillation',), data=replace(recipe.data, query_cache='')
    )
    flip = Augmentation(scene=SceneAugmentation(flip_y_probability=1.0))

    @cache
    def data_of(mirrored: bool) -> KeyframeDataset:
        return keyframe_data(images_only, config, flip if mirrored else Augmentation(), images=True)

    device = next(perception.parameters()).device

    @torch.no_grad()
    def compute(places: Sequence[int], mirror: bool) -> tuple[Tensor, Tensor]:
        data = data_of(mirror)
        found = []
        for begin in range(0, len(places), ENCODED_AT_ONCE):
            batch = collate([data.sample(indices[place], 0) for place in places[begin : begin + ENCODED_AT_ONCE]])
            output = encode(perception, {key: batch[key].to(device) for key in INPUTS})
            found.append((output.features, output.positions_m))
        return torch.cat([features for features, _ in found]), torch.cat([positions_m for _, positions_m in found])

    # one that shows nothing is in no sample either (data.missing_images)
    indices = [index for index, moment in enumerate(data_of(False).moments) if shows_something(moment)]
    moments = [data_of(False).moments[index] for index in indices]
    tokens = [moment.token for moment in moments]
    # images by their sizes, which another rendering does not keep
    frames = [frame for moment in moments for row in moment.camera_frames for frame in row if frame]
    shown = [frame.path.stat().st_size if frame.path.is_file() else 0 for frame in frames]
    sections = [repr(part) for part in (config.image, config.backbone, config.encoder, config.space)]
    key = fingerprint(perception.state_dict(), [*sections, repr(recipe.data.cameras), repr(shown)], tokens)
    width = (config.encoder.queries, config.encoder.width)
    folder = Path(recipe.data.query_cache)
    with accelerator.main_process_first():  # the others find the files
        make_query_cache(folder, key, len(tokens), width, mirrors)
    share = (accelerator.process_index, accelerator.num_processes)
    queries = fill_query_cache(folder, tokens, compute, *share)
    accelerator.wait_for_everyone()
    return queries
