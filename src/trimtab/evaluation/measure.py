"""From a run's texts and scores to the rows of a table, and each row against a baseline.

Rows stand in the order of the conditions, and everything is a function of the folder's records and
scores alone: two runs of the same conditions write the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trimtab.decoding.samplers import Stochastic
from trimtab.errors import UnknownNameError
from trimtab.evaluation.best_of import best_of_n_kl, best_of_n_reward, ledger_kl
from trimtab.evaluation.cells import Cell, plain_sampling, title
from trimtab.evaluation.comparison import bootstrap, holm, wilcoxon
from trimtab.evaluation.cost import WallTime, forward, seconds_per_token, spent
from trimtab.evaluation.metrics import Answers, Figure, Metric, finish_shares, with_usual
from trimtab.evaluation.statistics import Estimate, by_prompt, estimate
from trimtab.evaluation.store import Store
from trimtab.evaluation.table import Row, Table
from trimtab.runs.resolve import Scorer
from trimtab.types import Completion, Samples, Vocabulary

ROLES = ("reward", "judge")
COMPARED = ("gain", "gain_se", "low", "high", "p", "holm")


@dataclass(frozen=True)
class Measured:
    """All that was found out about a condition.

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
    """A finished condition with its scores, read from the folder."""
    records = [store.read(unit) for unit in cell.units]
    scores: dict[str, tuple[float | None, ...]] = {}
    for role, scorer in scorers.items():
        files = [store.scores(unit, scorer) for unit in cell.units]
        scores[role] = tuple(x for file in files if file is not None for x in file["scores"])
    return Measured(
        cell,
        tuple(i for record in records for i in record.ids),
        tuple(c for record in records for c in record.completions),
        scores,
    )


def make_table(
    store: Store,
    cells: Sequence[Cell],
    scorers: Mapping[str, Scorer],
    baseline: str | None = None,
    metrics: Sequence[Metric] = (),
) -> Table:
    """The table of finished conditions.

    Args:
        store: the folder.
        cells: one row each, in this order.
        scorers: by role: "reward", and "judge" where there is one.
        baseline: label of the row that others are compared with; None takes the base's own
            samples, or what comes nearest.
        metrics: asked for beside those of every table.
    """
    every = dict(scorers) | {m.name: m.scorer for m in metrics if m.scorer is not None}
    parts = [measured(store, cell, every) for cell in cells]
    rows = [figures(m, with_usual(metrics)) for m in parts]
    base = _baseline([cell.label for cell in cells], baseline)
    for role in scorers:
        _compare(rows, parts, role, base)
    samples = next((m for m in parts if plain_sampling(m.cell.method)), None)
    if samples is not None:
        for row, m in zip(rows, parts, strict=True):
            _kl_of_best(row, m, samples, scorers["reward"])
    about = {
        "task": cells[0].task,
        "split": cells[0].split,
        "model": cells[0].model.name,
        "seed": cells[0].seed,
        "max_new_tokens": cells[0].max_new_tokens,
        **{role: scorer.name for role, scorer in scorers.items()},
        "baseline": cells[base].label,
        **({"metrics": [m.label for m in metrics]} if metrics else {}),
        "scores": {role: scorer.key for role, scorer in scorers.items()},
        "cells": [cell.key for cell in cells],
    }
    curve = best_of_curve(samples, metrics) if samples is not None else ()
    return Table(about, tuple(rows), curve, tuple(c for m in metrics for c in m.columns))


# --- one row -------------------------------------------------------------------------------------


def figures(m: Measured, metrics: Sequence[Metric]) -> Row:
    """A condition's row with these metrics, all but the comparison."""
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
    answers = Answers(m.ids, done, m.scores)
    for role in ROLES:
        enter(row, role, answers.mean(m.scores[role]) if role in m.scores else None)
    last = [c.steps[-1].score for c in done]
    enter(row, "guide_score", estimate(last, m.ids) if cell.guide else None)
    kl = ledger_kl(done) if all(c.kl is not None for c in done) else None
    enter(row, "kl", kl.sequence if kl else None)
    enter(row, "kl_token", kl.token if kl else None)
    for metric in metrics:
        for name, value in metric.figures(answers).items():
            enter(row, name, value)
    enter(row, "length", estimate([len(c.tokens) for c in done], m.ids))
    shares = finish_shares(done)
    row |= {"eos": shares["eos"], "length_cut": shares["length"], "stop": shares["stop"]}
    return row | _cost(m)


def enter(row: Row, name: str, value: Figure) -> None:
    """Enter a figure, with its standard error where it is a mean; NaN and infinity are None.

    What is missing keeps the place of its error.
    """
    if value is None or isinstance(value, Estimate):
        row[name] = value.mean if value else None
        row[f"{name}_se"] = _finite(value.se) if value else None
    else:
        row[name] = _finite(value)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _cost(m: Measured) -> Row:
    """Tokens read per emitted token, and operations against the base decoding alone."""
    emitted = sum(len(c.tokens) for c in m.completions)
    base, guide = m.cell.shape, m.cell.guide_shape
    context = round(float(np.mean([len(c.prompt.ids) + len(c.tokens) / 2 for c in m.completions])))
    flops = None
    if base is not None:
        per_guide_token = forward(guide, context) if guide else 0.0
        total = spent(m.completions, forward(base, context), per_guide_token)
        flops = _finite(total.relative)  # one-token responses cost the base alone nothing
    return {
        "base_tokens": sum(c.base_tokens for c in m.completions) / emitted,
        "guide_tokens": sum(c.guide_tokens for c in m.completions) / emitted,
        "flops": flops,
    }


# --- against the baseline ------------------------------------------------------------------------


def _baseline(labels: Sequence[str], wanted: str | None) -> int:
    if wanted is not None and wanted not in labels:
        raise UnknownNameError("the baseline", wanted, set(labels))
    order = [wanted] if wanted else ["sampling", "greedy", labels[0]]
    return next(labels.index(name) for name in order if name in labels)


def _compare(rows: list[Row], parts: Sequence[Measured], role: str, base: int) -> None:
    """Differences of each row to the baseline, over the prompts that both have scores of."""
    of_base = parts[base].by_prompt(role)
    p: dict[str, float] = {}
    for i, (row, m) in enumerate(zip(rows, parts, strict=True)):
        row |= {f"{role}_{what}": None for what in COMPARED}
        scores = m.by_prompt(role)
        both = [prompt for prompt in of_base if prompt in scores]
        if i == base or len(both) < 2:
            continue
        a, b = {x: scores[x] for x in both}, {x: of_base[x] for x in both}
        interval = bootstrap(a, b)
        row[f"{role}_gain"], row[f"{role}_gain_se"] = interval.difference, interval.se
        row[f"{role}_low"], row[f"{role}_high"] = interval.low, interval.high
        row[f"{role}_p"] = p[str(i)] = wilcoxon(a, b).p
    for index, adjusted in holm(p).items():
        rows[int(index)][f"{role}_holm"] = adjusted


# --- best-of-n from the base's own samples -------------------------------------------------------


def best_of_curve(
    samples: Measured, metrics: Sequence[Metric] = (), most: int = 128
) -> tuple[Row, ...]:
    """Best-of-n by the reward for n = 1, 2, 4, ... from subsets of the samples of each prompt.

    Beside the reward stand the judge and the metrics that score each response, at the response
    that the reward chose.

    The KL wants more than n samples and is good from 4 n; beyond the samples the curve ends.
    """
    gold = samples.by_prompt("reward")
    beside = {"judge": "judge"} | {m.name: m.columns[0][0] for m in metrics if m.scorer is not None}
    m = min((len(values) for values in gold.values()), default=0)
    rows: list[Row] = []
    n = 1
    while n <= min(m, most) and m > 1:
        row: Row = {"n": n}
        enter(row, "reward", best_of_n_reward(gold, n))
        for role, column in beside.items():
            other = samples.by_prompt(role) if role in samples.scores else {}
            paired = all(len(other.get(i, ())) == len(gold[i]) for i in gold)
            enter(row, column, best_of_n_reward(gold, n, other) if paired else None)
        kl = best_of_n_kl(gold, n) if n < m else None
        row["kl"], row["kl_se"] = (kl.mean, _finite(kl.se)) if kl else (None, None)
        rows.append(row | {"base_tokens": float(n), "samples": m})
        n *= 2
    return tuple(rows)


def _kl_of_best(row: Row, m: Measured, samples: Measured, reward: Scorer) -> None:
    """The KL of a best-of-n row whose guide is the reward, from the base's samples."""
    proposal, guide = m.cell.method.proposal, m.cell.guide
    if not isinstance(proposal, Samples) or proposal.length is not None:
        return
    if guide is None or guide.name != reward.name:
        return
    gold = samples.by_prompt("reward")
    if gold and min(len(values) for values in gold.values()) > proposal.n:
        kl = best_of_n_kl(gold, proposal.n)
        row["kl"], row["kl_se"] = kl.mean, _finite(kl.se)


# --- wall times ----------------------------------------------------------------------------------


def wall_times(store: Store, cells: Sequence[Cell]) -> tuple[WallTime, ...]:
    """The wall time of every condition, against the base decoding alone in the same run.

    They are read from the folder's `times/`, as they were when the texts were decoded.
    """

    def seconds(cell: Cell) -> float | None:
        return seconds_per_token([store.time(unit) for unit in cell.units])

    alone = [c for c in cells if not c.method.guided and isinstance(c.method.proposal, Vocabulary)]
    base = min(alone, key=lambda c: not isinstance(c.method.sampler, Stochastic), default=None)
    unit = seconds(base) if base is not None else None
    times = []
    for cell in cells:
        own, name = seconds(cell), title(cell.label, cell.guide.name if cell.guide else None)
        relative = own / unit if own is not None and unit else None
        times.append(WallTime(name, own, relative, base.label if base is not None else None))
    return tuple(times)
