"""What a network reads, and what an objective sees of it and of the responses.

A batch is laid out as trees: a prompt's tokens, then each response as a branch of its own that sees
the prompt and itself. So a prompt of 40 tokens with 4 responses of 30 is read as 160 tokens and not
as 280, and nothing else changes.

Legend: B responses, T tokens of the longest, S its states (T + 1), V vocabulary, P pairs (B / 2).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Sampler

from trimtab.training.examples import Example

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Outputs:
    """What a guide's network says of every state, s_0 (the prompt) first.

    Attributes:
        values: V(s_t), of networks that have a scalar head.
        scores: score(s_t, v) of every next token v, of networks that have a head that wide.
    """

    values: Float[Tensor, "B S"] | None = None
    scores: Float[Tensor, "B S V"] | None = None


@dataclass(frozen=True)
class Batch:
    """Responses, padded on the right. In a batch of pairs rows 2i and 2i + 1 are chosen, rejected.

    Attributes:
        tokens: the responses' ids, EOS included.
        lengths: tokens of each.
        rewards: of each; of pairs only their order counts.
        prefixes: of pairs: for each number of tokens, 0 to T, whether that prefix is trained on.
        reference: log pi_ref(. | s_t), for objectives that take expectations.
    """

    tokens: Int[Tensor, "B T"]
    lengths: Int[Tensor, "B"]
    rewards: Float[Tensor, "B"]
    prefixes: Bool[Tensor, "P S"] | None = None
    reference: Float[Tensor, "B S V"] | None = None


def to_batch(tensors: Mapping[str, Tensor], reference: Tensor | None = None) -> Batch:
    """The part of a collated batch that an objective reads."""
    return Batch(
        tensors["tokens"],
        tensors["lengths"],
        tensors["rewards"],
        prefixes=tensors.get("prefixes"),
        reference=reference,
    )


def token_scores(outputs: Outputs, batch: Batch) -> Float[Tensor, "B T"]:
    """The guide's score of each response token after its prefix, as decoding will ask for it."""
    if outputs.scores is None:
        assert outputs.values is not None, "a network says values or scores"
        return outputs.values[:, 1:]
    return outputs.scores[:, :-1].gather(2, batch.tokens[..., None])[..., 0]


def state_values(outputs: Outputs) -> Float[Tensor, "B S"]:
    """V of every state, of a network with a scalar head."""
    assert outputs.values is not None, "this objective trains a network with a scalar head"
    return outputs.values


def next_scores(outputs: Outputs) -> Float[Tensor, "B S V"]:
    """The scores of every next token, of a network with a head that wide."""
    assert outputs.scores is not None, "this objective trains a head over the vocabulary"
    return outputs.scores


# --- from examples to tensors ---------------------------------------------------------------------


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


def _padded(rows: Sequence[Sequence[int]], fill: int = 0) -> Tensor:
    tensors = [torch.tensor(row, dtype=torch.long) for row in rows]
    return pad_sequence(tensors, batch_first=True, padding_value=fill)


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
        for start in range(0, len(order), step):
            part = sorted(order[start : start + step], key=lambda i: self.sizes[i])
            batches += [part[b : b + self.batch] for b in range(0, len(part), self.batch)]
        last = batches.pop() if batches and len(batches[-1]) < self.batch else []
        for b in torch.randperm(len(batches), generator=generator).tolist():
            yield from batches[b]
        yield from last  # a short batch must be the last one


def to_network(tensors: Tensors) -> dict[str, Any]:
    """The part of a batch that the network reads."""
    return {name: tensors[name] for name in ("ids", "chain", "position", "sequence", "place")}
