"""A task small enough to run in a blink: letters, a table for a model, rewards that count."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import trimtab as tt
from trimtab.errors import PromptError
from trimtab.runs.store import Store
from trimtab.types import Response, Sample


def count_b(samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
    """The number of b's."""
    return [float(text.count("b")) for text in responses]


def early(samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
    """How early in the alphabet the letters are."""
    return [-sum(map(ord, text)) / 100.0 for text in responses]


def raises_on_c(samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
    if any("cc" in text for text in responses):
        raise ValueError("two c's")
    return count_b(samples, responses)


def nan_on_c(samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
    return [math.nan if "cc" in text else float(text.count("b")) for text in responses]


def letters(length: int, start: str) -> list[str]:
    return [start + "".join(rest) for rest in itertools.product("abc", repeat=length)]


@dataclass(frozen=True)
class Letters:
    """Prompts of letters; validation prompts begin with a, test prompts with b."""

    name: str = "letters"
    reward: Callable[..., Any] = count_b
    judge: Callable[..., Any] | None = early
    max_new_tokens: int = 6
    template: Literal["auto", "none"] = "none"
    length: int = 2

    def samples(self, split: str) -> list[Sample]:
        if split == "train":
            raise PromptError("the split 'train' must hold prompts", got="none", do="another")
        starts = {"validation": "a", "test": "b"}
        return [Sample(p, p) for p in letters(self.length, starts[split])]


def recorded(folder: Path) -> list[Response]:
    """All responses that a folder holds, in no particular order."""
    store = Store(folder)
    keys = [path.stem for path in sorted((folder / "records").glob("*.parquet"))]
    return [r for key in keys for row in store.read(key) for r in row.group.responses]


def model() -> tt.TableLM:
    return tt.TableLM(size=4, seed=3)
