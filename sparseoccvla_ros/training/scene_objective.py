"""All parts of the model over a batch of keyframes, and the losses that a stage sums up.

Letters: B samples, V views, N cameras, Q queries, C query width.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from sparseoccvla_ros.model.config import VLAConfig
from sparseoccvla_ros.model.distillation import DistillationLoss, project_to_cameras, sample_teacher
from sparseoccvla_ros.model.forecast_loss import ForecastLoss, future_voxels
from sparseoccvla_ros.model.language import KeyValues, SceneLanguage
from sparseoccvla_ros.model.occupancy_encoder import EncoderOutput
from sparseoccvla_ros.model.occupancy_loss import OccupancyLoss, occupied_voxels
from sparseoccvla_ros.model.perception import OccupancyPerception
from sparseoccvla_ros.model.planner import TrajectoryPlanner
from sparseoccvla_ros.model.planner_loss import PlannerLoss, PlannerTargets
from sparseoccvla_ros.training.answer_loss import answer_loss
from sparseoccvla_ros.training.losses import LossSettings
from sparseoccvla_ros.training.question_batch import question_batch, tokenize_pair
from sparseoccvla_ros.training.reading_loss import reading_loss
from sparseoccvla_ros.training.teacher import Teacher
from sparseoccvla_ros.training.term import Term, term

Batch = Mapping[str, Any]


def encode(perception: OccupancyPerception, batch: Batch) -> EncoderOutput:
    """Images of all frames to queries and points."""
    images = batch['images']  # [B, V, H, W, 3]
    levels = tuple(level.unflatten(0, images.shape[:2]) for level in perception.extract(images.flatten(0, 1)))
    return perception.encode(levels, batch['image_from_ego'], batch['view_mask'])


class SceneObjective(nn.Module):
    """The losses of a batch; its parameters are the parts', by their names in a checkpoint.

    Args:
        config: of the model.
        losses: what each loss is built from.
        terms: which of them are made.
        perception: without it a batch must bring ``query_features`` and ``query_positions_m``.
        language, planner: where a term needs them.
        teacher: for 'distillation'.
        sights: for 'reading', of a fixed encoder (:meth:`OccupancyEncoder.sights`).
    """

    def __init__(
        self,
        config: VLAConfig,
        losses: LossSettings,
        terms: Collection[str],
        *,
        perception: OccupancyPerception | None,
        language: SceneLanguage | None = None,
        planner: TrajectoryPlanner | None = None,
        teacher: Teacher | None = None,
        sights: Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]] | None = None,
    ) -> None:
        super().__init__()
        self._config, self._terms, self._weights = config, frozenset(terms), losses.weights
        self._teacher = teacher
        if perception is not None:
            self.perception = perception
        if language is not None:
            self.language = language
            self._tokenize = lru_cache(maxsize=200_000)(partial(tokenize_pair, language))
        if planner is not None:
            self.planner = planner
            self._planner_loss = PlannerLoss(losses.planner)
        if teacher is not None:
            self.distillation = DistillationLoss(losses.distillation, config.encoder.width, teacher.width)
        self._occupancy_loss = OccupancyLoss(losses.occupancy, config.space)
        self._reading, self._sights = losses.reading, sights
        self._class_names = [name.replace('_', ' ') for name in config.space.classes]
        self._forecast_loss = ForecastLoss(losses.forecast, config.space, config.forecaster.horizons_s)

    def forward(self, batch: Batch) -> dict[str, Term]:
        """All terms by name, weighted: the sum of their values is what is trained on.

        Args:
            batch: of :func:`sparseoccvla_ros.data.dataset.collate`, on the parameters' device.
        """
        found: dict[str, Term] = {}
        if 'query_features' in batch:
            features, positions_m = batch['query_features'], batch['query_positions_m']
        else:
            output = encode(self.perception, batch)
            features, positions_m = output.features.float(), output.positions_m.float()
            if 'occupancy' in self._terms:
                found |= self._occupancy(output, batch)
            if 'distillation' in self._terms:
                found['distillation'] = self._distillation(features, positions_m, batch)
        if self._terms & {'forecast', 'planner', 'answers', 'reading'}:
            prompt = self.language.scene_prompt(features, positions_m)
            hidden, prefix = self.language.read_scene(prompt)
            if 'forecast' in self._terms:
                found |= self._forecast(prompt.at_queries(hidden), features, positions_m, batch)
            if 'planner' in self._terms:
                found |= self._plan(features, positions_m, prefix, batch)
            if 'answers' in self._terms:
                found['answers'] = self._answers(prefix, batch)
            if 'reading' in self._terms:
                found['reading'] = self._practise(prefix, features, positions_m)
        return found

    def _occupancy(self, output: EncoderOutput, batch: Batch) -> dict[str, Term]:
        space = self._config.space
        truth = occupied_voxels(batch['target_semantics'], batch['target_mask_camera'], space)
        # sample by sample, each as good as any other: OPUS' mean over the voxels of a batch would depend on how many
        # samples a process gets
        initial_points_m = self.perception.encoder.initial_points_m
        samples = [self._occupancy_loss(initial_points_m, _only(output, b), [truth[b]]) for b in range(len(truth))]
        means = {name: torch.stack([terms[name] for terms in samples]).mean() for name in samples[0]}
        weight = self._weights.occupancy
        return {f'occupancy.{name}': term(value, len(truth), weight) for name, value in means.items()}

    def _distillation(self, features: Tensor, positions_m: Tensor, batch: Batch) -> Term:
        image, views = self._config.image, batch['images'].shape[1] // self._config.image.frames
        # of the present frame: points are where things are now
        images = batch['images'][:, :views]
        taught = self._teacher.extract(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        seen_in = project_to_cameras(
            positions_m.detach(), batch['image_from_ego'][:, :views], batch['view_mask'][:, :views],
            image.width_px, image.height_px,
        )  # fmt: skip
        target, seen = sample_teacher(taught, seen_in)
        distilled = self.distillation(features, target, seen)
        return term(distilled.loss, distilled.visible_points, self._weights.distillation)

    def _forecast(self, hidden: Tensor, features: Tensor, positions_m: Tensor, batch: Batch) -> dict[str, Term]:
        valid = batch['target_future_labels_valid']  # [B, H]
        later = future_voxels(
            batch['target_future_semantics'], batch['target_future_mask_camera'], valid,
            batch['target_current_ego_from_future_ego'], self._config.space,
        )  # fmt: skip
        terms = self._forecast_loss(self.language.forecast(hidden, features, positions_m), later)
        counts = dict(zip([f'{s:g}s' for s in self._config.forecaster.horizons_s], valid.sum(dim=0), strict=True))
        weight = self._weights.forecast
        return {f'forecast.{name}': term(value, counts[name.split('.')[0]], weight) for name, value in terms.items()}

    def _plan(self, features: Tensor, positions_m: Tensor, prefix: KeyValues, batch: Batch) -> dict[str, Term]:
        tokens = torch.tensor(self.language.planning_tokens(), device=features.device)
        prompt = self.language.embed_text(tokens[None]).expand(len(features), -1, -1)
        reasoning, _ = self.language.forward_embeddings(prompt, prefix)
        known = batch['ego_state_valid'] & batch['command_valid']
        targets = PlannerTargets(
            batch['target_future_ego_xy_m'], batch['target_future_ego_valid'] & known[:, None], batch['command']
        )
        with torch.autocast(features.device.type, enabled=False):  # as on the car: a plan is worth centimetres
            output = self.planner.denoise_once(
                features, positions_m, reasoning.float(), batch['ego_state'], batch['command']
            )
            terms = self._planner_loss(output, self.planner.anchors, targets)
        count, weight = targets.valid.any(dim=1).sum(), self._weights.planner
        return {f'planner.{name}': term(value, count, weight) for name, value in terms.items()}

    def _answers(self, prefix: KeyValues, batch: Batch) -> Term:
        pairs = [[self._tokenize(*pair) for pair in of_scene] for of_scene in batch['questions']]
        if not any(pairs):
            nothing = 0.0 * sum(keys.sum() + values.sum() for keys, values in prefix.layers)
            return term(nothing, 0)
        rows = question_batch(pairs, self.language.padding_token).to(prefix.layers[0][0].device)
        loss = answer_loss(self.language, prefix, rows)
        return term(loss, rows.is_answer.sum(), self._weights.answers)

    def _practise(self, prefix: KeyValues, features: Tensor, positions_m: Tensor) -> Term:
        sights = self._sights(features, positions_m, self._reading.score_threshold)
        loss, count = reading_loss(
            self.language, prefix, features, positions_m, sights, self._class_names, self._reading
        )
        return term(loss, count, self._weights.reading)


def _only(output: EncoderOutput, sample: int) -> EncoderOutput:
    """One sample's, B = 1."""
    one = slice(sample, sample + 1)
    return EncoderOutput(
        output.features[one],
        tuple(points_m[one] for points_m in output.points_m),
        tuple(logits[one] for logits in output.logits),
    )
