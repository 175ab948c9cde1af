"""The tables of a report, as text for the page and for Markdown alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from trimtab.evaluation.report.reading import COMPUTED, Entry, Results, Sheet, Texts
from trimtab.evaluation.table import TextTable
from trimtab.evaluation.text import NONE, number, p_value
from trimtab.runs.batches import title

Shown: TypeAlias = "tuple[str, Callable[[Entry], str]]"
"""The heading of a column, and what a row shows in it."""

METHODS = {
    "KL": "KL: exact divergence from the base in nats; of best-of-n, estimated from samples.",
    "diversity": "Diversity: product over n = 2..4 of the share of n-grams that are unique.",
    "ended": "Ended, cut, stopped: by the model, by the token budget, by a stop string.",
    "FLOPs": "FLOPs: in multiples of the base alone, prompts left out.",
    "failed": "Failed: texts without a score, left out of the means.",
    "n": "n: responses to each of {} prompts; methods that always say the same give one.",
}
COSTS = {
    "FLOPs": METHODS["FLOPs"],
    "base": "Reads: tokens per emitted token; a response's last token is never read.",
    "time": "Time: wall time per token over that of {}, as it ran here.",
    "best-of-n by the reward, within": (
        "Best-of-n by the reward is computed from the base's own samples, for n = 1, 2, 4, ...: "
        "its mean reward with the largest n that costs no more, and the least n whose mean reward "
        "is as high."
    ),
}


def _table(
    caption: str, columns: list[Shown], entries: Sequence[Entry], note: str = ""
) -> TextTable:
    """One row per entry; columns that are empty throughout are left out."""
    filled = [c for c in columns if any(c[1](e) not in (NONE, "") for e in entries)]
    head = ("method", *(name for name, _ in filled))
    rows = tuple((e.name, *(show(e) for _, show in filled)) for e in entries)
    return TextTable(caption, head, rows, note)


def _explained(table: TextTable, notes: dict[str, str], opening: str = "") -> TextTable:
    """The table with what is to be known of the columns that it has."""
    known = [text for name, text in notes.items() if any(h.startswith(name) for h in table.head)]
    return replace(table, note=" ".join([opening, *known]).strip())


def _plain(column: str, form: str) -> Callable[[Entry], str]:
    return lambda entry: number(entry.number(column), form)


def _mean(column: str, form: str = ".3f") -> Callable[[Entry], str]:
    return lambda entry: entry.mean(column, form)


def methods(sheet: Sheet) -> TextTable:
    """Every method's figures."""
    a, prompts = sheet.about, sheet.entries[0].row["prompts"]
    columns: list[Shown] = [
        (f"reward ({a['reward']})", _mean("reward")),
        (f"judge ({a.get('judge')})", _mean("judge")),
        ("KL / response", _mean("kl", ".2f")),
        ("KL / token", _mean("kl_token")),
        ("diversity", _plain("diversity", ".2f")),
        *(column for column in _asked(sheet) if column[0] != "diversity"),
        ("tokens", _mean("length", ".1f")),
        ("ended", _plain("eos", ".0%")),
        ("cut", _plain("length_cut", ".0%")),
        ("stopped", lambda e: number(e.number("stop"), ".0%") if e.number("stop") else NONE),
        ("FLOPs", _plain("flops", ".2f")),
        ("n", _plain("n", ".0f")),
        ("failed", lambda e: str(e.row["failed"] or NONE)),
    ]
    table = _table(f"Methods on {sheet.place}", columns, sheet.entries)
    notes = METHODS | {"n": METHODS["n"].format(prompts)}
    return _explained(table, notes, "Mean ± standard error, clustered by prompt.")


def _asked(sheet: Sheet) -> list[Shown]:
    """The figures that were asked for by name."""
    return [(heading, _mean(name, form)) for name, heading, form in sheet.asked]


def differences(sheet: Sheet) -> TextTable:
    """Every method against the baseline."""
    columns = [column for role in sheet.roles for column in _compared(role)]
    others = [e for e in sheet.entries if e.number("reward_gain") is not None]
    note = (
        "Paired by prompt. Interval: 95%, bootstrap over prompts (BCa). p: Wilcoxon's signed-rank "
        f"test, two-sided. Holm: adjusted for the {len(others)} comparisons."
    )
    return _table(f"Against {sheet.baseline.name}, prompt by prompt", columns, others, note)


def _compared(role: str) -> list[Shown]:
    def interval(entry: Entry) -> str:
        low, high = entry.number(f"{role}_low"), entry.number(f"{role}_high")
        return NONE if low is None else f"{number(low, '+.3f')} to {number(high, '+.3f')}"

    return [
        (role, _mean(f"{role}_gain", "+.3f")),
        (f"{role}: interval", interval),
        (f"{role}: p", lambda entry: p_value(entry.number(f"{role}_p"))),
        (f"{role}: Holm", lambda entry: p_value(entry.number(f"{role}_holm"))),
    ]


def costs(sheet: Sheet, texts: Texts) -> TextTable:
    """What every method costs, and what best-of-n would have reached for it."""

    def within(entry: Entry) -> str:
        other = sheet.best_of_n(entry)
        if other is None or other.within is None:
            return NONE
        row = Entry(dict(other.within), COMPUTED, "")
        return f"n = {row.row['n']}: {row.mean('reward')}"

    def reaches(entry: Entry) -> str:
        other = sheet.best_of_n(entry)
        if other is None:
            return NONE
        return f"n = {other.reaches}" if other.reaches else f"none up to {other.most}"

    columns: list[Shown] = [
        ("FLOPs", _plain("flops", ".2f")),
        ("base reads", _plain("base_tokens", ".2f")),
        ("guide reads", _plain("guide_tokens", ".2f")),
        ("time", lambda e: number(texts.relative_time(e, sheet), ".2f")),
        ("reward", _mean("reward")),
        ("best-of-n by the reward, within its cost", within),
        ("best-of-n by the reward, as good", reaches),
    ]
    notes = COSTS | {"time": COSTS["time"].format(sheet.baseline.name)}
    return _explained(
        _table("Cost, and best-of-n by the reward for it", columns, sheet.entries), notes
    )


def best_of(sheet: Sheet) -> TextTable | None:
    """Best-of-n from the base's own samples."""
    if not sheet.best_of:
        return None
    columns: list[Shown] = [
        ("reward", _mean("reward")),
        ("judge", _mean("judge")),
        *_asked(sheet),
        ("KL / response", _mean("kl", ".2f")),
    ]
    entries = [Entry(row, COMPUTED, f"best-of-{row['n']} by the reward") for row in sheet.best_of]
    samples = int(sheet.best_of[0]["samples"] or 0)
    good = samples // 4  # see `best_of_n_kl`
    trust = f"good up to n = {good}" if good > 1 else "rough with so few samples"
    note = (
        f"From all subsets of the {samples} samples of each prompt. The KL is estimated from the "
        f"same samples, and is {trust}."
    )
    return _table("Best-of-n by the reward", columns, entries, note)


def choices(results: Results) -> TextTable | None:
    """Which strengths a sweep chose."""
    if results.sweep is None:
        return None
    rows = tuple(
        (
            f"{c['method']}{' by ' + c['guide'] if c['guide'] else ''}",
            title(c["label"], c["guide"], named=False) if c["label"] else "none",
            c["why"],
        )
        for c in results.sweep["choices"]
    )
    note = (
        f"Chosen on split {results.sweep['choose_on']}, scored on split "
        f"{results.sweep['score_on']}, whose prompts had no say."
    )
    return TextTable("Each method's best strength", ("method", "chosen", "why"), rows, note)
