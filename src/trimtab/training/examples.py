"""From groups to batches: a prompt once with some of its responses, in an order by a seed.

A batch is laid out as trees: a prompt's tokens, then each response as a branch of its own that sees
the prompt and itself. So a prompt of 40 tokens with 4 responses of 30 is read as 160 tokens and not
as 280, and nothing else changes.

Legend: B prompts, L tokens of a prompt and its branches, R responses, T tokens of the longest,
S its states (T + 1), P pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from torch.utils.data import Sampler

from trimtab.training.tally import Tally
from trimtab.types import Group, Response

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Row:
    """A response to be learnt from.

    Attributes:
        tokens: its ids.
        target: what its states are regressed on: a reward or a label, in the network's unit.
    """

    tokens: tuple[int, ...]
    target: float


@dataclass(frozen=True)
class Example:
    """What is drawn together: a prompt and some responses to it, or a pair of them.

    Attributes:
        prompt: its ids.
        rows: the responses; of a pair, the chosen and the rejected one.
        prefixes: of a pair: how many tokens of prefixes are trained on; None is all.
    """

    prompt: tuple[int, ...]
    rows: tuple[Row, ...]
    prefixes: tuple[int, ...] | None = None

    @property
    def size(self) -> int:
        """Tokens that are read."""
        return len(self.prompt) + sum(len(row.tokens) for row in self.rows)


def longest(example: Example) -> int:
    """Tokens of the prompt and the longest response."""
    return len(example.prompt) + max(len(row.tokens) for row in example.rows)


def too_long(most: int) -> str:
    """Why a response is left out, in words."""
    return f"longer than {most} tokens with the prompt"


def responses(
    groups: Sequence[Group], reward: str, max_length: int, share: int = 1
) -> tuple[list[Example], Tally]:
    """Every response that has the reward and is short enough, and what became of all.

    Args:
        groups: of any number of responses.
        reward: which of their rewards is the target.
        max_length: tokens of a prompt and a response.
        share: responses to a prompt in one example.
    """
    found: list[Example] = []
    why: Counter[str] = Counter()
    for group in groups:
        rows = []
        for response in group.responses:
            tokens = group.prefix + response.tokens
            reason = _unfit(group, response, reward, max_length)
            why[reason] += 1
            rows += [] if reason else [Row(tokens, float(response.rewards[reward]))]
        found += [
            Example(group.prompt.ids, tuple(rows[at : at + share]))
            for at in range(0, len(rows), share)
        ]
    return found, Tally("responses", why.pop("", 0), dict(why))


def _unfit(group: Group, response: Response, reward: str, most: int) -> str:
    """Why a response cannot be learnt from; "" where it can."""
    tokens = group.prefix + response.tokens
    if reward not in response.rewards:
        return "without the reward"
    if not tokens:
        return "without a token"
    return too_long(most) if len(group.prompt.ids) + len(tokens) > most else ""


def labelled_prefixes(
    groups: Sequence[Group], reward: str, max_length: int
) -> tuple[list[Example], Tally]:
    """Half responses with the mean reward of their completions (validation), and their count."""
    found: list[Example] = []
    why: Counter[str] = Counter()
    for group in groups:
        scores = [float(r.rewards[reward]) for r in group.responses if reward in r.rewards]
        long = len(group.prompt.ids) + len(group.prefix) > max_length
        reason = "" if group.prefix else "without a prefix"
        reason = reason or ("" if scores else "without the reward")
        reason = reason or (too_long(max_length) if long else "")
        why[reason] += 1
        if not reason:
            found.append(Example(group.prompt.ids, (Row(group.prefix, fmean(scores)),)))
    return found, Tally("labels", why.pop("", 0), dict(why))


def collate(examples: Sequence[Example], *, shared: bool = True) -> Tensors:
    """A batch of examples as tensors, padded on the right.

    Args:
        examples: all of them pairs, or none.
        shared: whether responses share their prompt's reading; else each has a row of its own, for
            networks that take no explicit mask.

    Returns:
        ids, chain (0 in the prompt, j in its j-th response, -1 in padding) and position, [B, L];
        of each response the sequence that it is in, [R], and the place of each of its states there,
        [R, S] (beyond its last one: the last one again); tokens [R, T], lengths and rewards [R];
        and, of pairs, prefixes [P, S].
    """
    rows = [row for example in examples for row in example.rows]
    longest = max(len(row.tokens) for row in rows)
    alone = (Example(example.prompt, (row,)) for example in examples for row in example.rows)
    trees = [_tree(example, longest) for example in (examples if shared else alone)]
    tensors = {
        "ids": _padded([tree.ids for tree in trees]),
        "chain": _padded([tree.chain for tree in trees], -1),
        "position": _padded([tree.position for tree in trees]),
        "sequence": torch.tensor([i for i, tree in enumerate(trees) for _ in tree.places]),
        "place": torch.tensor([place for tree in trees for place in tree.places]),
        "tokens": _padded([row.tokens for row in rows]),
        "lengths": torch.tensor([len(row.tokens) for row in rows]),
        "rewards": torch.tensor([row.target for row in rows], dtype=torch.float32),
    }
    if examples[0].prefixes is not None:
        marks = torch.zeros(len(examples), longest + 1, dtype=torch.bool)
        for i, example in enumerate(examples):
            marks[i, [p for p in example.prefixes or () if p <= longest]] = True
        tensors["prefixes"] = marks
    return tensors


@dataclass(frozen=True)
class _Tree:
    """An example as one sequence: ids, chains and positions, and where each state of a row is."""

    ids: list[int]
    chain: list[int]
    position: list[int]
    places: list[list[int]]


def _tree(example: Example, longest: int) -> _Tree:
    n = len(example.prompt)
    tree = _Tree(list(example.prompt), [0] * n, list(range(n)), [])
    for j, row in enumerate(example.rows, start=1):
        start, m = len(tree.ids), len(row.tokens)
        tree.places.append([n - 1, *(start + min(t, m - 1) for t in range(longest))])
        tree.ids.extend(row.tokens)
        tree.chain.extend([j] * m)
        tree.position.extend(range(n, n + m))
    return tree


def _padded(rows: Sequence[Sequence[int]], fill: int = 0) -> torch.Tensor:
    """Rows of numbers, filled up on the right."""
    out = torch.full((len(rows), max(map(len, rows))), fill, dtype=torch.long)
    for i, row in enumerate(rows):
        out[i, : len(row)] = torch.tensor(row)
    return out


class LikeLengths(Sampler[int]):
    """A shuffled order in which neighbours are of like lengths, so that little is padding.

    Each epoch has its own order, which (seed, epoch) decides: a run that was killed finds its place
    again. Random stretches are sorted by length, cut into batches, and the batches shuffled.

    Args:
        sizes: tokens of each example.
        batch: examples that are drawn together.
        seed: decides the order.
    """

    stretch = 32
    """Batches that are sorted together: enough to pad little, few enough to stay random."""

    def __init__(self, sizes: Sequence[int], batch: int, seed: int) -> None:
        self.sizes, self.batch, self.seed, self.epoch = list(sizes), batch, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Which epoch's order comes next."""
        self.epoch = epoch

    def __len__(self) -> int:
        """How many examples there are."""
        return len(self.sizes)

    def __iter__(self) -> Iterator[int]:
        """Every index once."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(len(self.sizes), generator=generator).tolist()
        step = self.stretch * self.batch
        batches: list[list[int]] = []
        for at in range(0, len(order), step):
            part = sorted(order[at : at + step], key=lambda i: self.sizes[i])
            batches += [part[b : b + self.batch] for b in range(0, len(part), self.batch)]
        last = batches.pop() if batches and len(batches[-1]) < self.batch else []
        for b in torch.randperm(len(batches), generator=generator).tolist():
            yield from batches[b]
        yield from last  # a short batch must be the last one


READ = ("ids", "chain", "position", "sequence", "place")


def to_network(tensors: Tensors) -> dict[str, Any]:
    """The part of a batch that the network reads."""
    return {key: tensors[key] for key in READ}


def to_device(tensors: Tensors, device: torch.device) -> Tensors:
    """A batch where the network is."""
    return {name: tensor.to(device) for name, tensor in tensors.items()}
