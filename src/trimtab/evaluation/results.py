"""A results folder read back for its report: tables, what is behind their rows, texts to compare.

Nothing here decodes: all of it is a function of the folder.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from trimtab.errors import ResultsError
from trimtab.evaluation.cost import seconds_per_token
from trimtab.evaluation.metrics import Column
from trimtab.evaluation.presentation import with_error
from trimtab.evaluation.statistics import ROUNDING
from trimtab.evaluation.table import Measured, Row, Table, measure, measured
from trimtab.runs.batches import Facts, title
from trimtab.runs.record import read_manifest
from trimtab.runs.store import Store, read_condition
from trimtab.types.html import TintedToken

COMPUTED = Facts("", "", "", "best-of-n", {}, ())
"""The condition of rows that are computed from others: best-of-n from the base's own samples."""


@dataclass(frozen=True)
class Entry:
    """A row of a table with the condition behind it."""

    row: Row
    condition: Facts
    name: str  # the method, and its guide where the table has several
    folder: Path = Path()
    scores: Mapping[str, str] = field(default_factory=dict)  # folder of the scores of each role

    def number(self, column: str) -> float | None:
        """A figure; None where it does not exist."""
        value = self.row.get(column)
        return float(value) if isinstance(value, int | float) else None

    def mean(self, column: str, form: str = ".3f") -> str:
        """A figure as text, with its standard error where it has one."""
        return with_error(self.number(column), self.number(f"{column}_se"), form)

    @cached_property
    def measured(self) -> Measured:
        """Its texts and their scores."""
        return measured(Store(self.folder), self.condition, self.scores)

    @property
    def seconds(self) -> float | None:
        """Wall time of decoding per token; None where it was not kept."""
        return seconds_per_token(Store(self.folder), self.condition)

    @property
    def reward(self) -> float:
        """Its mean reward; minus infinity where it has none."""
        value = self.number("reward")
        return -math.inf if value is None else value

    @property
    def beta(self) -> float:
        """The strength."""
        return float((self.condition.method or {})["beta"])

    @property
    def guide(self) -> str | None:
        """The name of its guide; None where nothing steers it."""
        guide = self.condition.guide
        return guide["name"] if guide else None

    @property
    def family(self) -> str:
        """Its name without the strength."""
        return re.sub(r"beta=[^,)]+(, )?", "", self.name).replace("()", "")


@dataclass(frozen=True)
class BestOfNAtCost:
    """What best-of-n by the reward reaches for a method's price, as far as its curve goes."""

    within: Entry | None  # the most n that costs no more
    reaches: int | None  # the least n whose mean reward is as high
    most: int  # the largest n of the curve


@dataclass(frozen=True)
class Sheet:
    """A table: one split of the task."""

    about: Mapping[str, Any]  # task, split, model, scorers, baseline
    entries: tuple[Entry, ...]
    best_of: tuple[Entry, ...] = ()  # from the base's own samples, for n = 1, 2, 4, ...
    asked: tuple[Column, ...] = ()  # the figures that were asked for by name
    steered: tuple[Entry, ...] = ()  # best-of-n of the steered policies' samples

    @property
    def place(self) -> str:
        """The task, and the split of its prompts, where it is known by a name."""
        task, split = self.about["task"], self.about["split"]
        return f"{task}, split {split}" if split else f"{task}"

    @property
    def roles(self) -> tuple[str, ...]:
        """The scores that there are: "reward", and perhaps "judge"."""
        return tuple(role for role in ("reward", "judge") if role in self.about)

    @property
    def baseline(self) -> Entry:
        """The row that others are compared with."""
        label = self.about["baseline"]
        return next((e for e in self.entries if e.row["method"] == label), self.entries[0])

    @property
    def best(self) -> Entry | None:
        """The most reward among those that are compared with the baseline."""
        compared = [e for e in self.entries if e.number("reward_gain") is not None]
        return max(compared, key=lambda e: e.number("reward") or 0.0, default=None)

    @property
    def strongest(self) -> tuple[Entry, ...]:
        """The baseline, and of every other method the strength of most reward."""
        best: dict[str, Entry] = {}
        for entry in self.entries:
            held = best.get(entry.family)
            if held is None or entry.reward > held.reward:
                best[entry.family] = entry
        base = self.baseline
        return (base, *(e for e in best.values() if e.family != base.family))

    @property
    def counted(self) -> bool:
        """Whether operations are known: the base's shape is."""
        return any(e.number("flops") is not None for e in self.entries)

    def cost(self, entry: Entry) -> float | None:
        """Operations in multiples of the base alone; without a shape, tokens that the base reads.

        Those are in multiples of the baseline's: a response's last token is chosen and never read.
        """
        if self.counted:
            return entry.number("flops")
        return _over(entry.number("base_tokens"), self.baseline.number("base_tokens"))

    def time(self, entry: Entry) -> float | None:
        """Wall time per token in multiples of the baseline's; None where it was not kept."""
        return _over(entry.seconds, self.baseline.seconds)

    def best_of_n(self, entry: Entry) -> BestOfNAtCost | None:
        """Best-of-n, which costs n, for a method's price; None where the base has no samples."""
        if not self.best_of:
            return None
        cost, reward = self.cost(entry), entry.number("reward")
        n = {int(e.number("n") or 0): e for e in self.best_of}
        # A hair's tolerance: a budget of 2 pays for n = 2 whatever its last bit.
        payable = [e for k, e in n.items() if cost is not None and k <= cost * (1 + 1e-9)]
        enough = math.inf if reward is None else reward - ROUNDING * abs(reward)
        as_good = [k for k, e in n.items() if e.reward >= enough]
        return BestOfNAtCost(payable[-1] if payable else None, min(as_good, default=None), max(n))


def _over(value: float | None, unit: float | None) -> float | None:
    return value / unit if value is not None and unit else None


# --- the folder ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Results:
    """A results folder."""

    manifest: Mapping[str, Any]  # the model, the task and the version that all of it shares
    sheets: Mapping[str, Sheet]  # by split
    sweep: Mapping[str, Any] | None  # which strengths were chosen and why

    @cached_property
    def head(self) -> Sheet:
        """The table that conclusions rest on: fresh prompts after a sweep, else the test split."""
        wanted = [self.sweep["score_on"]] if self.sweep else []
        order = [*wanted, "test", "validation", *self.sheets]
        return next(self.sheets[split] for split in order if split in self.sheets)

    @cached_property
    def grid(self) -> Sheet:
        """The table of all strengths: what a sweep chose on, else the one of most rows."""
        if self.sweep is not None:
            return self.sheets.get(self.sweep["choose_on"], self.head)
        return max([self.head, *self.sheets.values()], key=lambda sheet: len(sheet.entries))


def read_results(folder: str | Path) -> Results:
    """Read a run's folder; one without tables, such as `collect` writes, is measured now.

    Raises:
        ResultsError: it is none, a file of it is damaged, or no condition in it is finished.
        UnknownNameError: it has no table, and several rewards.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    files = {path.stem: _read_json(path) for path in sorted((folder / "tables").glob("*.json"))}
    sweep = files.pop("sweep", None)
    sheets = {split: _sheet(folder, Table.from_dict(table)) for split, table in files.items()}
    if not sheets:
        table = measure(folder)
        sheets = {str(table.about["split"]) or "all": _sheet(folder, table)}
    return Results(manifest, sheets, sweep)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ResultsError(
            "every file that a table rests on must be whole",
            got=f"{path} ({type(error).__name__})",
            do="run the evaluation again: it computes only what is missing",
        ) from error


def _sheet(folder: Path, table: Table) -> Sheet:
    several = len({row["guide"] for row in table.rows} - {None}) > 1
    entries = []
    for row, key in zip(table.rows, table.about["conditions"], strict=True):
        guide = None if row["guide"] is None else str(row["guide"])
        name = title(str(row["method"]), guide, named=several)
        condition = read_condition(folder / "conditions" / f"{key}.json")
        entries.append(Entry(row, condition, name, folder, table.about["scores"]))
    best_of = (Entry(r, COMPUTED, f"best-of-{r['n']} by the reward") for r in table.best_of)
    steered = []
    for row in table.steered:
        guide = None if row["guide"] is None else str(row["guide"])
        policy = title(str(row["method"]), guide, named=several)
        if row["n"] != 1:
            name = f"best-of-{row['n']} by the reward, of {policy}"
            steered.append(Entry(row, COMPUTED, name))
    return Sheet(table.about, tuple(entries), tuple(best_of), table.asked, tuple(steered))


# --- side by side --------------------------------------------------------------------------------

EVEN, EXTREME = 4, 3
"""Prompts that are shown: evenly spaced through the split, and of each kind of extreme."""


@dataclass(frozen=True)
class Answer:
    """One response, each token with what the guide did to it."""

    prompt: str
    method: str
    tokens: tuple[TintedToken, ...]
    scores: tuple[tuple[str, float | None], ...]  # by role; None where scoring failed
    kl: float | None  # nats to the base
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
    """A prompt and its answers."""

    why: str  # it is shown
    prompt: str
    answers: tuple[Answer, ...]  # the baseline's first


def comparisons(sheet: Sheet) -> list[Comparison]:
    """The first response of the baseline and of each method at its best, to chosen prompts.

    Those where the method of the best reward changes most, loses most and gains most against the
    baseline, and some that nobody picked.
    """
    entries = sheet.strongest
    columns = [_firsts(entry, sheet.roles) for entry in entries]
    best = next((i for i, e in enumerate(entries) if i and sheet.best is e), len(entries) - 1)
    return [
        Comparison(why, columns[0][i].prompt, tuple(column[i] for column in columns))
        for i, why in _chosen(columns[0], columns[best]).items()
    ]


def _firsts(entry: Entry, roles: Sequence[str]) -> list[Answer]:
    """The first response to each prompt."""
    known = entry.measured.scores
    return [
        Answer(
            done.prompt.text or "",
            entry.name,
            tuple(step.tinted(entry.guide is not None) for step in done.steps),
            tuple((role, known[role][i] if role in known else None) for role in roles),
            done.kl,
            done.finish,
        )
        for i, done in enumerate(entry.measured.completions)
        if done.sample == 0
    ]


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
