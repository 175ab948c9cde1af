"""Tree reading: k candidates over one shared prefix in one forward, the chosen one kept.

Legend: B rows, K candidates of a row, L tokens of a candidate, Q tokens per row in a forward,
O of them with an output, D its size (hidden states of a guide, logits of a base model), R some
rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from trimtab.cache.configs import context_of
from trimtab.cache.expanded import as_it_is
from trimtab.cache.forward import TreeForward
from trimtab.cache.masks import QueryLayout
from trimtab.cache.slots import SlotStore
from trimtab.cache.state import Scored, TreeState
from trimtab.locks import lock_of, one_at_a_time
from trimtab.types import Candidates, Cost, pad_ids

CHUNK = 1024
"""Most query tokens per row in one forward; longer readings go in pieces, so masks stay small."""


class TreeReader:
    """A transformers decoder as a reader of prefixes; see `trimtab.cache.reader`.

    Args:
        net: the model; only called, never changed.
        output: what to take from its output, `[B, Q, D]`.
        finish: what to make of it at each row's last token, `[B, D]`.
        arguments: more arguments of each forward (`logits_to_keep=1`).
    """

    attention = "tree"

    def __init__(
        self,
        net: PreTrainedModel,
        output: Callable[[Any], Tensor],
        *,
        finish: Callable[[Tensor], Tensor] = as_it_is,
        **arguments: Any,
    ) -> None:
        self.net, self.context, self.cost = net, context_of(net), Cost()
        self.store, self._output, self._finish = SlotStore(), output, finish
        self._forward = TreeForward(net, self.store, arguments)
        self.lock = lock_of(net.get_input_embeddings())

    @one_at_a_time
    @torch.inference_mode()
    def prefill(self, ids: Sequence[Sequence[int]]) -> TreeState:
        """Read whole prompts."""
        if not self.store.ready:
            self._forward.lay_out()
        lengths = [len(row) for row in ids]
        self.store.reserve(max(lengths) + 1)
        device = self.net.device
        empty = TreeState(
            self.store.lease(len(ids)),
            torch.zeros(len(ids), dtype=torch.int64, device=device),
            [0] * len(ids),
            torch.empty(len(ids), 0, device=device),
        )
        self.cost.add(prefill=sum(lengths))
        state = self._read(empty, *pad_ids(ids, device=device))
        return replace(state, bounds=lengths)

    @one_at_a_time
    @torch.inference_mode()
    def extend(
        self, state: TreeState, tokens: Int[Tensor, "B L"], lengths: Int[Tensor, "B"]
    ) -> TreeState:
        """Append tokens: kept where they were just scored, read where they were not."""
        gains = self._gains(lengths)
        if tokens.shape[1] == 0 or (gains is not None and not any(gains)):
            return state
        if state.scored is None or tokens.shape[1] != 1:
            self.cost.add(extended=_count(lengths))
            return self._read(state, tokens, lengths)
        hit = state.scored.tokens == tokens
        kept = hit.any(dim=-1) | (lengths == 0)
        if state.scored.closed and kept.is_cuda:
            # Asking whether all were hit would wait for the device. The caller has said so; a
            # token from elsewhere turns the row's scores into NaN, which the loop reports.
            state = self._keep(state, hit, lengths)
            self.store.poison(state.index, state.lengths - 1, ~kept)
            return state
        if bool(kept.all()):
            return self._keep(state, hit, lengths)
        return self._keep_or_read(state, tokens, hit, kept, lengths)

    def _keep(
        self, state: TreeState, hit: Bool[Tensor, "B K"], lengths: Int[Tensor, "B"]
    ) -> TreeState:
        """Move the chosen candidate's keys and values to the end of the prefix."""
        assert state.scored is not None
        index = hit.int().argmax(dim=-1)
        self.store.move(state.index, state.lengths + index, state.lengths)
        out = state.scored.out[torch.arange(len(index), device=index.device), index]
        return state.grown(self._finish(out), lengths, self._gains(lengths) or 1)

    def _gains(self, lengths: Int[Tensor, "B"]) -> list[int] | None:
        """How many tokens each row gains; None on an accelerator, which is not asked."""
        gains: list[int] | None = lengths.tolist() if lengths.device.type == "cpu" else None
        return gains

    def _keep_or_read(
        self,
        state: TreeState,
        tokens: Int[Tensor, "B 1"],
        hit: Bool[Tensor, "B K"],
        kept: Bool[Tensor, "B"],
        lengths: Int[Tensor, "B"],
    ) -> TreeState:
        """Some rows took a token that was no candidate (the tail): only those are read."""
        flags = kept.tolist()
        yes = [i for i, k in enumerate(flags) if k]
        no = [i for i, k in enumerate(flags) if not k]
        self.cost.add(extended=len(no))
        missed = replace(state.rows(no), scored=None)
        parts = [self._read(missed, tokens[~kept], lengths[~kept])]
        if yes:
            parts.append(self._keep(state.rows(yes), hit[kept], lengths[kept]))
        return self.join(parts).rows([(no + yes).index(i) for i in range(len(flags))])

    @one_at_a_time
    @torch.inference_mode()
    def branch(self, state: TreeState, candidates: Candidates) -> Float[Tensor, "B K D"]:
        """The output at each candidate's last token; the rows' prefixes stay as they were."""
        b, k, length = candidates.shape
        many = max(1, CHUNK // length)
        outs = [
            self._branch(
                state, candidates.tokens[:, i : i + many], candidates.lengths[:, i : i + many]
            )
            for i in range(0, k, many)
        ]
        self.cost.add(scored=b * k if length == 1 else _count(candidates.lengths))
        out = torch.cat(outs, dim=1) if len(outs) > 1 else outs[0]
        state.scored = None
        if length == 1 and len(outs) == 1:
            state.scored = Scored(candidates.tokens[:, :, 0], out, candidates.tail is None)
        return out

    def _branch(
        self, state: TreeState, tokens: Int[Tensor, "B K L"], lengths: Int[Tensor, "B K"]
    ) -> Float[Tensor, "B K D"]:
        b, k, length = tokens.shape
        state.hold(self.context, length)
        lanes = QueryLayout.of_candidates(state.lengths, k, length)
        out = self._write(state, tokens.reshape(b, -1), lanes, max(state.bounds) + k * length)
        if length == 1:
            return out
        last = (lengths - 1).clamp(min=0)[..., None, None].expand(-1, -1, 1, out.shape[-1])
        return out.view(b, k, length, -1).gather(2, last)[:, :, 0]

    def _read(
        self, state: TreeState, tokens: Int[Tensor, "B L"], lengths: Int[Tensor, "B"]
    ) -> TreeState:
        """Append tokens by reading them. Lanes are padded on the left, so the last one is last."""
        b, total = tokens.shape
        state.hold(self.context, total)
        lane = torch.arange(total, device=tokens.device).expand(b, -1)
        shift = (total - lengths)[:, None]
        tokens = tokens.gather(1, (lane - shift).clamp(min=0))
        width = max(state.bounds) + total
        self.store.reserve(width + 1)
        start = state.lengths[:, None].expand(-1, total)
        real = lane >= shift
        # Padding is written where nobody ever reads: the store's last position.
        at = torch.where(real, start + lane - shift, self.store.length - 1)
        for i in range(0, total, CHUNK):
            piece = slice(i, i + CHUNK)
            lanes = QueryLayout(state.lengths, start[:, piece], at[:, piece], real[:, piece])
            out = self._write(state, tokens[:, piece], lanes, width)
        last = self._finish(out[:, -1])
        return state.grown(last, lengths, self._gains(lengths) or total)

    def _write(
        self, state: TreeState, tokens: Int[Tensor, "B Q"], lanes: QueryLayout, width: int
    ) -> Float[Tensor, "B O D"]:
        self.store.reserve(width + 1)
        # Rows that lie apart would be gathered, prefix and all, at every layer of every forward.
        state.slots = self.store.close_up(state.slots, max(state.bounds))
        self.cost.add(forwards=1)
        cache = self.store.view(state.slots, lanes.at, width)
        return self._output(self._forward(tokens, lanes, width, cache))

    @one_at_a_time
    @torch.inference_mode()
    def select(self, state: TreeState, rows: Int[Tensor, "R"]) -> TreeState:
        """Drop, reorder or fork rows; only a row's second and later copies move numbers."""
        wanted = rows.tolist()
        again = [i for i, row in enumerate(wanted) if row in wanted[:i]]
        picked = state.rows(wanted)
        return self._copy(picked, again) if again else picked

    @one_at_a_time
    @torch.inference_mode()
    def fork(self, state: TreeState, n: int) -> TreeState:
        """n copies of every row; `state` stays as it was."""
        rows = [i for i in range(len(state.slots)) for _ in range(n)]
        return self._copy(replace(state.rows(rows), scored=None), range(len(rows)))

    def _copy(self, state: TreeState, which: Sequence[int]) -> TreeState:
        """The same rows, some of them in slots of their own."""
        new = self.store.lease(len(which))
        scored = 0 if state.scored is None else state.scored.tokens.shape[1]
        length = max(state.bounds[i] for i in which) + scored
        self.store.copy([state.slots[i] for i in which], new, length)
        slots = dict(enumerate(state.slots)) | dict(zip(which, new, strict=True))
        return replace(state, slots=tuple(slots.values()))

    def join(self, states: Sequence[TreeState]) -> TreeState:
        """Rows of several states side by side; they share the store, so nothing moves."""
        return TreeState(
            tuple(slot for s in states for slot in s.slots),
            torch.cat([s.lengths for s in states]),
            [bound for s in states for bound in s.bounds],
            torch.cat([s.last for s in states]),
        )


def _count(lengths: Int[Tensor, "..."]) -> int:
    """Number of tokens; without asking an accelerator, the padded number."""
    return int(lengths.sum()) if lengths.device.type == "cpu" else lengths.numel()
