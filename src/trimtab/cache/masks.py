"""Who sees whom: tree attention over one shared prefix, within what the architecture lets be seen.

Which of its layers see a sliding window, a chunk or everything only the architecture knows: its
config may carry a window that nothing uses, or keep it where we would not look. So we pass no mask.
Whenever a network asks transformers for one, with a function of a query's and a key's position, we
answer with that very function of the positions in the text, and leave the rest of the tree out.

Legend: B rows, Q query tokens of a row, W stored positions.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import AttentionMaskInterface
from transformers.masking_utils import causal_mask_function, eager_mask, sdpa_mask

Visible = Callable[[Any, Any, Any, Any], Any]
"""transformers' mask function: of the indices of row, head, query and key to whether it sees."""


@dataclass(frozen=True)
class QueryLayout:
    """Where the query tokens of one forward stand.

    A lane sees the row's prefix and its own chain up to itself; a chain is one candidate, or the
    single continuation of an `extend`.

    Attributes:
        prefix: number of tokens already stored, per row.
        start: storage position of the lane's chain.
        at: storage position of the lane itself; out of reach for padding.
        real: False for padding.
    """

    prefix: Int[Tensor, "B"]
    start: Int[Tensor, "B Q"]
    at: Int[Tensor, "B Q"]
    real: Bool[Tensor, "B Q"]

    @classmethod
    def of_candidates(cls, prefix: Int[Tensor, "B"], k: int, length: int) -> QueryLayout:
        """k chains of as many tokens each, side by side behind each row's prefix."""
        lane = torch.arange(k * length, device=prefix.device).expand(len(prefix), -1)
        start = prefix[:, None] + lane // length * length
        return cls(prefix, start, prefix[:, None] + lane, torch.ones_like(lane, dtype=torch.bool))

    @property
    def position(self) -> Int[Tensor, "B Q"]:
        """Position in the text: every chain begins right after the prefix."""
        return (self.prefix[:, None] + self.at - self.start).masked_fill(~self.real, 0)


def see(lanes: QueryLayout, width: int, visible: Visible) -> Bool[Tensor, "B 1 Q W"]:
    """True where a lane attends to a stored position.

    Padding stands beyond the width and sees whatever is there: nobody reads what comes of it, and
    attention over nothing would be NaN.

    Args:
        lanes: the queries.
        width: how many positions are read.
        visible: what the architecture lets a token see of its own text.
    """
    s = torch.arange(width, device=lanes.at.device)
    prefix, start, at = lanes.prefix[:, None, None], lanes.start[..., None], lanes.at[..., None]
    chain = (s >= start) & (s <= at)
    mask = (s < prefix) | chain
    if visible is not causal_mask_function:
        mask &= within(visible, lanes.position, torch.where(chain, prefix + s - start, s))
    return mask[:, None]


def within(
    visible: Visible, query: Int[Tensor, "B Q"], key: Int[Tensor, "B #Q W"]
) -> Bool[Tensor, "B Q W"]:
    """What an architecture's mask function says of positions in the text."""
    row = torch.arange(len(query), device=query.device)[:, None, None]
    seen: Tensor = visible(row, torch.zeros_like(row), query[..., None], key)
    return seen.expand(*query.shape, key.shape[-1])


_now = threading.local()


class Answers:
    """What a network is told when it asks for a mask during one forward.

    Attributes:
        count: how often it asked; a network that never does was never told.
    """

    def __init__(
        self, see: Callable[[Visible], Bool[Tensor, "B 1 Q W"]], dtype: torch.dtype | None
    ) -> None:
        self._see, self._dtype, self.count = see, dtype, 0

    def __call__(self, mask_function: Visible, **_: Any) -> Tensor:
        """The mask, as a term of the scores, or boolean where there is no dtype."""
        self.count += 1
        mask = self._see(mask_function)
        if self._dtype is None:
            return mask
        least = torch.finfo(self._dtype).min
        return torch.zeros_like(mask, dtype=self._dtype).masked_fill_(~mask, least)


@contextmanager
def answering(
    see: Callable[[Visible], Bool[Tensor, "B 1 Q W"]], dtype: torch.dtype | None
) -> Iterator[Answers]:
    """While it lasts, masks that a network asks for in this thread are ours.

    Args:
        see: from the architecture's mask function to who sees whom.
        dtype: of the mask as a term of the scores (sdpa would turn a boolean mask into one in
            every layer); None keeps it boolean.
    """
    answers = Answers(see, dtype)
    before = getattr(_now, "answers", None)
    _now.answers = answers
    try:
        yield answers
    finally:
        _now.answers = before


def _asked(theirs: Callable[..., Any]) -> Callable[..., Any]:
    """transformers' own way to make a mask, unless this thread is answering."""

    def make(*args: Any, **kwargs: Any) -> Any:
        answers = getattr(_now, "answers", None)
        return theirs(*args, **kwargs) if answers is None else answers(**kwargs)

    return make


for _name, _theirs in (("sdpa", sdpa_mask), ("eager", eager_mask)):
    AttentionMaskInterface.register(_name, _asked(_theirs))
