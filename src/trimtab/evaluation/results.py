"""A results folder read back: tables, the conditions behind their rows, texts and scores."""

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
from trimtab.evaluation.cost import BestOfNAtCost, best_of_n_at_cost, seconds_per_token
from trimtab.evaluation.presentation import with_error
from trimtab.evaluation.statistics import by_prompt
from trimtab.evaluation.table import Column, Row, Table, measure
from trimtab.runs.batches import Facts, title
from trimtab.runs.record import Row as Record
from trimtab.runs.record import read_manifest
from trimtab.runs.store import Store, read_condition
from trimtab.types import Completion
from trimtab.types.html import TintedToken

COMPUTED = Facts("", "", "", "best-of-n", {}, ())
"""The condition of rows that are computed from others: best-of-n from the base's own samples."""


@dataclass(frozen=True)
class Entry:
    """A row of a table with the condition behind it.

    Attributes:
        row: the figures.
        condition: what made its texts.
        name: the method, and its guide where the table has several.
    """

    row: Row
    condition: Facts
    name: str

    def number(self, column: str) -> float | None:
        """A figure; None where it does not exist."""
        value = self.row.get(column)
        return float(value) if isinstance(value, int | float) else None

    def mean(self, column: str, form: str = ".3f") -> str:
        """A figure as text, with its standard error where it has one."""
        return with_error(self.number(column), self.number(f"{column}_se"), form)

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
        """The name of its guide."""
        guide = self.condition.guide
        return guide["name"] if guide else None

    @property
    def guided(self) -> bool:
        """Whether a guide steers it."""
        return self.condition.guide is not None

    @property
    def family(self) -> str:
        """Its name without the strength."""
        return re.sub(r"beta=[^,)]+(, )?", "", self.name).replace("()", "")


@dataclass(frozen=True)
class Sheet:
    """A table: one split of the task.

    Attributes:
        about: task, split, model, scorers, baseline.
        entries: the rows.
        best_of: best-of-n from the base's own samples, for n = 1, 2, 4, ...
        asked: name, heading and format of the figures that were asked for by name.
    """

    about: Mapping[str, Any]
    entries: tuple[Entry, ...]
    best_of: tuple[Row, ...]
    asked: tuple[Column, ...] = ()

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
        own, of_base = entry.number("base_tokens"), self.baseline.number("base_tokens")
        return own / of_base if own is not None and of_base else None

    def best_of_n(self, entry: Entry) -> BestOfNAtCost | None:
        """Best-of-n for the price of a method; None where the base has no samples."""
        return best_of_n_at_cost(self.cost(entry), entry.number("reward"), self.best_of)


@dataclass(frozen=True)
class Results:
    """A results folder.

    Attributes:
        folder: where.
        manifest: the model, the task and the version that all of it shares.
        sheets: tables by split.
        sweep: which strengths were chosen and why; None where nothing was swept.
    """

    folder: Path
    manifest: Mapping[str, Any]
    sheets: Mapping[str, Sheet]
    sweep: Mapping[str, Any] | None

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
        ResultsError: it is none, or no condition in it is finished.
        UnknownNameError: it has no table, and several rewards.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    sheets, sweep = {}, None
    for path in sorted((folder / "tables").glob("*.json")):
        if path.stem == "sweep":
            sweep = read_json(path)
        else:
            sheets[path.stem] = _sheet(folder, Table.from_dict(read_json(path)))
    if not sheets:
        table = measure(folder)
        sheets[str(table.about["split"]) or "all"] = _sheet(folder, table)
    return Results(folder, manifest, sheets, sweep)


def read_json(path: Path) -> Any:
    """A file of the folder.

    Raises:
        ResultsError: it is missing or damaged.
    """
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
        condition = read_condition(folder / "conditions" / f"{key}.json")
        entries.append(Entry(row, condition, title(str(row["method"]), guide, named=several)))
    return Sheet(table.about, tuple(entries), table.best_of, table.asked)


# --- texts and scores ----------------------------------------------------------------------------


@dataclass
class Texts:
    """The records, scores and times behind the rows of a folder's tables; a file is read once.

    Attributes:
        folder: the results folder.
    """

    folder: Path
    _read: dict[str, list[Record]] = field(default_factory=dict, repr=False)

    def records(self, entry: Entry) -> list[Record]:
        """The prompts of a row with their responses, in order."""
        return [row for key in entry.condition.batches for row in self._rows(key)]

    def scores(self, entry: Entry, sheet: Sheet, role: str) -> list[float | None] | None:
        """One score per response, None where scoring failed; None where none were kept."""
        if entry.number(role) is None:
            return None
        reward, store = sheet.about["scores"][role], Store(self.folder)
        files = [store.scores(reward, key) or [] for key in entry.condition.batches]
        answers = [answer for file in files for row in file for answer in row.answers]
        return [answer if isinstance(answer, float) else None for answer in answers]

    def by_prompt(self, entry: Entry, sheet: Sheet, role: str) -> dict[str, list[float]]:
        """Scores of each prompt's responses, without those that failed."""
        ids = [row.id for row in self.records(entry) for _ in row.group.responses]
        scores = self.scores(entry, sheet, role) or [None] * len(ids)
        pairs = [(i, x) for i, x in zip(ids, scores, strict=True) if x is not None]
        return by_prompt([i for i, _ in pairs], [x for _, x in pairs])

    def seconds_per_token(self, entry: Entry) -> float | None:
        """Wall time of decoding; None where it was not kept."""
        store = Store(self.folder)
        return seconds_per_token([store.time(key) for key in entry.condition.batches])

    def relative_time(self, entry: Entry, sheet: Sheet) -> float | None:
        """Wall time per token in multiples of the baseline's; None where it was not kept."""
        own, of_base = self.seconds_per_token(entry), self.seconds_per_token(sheet.baseline)
        return own / of_base if own is not None and of_base else None

    def _rows(self, key: str) -> list[Record]:
        if key not in self._read:
            self._read[key] = Store(self.folder).read(key)
        return self._read[key]


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
