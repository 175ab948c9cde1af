"""From a painting function to a PNG and an SVG that can stand in a page; the same every time.

Colours are told apart by colour-blind eyes (Okabe and Ito), and every curve has its own marker.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from trimtab.plugins import optional

INK, STAND_IN = "#1b1f24", "#010203"
"""Of the PNG's text; and a colour that nothing else has, which the page's own replaces."""

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
GREY = "#808080"
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINE: dict[str, Any] = {"lw": 1.5, "ms": 5, "capsize": 2, "elinewidth": 1}


NARROW = 34
"""Characters of a name in the legend up to which two stand side by side."""


@dataclass(frozen=True)
class Drawing:
    """A picture with its words.

    Attributes:
        name: of its file.
        title: what it shows.
        caption: how to read it.
        alt: its points, in words.
        png: on white.
        svg: an element for a page, in the page's text colour.
    """

    name: str
    title: str
    caption: str
    alt: str
    png: bytes
    svg: str


def draw(
    name: str,
    title: str,
    caption: str,
    alt: str,
    paint: Callable[[Any], None],
    height: float = 4.2,
) -> Drawing:
    """Paint once for the PNG and once for the page.

    Args:
        name: of the file; also keeps ids of several pictures on a page apart.
        title: what it shows.
        caption: how to read it.
        alt: its points, in words.
        paint: draws on a matplotlib figure.
        height: in inches; the width is 5.2.

    Raises:
        UsageError: matplotlib is not installed.
    """
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
    matplotlib = optional("matplotlib.figure", "eval")
    figure = matplotlib.Figure(figsize=(5.2, height), layout="constrained")
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
