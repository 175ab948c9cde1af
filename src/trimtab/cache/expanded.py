"""Reading by k copies of the prefix, for networks that take no tree mask.

Legend: B rows, K candidates of a row, L tokens of a candidate, Q tokens per row in a forward, O of
them with an output, D its size, T stored places (the longest row's length), H key-value heads, R
some rows.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache

from trimtab.cache.reader import CachedReader, one_at_a_time
from trimtab.types import pad_ids

COPIES = 256
"""Most rows in one forward of candidates; more go in pieces, so the copies stay few."""


@dataclass
class ExpandedState:
    """Rows that have been read, side by side in transformers' own cache, padded on the left."""

    cache: DynamicCache  # keys and values, `[B, H, T, D]` per layer
    lengths: list[int]
    last: Float[Tensor, "B D"]


@final
class ExpandedReader(CachedReader[ExpandedState]):
    """k candidates by k copies of the prefix, for networks that take no tree mask.

    The cache has no holes: positional schemes that count stored places (alibi, index-based windows)
    are right as well. It is dear in memory and costs k + 1 tokens per emitted token, because the
    chosen candidate is read again; so it is never chosen silently.
    """

    attention = "expanded"

    @one_at_a_time
    @torch.inference_mode()
    def prefill(self, ids: Sequence[Sequence[int]]) -> ExpandedState:
        """Read whole prompts."""
        tokens, _ = pad_ids(ids, left=True)
        lengths = [len(row) for row in ids]
        self.cost.add(prefill=sum(lengths))
        return self._read(tokens, DynamicCache(), lengths)

    @one_at_a_time
    @torch.inference_mode()
    def extend(
        self, state: ExpandedState, tokens: Int[Tensor, "B L"], lengths: Int[Tensor, "B"]
    ) -> ExpandedState:
        """Append tokens. Rows that gain equally many go together, so the cache gets no holes."""
        counts = lengths.tolist()
        self.cost.add(extended=sum(counts))
        order: list[int] = []
        parts = []
        for count in sorted(set(counts)):
            rows = [i for i, c in enumerate(counts) if c == count]
            order += rows
            part = self._rows(state, rows) if len(rows) < len(counts) else state
            longer = [n + count for n in part.lengths]
            parts.append(self._read(tokens[rows, :count], part.cache, longer) if count else part)
        if len(parts) == 1:
            return parts[0]
        return self._rows(self.join(parts), [order.index(i) for i in range(len(order))])

    def _read(
        self, tokens: Int[Tensor, "B L"], cache: DynamicCache, lengths: list[int]
    ) -> ExpandedState:
        """Rows of these lengths, whose last tokens are read behind what the cache holds."""
        out = self._forward(tokens, cache, lengths)
        return ExpandedState(cache, lengths, self._finish(out[:, -1]))

    def _at_once(self, rows: int, length: int) -> int:
        return COPIES // rows

    def _branch(
        self, state: ExpandedState, tokens: Int[Tensor, "B K L"], lengths: Int[Tensor, "B K"]
    ) -> Float[Tensor, "B K D"]:
        b, k, length = tokens.shape
        copies = _by_layer(lambda x: x.repeat_interleave(k, dim=0), state.cache)
        # Padding stands after a candidate's last token, where no one looks back from.
        ends = [n + length for n in state.lengths for _ in range(k)]
        out = self._forward(tokens.reshape(b * k, length), copies, ends)
        last = (lengths.reshape(-1) - 1).clamp(min=0)
        return out[torch.arange(b * k, device=out.device), last.to(out.device)].view(b, k, -1)

    def _forward(
        self, tokens: Int[Tensor, "B Q"], cache: DynamicCache, lengths: Sequence[int]
    ) -> Float[Tensor, "B O D"]:
        """Read tokens; `lengths` are the rows' lengths with them."""
        self.context.hold(max(lengths))
        self.cost.add(forwards=1)
        device = self.net.device
        total = cache.get_seq_length() + tokens.shape[1]
        pads = total - torch.tensor(lengths, device=device)[:, None]
        place = torch.arange(total, device=device) - pads
        where = {"attention_mask": (place >= 0).long()}
        if self._places:
            where["position_ids"] = place[:, -tokens.shape[1] :].clamp(min=0)
        return self._output(self._call(tokens.to(device), cache, **where))

    @torch.inference_mode()
    def select(self, state: ExpandedState, rows: Int[Tensor, "R"]) -> ExpandedState:
        """Drop, reorder or fork rows."""
        return self._rows(state, rows.tolist())

    def _rows(self, state: ExpandedState, rows: Sequence[int]) -> ExpandedState:
        at = torch.tensor(rows, dtype=torch.int64)
        lengths = [state.lengths[i] for i in rows]
        longest = max(lengths, default=0)
        cache = _by_layer(lambda x: x[at.to(x.device), :, x.shape[2] - longest :], state.cache)
        return ExpandedState(cache, lengths, state.last[at.to(state.last.device)])

    @torch.inference_mode()
    def fork(self, state: ExpandedState, n: int) -> ExpandedState:
        """n copies of every row; `state` stays as it was."""
        return self._rows(state, [i for i in range(len(state.lengths)) for _ in range(n)])

    @torch.inference_mode()
    def join(self, states: Sequence[ExpandedState]) -> ExpandedState:
        """Rows side by side, all padded to the longest."""
        longest = max(s.cache.get_seq_length() for s in states)
        cache = _by_layer(
            lambda *parts: torch.cat([_pad(x, longest) for x in parts]), *(s.cache for s in states)
        )
        lengths = [n for s in states for n in s.lengths]
        return ExpandedState(cache, lengths, torch.cat([s.last for s in states]))


def _by_layer(make: Callable[..., Tensor], *caches: DynamicCache) -> DynamicCache:
    """A cache of what `make` makes of each layer's keys, and of its values, in all the caches."""
    made = DynamicCache()
    for layers in zip(*(cache.layers for cache in caches), strict=True):
        layer: Any = copy.copy(layers[0])
        layer.keys = make(*(each.keys for each in layers))
        layer.values = make(*(each.values for each in layers))
        made.layers.append(layer)
    return made


def _pad(x: Float[Tensor, "B H T D"], longest: int) -> Tensor:
    """Zeros on the left, which the attention mask hides."""
    return torch.nn.functional.pad(x, (0, 0, longest - x.shape[2], 0))
