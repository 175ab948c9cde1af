"""What plain data must look like: files that people, or other programs, may have written.

A schema is called with a value and its name, and raises `SchemaError` where the value is not of it.
It is read off an annotation, so that fields are declared once:

    @dataclass
    class Network:
        name: str
        layers: Annotated[int, whole(1)]
        reward: str | None = None

    schema_of(Network)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache, partial
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    TypeAlias,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from trimtab.errors import TrimtabError, UsageError, check_word

Schema: TypeAlias = Callable[[Any, str], None]

MOST = 2**31
"""No count of ours is larger."""


class SchemaError(Exception):
    """A value that is not of its schema: what must hold of what, and what was got."""

    def __init__(self, must: str, got: str) -> None:
        super().__init__(must, got)
        self.must, self.got = must, got


def check(value: Any, schema: Schema, *, of: str, error: type[TrimtabError], do: str) -> None:
    """Hold plain data to a schema; the error names what it is `of`, such as a path."""
    try:
        _finite(value, "")
        schema(value, "")
    except SchemaError as broken:
        raise error(f"{of}: {broken.must}", got=broken.got, do=do) from None
    except RecursionError:
        raise error(f"{of} must not be nested so deep", got="hundreds of levels", do=do) from None


def check_settings(kind: type, values: Mapping[str, Any], *, of: str, do: str) -> None:
    """Hold some fields of a dataclass to their annotations; near words of a `Literal` are offered.

    The error begins with what one of them is `of`, in words.
    """
    hints = get_type_hints(kind, include_extras=True)
    for name, value in values.items():
        literals = [h for h in (hints[name], *get_args(hints[name])) if get_origin(h) is Literal]
        words = [word for literal in literals for word in get_args(literal)]
        if words and isinstance(value, str):
            check_word(name, value, words)
    schema = record({}, {name: schema_of(hints[name]) for name in values})
    check(values, schema, of=of, error=UsageError, do=do)


def _refuse(name: str, must: str, value: Any) -> SchemaError:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return SchemaError(f"{name or 'all of it'} must be {must}", shown)


def _finite(value: Any, name: str) -> None:
    """No NaN and no infinity anywhere, and texts that can be written."""
    if isinstance(value, float) and not math.isfinite(value):
        raise _refuse(name, "a finite number", value)
    if isinstance(value, str):
        text(value, name)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            _finite(key, f"a name in {name}" if name else "a name")
            _finite(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            _finite(inner, f"{name}[{i}]")


# --- schemas of single values --------------------------------------------------------------------


def text(value: Any, name: str) -> None:
    """A text."""
    if not isinstance(value, str):
        raise _refuse(name, "a text", value)
    if "\0" in value or any("\ud800" <= c <= "\udfff" for c in value):
        raise _refuse(name, "a text that can be written", value)


def _truth(value: Any, name: str) -> None:
    if not isinstance(value, bool):
        raise _refuse(name, "true or false", value)


def whole(least: int = 0, most: int = MOST) -> Schema:
    """A whole number."""

    def holds(value: Any, name: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            upto = f" to {most}" if most != MOST else " or more"
            raise _refuse(name, f"a whole number, {least}{upto}", value)

    return holds


def _number(value: Any, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refuse(name, "a number", value)
    try:
        held = math.isfinite(float(value))
    except OverflowError:
        held = False
    if not held:
        raise _refuse(name, "a finite number", value)


def above(bound: float, *, equal: bool = False, most: float = math.inf) -> Schema:
    """A number above a bound, or from it on."""

    def holds(value: Any, name: str) -> None:
        _number(value, name)
        if not (value > bound or (equal and value == bound)) or value > most:
            said = f"{bound:g} or more" if equal else f"above {bound:g}"
            said += f", at most {most:g}" if most < math.inf else ""
            raise _refuse(name, f"a number, {said}", value)

    return holds


def one_of(known: Iterable[str]) -> Schema:
    """One of some words."""
    words = tuple(known)

    def holds(value: Any, name: str) -> None:
        if not isinstance(value, str) or value not in words:
            raise _refuse(name, f"one of {', '.join(words)}", value)

    return holds


def record(
    needed: Mapping[str, Schema],
    optional: Mapping[str, Schema] | None = None,
    *,
    more: bool = False,
) -> Schema:
    """An object with names that must be there, others that may be, and perhaps any `more`."""
    known = {**needed, **(optional or {})}

    def holds(value: Any, name: str) -> None:
        _hold(Mapping[str, Any], value, name)
        of = f"{name}." if name else ""
        for key in needed:
            if key not in value:
                raise SchemaError(f"{of}{key} must be there", "nothing of that name")
        for key, each in value.items():
            if key in known:
                known[key](each, f"{of}{key}")
            elif not more:
                must = f"{name or 'it'} must have no names but {', '.join(known)}"
                raise SchemaError(must, repr(key))

    return holds


# --- from annotations ----------------------------------------------------------------------------

_PLAIN: dict[Any, Schema] = {str: text, bool: _truth, int: whole(), float: _number}


def schema_of(kind: Any) -> Schema:
    """The schema of values of a type.

    That may be `str`, `bool`, `int` (not negative), `float`, `Any`; a `Literal`, a union, a list or
    sequence, a tuple of one entry at least, a mapping; `Annotated[type, schema]` for a narrower
    schema; a dataclass, which takes no names but its fields; a `TypedDict`, which takes others too.

    >>> schema_of(Annotated[float, above(0)] | Literal["all"])("some", "prefixes")
    Traceback (most recent call last):
    ...
    trimtab.schema.SchemaError: ('prefixes must be a number, or one of all', "'some'")
    """
    return partial(_hold, kind)


def _hold(kind: Any, value: Any, name: str) -> None:
    origin, inner = get_origin(kind), get_args(kind)
    if is_dataclass(kind) or is_typeddict(kind):
        _record_of(kind)(value, name)
    elif origin is Annotated:
        inner[1](value, name)
    elif origin is Literal:
        one_of(inner)(value, name)
    elif origin in (Union, UnionType):
        _hold_one(inner, value, name)
    elif origin in (list, Sequence, tuple):
        if not isinstance(value, list | tuple):
            raise _refuse(name, "a list", value)
        if origin is tuple and not value:
            raise SchemaError(f"{name} must have one at least", "none")
        for i, each in enumerate(value):
            _hold(inner[0], each, f"{name}[{i}]")
    elif origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise _refuse(name, "an object of names and values", value)
        for key, each in value.items():
            text(key, f"a name in {name}" if name else "a name")
            _hold(inner[1], each, f"{name}.{key}" if name else key)
    elif kind is not Any:
        _PLAIN[kind](value, name)


def _hold_one(kinds: Sequence[Any], value: Any, name: str) -> None:
    """Hold a value to one of several types."""
    broken = list[SchemaError]()
    for kind in kinds:
        if kind is NoneType:
            if value is None:
                return None
            continue
        try:
            return _hold(kind, value, name)
        except SchemaError as error:
            broken.append(error)
    if len(broken) == 1:
        raise broken[0]
    words = [error.must.partition(" must be ")[2] for error in broken]
    raise _refuse(name, ", or ".join(words), value)


@cache
def _record_of(kind: Any) -> Schema:
    """The fields of a dataclass or `TypedDict`; those with a default may be missing."""
    hints = get_type_hints(kind, include_extras=True)
    if is_typeddict(kind):
        optional: Iterable[str] = kind.__optional_keys__
    else:
        optional = [
            f.name for f in fields(kind) if (f.default, f.default_factory) != (MISSING,) * 2
        ]
    schemas = {name: schema_of(hint) for name, hint in hints.items()}
    needed = {name: schema for name, schema in schemas.items() if name not in optional}
    return record(needed, {name: schemas[name] for name in optional}, more=is_typeddict(kind))
