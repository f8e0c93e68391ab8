"""Sets of questions by name, and answers to them from a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sparseoccvla_ros.data.qa.drivelm import load_drivelm
from sparseoccvla_ros.data.qa.omnidrive import load_omnidrive
from sparseoccvla_ros.data.qa.pairs import QAError, QuestionSet, described, mapping_of, read_json, text_in
from sparseoccvla_ros.data.qa.world import load_world

#: Where a set lies in a data folder, unless another place is given. DriveLM's is the published file with answers.
PLACES: dict[str, Callable[[Path], Path]] = {
    'omnidrive': lambda data: data,
    'drivelm': lambda data: data / 'v1_1_train_nus.json',
    'world': lambda data: data / 'questions' / 'pairs',
}

#: By (sample token, question), in the order of their source.
Answers = Mapping[tuple[str, str], Sequence[str]]


def load_questions(name: str, place: Path, split: str) -> QuestionSet:
    """A set by its name in :data:`PLACES`.

    Args:
        name: 'omnidrive', 'drivelm' or 'world' (written by `sparseoccvla world`).
        place: the folder, or DriveLM's file.
        split: 'train' or 'val', of the world also 'all'; a DriveLM file is one split.

    Raises:
        QAError: unknown name, or the files are not of their form.
    """
    if name not in PLACES:
        raise QAError(f'questions must be one of {", ".join(PLACES)}, got {name!r}')
    if name == 'drivelm':
        return load_drivelm(place)
    return load_world(place, split) if name == 'world' else load_omnidrive(place, split)


def load_answers(path: Path) -> dict[tuple[str, str], list[str]]:
    """Answers by sample token and question, from a list of {sample_token, question, answer}.

    DriveLM's submissions have ``id`` instead (``<scene>_<sample>_<number>``) and may begin a question with
    ``<image>`` and a line break; both are understood. Other fields are ignored.

    Raises:
        QAError: the file is not of this form.
    """
    entries = read_json(path)
    if not isinstance(entries, list):
        raise QAError(f'{path}: expected a list of answers, found {described(entries)}')
    answers: dict[tuple[str, str], list[str]] = {}
    for number, entry in enumerate(entries):
        where = f'{path}, entry {number}'
        question = text_in(mapping_of(entry, where), 'question', where).removeprefix('<image>\n')
        answer = text_in(entry, 'answer', where, may_be_empty=True)
        answers.setdefault((_sample_token(entry, where), question), []).append(answer)
    return answers


def answers_to(questions: QuestionSet, answers: Answers) -> list[str]:
    """An answer for each pair of the set, '' where there is none. Answers to no question of the set are counted in
    ``questions.skipped``.

    Sets ask the same question about a keyframe more than once, with different references (DriveLM does). One answer
    then stands for all; as many as there are pairs are taken in order.

    Raises:
        QAError: there is another number of answers to a question.
    """
    counts = Counter((pair.sample_token, pair.question) for pair in questions.pairs)
    for (token, question), count in counts.items():
        found = len(answers.get((token, question), ()))
        if found > 1 and found != count:
            wanted = '1 answer' if count == 1 else f'1 or {count} answers'
            raise QAError(f'expected {wanted} to {described(question)} about {token}, found {found}')
    others = sum(len(given) for key, given in answers.items() if key not in counts)
    if others:
        questions.skipped['answer to no question of the set'] += others
    used: Counter[tuple[str, str]] = Counter()
    chosen = []
    for pair in questions.pairs:
        key = (pair.sample_token, pair.question)
        given = answers.get(key, ('',))
        chosen.append(given[min(used[key], len(given) - 1)])
        used[key] += 1
    return chosen


def _sample_token(entry: Mapping[str, object], where: str) -> str:
    if 'sample_token' in entry or 'id' not in entry:
        return text_in(entry, 'sample_token', where)
    parts = text_in(entry, 'id', where).split('_')
    if len(parts) != 3:
        raise QAError(f"{where}: expected an 'id' of scene, sample and number, found {described(entry['id'])}")
    return parts[1]
