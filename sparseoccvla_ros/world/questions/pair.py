"""A question with its answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Draft:
    """What one kind of question could ask about a keyframe; the wording is chosen later.

    ``key`` is the answer's coarse content, the thing that is balanced; ``slots`` fill ``$name`` in the kind's
    templates; ``mentions`` are the phrases of question and answer that stand for an object, with its index in
    ``KeyframeFacts.objects`` (-1 - n for the n-th signal).
    """

    kind: str
    key: str
    answer: str
    slots: Mapping[str, str] = field(default_factory=dict)
    mentions: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Pair:
    """A question about a keyframe, and its answer.

    ``template`` is the number of the template within its kind, ``wording`` the template with its alternatives chosen
    and its slots still open; ``split`` is 'train' or 'val'. Other fields as in ``Draft``.
    """

    scene_index: int
    scene_token: str
    sample_token: str
    keyframe: int
    split: str
    kind: str
    key: str
    question: str
    answer: str
    template: int
    wording: str
    mentions: tuple[tuple[str, int], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """All fields, in the forms of JSON; ``from_json`` is its inverse."""
        return {**self.__dict__, 'mentions': [list(mention) for mention in self.mentions]}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Pair:
        """Read what ``to_json`` gave.

        Raises:
            TypeError: a field is missing or unknown.
        """
        mentions = tuple((str(phrase), int(index)) for phrase, index in document['mentions'])
        return cls(**{**document, 'mentions': mentions})
