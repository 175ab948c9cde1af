"""The same prompts answered by several methods, each token with what the guide did to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trimtab.evaluation.report.reading import Entry, Sheet, Texts
from trimtab.types import Completion
from trimtab.types.html import TintedToken

EVEN, EXTREME = 4, 3
"""Prompts that are shown: evenly spaced through the split, and of each kind of extreme."""


@dataclass(frozen=True)
class Answer:
    """One response.

    Attributes:
        method: which method's.
        tokens: its text, step by step.
        scores: its reward, and the judge's score of it, by role.
        kl: nats to the base.
        finish: why it ended.
    """

    method: str
    tokens: tuple[TintedToken, ...]
    scores: tuple[tuple[str, float | None], ...]
    kl: float | None
    finish: str

    @property
    def reward(self) -> float | None:
        """Its reward; None where scoring failed."""
        return dict(self.scores).get("reward")

    @property
    def text(self) -> str:
        """The whole response."""
        return "".join(token.text for token in self.tokens).strip()


@dataclass(frozen=True)
class Comparison:
    """A prompt and its answers.

    Attributes:
        why: why it is shown.
        prompt: what was asked.
        answers: the baseline's first.
    """

    why: str
    prompt: str
    answers: tuple[Answer, ...]


def comparisons(sheet: Sheet, texts: Texts) -> list[Comparison]:
    """The first response of the baseline and of each method at its best, to chosen prompts.

    Those where the method of the best reward changes most, loses most and gains most against the
    baseline, and some that nobody picked.
    """
    entries = sheet.strongest
    columns = [_firsts(entry, sheet, texts) for entry in entries]
    best = next((i for i, e in enumerate(entries) if i and sheet.best is e), len(entries) - 1)
    shown = _chosen([a for _, a in columns[0]], [a for _, a in columns[best]])
    return [
        Comparison(why, columns[0][i][0], tuple(column[i][1] for column in columns))
        for i, why in shown.items()
    ]


def _firsts(entry: Entry, sheet: Sheet, texts: Texts) -> list[tuple[str, Answer]]:
    """Each prompt's text with the first response to it."""
    scores = {role: texts.scores(entry, sheet, role) for role in sheet.roles}
    pairs: list[tuple[str, Answer]] = []
    row = 0
    for record in texts.records(entry):
        group = record.group
        known = tuple((role, values[row] if values else None) for role, values in scores.items())
        first = group.responses[0].completion(group.prompt)
        pairs.append((group.prompt.text or "", _answer(entry, first, known)))
        row += len(group.responses)
    return pairs


def _answer(entry: Entry, done: Completion, scores: tuple[tuple[str, float | None], ...]) -> Answer:
    tokens = tuple(step.tinted(entry.guided) for step in done.steps)
    return Answer(entry.name, tokens, scores, done.kl, done.finish)


def _chosen(base: Sequence[Answer], best: Sequence[Answer]) -> dict[int, str]:
    """Indices of the prompts to show, in that order, and why each is shown."""
    count = len(base)
    even = sorted({round(i * (count - 1) / max(1, EVEN - 1)) for i in range(EVEN)})
    gains = {
        i: after - before
        for i in range(count)
        if (before := base[i].reward) is not None and (after := best[i].reward) is not None
    }
    rising = sorted(gains, key=lambda i: gains[i])
    changed = sorted((i for i in range(count) if best[i].kl), key=lambda i: -(best[i].kl or 0.0))
    shown = dict.fromkeys(even, "picked by nobody")
    for why, indices in (
        ("most lost", [i for i in rising[:EXTREME] if gains[i] < 0]),
        ("most gained", [i for i in rising[::-1][:EXTREME] if gains[i] > 0]),
        ("most changed", changed[:EXTREME]),
    ):
        for i in indices:
            shown.setdefault(i, why)
    return shown
