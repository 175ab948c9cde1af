"""How methods look, in every picture alike, and pictures in words.

Colours are told apart by colour-blind eyes (Okabe and Ito), and every curve has its own marker.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from trimtab.evaluation.report.reading import Entry, Sheet

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
GREY = "#808080"
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINE: dict[str, Any] = {"lw": 1.5, "ms": 5, "capsize": 2, "elinewidth": 1}


@dataclass(frozen=True)
class Look:
    """How a method is drawn, in every picture alike."""

    colour: str
    marker: str


def looks(sheet: Sheet) -> dict[str, Look]:
    """A colour and a marker for every method, by its name without strength."""
    families = list(dict.fromkeys(e.family for e in sheet.entries))
    return {
        name: Look(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)])
        for i, name in enumerate(families)
    }


Place: TypeAlias = "Callable[[Entry], tuple[float, float] | None]"
"""Where an entry stands on the horizontal axis, and the standard error of that."""


def in_words(
    entries: Sequence[Entry], what: str = "", place: Place | None = None, role: str = "reward"
) -> str:
    """The picture in words: every point."""
    said = []
    for entry in entries:
        value, at = entry.number(role), place(entry) if place else None
        if value is not None:
            said.append(
                f"{entry.name} {role} {value:.3g}" + (f" at {what} {at[0]:.3g}" if at else "")
            )
    return "; ".join(said)
