"""A recipe put together: the parts, the losses over them, and the row of samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from sparseoccvla_ros.data.dataset import Augmentation, KeyframeDataset, collate
from sparseoccvla_ros.data.scene_augmentation import SceneAugmentation
from sparseoccvla_ros.model.config import VLAConfig, config_to_yaml
from sparseoccvla_ros.training.image_objective import ImageObjective
from sparseoccvla_ros.training.images import ImageStream, image_stream
from sparseoccvla_ros.training.keyframes import KeyframeStream, keyframe_data, keyframe_stream
from sparseoccvla_ros.training.parts import build_parts, choose_trained
from sparseoccvla_ros.training.query_cache import QueryCache, fill_query_cache, fingerprint
from sparseoccvla_ros.training.recipe import Recipe
from sparseoccvla_ros.training.scene_objective import SceneObjective
from sparseoccvla_ros.training.teacher import load_teacher

#: Keyframes that the fixed encoder reads at once.
ENCODED_AT_ONCE = 8


@dataclass(frozen=True)
class Stage:
    """``parts`` are what a checkpoint holds, ``objective`` is what is trained; they share the parameters named in
    ``trained``.
    """

    config: VLAConfig
    parts: dict[str, nn.Module]
    objective: nn.Module
    samples: KeyframeStream | ImageStream
    trained: tuple[str, ...]


def build_stage(recipe: Recipe, device: torch.device) -> Stage:
    """Build and load everything; the objective is on ``device``.

    Raises:
        FileNotFoundError, ValueError: what the recipe names is missing, or does not go together.
    """
    config = recipe.model_config()
    parts = build_parts(recipe, config)
    if recipe.on_images:
        objective: nn.Module = ImageObjective(
            parts['perception'], {term: getattr(recipe.losses.weights, term) for term in recipe.terms}
        )
        samples: KeyframeStream | ImageStream = image_stream(recipe, config)
    else:
        teacher = load_teacher(recipe.losses.distillation, device) if 'distillation' in recipe.terms else None
        cached = bool(recipe.data.query_cache)
        data = keyframe_data(recipe, config, recipe.augmentation, images=not cached)
        queries = cached_queries(recipe, config, parts['perception'].to(device)) if cached else None
        samples = keyframe_stream(recipe, data, queries)
        objective = SceneObjective(
            config,
            recipe.losses,
            recipe.terms,
            perception=None if cached else parts['perception'],
            language=parts.get('language'),
            planner=parts.get('planner'),
            teacher=teacher,
        )
    trained = choose_trained(objective, recipe)
    return Stage(config, parts, objective.to(device), samples, tuple(trained))


def cached_queries(recipe: Recipe, config: VLAConfig, perception: nn.Module) -> QueryCache:
    """The encoder's queries of all keyframes of the recipe, as they are and mirrored if the recipe mirrors.

    Images are as the running model gets them: neither warped nor with other colours.
    """
    mirrors = recipe.augmentation.scene is not None and recipe.augmentation.scene.flip_y_probability > 0.0
    plain = keyframe_data(recipe, config, Augmentation(), images=True)
    mirrored = keyframe_data(recipe, config, Augmentation(scene=SceneAugmentation(flip_y_probability=1.0)), images=True)
    encoder = SceneObjective(config, recipe.losses, (), perception=perception).eval()
    device = next(perception.parameters()).device

    @torch.no_grad()
    def encode(indices: Sequence[int], mirror: bool) -> tuple[Tensor, Tensor]:
        data: KeyframeDataset = mirrored if mirror else plain
        found = []
        for begin in range(0, len(indices), ENCODED_AT_ONCE):
            batch = collate([data.sample(index, 0) for index in indices[begin : begin + ENCODED_AT_ONCE]])
            output = encoder.encode({key: batch[key].to(device) for key in ('images', 'image_from_ego', 'view_mask')})
            found.append((output.features, output.positions_m))
        return torch.cat([features for features, _ in found]), torch.cat([positions_m for _, positions_m in found])

    tokens = [moment.token for moment in plain.moments]
    key = fingerprint(perception.state_dict(), config_to_yaml(config), tokens)
    width = (config.encoder.queries, config.encoder.width)
    return fill_query_cache(Path(recipe.data.query_cache), key, tokens, width, mirrors, encode)
