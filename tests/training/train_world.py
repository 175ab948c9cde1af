"""A tiny base on disk and rollouts of it, for trainings that take a blink."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import trimtab as tt
from tests import toys
from trimtab.runs import write_groups
from trimtab.training.config import TrainConfig, make_config
from trimtab.types import Group, Ledger, Response

LENGTH = 6


def reward(tokens: tuple[int, ...]) -> float:
    """The share of even tokens: a prefix tells something of it, never all."""
    return sum(t % 2 == 0 for t in tokens) / len(tokens)


def save_base(folder: Path) -> Path:
    toys.causal_lm(scale=2.0).save_pretrained(folder)
    toys.tokenizer().save_pretrained(folder)
    return folder


def rollouts(base: Path, prompts: int = 12, n: int = 8, seed: int = 0) -> list[Group]:
    lm = tt.TransformersLM(str(base), dtype="float32", device="cpu")
    asked = toys.prompts(*[3 + i % 3 for i in range(prompts)])
    done = tt.decode(lm, None, tt.sampling(), asked, n=n, max_new_tokens=LENGTH, seed=seed)
    return [
        Group(
            prompt,
            tuple(
                Response(
                    c.tokens, c.text, c.finish, Ledger.of(c.steps),
                    {"even": reward(c.tokens), "short": -float(len(c.tokens))},
                )
                for c in done[i * n : (i + 1) * n]
            ),
            topic=f"topic {i}",
        )
        for i, prompt in enumerate(asked)
    ]  # fmt: skip


def make(folder: Path) -> tuple[Path, Path]:
    """The base's folder and that of its rollouts."""
    base = save_base(folder / "base")
    write_groups(folder / "rollouts", rollouts(base))
    return base, folder / "rollouts"


def config(folder: Path, objective: str = "td-lambda", **changes: Any) -> TrainConfig:
    """A small training in a folder that `make` prepared."""
    values: dict[str, Any] = {
        "objective": objective,
        "data": [str(folder / "rollouts")],
        "out": str(folder / "guide"),
        "learn": "even",
        "model": str(folder / "base"),
        "layers": 2,
        "lora_rank": 4,
        "lora_alpha": 8,
        "lr": [3e-3],
        "head_lr": 1e-2,
        "epochs": 2,
        "batch_size": 16,
        "device": "cpu",
    }
    return make_config({**values, **changes})
