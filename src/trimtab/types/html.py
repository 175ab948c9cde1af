"""Texts as HTML: each token on a tint that says how far the guide pushed it.

The push of a chosen token is log(pi / pi_ref), in nats: blue where the guide made it likelier than
the base had it, orange where less likely. Two custom properties set the background, so a page's
style decides what blue and orange are in light and dark; red-green blindness hides neither.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

STRONGEST = 3.0
"""The push of the strongest tint, in nats: about 20 times as likely, or a twentieth."""

_OPACITY = 0.65  # of the strongest tint: text stays readable on it


@dataclass(frozen=True)
class TintedToken:
    """What one step added to a text."""

    text: str
    push: float | None = None  # log(pi / pi_ref) in nats; None where nothing steered it
    score: float | None = None  # of the guide; None without one
    logprob: float | None = None  # log pi of the choice; None where a whole block was chosen
    alternatives: tuple[tuple[str, float, float, float], ...] = ()
    """The likeliest candidates, where they were kept: text, log pi_ref, score, log pi of each."""


def token_html(token: TintedToken) -> str:
    """One token as an element that says its numbers on hover; with no tint where nothing pushed.

    >>> token_html(TintedToken(" good", push=1.5, score=0.2, logprob=-0.5))[:61]
    '<b class="t" style="--c:var(--up);--a:.33" title="push +1.50,'
    """
    words, style = token_words(token), _style(token.push or 0.0)
    if not words:
        return escape(token.text)
    data = _alternatives(token.alternatives)
    held = f' data-a="{escape(data)}"' if data else ""
    return f'<b class="t"{style} title="{escape(words)}"{held}>{escape(token.text)}</b>'


def _style(push: float) -> str:
    opacity = f"{min(abs(push) / STRONGEST, 1.0) * _OPACITY:.2f}".lstrip("0")
    side = "up" if push > 0 else "down"
    return "" if opacity == ".00" else f' style="--c:var(--{side});--a:{opacity}"'


def token_words(token: TintedToken) -> str:
    """The numbers of a token in one line; "" where there are none."""
    parts = [f"push {token.push:+.2f}"] if token.push is not None else []
    parts += [f"score {token.score:+.3g}"] if token.score is not None else []
    if token.logprob is not None:
        parts.append(f"\N{GREEK SMALL LETTER PI} {math.exp(token.logprob):.0%}")
        if token.push is not None:
            parts.append(f"base {math.exp(token.logprob - token.push):.0%}")
    return ", ".join(parts)


def _alternatives(alternatives: Sequence[tuple[str, float, float, float]]) -> str:
    """As JSON for the page's script: text, pi_ref, score, pi."""
    rows = [
        [text, f"{math.exp(ref_logprob):.1%}", f"{score:+.3g}", f"{math.exp(logprob):.1%}"]
        for text, ref_logprob, score, logprob in alternatives
    ]
    return json.dumps(rows, ensure_ascii=False, separators=(",", ":")) if rows else ""


def tinted_html(tokens: Iterable[TintedToken]) -> str:
    """A whole text, its tokens tinted."""
    return "".join(token_html(token) for token in tokens if token.text)


NOTEBOOK = (
    "<style>.trimtab{--up:0 114 178;--down:213 94 0;white-space:pre-wrap}.trimtab b{font-weight:"
    "inherit;background:rgb(var(--c,0 0 0)/var(--a,0))}@media(prefers-color-scheme:dark){.trimtab"
    "{--up:66 165 232;--down:240 133 54}}</style>"
)
"""The style of a text that stands alone."""


def text_html(tokens: Iterable[TintedToken], facts: str) -> str:
    """A response for a notebook: its tinted text, and a line of facts below it."""
    text = tinted_html(tokens).strip()
    return f'{NOTEBOOK}<div class="trimtab">{text}</div><small>{escape(facts)}</small>'
