"""The papers' ablations at the scale of a laptop: three seeds each, one line per guide.

    python -m recipes.guides.ablations ROLLOUTS LABELS FOLDER [--processes 2] [--only td,q]

ROLLOUTS and LABELS are what `sentiment.sh` collected. Each guide is trained on the same 100 topics
x 12 responses (the shares of data on fewer), asked for its error on the labels, and decoded on 16
topics of the test split, four responses each. What is finished is not done again; the table is
FOLDER/table.md.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

SEEDS = (0, 1, 2)
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
        methods: `vas` parameters to decode with, by name; the first one is the line's own.
    """

    name: str
    objective: str = "td-lambda"
    changes: dict[str, Any] = field(default_factory=dict)
    share: float = 1.0
    methods: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {"": {"beta": 20.0, "k": 10}}
    )


DECODING = {
    "": {"beta": 20.0, "k": 10},
    "tail dropped": {"beta": 20.0, "k": 10, "tail": "drop"},
    "k = 5": {"beta": 20.0, "k": 5},
    "k = 20": {"beta": 20.0, "k": 20},
    "k = 100": {"beta": 20.0, "k": 100},
}
PAIRS = {"unit": "std", "margin": 0.2, "pairs_per_group": 12}
IN_STD = {"": {"beta": 8.0, "k": 10}}
ARGS = {"": {"beta": 8.0, "k": 10, "tail": "drop"}}

ARMS = (
    Arm("td", changes={"settings": {"lambda_": 0.95}}, methods=DECODING),
    Arm("td0", "cd-q"),
    Arm("td1", "monte-carlo"),
    Arm("data-25", share=0.25),
    Arm("data-50", share=0.5),
    Arm("full-bt", "bradley-terry", PAIRS, methods=ARGS),
    Arm("partial-bt", "partial-bradley-terry", {**PAIRS, "prefixes": "all"}, methods=ARGS),
    Arm("q", "q"),
    Arm("dueling-q", "dueling-q"),
    Arm("value-advantage", "value-advantage"),
    Arm("ilql", "ilql"),
    Arm("farma", "farma", PAIRS, methods=IN_STD),
    Arm("genarm", "genarm", {**PAIRS, "unit": "reward", "layers": None, "lr": [3e-4], "epochs": 1},
        methods={"": {"beta": 1.0, "k": 100}}),
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
    figures["decoded"] = {name: decoded(out, how, seed) for name, how in arm.methods.items()}
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
    says = {name: fmean(reward(name)(asked, texts)) for name in
            ("sentiment", "rated-sentiment", "similarity")}  # fmt: skip
    return {
        **says,
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


# --- the table -----------------------------------------------------------------------------------


def table(folder: Path) -> str:
    """Means over seeds with standard errors."""
    columns = (
        "guide", "seeds", "error", "accuracy at 25 / 50 / 75 / 100%", "reward", "judge",
        "relevance", "KL", "tokens",
    )  # fmt: skip
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for arm in ARMS:
        paths = [folder / f"{arm.name}-{seed}.json" for seed in SEEDS]
        runs = [json.loads(path.read_text()) for path in paths if path.is_file()]
        for name in arm.methods if runs else ():
            head = [arm.name + (f", {name}" if name else ""), str(len(runs))]
            said = [] if runs[0]["error"] is None else [r["error"] for r in runs]
            parts = [r["accuracy"] for r in runs if r["accuracy"]]
            shares = ["25%", "50%", "75%", "100%"] if parts and not name else []
            cells = [_mean(said if not name else []), " / ".join(
                _mean([p[share] for p in parts], 2) for share in shares)]  # fmt: skip
            cells += [_mean([r["decoded"][name][key] for r in runs], digits) for key, digits in
                      (("sentiment", 3), ("rated-sentiment", 2), ("similarity", 3), ("kl", 1),
                       ("tokens", 1))]  # fmt: skip
            lines.append("| " + " | ".join([*head, *cells]) + " |")
    return "\n".join(lines) + "\n"


def _mean(values: Iterable[float], digits: int = 3) -> str:
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
    print(table(asked.folder))


if __name__ == "__main__":
    main()
