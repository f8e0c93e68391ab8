"""The part of ``sparseoccvla eval language`` that asks a model."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from sparseoccvla_ros.cli.eval_common import rig_cameras, scene_names
from sparseoccvla_ros.data.nuscenes import NuScenesTables
from sparseoccvla_ros.data.qa.pairs import QAPair

if TYPE_CHECKING:
    from sparseoccvla_ros.evaluation.language_run import LanguageRun


@dataclass(frozen=True)
class ModelRequest:
    """Which model is asked, and how; fields as the command's options."""

    model: str
    weights: str
    cameras: str
    device: str
    threads: int
    max_tokens: int
    time_limit_s: float


@dataclass(frozen=True)
class ScenesAsked:
    """Scenes of a data set, the tokens of their keyframes, and the cameras that any of these has."""

    tables: NuScenesTables
    names: list[str]
    sample_tokens: frozenset[str]
    cameras: list[str]

    @classmethod
    def of(cls, data: Path, version: str, names: list[str] | None, file: Path | None) -> ScenesAsked:
        """The scenes of these names; all by default.

        Raises:
            NuScenesError: the tables are broken, or have no such scene.
            OSError: the file of names cannot be read.
        """
        tables = NuScenesTables(data, version)
        wanted = scene_names(tables, names, file)
        tokens, cameras = set(), set()
        for name in wanted:
            for sample in tables.scene(name).samples:
                tokens.add(sample.token)
                cameras.update(frame.channel for frame in sample.sensors.values() if frame.modality == 'camera')
        return cls(tables, wanted, frozenset(tokens), sorted(cameras))


def ask_model(scenes: ScenesAsked, request: ModelRequest, pairs: Sequence[QAPair], console: Console) -> LanguageRun:
    """Build perception and language of a model and ask all questions, with a progress bar.

    Raises:
        ValueError, OSError: the configuration, weights, device or cameras are wrong.
    """
    # imported here: scoring a file need not wait seconds for torch
    import torch

    from sparseoccvla_ros.evaluation.language_run import Engines, answer_questions
    from sparseoccvla_ros.model.config import load_model_config
    from sparseoccvla_ros.model.placement import checkpoint_folder, torch_device
    from sparseoccvla_ros.model.vla import build_language, build_perception
    from sparseoccvla_ros.runtime.perception import PerceptionEngine
    from sparseoccvla_ros.runtime.questions import QuestionLimits
    from sparseoccvla_ros.runtime.reasoning import ReasoningEngine

    torch.set_num_threads(request.threads)
    rig = rig_cameras(request.cameras, scenes.cameras)
    config, place = load_model_config(request.model), torch_device(request.device)
    weights = checkpoint_folder(request.weights)
    perception = PerceptionEngine(build_perception(config, weights=weights).to(place), config, place, rig)
    limits = QuestionLimits(
        kept_scenes=1,
        default_max_tokens=request.max_tokens,
        max_answer_tokens=request.max_tokens,
        time_limit_s=request.time_limit_s,
    )
    reasoning = ReasoningEngine(build_language(config, weights=weights).to(place), config, place, limits)
    columns = (TextColumn('questions'), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with closing(reasoning), Progress(*columns, console=console) as progress:
        task = progress.add_task('questions', total=len({(pair.sample_token, pair.question) for pair in pairs}))
        engines = Engines(perception, config, reasoning)
        return answer_questions(scenes.tables, scenes.names, pairs, engines, lambda: progress.advance(task))
