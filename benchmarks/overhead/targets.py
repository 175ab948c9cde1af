"""What the measurements are held against; met or not is said, never asserted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from overhead.cells import Row


@dataclass(frozen=True)
class Verdict:
    """One target, one configuration, one figure."""

    target: str
    case: str
    figure: float
    met: bool


def flat(rows: Sequence[Row], most: float = 1.15) -> list[Verdict]:
    """Turn minus attention's own time, over the same at the shortest prefix."""
    groups: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[(row.cell.guide, row.cell.k, row.cell.batch)].append(row)
    found = []
    for (guide, k, batch), group in groups.items():
        first, *longer = sorted(group, key=lambda r: r.cell.prefix)
        for row in longer:
            figure = (row.guided - row.attention) / (first.guided - first.attention)
            case = f"{guide}, k {k}, batch {batch}: {row.cell.prefix} against {first.cell.prefix}"
            found.append(Verdict(f"flat in prefix: at most {most}", case, figure, figure <= most))
    return found


def near_bound(rows: Sequence[Row], most: float = 1.3) -> list[Verdict]:
    """Guided turn over its bound at batch 8."""
    return [
        Verdict(
            f"batch 8 over its bound: at most {most}",
            f"{r.cell.guide}, k {r.cell.k}, prefix {r.cell.prefix}",
            r.guided / r.bound_guided,
            r.guided / r.bound_guided <= most,
        )
        for r in rows
        if r.cell.batch == 8
    ]


def over_reencoding(rows: Sequence[Row], least: float = 15.0) -> list[Verdict]:
    """Re-encoding over guided at 512 and k = 10: the guide's part, and the whole turn."""
    found = []
    for r in rows:
        if r.reencoding is None or (r.cell.prefix, r.cell.k) != (512, 10):
            continue
        case = f"{r.cell.guide}, batch {r.cell.batch}"
        part = (r.reencoding - r.unguided) / (r.guided - r.unguided)
        for name, figure in (("guide's part", part), ("whole turn", r.reencoding / r.guided)):
            target = f"faster than re-encoding, {name}: at least {least:g}"
            found.append(Verdict(target, case, figure, figure >= least))
    return found


def judge(rows: Sequence[Row]) -> list[Verdict]:
    """All verdicts."""
    return [*flat(rows), *near_bound(rows), *over_reencoding(rows)]
