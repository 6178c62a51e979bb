"""What the annotation of an option says of its values, for options given in Python. Recipes: `config`, which knows lines, and types too."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from functools import reduce
from itertools import chain, repeat
from numbers import Real
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

_BOUNDS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "ge": ("at least", operator.ge),
    "gt": ("above", operator.gt),
    "le": ("at most", operator.le),
    "lt": ("below", operator.lt),
}
"""The names are those of pydantic's `Field`."""


def violated(annotation: Any, value: Any) -> str | None:
    """What a value, or a member of it, would have to be; None where it is that, or nothing is said of values like it."""
    origin, members = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _out_of_bounds(members[1:], value) or violated(members[0], value)
    if origin is Literal and isinstance(value, str | Real):
        return None if value in members else f"one of {', '.join(map(str, members))}"
    if origin in (Union, UnionType):
        said = [violated(member, value) for member in members if member is not NoneType]
        return None if value is None or None in said else said[0]
    if origin in (tuple, list) and members and isinstance(value, tuple | list):
        kinds: Iterable[Any] = repeat(members[0]) if origin is list or members[-1] is ... else members
        return next(filter(None, map(violated, kinds, value)), None)
    return None


def as_read(annotation: Any, value: Any) -> Any:
    """The value as a recipe would give it: a tuple for a list, a number of Python for one of numpy or torch, and 1.0 for a float's 1."""
    origin, members = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return as_read(members[0], value)
    if origin in (Union, UnionType):
        return value if type(value) in members else reduce(lambda read, member: as_read(member, read), members, value)
    if isinstance(value, tuple | list):
        kinds: tuple[Any, ...] = members if origin in (tuple, list) else ()
        each = repeat(kinds[0]) if kinds[1:] == (...,) or (kinds and origin is list) else chain(kinds, repeat(Any))
        return tuple(map(as_read, each, value))
    value = value.item() if getattr(value, "ndim", None) == 0 else value
    return float(value) if annotation is float and type(value) is int else value


def _out_of_bounds(notes: tuple[Any, ...], value: Any) -> str | None:
    if not isinstance(value, Real):
        return None
    for bound in (bound for note in notes for bound in getattr(note, "metadata", ())):
        for name, (words, holds) in _BOUNDS.items():
            limit = getattr(bound, name, None)
            if limit is not None and not holds(value, limit):
                return f"{words} {limit}"
    return None
