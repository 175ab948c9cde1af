"""The table, and the picture."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from matplotlib import colormaps
from matplotlib.figure import Figure

from recipes.guides.ablations.arms import ARMS, SEEDS, Arm

KL = (10.0, 20.0)
"""Nats per response at which guides are compared."""
MARKERS = "ovs^<>DpP*XhH"


def table(folder: Path) -> str:
    """Means over seeds with standard errors, at each of `KL` nats per response."""
    columns = ["guide", "seeds", "error", "accuracy at 25 / 50 / 75 / 100%"]
    columns += [f"{name} at {kl:g} nats" for kl in KL for name in ("reward", "judge", "relevance")]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for arm in ARMS:
        runs = finished(folder, arm)
        for name in arm.methods if runs else ():
            errors = [r["error"] for r in runs if r["error"] is not None and not name]
            parts = [r["accuracy"] for r in runs if r["accuracy"] and not name]
            cells = [arm.name + (f", {name}" if name else ""), str(len(runs)), mean(errors)]
            shares = ("25%", "50%", "75%", "100%") if parts else ()
            cells.append(" / ".join(mean([p[share] for p in parts], 2) for share in shares))
            for kl in KL:
                for key, digits in (("reward", 3), ("judge", 2), ("relevance", 3)):
                    read = [at_kl(r["decoded"][name], key, kl) for r in runs]
                    met = [figure for figure in read if figure is not None]
                    cells.append(mean(met, digits) if len(met) == len(read) else "not met")
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def finished(folder: Path, arm: Arm) -> list[dict[str, Any]]:
    """The figures of the seeds that are done."""
    paths = [folder / f"{arm.name}-{seed}.json" for seed in SEEDS]
    return [json.loads(path.read_text()) for path in paths if path.is_file()]


def at_kl(strengths: list[dict[str, float]], key: str, kl: float) -> float | None:
    """A figure at `kl` nats, on the line between the strengths; None outside of them."""
    points = sorted((each["kl"], each[key]) for each in strengths)
    for (low, below), (high, above) in pairwise(points):
        if low <= kl <= high:
            return below + (above - below) * (kl - low) / max(high - low, 1e-9)
    return None


def picture(folder: Path, best: Sequence[Mapping[str, float]]) -> None:
    """Reward against KL, a line per guide (means over seeds), and best-of-n."""
    figure = Figure(figsize=(8, 5.5), layout="tight")
    axes = figure.add_subplot()
    axes.set_prop_cycle(color=colormaps["tab20"](range(20)))
    for arm, marker in zip(ARMS, MARKERS, strict=True):
        runs = [r["decoded"][""] for r in finished(folder, arm)]
        if runs:
            line = [[fmean(point[key] for point in points) for points in zip(*runs, strict=True)]
                    for key in ("kl", "reward")]  # fmt: skip
            axes.plot(*line, marker=marker, label=arm.name, linewidth=1)
    line = [[point[key] for point in best] for key in ("kl", "reward")]
    axes.plot(*line, "k.--", label="best-of-n", linewidth=1)
    axes.set(xlabel="KL from the base, nats per response", ylabel="reward", xlim=(0, 60))
    axes.legend(fontsize="small", ncols=2)
    axes.grid(alpha=0.3)
    figure.savefig(folder / "frontier.png", dpi=120)


def mean(values: Iterable[float], digits: int = 3) -> str:
    """`1.234 ± 0.005`, the standard error over seeds."""
    many = list(values)
    if not many:
        return ""
    error = f" ± {stdev(many) / math.sqrt(len(many)):.{digits}f}" if len(many) > 1 else ""
    return f"{fmean(many):.{digits}f}{error}"
