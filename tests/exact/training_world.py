"""A world so small that its data is its law: every response, as often as pi_ref writes it.

Three tokens, 0 is EOS; probabilities are quarters, so 64 responses of at most three tokens hold
each response exactly as often as it is likely. A guide is a table: a number or row for each prefix.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from trimtab.training.examples import Batch, Outputs
from trimtab.training.objectives import Objective

SIZE, LONGEST = 3, 3
Prefix = tuple[int, ...]


@cache
def law(prefix: Prefix) -> tuple[float, ...]:
    """pi_ref's next token: a half and two quarters, in an order of the prefix' own."""
    order = [0.5, 0.25, 0.25]
    random.Random(f"law {prefix}").shuffle(order)
    return tuple(order)


@cache
def reward(response: Prefix) -> float:
    return random.Random(f"reward {response}").uniform(-1, 1)


def finished(prefix: Prefix) -> bool:
    return len(prefix) == LONGEST or prefix[-1:] == (0,)


@cache
def responses(prefix: Prefix = ()) -> tuple[tuple[Prefix, float], ...]:
    """Every response that begins so, and its probability from there."""
    if finished(prefix):
        return ((prefix, 1.0),)
    return tuple(
        (response, law(prefix)[token] * p)
        for token in range(SIZE)
        for response, p in responses((*prefix, token))
    )


def prefixes() -> list[Prefix]:
    found = {r[:n] for r, _ in responses() for n in range(len(r) + 1)}
    return sorted(found, key=lambda p: (len(p), p))


def value(prefix: Prefix, of: Callable[[Prefix], float] = reward) -> float:
    """V by enumeration; of a finished response, its own reward."""
    return sum(p * of(response) for response, p in responses(prefix))


def rollouts() -> list[Prefix]:
    """64 responses: the law itself."""
    found = [r for r, p in responses() for _ in range(round(64 * p))]
    assert len(found) == 64
    return found


class Table:
    """What a network would be that could learn anything."""

    def __init__(self, *, values: bool = True, scores: bool = False) -> None:
        self.place = {p: i for i, p in enumerate(prefixes())}
        n = len(self.place)
        self.values = torch.zeros(n, requires_grad=True) if values else None
        self.scores = torch.zeros(n, SIZE, requires_grad=True) if scores else None

    def __call__(self, index: Tensor, *, dueling: bool = False) -> Outputs:
        values = None if self.values is None else self.values[index]
        scores = None if self.scores is None else self.scores[index]
        if dueling and values is not None and scores is not None:
            scores = values[..., None] + scores
        return Outputs(values, scores)

    def parameters(self) -> list[Tensor]:
        return [p for p in (self.values, self.scores) if p is not None]


def batch(rows: list[Prefix], of: Callable[[Prefix], float] = reward) -> tuple[Tensor, Batch]:
    """The states of responses as places in a table, and the batch that an objective reads."""
    place = {p: i for i, p in enumerate(prefixes())}
    longest = max(map(len, rows))
    index = torch.tensor([[place[r[: min(t, len(r))]] for t in range(longest + 1)] for r in rows])
    tokens = torch.tensor([[*r, *[0] * (longest - len(r))] for r in rows])
    known = sorted(place, key=place.__getitem__)
    reference = torch.tensor([law(p) for p in known]).log()[index]
    return index, Batch(
        tokens,
        torch.tensor([len(r) for r in rows]),
        torch.tensor([of(r) for r in rows]),
        reference=reference,
    )


def learn(
    goal: Objective,
    table: Table,
    data: tuple[Tensor, Batch],
    *,
    dueling: bool = False,
    steps: int = 1500,
    lr: float = 0.02,
) -> Table:
    """Full batches, so that nothing is left to chance."""
    optimiser = torch.optim.Adam(table.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.01, steps)
    for _ in range(steps):
        loss, _ = goal(table(data[0], dueling=dueling), data[1])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return table


def interleaved(pairs: list[tuple[Prefix, Prefix]]) -> list[Prefix]:
    return list(itertools.chain.from_iterable(pairs))
