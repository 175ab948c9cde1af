"""Guides whose every score is known, and groups made for them."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

import trimtab as tt
from trimtab.inspection.scores import Scoring, Units
from trimtab.types import Candidates, Cost, Group, Prompt, Response

EOS = 0
RAW = Units("score and reward", True)
RANKS = Units("score and reward, by ranks only", False, pairs=True)

Value = Callable[[tuple[int, ...]], float]


class KnownGuide:
    """A guide whose score of a prompt with a prefix is a function of all ids."""

    vocab = None
    name = "known"

    def __init__(self, value: Value) -> None:
        self.value, self.cost = value, Cost()

    def prefill(self, prompts: Sequence[Prompt]) -> Any:
        self.cost.add(prefill=sum(len(p.ids) for p in prompts))
        return [p.ids for p in prompts]

    def extend(self, state: Any, tokens: torch.Tensor, lengths: torch.Tensor) -> Any:
        self.cost.add(extended=int(lengths.sum()))
        new = zip(state, tokens.tolist(), lengths.tolist(), strict=True)
        return [row + tuple(ids[:n]) for row, ids, n in new]

    def select(self, state: Any, rows: torch.Tensor) -> Any:
        return [state[i] for i in rows.tolist()]

    def join(self, states: Sequence[Any]) -> Any:
        return [row for state in states for row in state]

    def score(self, state: Any, candidates: Candidates) -> torch.Tensor:
        both = zip(state, candidates.tokens[..., 0].tolist(), strict=True)
        scores = [[self.value((*row, token)) for token in many] for row, many in both]
        return torch.tensor(scores, dtype=torch.float64)


def scoring(guide: Any, units: Units = RAW, **options: Any) -> Scoring:
    return Scoring(guide, tt.TableLM(size=6), units, "r", 512, **options)


def noise(ids: tuple[int, ...]) -> float:
    """As good as random, in [0, 1), and always the same for the same ids."""
    return zlib.crc32(repr(ids).encode()) / 2**32


def labels(n: int, completions: int, seed: int = 0) -> list[Group]:
    """Prefixes of value `noise`, with completions that are rewarded 1 with that probability."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(n):
        prompt = Prompt((i // 2 + 10, 3))
        prefix = tuple(rng.integers(1, 6, size=2 + i % 9).tolist())
        drawn = rng.random(completions) < noise(prompt.ids + prefix)
        rest = tuple(Response((1, EOS), "", rewards={"r": float(x)}) for x in drawn)
        found.append(Group(prompt, rest, f"topic {i}", prefix))
    return found


def count(ids: tuple[int, ...]) -> float:
    """What the reward counts: fives among the tokens, the prompt's left out."""
    return float(sum(t == 5 for t in ids[2:]))


def pairs(n: int, seed: int = 0) -> list[Group]:
    """The better response has more fives all along; both end with EOS."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(n):
        rich = rng.choice(6, size=20, p=[0, 0.1, 0.1, 0.1, 0.1, 0.6])
        poor = rng.choice(6, size=16, p=[0, 0.25, 0.25, 0.25, 0.2, 0.05])
        both = [(*map(int, x), EOS) for x in (rich, poor)]
        rows = tuple(
            Response(ids, "", rewards={"r": count((0, 0, *ids)), "preference": 1.0 - j})
            for j, ids in enumerate(both)
        )
        found.append(Group(Prompt((i + 10, 3)), rows, f"topic {i}"))
    return found


def whole_only(ids: tuple[int, ...]) -> float:
    """Right about finished responses; of prefixes it says anything."""
    return count(ids) if ids[-1] == EOS else noise(ids)
