"""From the folder to a table: one row per cell, and each row against a baseline.

A row's columns, in this order (None where a figure does not exist):

    method, guide, split, n, prompts, responses, failed
    reward, reward_se, judge, judge_se      means; SEs are clustered by prompt
    guide_score, guide_score_se             what the guide says of the last step it chose
    kl, kl_se, kl_token, kl_token_se        nats per response and per token, from the ledger; of
                                            best-of-n by the reward, from the base's samples
    perplexity, perplexity_se, diversity, diversity_se, distinct_1, distinct_2, distinct_3,
    rep_2, rep_2_se, rep_3, ..., rep_4_se   of the texts; then what else was asked for, such as
                                            rouge_l and coherence (see `metrics`)
    length, length_se
    eos, length_cut, stop                   shares of finish reasons
    base_tokens, guide_tokens, flops        per emitted token; FLOPs against the base alone
    reward_gain, reward_low, reward_high, reward_p, reward_holm
    judge_gain, judge_low, judge_high, judge_p, judge_holm
                                            against the baseline: paired bootstrap, Wilcoxon, Holm

Rows stand in the order of the cells, and everything is a function of the folder's units and scores
alone: two runs of the same cells write the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trimtab.errors import UnknownNameError
from trimtab.evaluation.best_of import best_of_n_kl, best_of_n_reward
from trimtab.evaluation.cells import Cell, plain_sampling
from trimtab.evaluation.compare import bootstrap, holm, wilcoxon
from trimtab.evaluation.measured import Measured, Row, add, figures, measured, natural
from trimtab.evaluation.metrics import Column, Metric, with_usual
from trimtab.evaluation.store import Store
from trimtab.runs.resolve import Scorer
from trimtab.types import Samples


@dataclass(frozen=True)
class Table:
    """Rows of figures, and the curve of best-of-n from the base's own samples.

    Attributes:
        about: task, split, model, scorers, baseline.
        rows: one per cell.
        best_of: reward, judge, metrics and KL of best-of-n for n = 1, 2, 4, ...; empty without
            samples.
        asked: columns of the metrics that were asked for by name, which people want to read.
    """

    about: dict[str, Any]
    rows: tuple[Row, ...]
    best_of: tuple[Row, ...] = field(default=())
    asked: tuple[Column, ...] = field(default=())

    def row(self, method: str, guide: str | None = None) -> Row:
        """The row of a method, by its label.

        Raises:
            UnknownNameError: there is none.
        """
        for row in self.rows:
            if row["method"] == method and guide in (None, row["guide"]):
                return row
        raise UnknownNameError(
            "a method of the table", method, {str(r["method"]) for r in self.rows}
        )


def make_table(
    store: Store,
    cells: Sequence[Cell],
    scorers: Mapping[str, Scorer],
    baseline: str | None = None,
    metrics: Sequence[Metric] = (),
) -> Table:
    """The table of finished cells.

    Args:
        store: the folder.
        cells: one row each, in this order.
        scorers: by role: "reward", and "judge" where there is one.
        baseline: label of the row that others are compared with; None takes the base's own
            samples, or what comes nearest.
        metrics: asked for beside those of every table.
    """
    every = dict(scorers) | {m.name: m.scorer for m in metrics if m.scorer is not None}
    found = [measured(store, cell, every) for cell in cells]
    rows = [figures(m, with_usual(metrics)) for m in found]
    base = _baseline([cell.label for cell in cells], baseline)
    for role in scorers:
        _compare(rows, found, role, base)
    samples = next((m for m in found if plain_sampling(m.cell.method)), None)
    if samples is not None:
        for row, m in zip(rows, found, strict=True):
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


# --- against the baseline ------------------------------------------------------------------------


def _baseline(labels: Sequence[str], wanted: str | None) -> int:
    if wanted is not None and wanted not in labels:
        raise UnknownNameError("the baseline", wanted, set(labels))
    order = [wanted] if wanted else ["sampling", "greedy", labels[0]]
    return next(labels.index(name) for name in order if name in labels)


def _compare(rows: list[Row], found: Sequence[Measured], role: str, base: int) -> None:
    """Differences of each row to the baseline, over the prompts that both have scores of."""
    theirs = found[base].by_prompt(role)
    p: dict[str, float] = {}
    for i, (row, m) in enumerate(zip(rows, found, strict=True)):
        row |= {f"{role}_{what}": None for what in ("gain", "low", "high", "p", "holm")}
        mine = m.by_prompt(role)
        both = [prompt for prompt in theirs if prompt in mine]
        if i == base or len(both) < 2:
            continue
        a, b = {x: mine[x] for x in both}, {x: theirs[x] for x in both}
        interval = bootstrap(a, b)
        row[f"{role}_gain"] = interval.difference
        row[f"{role}_low"], row[f"{role}_high"] = interval.low, interval.high
        row[f"{role}_p"] = p[str(i)] = wilcoxon(a, b).p
    for at, adjusted in holm(p).items():
        rows[int(at)][f"{role}_holm"] = adjusted


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
        add(row, "reward", best_of_n_reward(gold, n))
        for role, column in beside.items():
            other = samples.by_prompt(role) if role in samples.scores else {}
            paired = all(len(other.get(i, ())) == len(gold[i]) for i in gold)
            add(row, column, best_of_n_reward(gold, n, other) if paired else None)
        kl = best_of_n_kl(gold, n) if n < m else None
        row["kl"], row["kl_se"] = (kl.mean, natural(kl.se)) if kl else (None, None)
        rows.append(row | {"base_tokens": float(n), "samples": m})
        n *= 2
    return tuple(rows)


def _kl_of_best(row: Row, m: Measured, samples: Measured, reward: Scorer) -> None:
    """The KL of a best-of-n row whose guide is the reward, from the base's samples."""
    proposal, guide = m.cell.method.proposal, m.cell.guide
    whole = isinstance(proposal, Samples) and proposal.length is None
    if not whole or guide is None or guide.name != reward.name:
        return
    assert isinstance(proposal, Samples)
    gold = samples.by_prompt("reward")
    if gold and min(len(values) for values in gold.values()) > proposal.n:
        kl = best_of_n_kl(gold, proposal.n)
        row["kl"], row["kl_se"] = kl.mean, natural(kl.se)
