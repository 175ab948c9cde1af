"""Tables of text, for the page and for Markdown alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

from trimtab.evaluation.cells import title
from trimtab.evaluation.report.budget import rival
from trimtab.evaluation.report.reading import Entry, Results, Sheet
from trimtab.evaluation.report.sentences import NONE, number, p_value, with_error
from trimtab.evaluation.report.texts import Texts

Column: TypeAlias = "tuple[str, Callable[[Entry], str]]"

METHODS = {
    "KL": "KL: exact divergence from the base in nats; of best-of-n, estimated from samples.",
    "diversity": "Diversity: product over n = 2..4 of the share of n-grams that are unique.",
    "ended": "Ended, cut, stopped: by the model, by the token budget, by a stop string.",
    "FLOPs": "FLOPs: in multiples of the base alone, prompts left out.",
    "failed": "Failed: texts without a score, left out of the means.",
    "n": "methods that always say the same give one.",
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


@dataclass(frozen=True)
class Grid:
    """A table.

    Attributes:
        caption: what it shows.
        head: of its columns; the first names the row.
        rows: of texts.
        note: what its columns mean.
    """

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def _grid(caption: str, columns: list[Column], entries: tuple[Entry, ...], note: str = "") -> Grid:
    """One row per entry; columns that are empty throughout are left out."""
    filled = [c for c in columns if any(c[1](e) not in (NONE, "") for e in entries)]
    return Grid(
        caption,
        ("method", *(name for name, _ in filled)),
        tuple((e.name, *(show(e) for _, show in filled)) for e in entries),
        note,
    )


def _notes(head: str, notes: dict[str, str], grid: Grid) -> Grid:
    """The grid with what is to be known of the columns that it has."""
    said = [text for name, text in notes.items() if any(h.startswith(name) for h in grid.head)]
    return replace(grid, note=" ".join([head, *said]).strip())


def _plain(column: str, form: str) -> Callable[[Entry], str]:
    return lambda entry: number(entry.number(column), form)


def _mean(column: str, form: str) -> Callable[[Entry], str]:
    return lambda entry: with_error(entry, column, form)


def methods(sheet: Sheet) -> Grid:
    """Every method's figures."""
    a = sheet.about
    asked = [column for column in _asked(sheet) if column[0] != "diversity"]
    columns: list[Column] = [
        (f"reward ({a['reward']})", _mean("reward", ".3f")),
        (f"judge ({a.get('judge')})", _mean("judge", ".3f")),
        ("KL / response", _mean("kl", ".2f")),
        ("KL / token", _mean("kl_token", ".3f")),
        ("diversity", _plain("diversity", ".2f")),
        *asked,
        ("tokens", _mean("length", ".1f")),
        ("ended", _plain("eos", ".0%")),
        ("cut", _plain("length_cut", ".0%")),
        ("stopped", _plain("stop", ".0%")),
        ("FLOPs", _plain("flops", ".2f")),
        ("n", _plain("n", ".0f")),
        ("failed", lambda e: str(e.row["failed"] or NONE)),
    ]
    if not any(e.number("stop") for e in sheet.entries):
        columns = [c for c in columns if c[0] != "stopped"]
    prompts = sheet.entries[0].row["prompts"]
    grid = _grid(f"Methods on {a['task']}, split {a['split']}", columns, sheet.entries)
    notes = METHODS | {"n": f"n: responses to each of {prompts} prompts; {METHODS['n']}"}
    return _notes("Mean ± standard error, clustered by prompt.", notes, grid)


def _asked(sheet: Sheet) -> list[Column]:
    """The figures that were asked for by name."""
    return [(heading, _mean(name, form)) for name, heading, form in sheet.asked]


def differences(sheet: Sheet) -> Grid:
    """Every method against the baseline."""
    columns = [column for role in sheet.roles for column in _compared(role)]
    others = tuple(e for e in sheet.entries if e.number("reward_gain") is not None)
    note = (
        "Paired by prompt. Interval: 95%, bootstrap over prompts (BCa). p: Wilcoxon's signed-rank "
        f"test, two-sided. Holm: adjusted for the {len(others)} comparisons."
    )
    return _grid(f"Against {sheet.baseline.name}, prompt by prompt", columns, others, note)


def _compared(role: str) -> list[Column]:
    def interval(entry: Entry) -> str:
        low, high = entry.number(f"{role}_low"), entry.number(f"{role}_high")
        return NONE if low is None else f"{number(low, '+.3f')} to {number(high, '+.3f')}"

    return [
        (f"{role}", _plain(f"{role}_gain", "+.3f")),
        (f"{role}: interval", interval),
        (f"{role}: p", lambda entry: p_value(entry.number(f"{role}_p"))),
        (f"{role}: Holm", lambda entry: p_value(entry.number(f"{role}_holm"))),
    ]


def costs(sheet: Sheet, texts: Texts) -> Grid:
    """What every method costs, and what best-of-n would have reached for it."""
    clock = texts.seconds_per_token(sheet.baseline)

    def time(entry: Entry) -> str:
        own = texts.seconds_per_token(entry)
        return number(own / clock if own is not None and clock else None, ".2f")

    columns: list[Column] = [
        ("FLOPs", _plain("flops", ".2f")),
        ("base reads", _plain("base_tokens", ".2f")),
        ("guide reads", _plain("guide_tokens", ".2f")),
        ("time", time),
        ("reward", _mean("reward", ".3f")),
        ("best-of-n by the reward, within its cost", lambda e: _within(e, sheet)),
        ("best-of-n by the reward, as good", lambda e: _reaches(e, sheet)),
    ]
    notes = COSTS | {"time": COSTS["time"].format(sheet.baseline.name)}
    caption = "Cost, and best-of-n by the reward for it"
    return _notes("", notes, _grid(caption, columns, sheet.entries))


def _within(entry: Entry, sheet: Sheet) -> str:
    other = rival(entry, sheet)
    if other is None or other.within is None:
        return NONE
    row = Entry(other.within, {}, "")
    return f"n = {row.row['n']}: {with_error(row, 'reward')}"


def _reaches(entry: Entry, sheet: Sheet) -> str:
    other = rival(entry, sheet)
    if other is None:
        return NONE
    return f"n = {other.reaches}" if other.reaches else f"none up to {other.most}"


def best_of(sheet: Sheet) -> Grid | None:
    """Best-of-n from the base's own samples."""
    if not sheet.best_of:
        return None
    rows = [Entry(row, {}, "") for row in sheet.best_of]
    columns: list[Column] = [
        ("reward", _mean("reward", ".3f")),
        ("judge", _mean("judge", ".3f")),
        *_asked(sheet),
        ("KL / response", _mean("kl", ".2f")),
    ]
    named = tuple(Entry(e.row, {}, f"best-of-{e.row['n']} by the reward") for e in rows)
    samples = int(sheet.best_of[0]["samples"] or 0)
    good = samples // 4  # see `best_of_n_kl`
    trust = f"good up to n = {good}" if good > 1 else "rough with so few samples"
    note = (
        f"From all subsets of the {samples} samples of each prompt. The KL is estimated from the "
        f"same samples, and is {trust}."
    )
    return _grid("Best-of-n by the reward", columns, named, note)


def choices(results: Results) -> Grid | None:
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
    return Grid("Each method's best strength", ("method", "chosen", "why"), rows, note)
