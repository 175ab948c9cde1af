"""What a guide learns from: prompts with responses and their targets, as objects and as tensors.

A batch is laid out as trees: a prompt's tokens, then each response as a branch of its own that sees
the prompt and itself. So a prompt of 40 tokens with 4 responses of 30 is read as 160 tokens and not
as 280, and nothing else changes.

Legend: B responses, T tokens of the longest, S its states (T + 1), V vocabulary, P pairs (B / 2).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Sampler

from trimtab.errors import DataError
from trimtab.types import Group

Tensors = dict[str, Tensor]

# --- what was read, and what is kept of it -------------------------------------------------------


@dataclass(frozen=True)
class KeptCounts:
    """How many things of one kind were kept, and why the others were not.

    >>> str(KeptCounts("pairs", 290, {"longer than 512 tokens": 6, "repeated": 4}))
    '290 of 300 pairs; left out: 6 longer than 512 tokens, 4 repeated'
    """

    what: str  # the kind, such as "responses" or "pairs"
    kept: int
    left_out: Mapping[str, int] = field(default_factory=dict)  # by reason: each by its first only

    def __post_init__(self) -> None:
        some = {reason: n for reason, n in self.left_out.items() if n}
        object.__setattr__(self, "left_out", some)

    @property
    def read(self) -> int:
        """How many there were."""
        return self.kept + sum(self.left_out.values())

    def after(self, left_out: Mapping[str, int]) -> KeptCounts:
        """With what an earlier stage, which read more, left out."""
        return KeptCounts(self.what, 0, left_out) + self

    def __add__(self, other: KeptCounts) -> KeptCounts:
        left_out = Counter(self.left_out) + Counter(other.left_out)
        return KeptCounts(self.what, self.kept + other.kept, left_out)

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {"read": self.read, **asdict(self)}

    def __str__(self) -> str:
        if not self.left_out:
            return f"all {self.kept} {self.what}"
        reasons = ", ".join(f"{n} {reason}" for reason, n in self.left_out.items())
        return f"{self.kept} of {self.read} {self.what}; left out: {reasons}"


@dataclass(frozen=True)
class SplitGroups:
    """What an objective makes examples of."""

    train: Sequence[Group]
    validation: Sequence[Group]  # of other topics
    labelled: Sequence[Group] = ()  # half responses, each completed several times
    reward: str | None = None  # None: people's preferences, groups of two, the chosen one first
    max_length: int = 512  # most tokens of a prompt and a response
    seed: int = 0


@dataclass(frozen=True)
class RewardStatistics:
    """What is known of a reward on the rollouts that a guide was trained on."""

    name: str
    n: int  # responses
    mean: float
    std: float  # with n - 1 in the denominator
    within: float  # standard deviation among the responses to one prompt, root mean square
    least: float
    most: float


@dataclass(frozen=True)
class Row:
    """A response to be learnt from."""

    tokens: tuple[int, ...]
    target: float  # what its states are regressed on: a reward or a label, in the network's unit


@dataclass(frozen=True)
class Example:
    """What is drawn together: a prompt and some responses to it, or the chosen and rejected one."""

    prompt: tuple[int, ...]
    rows: tuple[Row, ...]
    prefixes: tuple[int, ...] | None = None  # of a pair: how many tokens of each; None is all
    states: tuple[Tensor, ...] | None = field(default=None, repr=False, compare=False)
    """Of a state guide's: the base's states [T + 1, D] of each row, computed once."""

    @property
    def size(self) -> int:
        """Tokens that are read."""
        return len(self.prompt) + sum(len(row.tokens) for row in self.rows)


@dataclass(frozen=True)
class Material:
    """What a run learns from."""

    train: tuple[Example, ...]
    validation: tuple[Example, ...]  # of other topics
    counts: tuple[KeptCounts, ...] = ()  # what became of what was read
    labelled: tuple[Example, ...] = ()  # prefixes with labels, where there are some
    reward: RewardStatistics | None = None  # on the training responses; None for people's pairs
    temperature: float | None = None  # of the policy that wrote the rollouts; None where unknown
    facts: Mapping[str, Any] = field(default_factory=dict)  # what the guide's card says of it

    def __post_init__(self) -> None:
        for examples, purpose in ((self.train, "train"), (self.validation, "hold out")):
            if not examples:
                must = f"there must be examples to {purpose}"
                raise DataError(must, got="none", do="collect more, of more topics")


# --- what an objective sees ----------------------------------------------------------------------


@dataclass(frozen=True)
class Outputs:
    """What a guide's network says of every state, s_0 (the prompt) first."""

    values: Float[Tensor, "B S"] | None = None  # V(s_t), of networks that have a scalar head
    scores: Float[Tensor, "B S V"] | None = None  # of every next token, of heads that wide
    query: Float[Tensor, "B S E"] | None = None  # score(s, v) = V(s) + query(s) . e(v)
    embeddings: Float[Tensor, "V E"] | None = None  # e, where heads speak through it


@dataclass(frozen=True)
class Batch:
    """Responses, padded on the right; of pairs rows 2i and 2i + 1 are chosen and rejected."""

    tokens: Int[Tensor, "B T"]  # EOS included
    lengths: Int[Tensor, "B"]
    rewards: Float[Tensor, "B"]  # of pairs only their order counts
    prefixes: Bool[Tensor, "P S"] | None = None  # of pairs: whether that many tokens are trained on
    reference: Float[Tensor, "B S V"] | None = None  # log pi_ref(. | s_t), for expectations


def to_batch(tensors: Mapping[str, Tensor], reference: Tensor | None = None) -> Batch:
    """The part of a collated batch that an objective reads."""
    return Batch(
        tensors["tokens"],
        tensors["lengths"],
        tensors["rewards"],
        prefixes=tensors.get("prefixes"),
        reference=reference,
    )


def to_network(tensors: Tensors) -> dict[str, Any]:
    """The part of a collated batch that the network reads."""
    if "states" in tensors:
        return {"states": tensors["states"]}
    return {name: tensors[name] for name in ("ids", "chain", "position", "sequence", "place")}


def state_values(outputs: Outputs) -> Float[Tensor, "B S"]:
    """V of every state, of a network with a scalar head."""
    assert outputs.values is not None, "this objective trains a network with a scalar head"
    return outputs.values


def next_scores(outputs: Outputs) -> Float[Tensor, "B S V"]:
    """The scores of every next token, of a network with a head that wide."""
    if outputs.query is not None and outputs.embeddings is not None:
        return state_values(outputs)[..., None] + outputs.query @ outputs.embeddings.T
    assert outputs.scores is not None, "this objective trains a head over the vocabulary"
    return outputs.scores


def token_scores(outputs: Outputs, batch: Batch) -> Float[Tensor, "B T"]:
    """The guide's score of each response token after its prefix, as decoding will ask for it."""
    if outputs.query is not None and outputs.embeddings is not None:
        said = outputs.query[:, :-1] * outputs.embeddings[batch.tokens]
        return state_values(outputs)[:, :-1] + said.sum(-1)
    if outputs.scores is None:
        return state_values(outputs)[:, 1:]
    return outputs.scores[:, :-1].gather(2, batch.tokens[..., None])[..., 0]


# --- from examples to tensors --------------------------------------------------------------------


def collate(examples: Sequence[Example], *, shared: bool = True) -> Tensors:
    """A batch of examples, all pairs or none, as tensors that are padded on the right.

    Args:
        examples: what was drawn together.
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
    alone = (replace(example, rows=(row,)) for example in examples for row in example.rows)
    trees = [_tree(example, longest) for example in (examples if shared else alone)]
    ids, chain, position, places = zip(*trees, strict=True)
    tensors = {
        "ids": _padded(ids),
        "chain": _padded(chain, -1),
        "position": _padded(position),
        "sequence": torch.tensor([i for i, states in enumerate(places) for _ in states]),
        "place": torch.tensor([state for states in places for state in states]),
        "tokens": _padded([row.tokens for row in rows]),
        "lengths": torch.tensor([len(row.tokens) for row in rows]),
        "rewards": torch.tensor([row.target for row in rows], dtype=torch.float32),
    }
    if examples[0].states is not None:
        states = [rows.float() for example in examples for rows in example.states or ()]
        tensors["states"] = pad_sequence(states, batch_first=True)
    if examples[0].prefixes is not None:
        marks = torch.zeros(len(examples), longest + 1, dtype=torch.bool)
        for i, example in enumerate(examples):
            marks[i, [p for p in example.prefixes or () if p <= longest]] = True
        tensors["prefixes"] = marks
    return tensors


def _tree(
    example: Example, longest: int
) -> tuple[list[int], list[int], list[int], list[list[int]]]:
    """An example as one sequence: ids, chain and position, and where each state of a row is."""
    n = len(example.prompt)
    ids, chain, position = list(example.prompt), [0] * n, list(range(n))
    places = []
    for j, row in enumerate(example.rows, start=1):
        start, m = len(ids), len(row.tokens)
        places.append([n - 1, *(start + min(t, m - 1) for t in range(longest))])
        ids += row.tokens
        chain += [j] * m
        position += range(n, n + m)
    return ids, chain, position, places


def _padded(rows: Sequence[Sequence[int]], fill: int = 0) -> Tensor:
    tensors = [torch.tensor(row, dtype=torch.long) for row in rows]
    return pad_sequence(tensors, batch_first=True, padding_value=fill)


class LikeLengths(Sampler[int]):
    """A shuffled order in which neighbours are of like lengths, so that little is padding.

    Each epoch has its own order, which (seed, epoch) decides: a run that was killed finds its place
    again. Random stretches are sorted by length, cut into batches, and the batches shuffled.
    """

    stretch = 32
    """Batches that are sorted together: enough to pad little, few enough to stay random."""

    def __init__(self, sizes: Sequence[int], batch: int, seed: int) -> None:
        self.sizes, self.batch, self.seed, self.epoch = list(sizes), batch, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Which epoch's order comes next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.sizes)

    def __iter__(self) -> Iterator[int]:
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
