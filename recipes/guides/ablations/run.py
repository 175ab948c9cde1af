"""One guide: train it, ask what it knows, decode with it; and best-of-n beside all of them."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

import trimtab as tt
from recipes.guides.ablations.arms import BASE, EACH, TOPICS, Arm
from trimtab.evaluation import Table
from trimtab.runs import read_groups, write_groups
from trimtab.training.preferences import pairs_of
from trimtab.types import Group

TESTED, RESPONSES, SAMPLES = 16, 4, 64
"""Test topics, responses of a guide to each, and responses of the base."""
MEASURES = ("reward", "judge", "relevance", "kl", "tokens")


def run(job: tuple[Arm, int, Path, Path, Path]) -> None:
    """Train a guide, measure it, and keep the figures."""
    arm, seed, rollouts, labels, folder = job
    done = folder / f"{arm.name}-{seed}.json"
    if done.is_file():
        return
    torch.set_num_threads(1)
    out = folder / "guides" / f"{arm.name}-{seed}"
    pairs = arm.objective in ("bradley-terry", "partial-bradley-terry", "farma", "genarm")
    if not out.exists():
        settings = {"seed": seed, **BASE, **arm.changes}
        if not pairs:
            settings["validation"] = str(labels)
        tt.train(arm.objective, subset(rollouts, folder, arm.share), out, **settings)
    figures: dict[str, Any] = {"error": None, "accuracy": None}
    card = json.loads((out / "guide.json").read_text())
    figures["error" if not pairs else "loss"] = card["objective"]["validation"]["error"]
    if pairs:
        figures["accuracy"] = prefix_accuracy(out, rollouts, folder)
    results = folder / "results" / f"{arm.name}-{seed}"
    figures["decoded"] = {
        name: measured(results, [tt.vas(beta, **how) for beta in arm.betas], seed, str(out))
        for name, how in arm.methods.items()
    }
    done.write_text(json.dumps(figures, indent=1))
    print(arm.name, seed, figures, flush=True)


def subset(rollouts: Path, folder: Path, share: float) -> Path:
    """The groups that are trained on: the first topics by hash, so that shares are nested."""
    at = folder / f"groups-{share:g}"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{at}.lock"):
        if not (at / "manifest.json").is_file():
            groups = sorted(read_groups(rollouts), key=lambda g: _hash(g.topic))
            kept = groups[: round(share * TOPICS)] + groups[TOPICS : TOPICS + 16]
            write_groups(at, [Group(g.prompt, g.responses[:EACH], g.topic) for g in kept])
    return at


def _hash(text: str) -> bytes:
    return sha256(f"ablations:{text}".encode()).digest()


def measured(
    results: Path, methods: list[tt.Method], seed: int, guide: str
) -> list[dict[str, Any]]:
    """Mean reward, judge, relevance, KL and tokens of each strength on test topics."""
    rows = evaluated(results, methods, seed, guides=[guide], n=RESPONSES).rows
    names = {"relevance": "coherence", "tokens": "length"}
    return [
        {"beta": method.beta, **{k: row[names.get(k, k)] for k in MEASURES}}
        for method, row in zip(methods, rows, strict=True)
    ]


def evaluated(results: Path, methods: list[tt.Method], seed: int, **options: Any) -> Table:
    """The table of methods on test topics."""
    lm = tt.TransformersLM("smollm2", base_temperature=0.7, dtype="bfloat16")
    done = tt.evaluate(
        lm, "sentiment", methods, results, prompts=TESTED, seed=seed, metrics=["coherence"],
        **options,
    )  # fmt: skip
    return done.table


def prefix_accuracy(guide: Path, rollouts: Path, folder: Path) -> dict[str, float]:
    """Accuracy on pairs of topics that no guide saw, by the share of the response that is read."""
    lm = tt.TransformersLM("smollm2", base_temperature=0.7, dtype="float32")
    found = tt.inspect_guide(
        guide, lm, pairs=[held_out_pairs(rollouts, folder)], learn="preference"
    )
    return {each.where: each.accuracy.value for each in found.pairs}


def held_out_pairs(rollouts: Path, folder: Path) -> Path:
    """Eight pairs of each of 24 topics, told apart by 0.2 of sentiment at least."""
    at = folder / "pairs"
    with FileLock(f"{at}.lock"):
        if not (at / "manifest.json").is_file():
            groups = sorted(read_groups(rollouts), key=lambda g: _hash(g.topic))[TOPICS + 16 :][:24]
            write_groups(at, pairs_of(groups, "sentiment", margin=0.2, per_group=8, seed=0)[0])
    return at


def best_of_n(folder: Path) -> list[dict[str, Any]]:
    """KL and reward of best-of-n, n = 1, 2, 4, ..., on the same topics, from the base's samples."""
    table = evaluated(folder / "results" / "base", [tt.sampling()], 0, n=SAMPLES)
    return [{k: row[k] for k in ("n", "kl", "reward")} for row in table.best_of[:-1]]
