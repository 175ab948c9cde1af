"""Rollouts small enough to run in a blink: a table for a model, letters, rewards that count."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trimtab as tt
from tests.evaluation.worlds import letters
from trimtab.errors import UnavailableError
from trimtab.runs import collect
from trimtab.types import Sample


def count_b(samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
    """The number of b's."""
    return [float(text.count("b")) for text in responses]


def weights(samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
    """The sample's own weight times the length."""
    return [s.meta["weight"] * len(text) / 3 for s, text in zip(samples, responses, strict=True)]


def no_cc(samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
    """Cannot score two c's in a row."""
    if any("cc" in text for text in responses):
        raise ValueError("two c's")
    return count_b(samples, responses)


class Dying:
    """A reward whose server dies after so many calls."""

    def __init__(self, calls: int) -> None:
        self.calls = calls

    def __call__(self, samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
        self.calls -= 1
        if self.calls < 0:
            raise UnavailableError("the server must answer", got="nothing", do="start it")
        return count_b(samples, responses)


def model() -> tt.TableLM:
    return tt.TableLM(size=4, seed=3)


def samples(length: int = 2) -> list[Sample]:
    """Prompts of different lengths, with a weight each."""
    prompts = [p[: 1 + i % 3] + p for i, p in enumerate(letters(length, "b"))]
    return [Sample(p, f"topic {i % 4}", {"weight": i}) for i, p in enumerate(prompts)]


def roll(folder: Path, **options: Any) -> dict[str, Any]:
    """Nine prompts, three responses to each, in five batches."""
    usual: dict[str, Any] = {"rewards": [count_b], "n": 3, "max_new_tokens": 6, "rows": 6}
    return collect(model(), samples(), folder, **(usual | options))


def conditions(folder: Path) -> list[dict[str, Any]]:
    """What a folder says of its conditions."""
    return [json.loads(path.read_text()) for path in sorted((folder / "conditions").iterdir())]


def records(folder: Path) -> list[Path]:
    """The records of a folder's only condition, in the order of its prompts."""
    (condition,) = conditions(folder)
    return [folder / "records" / f"{key}.parquet" for key in condition["batches"]]


def files(folder: Path) -> dict[str, bytes]:
    """Everything in the folder."""
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }
