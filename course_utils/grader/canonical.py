"""Dataclasses as JSON, in one form for one content, and back."""

from __future__ import annotations

import dataclasses
import json
from functools import cache
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")


def to_json(record: Any) -> bytes:
    """One form for one content: sorted keys, ASCII, a newline at the end."""
    content = dataclasses.asdict(record) if dataclasses.is_dataclass(record) and not isinstance(record, type) else record
    return (json.dumps(content, sort_keys=True, indent=2, ensure_ascii=True, allow_nan=False) + "\n").encode("ascii")


def from_json(kind: type[T], body: bytes) -> T:
    """The `kind` that `to_json` wrote.

    Raises:
        ValueError: if it is none of that kind, or only a part of one.
    """
    try:
        return rebuilt(kind, json.loads(body))
    except (ValueError, TypeError) as error:
        words = f"this is no {kind.__name__.lower()} ({type(error).__name__}: {error}); delete it and grade again"
        raise ValueError(words) from None


def rebuilt(kind: Any, content: Any) -> Any:
    """What `dataclasses.asdict` and JSON have made of a `kind`, made whole again; `TypeError` if it is something else."""
    of = get_args(kind)
    if get_origin(kind) is UnionType:
        return None if content is None else rebuilt(of[0], content)
    made: Any = {tuple: list}.get(get_origin(kind), dict if dataclasses.is_dataclass(kind) else kind)
    if type(content) is not made:
        raise TypeError(f"{made.__name__} was expected, not {type(content).__name__}")
    if made is list:
        return tuple(rebuilt(of[0], value) for value in content)
    if made is kind:
        return content
    kinds = kinds_of(kind)
    if content.keys() != kinds.keys():
        raise TypeError(f"a {kind.__name__} has the fields {', '.join(kinds)}")
    return kind(**{name: rebuilt(kinds[name], value) for name, value in content.items()})


kinds_of = cache(get_type_hints)
