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
    Bootstrap,
    CameraNames,
    Device,
    Threads,
    Weights,
    cell,
    comparison,
    interval_note,
    refusal,
    require_writable,
    table_console,
    weights_asked,
)
from sparseoccvla_ros.data.qa.drivelm import DriveLMSet
from sparseoccvla_ros.data.qa.pairs import QAPair, read_json
from sparseoccvla_ros.data.qa.sources import PLACES, answers_to, load_answers, load_questions
from sparseoccvla_ros.evaluation.bootstrap import RESAMPLES, SceneBootstrap
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
    split: Annotated[
        str, typer.Option(help='train or val, of the world also all; a DriveLM file is one split.')
    ] = 'val',
    limit: Annotated[int, typer.Option(min=0, help='At most so many questions, spread evenly; 0: all.')] = 0,
    predictions: Annotated[
        Path | None, typer.Option(metavar='FILE', help='Score its answers: [{sample_token, question, answer}].')
    ] = None,
    compare: Annotated[
        Path | None, typer.Option(metavar='FILE', help="Somebody else's answers, beside: differences with intervals.")
    ] = None,
    model: Annotated[str | None, typer.Option(help='Ask this model: a configuration name or a .yaml path.')] = None,
    weights: Weights = None,
    version: Annotated[
        str,
        typer.Option(
            metavar='V', help='Folder of the tables (--model; for intervals: which keyframe is of which scene).'
        ),
    ] = 'v1.0-trainval',
    scene: Annotated[list[str] | None, typer.Option(help='Scene (--model); repeatable. All if not given.')] = None,
    scenes_file: Annotated[Path | None, typer.Option(help='File with one scene name a line (--model).')] = None,
    cameras: CameraNames = ALL_CAMERAS,
    device: Device = 'cpu',
    threads: Threads = 2,
    max_tokens: Annotated[int, typer.Option(min=1, help='Longest answer.')] = 128,
    time_limit_s: Annotated[float, typer.Option(min=0.001, help='Of one answer.')] = 60.0,
    tokenizer: Annotated[str, typer.Option(help='auto, ptb (needs Java), simple or whitespace.')] = 'auto',
    protocol: Annotated[str, typer.Option(help='all, or hermes: as the script of HERMES counts.')] = 'all',
    json_file: Annotated[Path | None, typer.Option('--json', metavar='FILE', help='Write all figures there.')] = None,
    save_predictions: Annotated[Path | None, typer.Option(metavar='FILE', help='Write the answers there.')] = None,
    bootstrap: Bootstrap = RESAMPLES,
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
    weights = weights_asked(model or '', weights)
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
        others = [] if compare is None else answers_to(found, load_answers(compare))
        settings['compare'] = str(compare or '')
        pairs, answers = [found.pairs[place] for place in places], [answers[place] for place in places]
        if save_predictions is not None:  # before anything else can go wrong
            save_predictions.write_text(_predictions(pairs, answers), encoding='utf-8')
        of_pair = _scenes(pairs, data / version)
        resampled = SceneBootstrap(of_pair, bootstrap)
        frames = found.frames if isinstance(found, DriveLMSet) else None
        beside = [others[place] for place in places] if others else []
        scores = report(pairs, answers, words, protocol, frames, of_pair, resampled, beside)
    except (ValueError, OSError, JavaError) as error:
        raise refusal(error, console) from error
    answered_by = str(predictions) if predictions is not None else f'{model}, {weights or "untrained"}'
    _show(scores, f'{questions}, {answered_by}')
    for name, one in scores.against.items():
        told = f'against {compare}, {name}: {cell(one.own, None)} %, {comparison(one)}'
        Console().print(told, markup=False, highlight=False, soft_wrap=True)
    _show_notes(scores, found.skipped, resampled)
    if run is not None:
        _show_failures(run, console)
    document = {**settings, 'skipped': dict(found.skipped), **_counts(run), **scores.summary()}
    document['bootstrap'] = resampled.summary()
    try:
        if json_file is not None:
            json_file.write_text(json.dumps(document, indent=1) + '\n', encoding='utf-8')
    except OSError as error:  # a full disk, for example
        raise refusal(error, console) from error
    if scores.missing and not allow_failures:
        raise typer.Exit(FAILED_SAMPLES)


def _scenes(pairs: Sequence[QAPair], tables: Path) -> list[str]:
    """The scene of each pair, by the pair or by the table of keyframes; empty where neither tells.

    Raises:
        QAError: the table cannot be read.
        ValueError: it lacks a keyframe.
    """
    if all(pair.scene_token for pair in pairs):
        return [pair.scene_token for pair in pairs]
    path = tables / 'sample.json'
    if not path.is_file():
        return []
    scenes = {row['token']: row['scene_token'] for row in read_json(path)}
    missing = next((pair.sample_token for pair in pairs if pair.sample_token not in scenes), None)
    if missing is not None:
        raise ValueError(f'{path} has no keyframe {missing}; questions and --version do not belong together')
    return [scenes[pair.sample_token] for pair in pairs]


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


def _show(scores: LanguageReport, title: str) -> None:
    console, ends = table_console(), scores.intervals
    table = Table('kind', 'n', 'missing', 'exact %', 'BLEU-4', 'ROUGE-L', 'CIDEr', 'METEOR', title=title)
    for kind, row in scores.by_kind.items():
        cells = [cell(row.exact_match, ends.get(f'by_kind/{kind}/exact_match'))]
        for name in ('bleu_4', 'rouge_l', 'cider'):
            cells.append(cell(getattr(row, name), ends.get(f'by_kind/{kind}/{name}'), 1.0, 4))
        table.add_row(kind, str(row.questions), str(row.missing), *cells, '-')
    cells = [cell(scores.exact_match, ends.get('exact_match'))]
    for name in ('Bleu_4', 'ROUGE_L', 'CIDEr', 'METEOR'):
        cells.append(cell(scores.language.corpus.get(name), ends.get(name), 1.0, 4))
    table.add_row('all', str(scores.questions), str(scores.missing), *cells)
    for column in table.columns[1:]:
        column.justify = 'right'
    console.print(table)
    for kind, score in scores.numeric.items():
        shares = {name: cell(share, ends.get(f'numeric/{kind}/{name}')) for name, share in score.shares.items()}
        told = [f'{score.questions} questions', *(f'{name} {share} %' for name, share in shares.items())]
        told.append(f'{score.without_value} answers without a value')
        if score.mean_error is not None:
            error = cell(score.mean_error, ends.get(f'numeric/{kind}/mean_error'), 1.0)
            told.append(f'mean error of the others {error}{"" if kind.startswith("count") else " m"}')
        console.print(f'{kind}: {", ".join(told)}', markup=False, highlight=False, soft_wrap=True)
    if scores.drivelm is not None:
        own = scores.drivelm
        console.print(
            f'DriveLM (tags {own.tags}): accuracy {cell(own.accuracy, None)} %, '
            f'match F1 {cell(own.match_f1, None, 1.0, 4)}, language {cell(own.language, None, 1.0, 4)}; '
            f'questions {own.questions}, {own.gated} gated; left out: {own.left_out}',
            markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip


def _show_notes(scores: LanguageReport, skipped: Mapping[str, int], bootstrap: SceneBootstrap) -> None:
    console = Console()
    notes = [interval_note(bootstrap), f'protocol {scores.protocol}, tokenizer {scores.tokenizer}']
    notes += [f'no {name}: {reason}' for name, reason in scores.language.unavailable.items()]
    notes += [f'left out: {number} x {reason}' for reason, number in skipped.items()]
    for note in notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)


def _show_failures(run: LanguageRun, console: Console) -> None:
    if run.failures:
        console.print(f'{len(run.failures)} questions without answer:', style='red', highlight=False)
    for failure in run.failures[:SHOWN_FAILURES]:
        console.print(
            f'  {failure.sample} {failure.question!r}: {failure.reason}', markup=False, highlight=False, soft_wrap=True
        )
