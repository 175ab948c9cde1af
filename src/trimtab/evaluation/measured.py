"""What was found out about one cell, and its row of figures; `tables` says what each one is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from trimtab.evaluation.cells import Cell
from trimtab.evaluation.flops import forward, spent
from trimtab.evaluation.kl import ledger_kl
from trimtab.evaluation.metrics import USUAL, Answers, Figure, Metric
from trimtab.evaluation.statistics import Estimate, by_prompt, estimate
from trimtab.evaluation.store import Store
from trimtab.evaluation.text_metrics import finish_shares
from trimtab.runs.resolve import Scorer
from trimtab.types import Completion

Value: TypeAlias = "str | int | float | None"
Row: TypeAlias = dict[str, Value]

ROLES = ("reward", "judge")


@dataclass(frozen=True)
class Measured:
    """All that was found out about a cell.

    Attributes:
        cell: which.
        ids: the prompt of each response.
        completions: the responses.
        scores: by "reward", "judge" and the name of a metric that scores texts, one per response;
            None where scoring failed.
    """

    cell: Cell
    ids: tuple[str, ...]
    completions: tuple[Completion, ...]
    scores: dict[str, tuple[float | None, ...]]

    def by_prompt(self, what: str) -> dict[str, list[float]]:
        """Each prompt's scores, without those that failed."""
        pairs = [(i, x) for i, x in zip(self.ids, self.scores[what], strict=True) if x is not None]
        return by_prompt([i for i, _ in pairs], [x for _, x in pairs])


def measured(store: Store, cell: Cell, scorers: Mapping[str, Scorer]) -> Measured:
    """A finished cell with its scores, read from the folder."""
    records = [store.read(unit) for unit in cell.units]
    scores: dict[str, tuple[float | None, ...]] = {}
    for role, scorer in scorers.items():
        said = [store.scores(unit, scorer) for unit in cell.units]
        scores[role] = tuple(x for one in said if one is not None for x in one["scores"])
    return Measured(
        cell,
        tuple(i for record in records for i in record.ids),
        tuple(c for record in records for c in record.completions),
        scores,
    )


def figures(m: Measured, metrics: Sequence[Metric] = USUAL) -> Row:
    """A cell's row with these metrics, all but the comparison."""
    cell, done = m.cell, m.completions
    failed = [[x is None for x in m.scores[role]] for role in ROLES if role in m.scores]
    row: Row = {
        "method": cell.label,
        "guide": cell.guide.name if cell.guide else None,
        "split": cell.split,
        "n": cell.n,
        "prompts": len(cell.items),
        "responses": len(done),
        "failed": sum(map(any, zip(*failed, strict=True))),
    }
    for role in ROLES:
        add(row, role, _mean(m, role) if role in m.scores else None)
    last = [c.steps[-1].score for c in done]
    add(row, "guide_score", estimate(last, m.ids) if cell.guide else None)
    kl = ledger_kl(done) if all(c.kl is not None for c in done) else None
    add(row, "kl", kl.sequence if kl else None)
    add(row, "kl_token", kl.token if kl else None)
    answers = Answers(m.ids, done, m.scores)
    for metric in metrics:
        for name, value in metric.figures(answers).items():
            enter(row, name, value)
    add(row, "length", estimate([len(c.tokens) for c in done], m.ids))
    shares = finish_shares(done)
    row |= {"eos": shares["eos"], "length_cut": shares["length"], "stop": shares["stop"]}
    return row | _cost(m)


def add(row: Row, name: str, value: Estimate | None) -> None:
    """Enter a mean and its standard error, or that there is none."""
    row[name] = value.mean if value else None
    row[f"{name}_se"] = natural(value.se) if value else None


def enter(row: Row, name: str, value: Figure) -> None:
    """Enter what a metric found; a plain number has no standard error."""
    if value is None or isinstance(value, Estimate):
        add(row, name, value)  # a missing mean keeps the place of its error
    else:
        row[name] = natural(value)


def _mean(m: Measured, role: str) -> Estimate | None:
    scores = m.by_prompt(role)
    ids = [i for i, values in scores.items() for _ in values]
    return estimate([x for values in scores.values() for x in values], ids) if ids else None


def _cost(m: Measured) -> Row:
    """Tokens read per emitted token, and operations against the base decoding alone."""
    emitted = sum(len(c.tokens) for c in m.completions)
    base, guide = m.cell.shape, m.cell.guide_shape
    context = round(float(np.mean([len(c.prompt.ids) + len(c.tokens) / 2 for c in m.completions])))
    flops = None
    if base is not None:
        bill = spent(
            m.completions, forward(base, context), forward(guide, context) if guide else 0.0
        )
        flops = natural(bill.relative)  # one-token responses cost the base alone nothing
    return {
        "base_tokens": sum(c.base_tokens for c in m.completions) / emitted,
        "guide_tokens": sum(c.guide_tokens for c in m.completions) / emitted,
        "flops": flops,
    }


def natural(number: float) -> float | None:
    """A number as JSON can hold it: NaN and infinities are None."""
    return number if math.isfinite(number) else None
