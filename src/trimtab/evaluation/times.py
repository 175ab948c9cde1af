"""How long decoding took, per token and against the base in the same run.

Wall times differ from run to run, so they never enter a table: they are read from the folder's
`times/`, as they were when the texts were decoded, and stand on the terminal and in reports.

    time(row) = (seconds of its units / tokens of its units) / the same of the base
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trimtab.decoding.samplers import Stochastic
from trimtab.evaluation.cells import Cell, title
from trimtab.evaluation.store import Store
from trimtab.types import Vocabulary


@dataclass(frozen=True)
class Clock:
    """The wall time of one row.

    Attributes:
        name: the method, and what guides it.
        seconds: per emitted token, rows side by side sharing the clock; None where not kept.
        relative: in multiples of the base's; None without a base in the run.
        base: name of the base's row; None where the run has none.
    """

    name: str
    seconds: float | None
    relative: float | None
    base: str | None


def clocks(store: Store, cells: Sequence[Cell]) -> tuple[Clock, ...]:
    """The wall time of every cell, against the base decoding alone in the same run."""
    base = _base(cells)
    unit = seconds_per_token(store, base) if base is not None else None
    name = base.label if base is not None else None
    found = []
    for cell in cells:
        own = seconds_per_token(store, cell)
        said = title(cell.label, cell.guide.name if cell.guide else None)
        found.append(Clock(said, own, own / unit if own is not None and unit else None, name))
    return tuple(found)


def seconds_per_token(store: Store, cell: Cell) -> float | None:
    """sum of seconds / sum of tokens over a cell's units; None where a time was not kept."""
    times = [store.time(unit) for unit in cell.units]
    known = [time for time in times if time is not None]
    tokens = sum(time["tokens"] for time in known)
    if len(known) < len(times) or not tokens:
        return None
    return float(sum(time["seconds"] for time in known) / tokens)


def _base(cells: Sequence[Cell]) -> Cell | None:
    """The base decoding alone: its plain samples, else its greedy texts."""
    alone = [
        cell
        for cell in cells
        if not cell.method.guided and isinstance(cell.method.proposal, Vocabulary)
    ]
    return min(alone, key=lambda c: not isinstance(c.method.sampler, Stochastic), default=None)
