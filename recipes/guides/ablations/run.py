"""One guide: train it, ask what it knows, decode with it; and best-of-n beside all of them."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from filelock import FileLock

import trimtab as tt
from recipes.guides.ablations.arms import BASE, EACH, TOPICS, Arm
from trimtab import rewards, tasks
from trimtab.evaluation import best_of_n_kl, best_of_n_reward
from trimtab.runs import read_groups, write_groups
from trimtab.training.preferences import pairs_of
from trimtab.types import Group

TESTED, RESPONSES, SAMPLES = 16, 4, 64
"""Test topics, responses of a guide to each, and responses of the base."""


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
    figures["decoded"] = {
        name: [decoded(out, {**how, "beta": beta}, seed) for beta in arm.betas]
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


def decoded(guide: Path, how: dict[str, Any], seed: int) -> dict[str, float]:
    """Mean reward, judge, relevance, KL and tokens on test topics."""
    lm = tt.TransformersLM("smollm2", base_temperature=0.7, dtype="bfloat16")
    steer = tt.load_guide(guide, lm=lm)
    samples = tasks.find("sentiment").samples("test")[:TESTED]
    found = tt.decode(
        lm, steer, tt.vas(**how), [s.prompt for s in samples], n=RESPONSES, max_new_tokens=48,
        seed=seed,
    )  # fmt: skip
    asked = [s for s in samples for _ in range(RESPONSES)]
    texts = [c.text for c in found]
    measures = {"reward": "sentiment", "judge": "rated-sentiment", "relevance": "similarity"}
    return {
        "beta": how["beta"],
        **{name: fmean(rewards.find(by)(asked, texts)) for name, by in measures.items()},
        "kl": fmean(c.kl or 0.0 for c in found),
        "tokens": fmean(len(c.tokens) for c in found),
    }


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


def best_of_n(folder: Path) -> list[dict[str, float]]:
    """KL and reward of best-of-n, n = 1, 2, 4, ..., on the same topics, from the base's samples."""
    done = folder / "best-of-n.json"
    if not done.is_file():
        lm = tt.TransformersLM("smollm2", base_temperature=0.7, dtype="bfloat16")
        gold = {}
        for sample in tasks.find("sentiment").samples("test")[:TESTED]:
            found = tt.decode(
                lm, None, tt.sampling(), [sample.prompt], n=SAMPLES, max_new_tokens=48, seed=0
            )
            gold[sample.text] = rewards.find("sentiment")(
                [sample] * SAMPLES, [c.text for c in found]
            )
        points = [
            {"n": n, "kl": best_of_n_kl(gold, n).mean, "reward": best_of_n_reward(gold, n).mean}
            for n in (1, 2, 4, 8, 16, 32)
        ]
        done.write_text(json.dumps(points, indent=1))
    return list(json.loads(done.read_text()))
