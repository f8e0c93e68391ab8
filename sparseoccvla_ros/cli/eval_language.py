"""``sparseoccvla eval language``: answers against the reference answers of a set of questions."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from sparseoccvla_ros.cli.ask_model import ModelRequest, ScenesAsked, ask_model
from sparseoccvla_ros.cli.eval_common import (
    ALL_CAMERAS,
    FAILED_SAMPLES,
    CameraNames,
    Device,
    Threads,
    Weights,
    refusal,
    require_writable,
)
from sparseoccvla_ros.data.qa.drivelm import DriveLMSet
from sparseoccvla_ros.data.qa.pairs import QAPair
from sparseoccvla_ros.data.qa.sources import PLACES, answers_to, load_answers, load_questions
from sparseoccvla_ros.evaluation.replay_summary import revision

if TYPE_CHECKING:
    from sparseoccvla_ros.evaluation.language_report import LanguageReport
    from sparseoccvla_ros.evaluation.language_run import LanguageRun

SHOWN_FAILURES = 10


def language(
    data: Annotated[Path, typer.Option('--data', metavar='DIR', help='Data folder.')],
    questions: Annotated[str, typer.Option('--questions', metavar='SET', help=f'One of {", ".join(PLACES)}.')],
    qa: Annotated[
        Path | None, typer.Option('--qa', metavar='PATH', help="The questions' folder, or DriveLM's file; else in DIR.")
    ] = None,
    split: Annotated[str, typer.Option(help='train or val; a DriveLM file is one split.')] = 'val',
    limit: Annotated[int, typer.Option(min=0, help='At most so many questions, spread evenly; 0: all.')] = 0,
    predictions: Annotated[
        Path | None, typer.Option(metavar='FILE', help='Score its answers: [{sample_token, question, answer}].')
    ] = None,
    model: Annotated[str | None, typer.Option(help='Ask this model: a configuration name or a .yaml path.')] = None,
    weights: Weights = '',
    version: Annotated[str, typer.Option(metavar='V', help='Folder of the tables (--model).')] = 'v1.0-trainval',
    scene: Annotated[list[str] | None, typer.Option(help='Scene (--model); repeatable. All if not given.')] = None,
    scenes_file: Annotated[Path | None, typer.Option(help='File with one scene name a line (--model).')] = None,
    cameras: CameraNames = ALL_CAMERAS,
    device: Device = 'cpu',
    threads: Threads = 2,
    max_tokens: Annotated[int, typer.Option(min=1, help='Longest answer.')] = 64,
    time_limit_s: Annotated[float, typer.Option(min=0.001, help='Of one answer.')] = 60.0,
    tokenizer: Annotated[str, typer.Option(help='auto, ptb (needs Java), simple or whitespace.')] = 'auto',
    protocol: Annotated[str, typer.Option(help='all, or hermes: as the script of HERMES counts.')] = 'all',
    json_file: Annotated[Path | None, typer.Option('--json', metavar='FILE', help='Write all figures there.')] = None,
    save_predictions: Annotated[Path | None, typer.Option(metavar='FILE', help='Write the answers there.')] = None,
    allow_failures: Annotated[bool, typer.Option(help='Exit with 0 although answers are missing.')] = False,
) -> None:
    """Language: BLEU, METEOR, ROUGE-L, CIDEr, exact answers, counts, distances, positions, DriveLM's scores.

    Scores the answers of a file, or asks a model through the engines that run on the car. A missing answer counts as
    wrong. Exit code 1: answers are missing. 2: the request or a file is wrong, or FILE cannot be written.
    """
    # imported here: the other commands need not wait for pycocoevalcap
    from sparseoccvla_ros.evaluation.language_report import asked, chosen_tokenizer, report
    from sparseoccvla_ros.evaluation.tokenization import JavaError, java_missing

    console = Console(stderr=True)
    settings = {'data': str(data), 'set': questions, 'split': split, 'limit': limit, 'revision': revision()}
    run: LanguageRun | None = None
    try:
        if (predictions is None) == (model is None):
            raise ValueError('give either --predictions or --model')
        if predictions is not None and (scene or scenes_file):
            raise ValueError('--scene and --scenes-file belong to --model')
        for file in (json_file, save_predictions):
            if file is not None:
                require_writable(file)
        words = chosen_tokenizer(tokenizer, protocol)
        if tokenizer == 'auto' and protocol == 'all' and java_missing():
            text = f'warning: {java_missing()}: tokenizer {words}, no METEOR; no score compares with published ones'
            console.print(text, style='yellow', highlight=False, soft_wrap=True)
        found = load_questions(questions, qa or PLACES.get(questions, Path)(data), split)
        if predictions is not None:
            places = _first(asked(found.pairs, protocol), limit, found.skipped)
            answers = answers_to(found, load_answers(predictions))
            settings['predictions'] = str(predictions)
        else:
            assert model is not None
            request = ModelRequest(model, weights, cameras, device, threads, max_tokens, time_limit_s)
            scenes = ScenesAsked.of(data, version, scene, scenes_file)
            found.restrict(scenes.sample_tokens)
            places = _first(asked(found.pairs, protocol), limit, found.skipped)
            run = ask_model(scenes, request, [found.pairs[place] for place in places], console)
            answers = answers_to(found, run.answers)
            asked_how = {**asdict(request), 'weights': weights or 'untrained'}
            settings |= {'version': version, 'scenes': scenes.names, **asked_how}
        pairs, answers = [found.pairs[place] for place in places], [answers[place] for place in places]
        if save_predictions is not None:  # before anything else can go wrong
            save_predictions.write_text(_predictions(pairs, answers), encoding='utf-8')
        scores = report(pairs, answers, words, protocol, found.frames if isinstance(found, DriveLMSet) else None)
    except (ValueError, OSError, JavaError) as error:
        raise refusal(error, console) from error
    answered_by = str(predictions) if predictions is not None else f'{model}, {weights or "untrained"}'
    _show(scores, found.skipped, f'{questions}, {answered_by}')
    if run is not None:
        _show_failures(run, console)
    document = {**settings, 'skipped': dict(found.skipped), **_counts(run), **scores.summary()}
    try:
        if json_file is not None:
            json_file.write_text(json.dumps(document, indent=1) + '\n', encoding='utf-8')
    except OSError as error:  # a full disk, for example
        raise refusal(error, console) from error
    if scores.missing and not allow_failures:
        raise typer.Exit(FAILED_SAMPLES)


def _first(places: list[int], limit: int, skipped: Counter[str]) -> list[int]:
    """At most ``limit`` of the places, spread evenly; all for 0."""
    if not limit or len(places) <= limit:
        return places
    skipped['beyond --limit'] += len(places) - limit
    return [places[number * len(places) // limit] for number in range(limit)]


def _predictions(pairs: Sequence[QAPair], answers: Sequence[str]) -> str:
    """Answers in the form that --predictions takes, without the missing ones."""
    entries = [
        {'sample_token': pair.sample_token, 'question': pair.question, 'answer': answer}
        for pair, answer in zip(pairs, answers, strict=True)
        if answer
    ]
    return json.dumps(entries, indent=1, ensure_ascii=False) + '\n'


def _counts(run: LanguageRun | None) -> dict[str, object]:
    """Of a run of a model, for the JSON file."""
    if run is None:
        return {}
    failures = [vars(failure) for failure in run.failures]
    return {'keyframes': run.keyframes, 'degraded': run.degraded, 'temporal': run.temporal, 'failures': failures}


def _show(scores: LanguageReport, skipped: Mapping[str, int], title: str) -> None:
    console = Console()
    table = Table('kind', 'n', 'missing', 'exact %', 'BLEU-4', 'ROUGE-L', 'CIDEr', 'METEOR', title=title)
    for kind, row in scores.by_kind.items():
        figures = (row.bleu_4, row.rouge_l, row.cider)
        table.add_row(
            kind, str(row.questions), str(row.missing), _percent(row.exact_match), *map(_figure, figures), '-'
        )
    figures = [scores.language.corpus.get(name) for name in ('Bleu_4', 'ROUGE_L', 'CIDEr', 'METEOR')]
    counts = str(scores.questions), str(scores.missing)
    table.add_row('all', *counts, _percent(scores.exact_match), *map(_figure, figures))
    for column in table.columns[1:]:
        column.justify = 'right'
    console.print(table)
    for kind, score in scores.numeric.items():
        told = [f'{score.questions} questions', *(f'{name} {_percent(x)} %' for name, x in score.shares.items())]
        told.append(f'{score.without_value} answers without a value')
        if score.mean_error is not None:
            told.append(f'mean error of the others {score.mean_error:.2f}{"" if kind == "count" else " m"}')
        console.print(f'{kind}: {", ".join(told)}', highlight=False, soft_wrap=True)
    if scores.drivelm is not None:
        own = scores.drivelm
        console.print(
            f'DriveLM (tags {own.tags}): accuracy {_percent(own.accuracy)} %, match F1 {_figure(own.match_f1)}, '
            f'language {_figure(own.language)}; questions {own.questions}, {own.gated} gated; left out: {own.left_out}',
            markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip
    notes = [f'protocol {scores.protocol}, tokenizer {scores.tokenizer}']
    notes += [f'no {name}: {reason}' for name, reason in scores.language.unavailable.items()]
    notes += [f'left out: {number} x {reason}' for reason, number in skipped.items()]
    for note in notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)


def _percent(value: float | None) -> str:
    return '-' if value is None else f'{100.0 * value:.2f}'


def _figure(value: float | None) -> str:
    return '-' if value is None else f'{value:.4f}'


def _show_failures(run: LanguageRun, console: Console) -> None:
    if run.failures:
        console.print(f'{len(run.failures)} questions without answer:', style='red', highlight=False)
    for failure in run.failures[:SHOWN_FAILURES]:
        console.print(
            f'  {failure.sample} {failure.question!r}: {failure.reason}', markup=False, highlight=False, soft_wrap=True
        )
