"""The table of an evaluation: rows of figures, from a folder's records and scores alone.

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
    reward_gain, reward_gain_se, reward_low, reward_high, reward_p, reward_holm
    judge_gain, judge_gain_se, judge_low, judge_high, judge_p, judge_holm
                                            against the baseline: paired bootstrap, Wilcoxon, Holm

Rows stand in the order of the conditions. Written files are the same, byte for byte, for the same
figures: they hold six significant digits, since the last bits of a sum may depend on the machine.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from trimtab.errors import ResultsError, UnknownNameError
from trimtab.evaluation.best_of import best_of_curve, best_of_n_kl, ledger_kl
from trimtab.evaluation.cost import cost_per_token
from trimtab.evaluation.metrics import USUAL, Answers, Column, Figure, Metric, find_metrics
from trimtab.evaluation.presentation import TextTable, Value, rounded, with_error
from trimtab.evaluation.statistics import Estimate, bootstrap, by_prompt, estimate, holm, wilcoxon
from trimtab.plugins import optional
from trimtab.runs.batches import Facts, title
from trimtab.runs.record import read_manifest
from trimtab.runs.resolve import Scorer
from trimtab.runs.store import Store
from trimtab.types import Completion

Row: TypeAlias = dict[str, Value]

READ: tuple[Column, ...] = (
    ("reward", "reward", ".3f"),
    ("judge", "judge", ".3f"),
    ("kl", "KL", ".2f"),
    ("kl_token", "KL/token", ".3f"),
    ("diversity", "diversity", ".2f"),
    ("length", "tokens", ".1f"),
    ("eos", "ended", ".0%"),
    ("base_tokens", "base/token", ".2f"),
    ("guide_tokens", "guide/token", ".2f"),
    ("flops", "FLOPs", ".2f"),
    ("reward_gain", "gain", "+.3f"),
    ("reward_holm", "p (Holm)", ".2g"),
)
"""Columns that people read, of every table."""

ROLES = ("reward", "judge")


@dataclass(frozen=True)
class Table:
    """Rows of figures, and the curve of best-of-n from the base's own samples.

    Attributes:
        about: task, split, model, scorers, baseline.
        rows: one per condition.
        best_of: reward, judge, metrics and KL of best-of-n for n = 1, 2, 4, ...; empty without
            samples.
        asked: columns of the metrics that were asked for by name, which people want to read.
        steered: the same as `best_of`, of every steered condition with several samples a prompt.
    """

    about: dict[str, Any]
    rows: tuple[Row, ...]
    best_of: tuple[Row, ...] = ()
    asked: tuple[Column, ...] = ()
    steered: tuple[Row, ...] = ()

    def row(self, method: str, guide: str | None = None) -> Row:
        """The row of a method, by its label.

        Raises:
            UnknownNameError: there is none.
        """
        for row in self.rows:
            if row["method"] == method and guide in (None, row["guide"]):
                return row
        known = {str(row["method"]) for row in self.rows}
        raise UnknownNameError("a method of the table", method, known)

    @property
    def columns(self) -> list[str]:
        """Names of all figures, in order."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def to_json(self) -> str:
        """The whole table: `{"about", "columns", "rows", "best_of", "asked", "steered"}`."""
        whole = {
            "about": self.about,
            "columns": self.columns,
            "rows": [{k: rounded(v) for k, v in row.items()} for row in self.rows],
            "best_of": [{k: rounded(v) for k, v in row.items()} for row in self.best_of],
            "asked": self.asked,
            "steered": [{k: rounded(v) for k, v in row.items()} for row in self.steered],
        }
        return json.dumps(whole, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_dict(cls, whole: Mapping[str, Any]) -> Table:
        """The table of a parsed JSON file."""
        asked = tuple((name, heading, form) for name, heading, form in whole["asked"])
        curves = (tuple(whole["best_of"]), asked, tuple(whole["steered"]))
        return cls(whole["about"], tuple(whole["rows"]), *curves)

    def to_csv(self) -> str:
        """The rows; an empty field is a figure that does not exist."""
        out = io.StringIO()
        writer = csv.DictWriter(out, self.columns, lineterminator="\n", restval="")
        writer.writeheader()
        for row in self.rows:
            writer.writerow({k: "" if v is None else rounded(v) for k, v in row.items()})
        return out.getvalue()

    def to_pandas(self) -> Any:
        """The rows as a `pandas.DataFrame`, one column per figure, at full precision.

        Raises:
            UsageError: pandas is not installed.
        """
        return optional("pandas", "eval").DataFrame(list(self.rows), columns=self.columns)

    def readable(self) -> TextTable:
        """What people read of it: means with their errors, without columns that are empty."""
        usual = {name for name, _, _ in READ}
        columns = [*READ, *(column for column in self.asked if column[0] not in usual)]
        columns = [c for c in columns if any(row.get(c[0]) is not None for row in self.rows)]
        rows = []
        for row in self.rows:
            guide = None if row["guide"] is None else str(row["guide"])
            cells = [with_error(row.get(name), row.get(f"{name}_se"), f) for name, _, f in columns]
            rows.append((title(str(row["method"]), guide), *cells))
        a = self.about
        caption = (
            f"{a['task']} ({a['split']}), {a['model']}, seed {a['seed']}: "
            f"{self.rows[0]['prompts']} prompts, reward {a['reward']}"
            + (f", judge {a['judge']}" if "judge" in a else "")
        )
        note = (
            f"± standard error over prompts. Gain and p: against {a['baseline']}, paired by prompt."
        )
        head = ("method", *(heading for _, heading, _ in columns))
        return TextTable(caption, head, tuple(rows), note)

    def to_markdown(self) -> str:
        """A heading line, a table, and what its columns say."""
        table = self.readable()
        return f"{table.caption}\n\n{table.to_markdown()}\n{table.note}\n"

    def _repr_html_(self) -> str:
        return self.readable()._repr_html_()


# --- what is in a folder -------------------------------------------------------------------------


class ScoresOf(NamedTuple):
    """Scores that are in a folder, whoever gave them."""

    name: str  # what tables call them
    key: str  # the name of their folder


@dataclass(frozen=True)
class Measured:
    """All that was found out about a condition."""

    condition: Facts
    ids: tuple[str, ...]  # the prompt of each response
    completions: tuple[Completion, ...]
    scores: dict[str, tuple[float | None, ...]]
    """By "reward", "judge" and the name of a metric that scores texts, one per response; None where
    scoring failed. Whoever was not asked about all of them is not there."""

    def by_prompt(self, what: str) -> dict[str, list[float]]:
        """Each prompt's scores, without those that failed."""
        scores = self.scores.get(what, (None,) * len(self.ids))
        pairs = [(i, x) for i, x in zip(self.ids, scores, strict=True) if x is not None]
        return by_prompt([i for i, _ in pairs], [x for _, x in pairs])


def measured(store: Store, condition: Facts, keys: Mapping[str, str]) -> Measured:
    """A finished condition with its scores; `keys` names the folder of each one's scores."""
    rows = [row for key in condition.batches for row in store.read(key)]
    pairs = [(row, i, r) for row in rows for i, r in enumerate(row.group.responses)]
    scores: dict[str, tuple[float | None, ...]] = {}
    for what, scored_by in keys.items():
        files = [store.scores(scored_by, key) for key in condition.batches]
        if None not in files:
            answers = [x for file in files for row in file or () for x in row.answers]
            scores[what] = tuple(x if isinstance(x, float) else None for x in answers)
    return Measured(
        condition,
        tuple(row.id for row, _, _ in pairs),
        tuple(response.completion(row.group.prompt, i) for row, i, response in pairs),
        scores,
    )


def measure(
    folder: str | Path,
    *,
    split: str | None = None,
    reward: str | None = None,
    judge: str | None = None,
    baseline: str | None = None,
    metrics: Sequence[str | Metric] = (),
) -> Table:
    """The table of what a run's folder holds; nothing is decoded, and no reward is asked.

    Args:
        folder: what `evaluate`, `sweep` or `collect` wrote.
        split: of the task's prompts; None takes all that there are.
        reward: name of the scores that are the reward; None takes the task's own, else the only
            ones.
        judge: name of the scores that are the judge's; None takes the task's own, if it has one.
        baseline: as for `evaluate`.
        metrics: figures of the texts alone, beside those of every table.

    Raises:
        ResultsError: the folder is no run's, or no condition of it is finished.
        UsageError: several rewards and none was named.
    """
    store, manifest = Store(folder), read_manifest(folder)
    known = manifest["rewards"]
    roles = {**manifest.get("roles", {})}
    roles |= {k: v for k, v in (("reward", reward), ("judge", judge)) if v is not None}
    if "reward" not in roles and len(known) == 1:
        roles["reward"] = next(iter(known))
    if roles.get("reward") not in known or roles.get("judge", roles["reward"]) not in known:
        raise UnknownNameError("the scores of a table", roles.get("reward"), known)
    scorers = {role: ScoresOf(name, known[name]["folder"]) for role, name in roles.items()}
    conditions = [
        facts
        for facts in store.conditions()
        if split in (None, facts.split) and not store.missing(facts.batches)
    ]
    if not conditions:
        raise ResultsError(
            "a table needs a finished condition", got=f"none in {folder}", do="run it to its end"
        )
    order = sorted(conditions, key=lambda facts: (facts.split, not facts.plain, facts.title))
    return make_table(store, order, scorers, baseline, find_metrics(metrics))


def make_table(
    store: Store,
    conditions: Sequence[Facts],
    scorers: Mapping[str, Scorer | ScoresOf],
    baseline: str | None = None,
    metrics: Sequence[Metric] = (),
) -> Table:
    """The table of finished conditions, one row each.

    `scorers` has the role "reward", and "judge" where there is one. Without a `baseline` others are
    compared with the base's own samples, or what comes nearest.
    """
    keys = {role: scorer.key for role, scorer in scorers.items()}
    asked = {m.name: m.scorer.key for m in metrics if m.scorer is not None}
    parts = [measured(store, condition, keys | asked) for condition in conditions]
    rows = [row_of(m, (*USUAL, *(x for x in metrics if x not in USUAL))) for m in parts]
    base = _baseline([condition.label for condition in conditions], baseline)
    for role in scorers:
        _compare(rows, parts, role, base)
    samples = next((m for m in parts if m.condition.plain), None)
    if samples is not None:
        for row, m in zip(rows, parts, strict=True):
            _kl_of_best(row, m.condition, samples, scorers["reward"].name)
    first = conditions[0]
    about = {
        "task": first.task,
        "split": ", ".join(dict.fromkeys(condition.split for condition in conditions)),
        "model": read_manifest(store.folder)["about"]["model"]["name"],
        "seed": first.seed,
        "max_new_tokens": first.max_new_tokens,
        **{role: scorer.name for role, scorer in scorers.items()},
        "baseline": conditions[base].label,
        **({"metrics": [m.label for m in metrics]} if metrics else {}),
        "scores": keys,
        "conditions": [condition.key for condition in conditions],
    }
    curve = _curve(samples, metrics) if samples is not None else ()
    steered = tuple(
        {
            "method": row["method"],
            "guide": row["guide"],
            **of_n,
            "flops": _times(row["flops"], of_n),
        }
        for row, m in zip(rows, parts, strict=True)
        if m is not samples and m.condition.guide is not None
        for of_n in _curve(m, metrics)
    )
    asked_columns = tuple(c for m in metrics for c in m.columns)
    return Table(about, tuple(rows), curve, asked_columns, steered)


def _curve(m: Measured, metrics: Sequence[Metric]) -> tuple[Row, ...]:
    """Best-of-n by the reward from a condition's own samples; of blocks, which are chosen, none."""
    beside = {"judge": "judge", **{x.name: x.columns[0][0] for x in metrics if x.scorer}}
    scores = {column: m.by_prompt(what) for what, column in beside.items()}
    gold, log_ratios = m.by_prompt("reward"), None
    if m.condition.guide is not None:
        if any(c.kl is None for c in m.completions):
            return ()
        ratios = [c.logprob - c.ref_logprob for c in m.completions]
        log_ratios = by_prompt(m.ids, ratios)
        if any(len(log_ratios[p]) != len(rewards) for p, rewards in gold.items()):
            return ()  # a response without a reward
        scores["length"] = by_prompt(m.ids, [float(len(c.tokens)) for c in m.completions])
    return tuple(entered(figures) for figures in best_of_curve(gold, scores, log_ratios))


def _times(flops: Value, of_n: Row) -> Value:
    """Operations of n responses, in multiples of one of the base."""
    n = of_n["n"]
    return flops * n if isinstance(flops, float) and isinstance(n, int) else None


# --- one row -------------------------------------------------------------------------------------


def row_of(m: Measured, metrics: Sequence[Metric]) -> Row:
    """A condition's row with these metrics, all but the comparison."""
    condition, done = m.condition, m.completions
    failed = [[x is None for x in m.scores[role]] for role in ROLES if role in m.scores]
    row: Row = {
        "method": condition.label,
        "guide": condition.guide["name"] if condition.guide else None,
        "split": condition.split,
        "n": condition.n,
        "prompts": condition.prompts["count"],
        "responses": len(done),
        "failed": sum(map(any, zip(*failed, strict=True))),
    }
    answers = Answers(m.ids, done, m.scores)
    kl = ledger_kl(done) if all(c.kl is not None for c in done) else None
    scored = [c.steps[-1].score for c in done]
    values: dict[str, Figure] = {
        **{role: answers.mean(m.scores[role]) if role in m.scores else None for role in ROLES},
        "guide_score": estimate(scored, m.ids) if condition.guide else None,
        "kl": kl.sequence if kl else None,
        "kl_token": kl.token if kl else None,
    }
    for metric in metrics:
        values |= metric.figures(answers)
    values["length"] = estimate([len(c.tokens) for c in done], m.ids)
    row |= entered(values)
    for column, finish in (("eos", "eos"), ("length_cut", "length"), ("stop", "stop")):
        row[column] = sum(c.finish == finish for c in done) / len(done)
    return row | cost_per_token(done, condition.shape, condition.guide_shape)


def entered(values: Mapping[str, Figure]) -> Row:
    """The columns of some figures: means beside their standard errors; NaN and infinity are None.

    What is missing keeps the place of its error.
    """
    row: Row = {}
    for name, value in values.items():
        if value is None or isinstance(value, Estimate):
            row[name] = value.mean if value else None
            row[f"{name}_se"] = _finite(value.se) if value else None
        else:
            row[name] = _finite(value)
    return row


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


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
        row |= {f"{role}_{x}": None for x in ("gain", "gain_se", "low", "high", "p", "holm")}
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


def _kl_of_best(row: Row, condition: Facts, samples: Measured, reward: str) -> None:
    """The KL of a best-of-n row whose guide is the reward, from the base's samples."""
    proposal = (condition.method or {}).get("proposal", {})
    by_reward = condition.guide is not None and condition.guide["name"] == reward
    if not by_reward or proposal.get("kind") != "Samples" or proposal["length"] is not None:
        return
    gold = samples.by_prompt("reward")
    if gold and min(len(values) for values in gold.values()) > proposal["n"]:
        row |= entered({"kl": best_of_n_kl(gold, proposal["n"])})
