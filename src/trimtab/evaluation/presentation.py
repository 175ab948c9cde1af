"""How figures are shown: numbers as text, tables, pictures, and pages from templates.

`templates/page.html.j2` is the frame of a page with the one stylesheet and the one script,
`macros.html.j2` holds what stands in it: tables, pictures, texts with tinted tokens. Everything
that is filled in is escaped, and nothing asks the network.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, TypeAlias

from trimtab.plugins import optional
from trimtab.types.html import tinted_html

if TYPE_CHECKING:
    from jinja2 import Environment

# --- numbers -------------------------------------------------------------------------------------

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


# --- tables --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TextTable:
    """A table as people read it, for a terminal, a page, a notebook and Markdown alike."""

    caption: str  # "" for none
    head: tuple[str, ...]  # the first column names the row
    rows: tuple[tuple[str, ...], ...]
    note: str = ""  # what its columns mean

    def to_markdown(self) -> str:
        """The head, a rule and the rows."""
        columns = list(zip(*self.rows, strict=True))[1:]
        rules = ["---:" if any(map(is_figure, column)) else "---" for column in columns]
        rule = "|".join(["", "---", *rules, ""])
        return "\n".join([_line(self.head), rule, *map(_line, self.rows)]) + "\n"

    def _repr_html_(self) -> str:
        macros: Any = _environment().get_template("macros.html.j2").module
        return str(macros.table(self))


def _line(fields: Sequence[str]) -> str:
    return "| " + " | ".join(markdown_field(field) for field in fields) + " |"


def markdown_field(text: str) -> str:
    """Text that cannot leave its field of a Markdown table, nor be read as HTML."""
    plain = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return plain.replace("\\", "\\\\").replace("|", "\\|")


# --- pages ---------------------------------------------------------------------------------------


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("trimtab.evaluation"),
        autoescape=lambda name: name is not None and ".html" in name,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    script = _file("page.js").strip()
    # The page's policy lets this script run and no other, whatever a text holds.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment.tests["figure"] = is_figure
    environment.filters["field"] = markdown_field
    environment.globals |= {
        "number": number,
        "tinted": lambda tokens: Markup(tinted_html(tokens).strip()),
        "style": _file("style.css").strip(),
        "script": script,
        "script_hash": f"sha256-{digest}",
    }
    return environment


def _file(name: str) -> str:
    return (files(__package__) / "templates" / name).read_text(encoding="utf-8")


def render(template: str, **context: Any) -> str:
    """A template of `templates/`, filled in."""
    return _environment().get_template(template).render(**context)


# --- pictures ------------------------------------------------------------------------------------

INK, STAND_IN = "#1b1f24", "#010203"
"""Of the PNG's text; and a colour that nothing else has, which the page's own replaces."""

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
"""Told apart by colour-blind eyes (Okabe and Ito); every curve has its own marker as well."""

GREY = "#808080"
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINE: dict[str, Any] = {"lw": 1.5, "ms": 5, "capsize": 2, "elinewidth": 1}

NARROW = 34
"""Characters of a name in the legend up to which two stand side by side."""


@dataclass(frozen=True)
class Drawing:
    """A picture with its words."""

    name: str  # of its file; also keeps ids of several pictures on a page apart
    title: str
    caption: str  # how to read it
    alt: str  # its points, in words
    png: bytes  # on white
    svg: str  # an element for a page, in the page's text colour


def draw(
    name: str,
    title: str,
    caption: str,
    alt: str,
    paint: Callable[[Any], None],
    height: float = 4.2,
) -> Drawing:
    """Paint a matplotlib figure, 5.2 inches wide, once for the PNG and once for the page."""
    png, svg = io.BytesIO(), io.BytesIO()
    with _style(INK, name):
        _figure(paint, height).savefig(
            png, format="png", dpi=180, facecolor="white", metadata={"Software": "trimtab"}
        )
    with _style(STAND_IN, name):
        _figure(paint, height).savefig(
            svg, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
    element = _inline(svg.getvalue().decode(), name, title)
    return Drawing(name, title, caption, alt, png.getvalue(), element)


def _figure(paint: Callable[[Any], None], height: float) -> Any:
    """A figure of its own: no window, no global state."""
    figure = optional("matplotlib.figure", "eval").Figure((5.2, height), layout="constrained")
    paint(figure)
    for axes in figure.axes:
        axes.grid(alpha=0.15)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    if handles:
        columns = 1 if max(map(len, labels)) > NARROW else 2
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
    return figure


@contextmanager
def _style(ink: str, salt: str) -> Iterator[None]:
    """Whatever the user's own matplotlib settings are, the picture is the same."""
    matplotlib = optional("matplotlib", "eval")
    colours = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(dict.fromkeys((*colours, "grid.color"), ink))
        matplotlib.rcParams.update(
            {"svg.fonttype": "none", "svg.hashsalt": salt, "font.size": 10, "legend.fontsize": 9}
        )
        yield


def _inline(svg: str, name: str, title: str) -> str:
    """An SVG document as an element: no prolog, no metadata, ids of its own, the page's ink."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#{name}-", svg)
    svg = svg.replace(STAND_IN, "currentColor")
    # The page's width decides; the long text is in the figure's description.
    label = f'role="img" aria-label="{title}" aria-describedby="{name}-words"'
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    opening = rf'<svg {spaces} viewBox="\1" {label}>'
    return re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', opening, svg, count=1).strip()
