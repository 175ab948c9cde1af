"""What plain data must look like: files that people, or other programs, may have written.

A schema is called with a value and its name, and raises `SchemaError` where the value is not of it.
Schemas are put together from smaller ones:

    record({"name": text, "layers": whole(1)}, {"reward": maybe(text)})

or read off the annotations of a dataclass or `TypedDict`, so that its fields are declared once:

    @dataclass
    class Network:
        name: str
        layers: Annotated[int, whole(1)]
        reward: str | None = None

    schema_of(Network)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
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
    """A value that is not of its schema.

    Args:
        must: what must hold, with the value's name.
        got: the value, or what it is.
    """

    def __init__(self, must: str, got: str) -> None:
        super().__init__(must, got)
        self.must, self.got = must, got


def check(value: Any, schema: Schema, *, of: str, error: type[TrimtabError], do: str) -> None:
    """Hold a value to a schema.

    Args:
        value: plain data.
        schema: what it must be.
        of: where it was read, such as a path; it is named in the error.
        error: the error to raise.
        do: the way out.
    """
    try:
        finite(value, "")
        schema(value, "")
    except SchemaError as broken:
        raise error(f"{of}: {broken.must}", got=broken.got, do=do) from None
    except RecursionError:
        raise error(f"{of} must not be nested so deep", got="hundreds of levels", do=do) from None


def _refuse(name: str, must: str, value: Any) -> SchemaError:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return SchemaError(f"{name or 'all of it'} must be {must}", shown)


def anything(value: Any, name: str) -> None:
    """Plain data of any kind."""


def finite(value: Any, name: str) -> None:
    """No NaN and no infinity anywhere, and texts that can be written."""
    if isinstance(value, float) and not math.isfinite(value):
        raise _refuse(name, "a finite number", value)
    if isinstance(value, str):
        text(value, name)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            finite(key, f"a name in {name}" if name else "a name")
            finite(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            finite(inner, f"{name}[{i}]")


def text(value: Any, name: str) -> None:
    """A text."""
    if not isinstance(value, str):
        raise _refuse(name, "a text", value)
    if "\0" in value or any("\ud800" <= c <= "\udfff" for c in value):
        raise _refuse(name, "a text that can be written", value)


def truth(value: Any, name: str) -> None:
    """True or false."""
    if not isinstance(value, bool):
        raise _refuse(name, "true or false", value)


def whole(least: int = 0, most: int = MOST) -> Schema:
    """A whole number."""

    def holds(value: Any, name: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            upto = f" to {most}" if most != MOST else " or more"
            raise _refuse(name, f"a whole number, {least}{upto}", value)

    return holds


def number(value: Any, name: str) -> None:
    """A number that a float can hold."""
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
        number(value, name)
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


def maybe(inner: Schema) -> Schema:
    """Null, or a schema."""

    def holds(value: Any, name: str) -> None:
        if value is not None:
            inner(value, name)

    return holds


def either(*schemas: Schema, must: str = "") -> Schema:
    """One of several schemas.

    Args:
        *schemas: which.
        must: all of them, in words; "" puts their own words together.
    """

    def holds(value: Any, name: str) -> None:
        words = []
        for inner in schemas:
            try:
                return inner(value, name)
            except SchemaError as broken:
                words.append(broken.must.partition(" must be ")[2])
        raise _refuse(name, must or ", or ".join(words), value)

    return holds


def some_of(inner: Schema) -> Schema:
    """A list of one or more of one schema."""

    def holds(value: Any, name: str) -> None:
        list_of(inner)(value, name)
        if not value:
            raise SchemaError(f"{name} must have one at least", "none")

    return holds


def list_of(inner: Schema) -> Schema:
    """A list of one schema."""

    def holds(value: Any, name: str) -> None:
        if not isinstance(value, list | tuple):
            raise _refuse(name, "a list", value)
        for i, each in enumerate(value):
            inner(each, f"{name}[{i}]")

    return holds


def mapping_of(inner: Schema) -> Schema:
    """Names, each with a value of one schema."""

    def holds(value: Any, name: str) -> None:
        if not isinstance(value, Mapping):
            raise _refuse(name, "an object of names and values", value)
        for key, each in value.items():
            text(key, f"a name in {name}" if name else "a name")
            inner(each, f"{name}.{key}" if name else key)

    return holds


def record(
    needed: Mapping[str, Schema],
    optional: Mapping[str, Schema] | None = None,
    *,
    more: bool = False,
) -> Schema:
    """An object with certain names.

    Args:
        needed: they must be there.
        optional: they may be.
        more: whether others may be, of any kind.
    """
    known = {**needed, **(optional or {})}

    def holds(value: Any, name: str) -> None:
        mapping_of(anything)(value, name)
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

PLAIN: dict[Any, Schema] = {Any: anything, str: text, bool: truth, int: whole(), float: number}


def schema_of(annotation: Any) -> Schema:
    """The schema of values of a type.

    Args:
        annotation: `str`, `bool`, `int` (not negative), `float`, `Any`; a `Literal`, a union, a
            list, a tuple of one entry at least, a mapping; `Annotated[type, schema]` for a narrower
            schema; a dataclass, which takes no names but its fields; a `TypedDict`, which takes
            others too.

    >>> schema_of(Annotated[float, above(0)] | Literal["all"])("some", "prefixes")
    Traceback (most recent call last):
    ...
    trimtab.schema.SchemaError: ('prefixes must be a number, or one of all', "'some'")
    """
    origin, inner = get_origin(annotation), get_args(annotation)
    if is_dataclass(annotation) or is_typeddict(annotation):
        return _record_of(annotation)
    if origin is Annotated:
        narrower: Schema = inner[1]
        return narrower
    if origin is Literal:
        return one_of(inner)
    if origin in (Union, UnionType):
        several = [schema_of(kind) for kind in inner if kind is not NoneType]
        one = several[0] if len(several) == 1 else either(*several)
        return maybe(one) if NoneType in inner else one
    if origin is tuple:
        return some_of(schema_of(inner[0]))
    if origin is list:
        return list_of(schema_of(inner[0]))
    if origin in (dict, Mapping):
        return mapping_of(schema_of(inner[1]))
    return PLAIN[annotation]


def _record_of(kind: Any) -> Schema:
    """The fields of a dataclass or `TypedDict`; those with a default may be missing."""
    schemas = {
        name: schema_of(hint) for name, hint in get_type_hints(kind, include_extras=True).items()
    }
    if is_typeddict(kind):
        optional: Iterable[str] = kind.__optional_keys__
    else:
        optional = [
            f.name for f in fields(kind) if (f.default, f.default_factory) != (MISSING,) * 2
        ]
    needed = {name: schema for name, schema in schemas.items() if name not in optional}
    return record(needed, {name: schemas[name] for name in optional}, more=is_typeddict(kind))


def check_settings(kind: type, values: Mapping[str, Any], *, of: str, do: str) -> None:
    """Hold plain values to the annotations of a dataclass.

    Args:
        kind: the dataclass.
        values: some of its fields.
        of: what one of them is, in words; it begins the error.
        do: the way out.

    Raises:
        UsageError: a value is not of its annotation.
        UnknownNameError: a word that its `Literal` does not have; near words are offered.
    """
    hints = get_type_hints(kind, include_extras=True)
    for name, value in values.items():
        literals = [hints[name], *get_args(hints[name])]
        words = [
            word for each in literals if get_origin(each) is Literal for word in get_args(each)
        ]
        if words and isinstance(value, str):
            check_word(name, value, words)
    schema = record({}, {name: schema_of(hints[name]) for name in values})
    check(values, schema, of=of, error=UsageError, do=do)
