"""A guide's scores of responses' prefixes against rewards and labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trimtab.decoding.forced import ROWS, OnRows
from trimtab.errors import DataError
from trimtab.protocols import Guide, LanguageModel
from trimtab.training.inspection.comparison import Comparison
from trimtab.training.inspection.fits import Figure, Fit, Points, bootstrapped, ceiling, fit
from trimtab.training.inspection.places import PLACES, scored, stops
from trimtab.types import Group, Prompt


@dataclass(frozen=True)
class Measuring:
    """What scores prefixes, and how.

    Attributes:
        guide: as decoding reads it.
        lm: the base.
        compared: scores with labels.
        reward: of the groups, which is predicted; "" where none is asked.
        max_length: most tokens of a prompt and a response; longer ones are left out.
        rows: responses that are read side by side.
        seed: of the bootstrap.
        on: told after each batch.
    """

    guide: Guide[Any]
    lm: LanguageModel[Any]
    compared: Comparison
    reward: str
    max_length: int
    rows: int = ROWS
    seed: int = 0
    on: OnRows | None = None

    def ask(
        self, rows: list[tuple[Prompt, tuple[int, ...]]], at: list[tuple[int, ...]]
    ) -> list[list[float]]:
        """The guide's scores of prefixes."""
        return scored(self.guide, self.lm, self.compared, rows, at, batch=self.rows, on=self.on)

    def labels(self, group: Group) -> list[tuple[tuple[int, ...], float]]:
        """The responses that have the reward, and its label."""
        found = [(r.tokens, r.rewards.get(self.reward, math.nan)) for r in group.responses]
        return [(ids, self.compared.label(float(x))) for ids, x in found if math.isfinite(x)]


def of_responses(groups: Sequence[Group], how: Measuring) -> tuple[tuple[Fit, ...], Figure | None]:
    """The fit at each place of responses, and the R2 that knowing the prompt alone would give.

    The latter is 1 - within / variance, over prompts of two or more responses: what a perfect value
    of the prompt leaves over is the variance among its responses.

    Raises:
        DataError: no response has the reward.
    """
    rows, labels, noise = [], [], []
    for group in groups:
        if group.prefix:
            raise DataError(
                "responses must begin at the prompt",
                got="groups with a prefix: labels",
                do="name their folder by --validation",
            )
        fitting = [(y, x) for y, x in how.labels(group) if y and _fits(group, y, how)]
        rows += [(group.prompt, y) for y, _ in fitting]
        labels += [x for _, x in fitting]
        noise += [_within([x for _, x in fitting])] * len(fitting)
    _check_some(rows, groups, how)
    at = [stops(len(y)) for _, y in rows]
    columns = zip(*how.ask(rows, at), strict=True)
    prompts = [prompt for prompt, _ in rows]
    fits, points = [], None
    for i, (where, scores) in enumerate(zip(PLACES, columns, strict=True)):
        points = _points(how, scores, labels, noise, prompts, [stop[i] for stop in at])
        unknown = _without_noise(points)
        fits.append(fit(where, unknown, exact=how.compared.exact, seed=how.seed))
    assert points is not None
    several = points.only(np.flatnonzero(np.isfinite(points.noise)))
    known = how.compared.exact and len(several.labels) > 0
    return tuple(fits), bootstrapped(several, (ceiling,), how.seed)[0] if known else None


def of_labels(groups: Sequence[Group], how: Measuring) -> tuple[Fit, ...]:
    """The fit on labelled prefixes: all of them, and quarters by their length.

    Raises:
        DataError: the groups are no labels, or none has the reward.
    """
    if not any(group.prefix for group in groups):
        raise DataError(
            "labels must be groups with a prefix, completed several times",
            got=f"{len(groups)} groups of whole responses",
            do="make labels with `trimtab collect --validation`, or name the folder by --data",
        )
    rows, labels, noise = [], [], []
    for group in groups:
        values = [x for _, x in how.labels(group)]
        if group.prefix and values and _fits(group, (), how):
            rows.append((group.prompt, group.prefix))
            labels.append(float(np.mean(values)))
            noise.append(_within(values) / len(values))
    _check_some(rows, groups, how)
    at: list[tuple[int, ...]] = [(len(prefix),) for _, prefix in rows]
    scores = [each[0] for each in how.ask(rows, at)]
    points = _points(how, scores, labels, noise, [p for p, _ in rows], [s[0] for s in at])
    parts = [("all", points), *_quarters(points)]
    return tuple(fit(name, p, exact=how.compared.exact, seed=how.seed) for name, p in parts)


def _points(
    how: Measuring,
    scores: Sequence[float],
    labels: Sequence[float],
    noise: Sequence[float],
    prompts: Sequence[Prompt],
    lengths: Sequence[int],
) -> Points:
    predicted = np.array([how.compared.predicted(score) for score in scores], dtype=np.float64)
    return Points(
        predicted,
        np.array(labels, dtype=np.float64),
        np.array(noise, dtype=np.float64),
        tuple(prompt.ids for prompt in prompts),
        np.array(lengths, dtype=np.float64),
    )


def _without_noise(points: Points) -> Points:
    """Single responses: how far one lies from its prefix' value is known of the prompt alone."""
    nothing = np.full(len(points.labels), np.nan)
    return Points(points.predicted, points.labels, nothing, points.prompts, points.lengths)


def _within(values: Sequence[float]) -> float:
    """The unbiased variance among completions; NaN of a single one."""
    return float(np.var(values, ddof=1)) if len(values) > 1 else math.nan


def _quarters(points: Points) -> list[tuple[str, Points]]:
    """Quarters of the prefixes by length, named by it; equal lengths are never parted."""
    cuts = np.quantile(points.lengths, (0.25, 0.5, 0.75))
    which = np.searchsorted(cuts, points.lengths, side="left")
    found = []
    for number in np.unique(which):
        mine = points.only(np.flatnonzero(which == number))
        least, most = int(mine.lengths.min()), int(mine.lengths.max())
        span = f"{least} to {most}" if least < most else f"{least}"
        found.append((f"{span} token{'s' * (most > 1)}", mine))
    return found if len(found) > 1 else []


def _fits(group: Group, tokens: Sequence[int], how: Measuring) -> bool:
    return len(group.prompt.ids) + len(group.prefix) + len(tokens) <= how.max_length


def _check_some(rows: Sequence[object], groups: Sequence[Group], how: Measuring) -> None:
    if rows:
        return
    known = sorted({name for group in groups for r in group.responses for name in r.rewards})
    raise DataError(
        f"there must be responses with the reward {how.reward!r}, of at most {how.max_length} "
        "tokens with their prompt",
        got=f"none in {len(groups)} groups with rewards {', '.join(known) or 'of no name'}",
        do="name another --reward, or raise --max-length",
    )
