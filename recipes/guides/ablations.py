"""The papers' ablations at the scale of a laptop: three seeds each, one line per guide.

    python -m recipes.guides.ablations ROLLOUTS LABELS FOLDER [--processes 2] [--only td,q]

ROLLOUTS and LABELS are what `sentiment.sh` collected. Each guide is trained on the same 100 topics
x 12 responses (the shares of data on fewer), asked for its error on the labels, and decoded on 16
topics of the test split, four responses each, at four strengths: guides differ in how far one beta
takes them from the base, so they are compared at equal KL, read off the line between the strengths.
What is finished is not done again. FOLDER/table.md has the means over seeds with standard errors,
FOLDER/frontier.png the reward against KL.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

SEEDS = (0, 1, 2)
KL = (10.0, 20.0)
TOPICS, EACH, TESTED, RESPONSES = 100, 12, 16, 4
BASE: dict[str, Any] = {
    "reward": "sentiment",
    "layers": 4,
    "lora_rank": 16,
    "lora_alpha": 32,
    "lr": [1e-3],
    "epochs": 2,
    "batch_size": 32,
    "evaluations": 1,
    "bf16": True,
    "device": "cpu",
}


@dataclass(frozen=True)
class Arm:
    """One line of the table.

    Attributes:
        name: what it is called.
        objective: what trains it.
        changes: of the training's settings.
        share: of the training groups.
        betas: strengths to decode with, in the guide's unit.
        methods: other `vas` parameters to decode with, by name; the first one is the line's own.
    """

    name: str
    objective: str = "td-lambda"
    changes: dict[str, Any] = field(default_factory=dict)
    share: float = 1.0
    betas: tuple[float, ...] = (10.0, 20.0, 40.0, 80.0)
    methods: dict[str, dict[str, Any]] = field(default_factory=lambda: {"": {"k": 10}})


DECODING = {
    "": {"k": 10},
    "tail dropped": {"k": 10, "tail": "drop"},
    "k = 5": {"k": 5},
    "k = 20": {"k": 20},
    "k = 100": {"k": 100},
}
PAIRS = {"unit": "std", "margin": 0.2, "pairs_per_group": 12}
IN_STD = (4.0, 8.0, 16.0, 32.0)
ARGS = {"betas": (2.0, 4.0, 8.0, 16.0), "methods": {"": {"k": 10, "tail": "drop"}}}

MARKERS = "ovs^<>DpP*XhH"
ARMS = (
    Arm("td", changes={"settings": {"lambda_": 0.95}}, methods=DECODING),
    Arm("td0", "cd-q"),
    Arm("td1", "monte-carlo"),
    Arm("data-25", share=0.25),
    Arm("data-50", share=0.5),
    Arm("full-bt", "bradley-terry", PAIRS, **ARGS),
    Arm("partial-bt", "partial-bradley-terry", {**PAIRS, "prefixes": "all"}, **ARGS),
    Arm("q", "q"),
    Arm("dueling-q", "dueling-q"),
    Arm("value-advantage", "value-advantage"),
    Arm("ilql", "ilql"),
    Arm("farma", "farma", PAIRS, betas=IN_STD),
    Arm("genarm", "genarm", {**PAIRS, "unit": "reward", "layers": None, "lr": [3e-4], "epochs": 1},
        betas=(1.0, 2.0, 4.0, 8.0), methods={"": {"k": 100}}),
)  # fmt: skip


# --- one guide -----------------------------------------------------------------------------------


def run(job: tuple[Arm, int, Path, Path, Path]) -> None:
    """Train a guide, measure it, and keep the figures."""
    import torch

    from trimtab.training.config import make_config
    from trimtab.training.train import train

    arm, seed, rollouts, labels, folder = job
    done = folder / f"{arm.name}-{seed}.json"
    if done.is_file():
        return
    torch.set_num_threads(1)
    out = folder / "guides" / f"{arm.name}-{seed}"
    pairs = arm.objective in ("bradley-terry", "partial-bradley-terry", "farma", "genarm")
    if not out.exists():
        values = {"seed": seed, "objective": arm.objective, "out": str(out), **BASE, **arm.changes}
        if not pairs:
            values["validation"] = str(labels)
        values["data"] = [str(subset(rollouts, folder, arm.share))]
        train(make_config(values))
    figures = {"error": None, "accuracy": None}
    card = json.loads((out / "guide.json").read_text())
    figures["error" if not pairs else "loss"] = card["objective"]["validation"]["error"]
    if pairs:
        figures["accuracy"] = prefix_accuracy(out, rollouts, folder)
    figures["decoded"] = {
        name: [decoded(out, {**how, "beta": beta}, seed) for beta in arm.betas]
        for name, how in arm.methods.items()
    }
    done.write_text(json.dumps(figures, indent=1))
    print(arm.name, seed, figures, flush=True)


def subset(rollouts: Path, folder: Path, share: float) -> Path:
    """The groups that are trained on: the first topics by hash, so that shares are nested."""
    from filelock import FileLock

    from trimtab.training.store import read_groups, write_groups
    from trimtab.types import Group

    at = folder / f"groups-{share:g}"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{at}.lock"):
        if not (at / "manifest.json").is_file():
            groups = sorted(read_groups(rollouts), key=lambda g: _hash(g.topic))
            kept = groups[: round(share * TOPICS)] + groups[TOPICS : TOPICS + 16]
            write_groups(at, [Group(g.prompt, g.responses[:EACH], g.topic) for g in kept])
    return at


def _hash(text: str) -> bytes:
    from hashlib import sha256

    return sha256(f"ablations:{text}".encode()).digest()


def decoded(guide: Path, how: dict[str, Any], seed: int) -> dict[str, float]:
    """Mean reward, judge, relevance, KL and tokens on test topics."""
    import trimtab as tt
    from trimtab.rewards import reward
    from trimtab.tasks import task

    lm = tt.TransformersLM("smollm2", base_temperature=0.7, dtype="bfloat16")
    steer = tt.load_guide(guide, lm=lm)
    samples = task("sentiment").samples("test")[:TESTED]
    found = tt.decode(
        lm, steer, tt.vas(**how), [s.prompt for s in samples], n=RESPONSES, max_new_tokens=48,
        seed=seed,
    )  # fmt: skip
    asked = [s for s in samples for _ in range(RESPONSES)]
    texts = [c.text for c in found]
    measures = {"reward": "sentiment", "judge": "rated-sentiment", "relevance": "similarity"}
    return {
        "beta": how["beta"],
        **{name: fmean(reward(by)(asked, texts)) for name, by in measures.items()},
        "kl": fmean(c.kl or 0.0 for c in found),
        "tokens": fmean(len(c.tokens) for c in found),
    }


def prefix_accuracy(guide: Path, rollouts: Path, folder: Path) -> dict[str, float]:
    """Accuracy on pairs of topics that no guide saw, by the share of the response that is read."""
    import trimtab as tt
    from trimtab.training.inspection import inspect_guide

    lm = tt.TransformersLM("smollm2", base_temperature=0.7, dtype="float32")
    found = inspect_guide(guide, lm, pairs=[held_out_pairs(rollouts, folder)], reward="preference")
    return {each.where: each.accuracy.value for each in found.pairs}


def held_out_pairs(rollouts: Path, folder: Path) -> Path:
    """Eight pairs of each of 24 topics, told apart by 0.2 of sentiment at least."""
    from filelock import FileLock

    from trimtab.training.preferences import pairs_of
    from trimtab.training.store import read_groups, write_groups

    at = folder / "pairs"
    with FileLock(f"{at}.lock"):
        if not (at / "manifest.json").is_file():
            groups = sorted(read_groups(rollouts), key=lambda g: _hash(g.topic))[TOPICS + 16 :][:24]
            write_groups(at, pairs_of(groups, "sentiment", margin=0.2, per_group=8, seed=0)[0])
    return at


# --- the table and the picture -------------------------------------------------------------------


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
                    cells.append("not met" if None in read else mean(read, digits))
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


def picture(folder: Path) -> None:
    """Reward against KL, a line per guide: means over seeds."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5.5))
    for arm, marker in zip(ARMS, MARKERS, strict=True):
        runs = [r["decoded"][""] for r in finished(folder, arm)]
        if runs:
            line = [[fmean(point[key] for point in points) for points in zip(*runs, strict=True)]
                    for key in ("kl", "reward")]  # fmt: skip
            axes.plot(*line, marker=marker, label=arm.name, linewidth=1)
    axes.set(xlabel="KL from the base, nats per response", ylabel="reward", xscale="log")
    axes.legend(fontsize="small", ncols=2)
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(folder / "frontier.png", dpi=120)


def mean(values: Iterable[float], digits: int = 3) -> str:
    """`1.234 ± 0.005`, the standard error over seeds."""
    many = list(values)
    if not many:
        return ""
    error = f" ± {stdev(many) / math.sqrt(len(many)):.{digits}f}" if len(many) > 1 else ""
    return f"{fmean(many):.{digits}f}{error}"


def main() -> None:
    """Do what is missing, seed by seed, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rollouts", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", default="")
    asked = parser.parse_args()
    names = [name for name in asked.only.split(",") if name]
    arms = [arm for arm in ARMS if not names or arm.name in names]
    jobs = [(arm, s, asked.rollouts, asked.labels, asked.folder) for s in SEEDS for arm in arms]
    with get_context("spawn").Pool(asked.processes, maxtasksperchild=1) as pool:
        for _ in pool.imap_unordered(run, jobs):
            (asked.folder / "table.md").write_text(table(asked.folder))
    picture(asked.folder)
    print(table(asked.folder))


if __name__ == "__main__":
    main()
