"""Tokens on a background of their score: blue above the middle, orange below it.

Two custom properties set the background, so the page's style decides what blue and orange are in
light and dark; red-green blindness hides neither. A score is also in the token's title, for
those who do not see colours.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from statistics import median

STRONGEST = 0.65
"""Opacity at the end of the scale: text stays readable on it."""


@dataclass(frozen=True)
class Piece:
    """What one step added to a text.

    Attributes:
        text: the characters.
        score: of the text so far; None where nothing scored it.
    """

    text: str
    score: float | None


@dataclass(frozen=True)
class Scale:
    """From scores to shades.

    Attributes:
        middle: a score without a shade.
        width: distance from the middle to the strongest shade.
        name: of what gave the scores.
    """

    middle: float
    width: float
    name: str = ""

    @classmethod
    def of(cls, scores: Iterable[float], middle: float | None = None, name: str = "") -> Scale:
        """A scale that holds all of the scores, around their median unless a middle is given."""
        known = list(scores)
        centre = middle if middle is not None else median(known) if known else 0.0
        return cls(centre, max((abs(x - centre) for x in known), default=0.0), name)

    def shade(self, score: float) -> float:
        """From -1 at the lower end to 1 at the upper."""
        return (score - self.middle) / self.width if self.width else 0.0


def tint(text: str, shade: float, score: float) -> str:
    """One token on its tint; a shade of -1 or 1 is the strongest.

    >>> tint(" good", 0.5, 0.25)
    '<i style="--c:var(--up);--a:.33" title="+0.25"> good</i>'
    """
    opacity = f"{min(abs(shade), 1.0) * STRONGEST:.2f}".lstrip("0")
    if opacity == ".00":
        return escape(text)
    side = "up" if shade > 0 else "down"
    return f'<i style="--c:var(--{side});--a:{opacity}" title="{score:+.3g}">{escape(text)}</i>'


def tinted(pieces: Sequence[Piece], scale: Scale) -> str:
    """A text as HTML; pieces that nothing scored stay plain."""
    return "".join(
        escape(p.text) if p.score is None else tint(p.text, scale.shade(p.score), p.score)
        for p in pieces
        if p.text
    )
