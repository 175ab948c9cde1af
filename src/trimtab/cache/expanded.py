"""Expanded reading: k candidates by k copies of the prefix, for networks that take no tree mask.

Rows are left-padded in transformers' own cache, without holes: positional schemes that count
stored places (alibi, index-based windows) are right as well. It is dear in memory and costs k + 1
tokens per emitted token, because the chosen candidate is read again; so it is never chosen
silently.

Legend: B rows, K candidates of a row, L tokens of a candidate, Q tokens per row in a forward, O of
them with an output, D its size, T stored places (the longest row's length), U more of them, H
key-value heads, R some rows.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from trimtab.cache.configs import context_of
from trimtab.cache.selfcheck import refused
from trimtab.locks import lock_of, one_at_a_time
from trimtab.types import Candidates, Cost, pad_ids

COPIES = 256
"""Most rows in one forward of candidates; more go in pieces, so the copies stay few."""


@dataclass
class ExpandedState:
    """Rows that have been read.

    Attributes:
        cache: keys and values, `[B, H, T, D]` per layer, rows padded on the left.
        lengths: tokens of each row.
        last: the network's output at each row's last token.
    """

    cache: DynamicCache
    lengths: list[int]
    last: Float[Tensor, "B D"]


def as_it_is(out: Tensor) -> Tensor:
    """The network's output itself."""
    return out


class ExpandedReader:
    """A transformers decoder as a reader of prefixes; see `trimtab.cache.reader`.

    Args:
        net: the model; only called, never changed.
        output: what to take from its output, `[B, Q, D]`.
        finish: what to make of it at each row's last token, `[B, D]`.
        arguments: more arguments of each forward; those that the network does not know are left
            out.
    """

    attention = "expanded"

    def __init__(
        self,
        net: PreTrainedModel,
        output: Callable[[Any], Tensor],
        *,
        finish: Callable[[Tensor], Tensor] = as_it_is,
        **arguments: Any,
    ) -> None:
        self.net, self.context, self.cost = net, context_of(net), Cost()
        known = inspect.signature(net.forward).parameters
        self._arguments = {name: value for name, value in arguments.items() if name in known}
        self._places = "position_ids" in known
        self._output, self._finish = output, finish
        self.lock = lock_of(net.get_input_embeddings())

    @one_at_a_time
    @torch.inference_mode()
    def prefill(self, ids: Sequence[Sequence[int]]) -> ExpandedState:
        """Read whole prompts."""
        lengths = [len(row) for row in ids]
        tokens, _ = pad_ids(ids, left=True)
        self.cost.add(prefill=sum(lengths))
        cache = DynamicCache()
        out = self._forward(tokens, cache, lengths)
        if cache.get_seq_length() != max(lengths):
            raise refused(self.net, "a forward that fills no cache")
        return ExpandedState(cache, lengths, self._finish(out[:, -1]))

    @one_at_a_time
    @torch.inference_mode()
    def extend(
        self, state: ExpandedState, tokens: Int[Tensor, "B L"], lengths: Int[Tensor, "B"]
    ) -> ExpandedState:
        """Append tokens. Rows that gain equally many go together, so the cache gets no holes."""
        counts = lengths.tolist()
        self.cost.add(extended=sum(counts))
        if len(set(counts)) == 1:
            return self._append(state, tokens[:, : counts[0]])
        order: list[int] = []
        parts = []
        for count in sorted(set(counts)):
            rows = [i for i, c in enumerate(counts) if c == count]
            order += rows
            parts.append(self._append(self._rows(state, rows), tokens[rows, :count]))
        return self._rows(self.join(parts), [order.index(i) for i in range(len(order))])

    def _append(self, state: ExpandedState, tokens: Int[Tensor, "B L"]) -> ExpandedState:
        if tokens.shape[1] == 0:
            return state
        lengths = [n + tokens.shape[1] for n in state.lengths]
        out = self._forward(tokens, state.cache, lengths)
        return ExpandedState(state.cache, lengths, self._finish(out[:, -1]))

    @one_at_a_time
    @torch.inference_mode()
    def branch(self, state: ExpandedState, candidates: Candidates) -> Float[Tensor, "B K D"]:
        """The output at each candidate's last token; `state` stays as it was."""
        b, k, _ = candidates.shape
        self.cost.add(scored=int(candidates.lengths.sum()))
        many = max(1, COPIES // b)
        outs = [
            self._branch(
                state, candidates.tokens[:, i : i + many], candidates.lengths[:, i : i + many]
            )
            for i in range(0, k, many)
        ]
        return torch.cat(outs, dim=1)

    def _branch(
        self, state: ExpandedState, tokens: Int[Tensor, "B K L"], lengths: Int[Tensor, "B K"]
    ) -> Float[Tensor, "B K D"]:
        b, k, length = tokens.shape
        copies = mapped(state.cache, lambda x: x.repeat_interleave(k, dim=0))
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
        positions = place[:, -tokens.shape[1] :].clamp(min=0)
        return self._output(
            self.net(
                input_ids=tokens.to(device),
                attention_mask=(place >= 0).long(),
                past_key_values=cache,
                use_cache=True,
                **({"position_ids": positions} if self._places else {}),
                **self._arguments,
            )
        )

    @torch.inference_mode()
    def select(self, state: ExpandedState, rows: Int[Tensor, "R"]) -> ExpandedState:
        """Drop, reorder or fork rows."""
        return self._rows(state, rows.tolist())

    def _rows(self, state: ExpandedState, rows: Sequence[int]) -> ExpandedState:
        at = torch.tensor(rows, dtype=torch.int64)
        lengths = [state.lengths[i] for i in rows]
        longest = max(lengths, default=0)
        cache = mapped(state.cache, lambda x: x[at.to(x.device), :, x.shape[2] - longest :])
        return ExpandedState(cache, lengths, state.last[at.to(state.last.device)])

    @torch.inference_mode()
    def fork(self, state: ExpandedState, n: int) -> ExpandedState:
        """n copies of every row; `state` stays as it was."""
        return self._rows(state, [i for i in range(len(state.lengths)) for _ in range(n)])

    @torch.inference_mode()
    def join(self, states: Sequence[ExpandedState]) -> ExpandedState:
        """Rows side by side, all padded to the longest."""
        longest = max(s.cache.get_seq_length() for s in states)
        padded = [mapped(s.cache, lambda x: _pad(x, longest)) for s in states]
        cache = DynamicCache()
        for layers in zip(*(c.layers for c in padded), strict=True):
            joined = copy.copy(layers[0])
            joined.keys = torch.cat([layer.keys for layer in layers])
            joined.values = torch.cat([layer.values for layer in layers])
            cache.layers.append(joined)
        lengths = [n for s in states for n in s.lengths]
        return ExpandedState(cache, lengths, torch.cat([s.last for s in states]))


def mapped(cache: DynamicCache, change: Callable[[Tensor], Tensor]) -> DynamicCache:
    """A cache with every layer's keys and values changed; the given one stays as it was."""
    new = DynamicCache()
    layers: list[Any] = cache.layers
    for layer in layers:
        twin = copy.copy(layer)
        twin.keys, twin.values = change(layer.keys), change(layer.values)
        new.layers.append(twin)
    return new


def _pad(x: Float[Tensor, "B H T D"], longest: int) -> Float[Tensor, "B H U D"]:
    """Zeros on the left, which the attention mask hides."""
    return torch.nn.functional.pad(x, (0, 0, longest - x.shape[2], 0))
