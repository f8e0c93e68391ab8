"""Facts of keyframes as JSON, in which they wait until all scenes are made. Numbers keep all their digits."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np

from sparseoccvla_ros.world.labels.facts import KeyframeFacts


def facts_to_json(facts: KeyframeFacts) -> dict[str, Any]:
    """Facts in the types of JSON."""
    return _plain(facts)


def facts_from_json(document: Mapping[str, Any]) -> KeyframeFacts:
    """What :func:`facts_to_json` was given.

    Raises:
        KeyError, TypeError, ValueError: the document is not of that form.
    """
    return _typed(KeyframeFacts, document)


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, np.ndarray):
        return {'shape': list(value.shape), 'values': value.ravel().tolist()}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _typed(kind: Any, value: Any) -> Any:
    """A value in the types of JSON as the type that an annotation names."""
    if is_dataclass(kind):
        return kind(**{name: _typed(hint, value[name]) for name, hint in _hints(kind).items()})
    if kind is np.ndarray:
        return np.array(value['values'], dtype=np.float64).reshape(value['shape'])
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return None if value is None else _typed(inner[0], value)
    if origin is tuple:
        kinds: Sequence[Any] = [inner[0]] * len(value) if inner[-1] is Ellipsis else inner
        return tuple(_typed(each, item) for each, item in zip(kinds, value, strict=True))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {_typed(inner[0], key): _typed(inner[1], item) for key, item in value.items()}
    return kind(value)
