"""Figures as people read them, in tables, pages and sentences alike."""

from __future__ import annotations

from typing import TypeAlias

Value: TypeAlias = "str | int | float | None"

NONE = "\N{EN DASH}"
"""A figure that does not exist."""

DIGITS = 6


def number(value: Value, form: str = ".3f") -> str:
    """A figure as text; a dash where it does not exist, and no sign before a zero.

    >>> number(-0.0001), number(0.5, ".0%"), number(2.0, "+.1f")
    ('0.000', '50%', '+2.0')
    """
    if value is None or isinstance(value, str):
        return value or NONE
    text = format(value, form)
    return text.lstrip("+-") if float(text.rstrip("%")) == 0 else text


def with_error(value: Value, se: Value, form: str = ".3f") -> str:
    """A mean and its standard error.

    >>> with_error(1.5, 0.25, "+.2f")
    '+1.50 ± 0.25'
    """
    error = "" if value is None or se is None else f" ± {number(se, form.lstrip('+'))}"
    return number(value, form) + error


def p_value(p: float | None) -> str:
    """A p-value with two digits; below a thousandth only that."""
    if p is None:
        return NONE
    return "< 0.001" if p < 0.001 else f"{p:.2g}"


def rounded(value: Value) -> Value:
    """A float to six significant digits; -0 is 0."""
    return float(f"{value:.{DIGITS}g}") + 0.0 if isinstance(value, float) else value


def is_figure(text: str) -> bool:
    """Whether a field of a table is a figure, which stands right, and no words."""
    return text.startswith((*"+-<0123456789", "n = "))


def markdown_field(text: str) -> str:
    """Text that cannot leave its field of a Markdown table, nor be read as HTML."""
    plain = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return plain.replace("\\", "\\\\").replace("|", "\\|")
