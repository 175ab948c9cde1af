"""Tree reading: k candidates over one shared prefix in one forward, the chosen one kept.

Legend: B rows, K candidates of a row, L tokens of a candidate, Q tokens per row in a forward,
O of them with an output, D its size (hidden states of a guide, logits of a base model), R some
rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from trimtab.cache.attention import packed
from trimtab.cache.configs import context_of
from trimtab.cache.expanded import as_it_is
from trimtab.cache.masks import QueryLayout, answering, see
from trimtab.cache.slots import Recorder, Slot, SlotStore
from trimtab.errors import IncompatibleError
from trimtab.locks import lock_of, one_at_a_time
from trimtab.types import Candidates, Cost

CHUNK = 1024
"""Most query tokens per row in one forward; longer readings go in pieces, so masks stay small."""


@dataclass(frozen=True)
class Scored:
    """What the last `branch` left behind each row's prefix.

    Attributes:
        tokens: the candidates, one token each.
        out: the network's output at each.
        closed: whether the next token is certain to be among them (the tail was dropped).
    """

    tokens: Int[Tensor, "B K"]
    out: Float[Tensor, "B K D"]
    closed: bool


@dataclass
class TreeState:
    """Rows that have been read. `bounds` are the lengths as far as the host knows them.

    Attributes:
        slots: where each row's keys and values are.
        lengths: tokens read, on the device.
        bounds: upper bounds of the lengths on the host; exact but where rows were
            extended raggedly on an accelerator.
        last: the network's output at each row's last token.
        scored: candidates whose keys and values stand behind the prefix.
    """

    slots: tuple[Slot, ...]
    lengths: Int[Tensor, "B"]
    bounds: list[int]
    last: Float[Tensor, "B D"]
    scored: Scored | None = None

    def rows(self, rows: Sequence[int]) -> TreeState:
        """The same for some rows, each at most once."""
        at = torch.tensor(rows, dtype=torch.int64).to(self.lengths.device)
        scored = self.scored and Scored(
            self.scored.tokens[at], self.scored.out[at], self.scored.closed
        )
        return TreeState(
            tuple(self.slots[i] for i in rows),
            self.lengths[at],
            [self.bounds[i] for i in rows],
            self.last[at],
            scored,
        )


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
        self.store = SlotStore()
        self._output, self._finish, self._arguments = output, finish, arguments
        self.lock = lock_of(net.get_input_embeddings())

    @one_at_a_time
    @torch.inference_mode()
    def prefill(self, ids: Sequence[Sequence[int]]) -> TreeState:
        """Read whole prompts."""
        if not self.store.ready:
            self._lay_out()
        lengths = [len(row) for row in ids]
        tokens = torch.zeros(len(ids), max(lengths), dtype=torch.int64)
        for i, row in enumerate(ids):
            tokens[i, : len(row)] = torch.tensor(row)
        self.store.reserve(max(lengths) + 1)
        device = self.net.device
        empty = TreeState(
            self.store.lease(len(ids)),
            torch.zeros(len(ids), dtype=torch.int64, device=device),
            [0] * len(ids),
            torch.empty(len(ids), 0, device=device),
        )
        self.cost.add(prefill=sum(lengths))
        state = self._read(empty, tokens.to(device), torch.tensor(lengths, device=device))
        return replace(state, bounds=lengths)

    def _lay_out(self) -> None:
        """Show the store the shape of every layer's keys and values, by one token."""
        recorder = Recorder()
        zero = torch.zeros(1, 1, dtype=torch.int64, device=self.net.device)
        lanes = QueryLayout(zero[0], zero, zero, zero == 0)
        self._forward(zero, lanes, 1, recorder)
        self.store.lay_out(recorder.seen)

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
            self.cost.add(extended=self._count(lengths))
            return self._read(state, tokens, lengths)
        hit = state.scored.tokens == tokens
        kept = hit.any(dim=-1) | (lengths == 0)
        if state.scored.closed and kept.is_cuda:
            # Asking whether all were hit would wait for the device. The caller has said so; a
            # token from elsewhere turns the row's scores into NaN, which the loop reports.
            state = self._keep(state, hit, lengths)
            rows = self._index(state.slots)
            self.store.poison(rows, state.lengths - 1, ~kept)
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
        self.store.move(self._index(state.slots), state.lengths + index, state.lengths)
        out = state.scored.out[torch.arange(len(index), device=index.device), index]
        return self._grown(state, out, lengths, 1)

    def _grown(
        self, state: TreeState, out: Float[Tensor, "B D"], lengths: Int[Tensor, "B"], most: int
    ) -> TreeState:
        """The rows with `lengths` more tokens, `out` at the last; those with none keep theirs."""
        last, gains = self._finish(out), self._gains(lengths)
        begun = state.last.shape[1] > 0
        if begun and (gains is None or 0 in gains):
            last = torch.where((lengths > 0)[:, None], last, state.last)
        more = gains or [most] * len(state.bounds)
        bounds = [bound + n for bound, n in zip(state.bounds, more, strict=True)]
        return TreeState(state.slots, state.lengths + lengths, bounds, last)

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
        self.cost.add(scored=b * k if length == 1 else self._count(candidates.lengths))
        out = torch.cat(outs, dim=1) if len(outs) > 1 else outs[0]
        state.scored = None
        if length == 1 and len(outs) == 1:
            state.scored = Scored(candidates.tokens[:, :, 0], out, candidates.tail is None)
        return out

    def _branch(
        self, state: TreeState, tokens: Int[Tensor, "B K L"], lengths: Int[Tensor, "B K"]
    ) -> Float[Tensor, "B K D"]:
        b, k, length = tokens.shape
        lane = torch.arange(k * length, device=tokens.device).expand(b, -1)
        prefix = state.lengths
        lanes = QueryLayout(
            prefix,
            prefix[:, None] + lane // length * length,
            prefix[:, None] + lane,
            torch.ones_like(lane, dtype=torch.bool),
        )
        self._check(state, length)
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
        self._check(state, total)
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
        return self._grown(state, out[:, -1], lengths, total)

    def _write(
        self, state: TreeState, tokens: Int[Tensor, "B Q"], lanes: QueryLayout, width: int
    ) -> Float[Tensor, "B O D"]:
        self.store.reserve(width + 1)
        # Rows that lie apart would be gathered, prefix and all, at every layer of every forward.
        state.slots = self.store.close_up(state.slots, max(state.bounds))
        self.cost.add(forwards=1)
        return self._forward(tokens, lanes, width, self.store.view(state.slots, lanes.at, width))

    def _forward(
        self, tokens: Int[Tensor, "B Q"], lanes: QueryLayout, width: int, cache: Any
    ) -> Float[Tensor, "B O D"]:
        """Outputs of all lanes, or of the last where the arguments say so."""
        tree = partial(see, lanes, width)
        with packed(), answering(tree, self.net.dtype) as answers:
            out = self.net(
                input_ids=tokens,
                position_ids=lanes.position,
                past_key_values=cache,
                use_cache=True,
                **self._arguments,
            )
        if not answers.count:
            raise IncompatibleError(
                "a tree needs a network that asks transformers for its masks",
                got=f"{self.net.config.model_type} with masks of its own making",
                do='pass attention="expanded"',
            )
        return self._output(out)

    def _check(self, state: TreeState, more: int) -> None:
        """Raise `PromptError` unless every row has room for `more` tokens."""
        most = self.context.tokens
        if most is not None and max(state.bounds) + more > most:
            # Bounds may be loose; to be sure is worth a wait.
            state.bounds = state.lengths.tolist()
        self.context.hold(max(state.bounds) + more)

    def _count(self, lengths: Int[Tensor, "..."]) -> int:
        """Number of tokens; without asking an accelerator, the padded number."""
        return int(lengths.sum()) if lengths.device.type == "cpu" else lengths.numel()

    def _index(self, slots: Sequence[Slot]) -> Int[Tensor, "B"]:
        return torch.tensor([s.index for s in slots], device=self.net.device)

    @one_at_a_time
    @torch.inference_mode()
    def select(self, state: TreeState, rows: Int[Tensor, "R"]) -> TreeState:
        """Drop, reorder or fork rows; only a row's second and later copies move numbers."""
        wanted = rows.tolist()
        picked = state.rows(wanted)
        first = {row: i for i, row in reversed(list(enumerate(wanted)))}
        again = [i for i, row in enumerate(wanted) if first[row] != i]
        if again:
            picked = replace(picked, slots=self._copies(picked, again))
        return picked

    def _copies(self, state: TreeState, which: Sequence[int]) -> tuple[Slot, ...]:
        """The rows' slots with copies of their own for some rows."""
        new = self.store.lease(len(which))
        length = max(state.bounds[i] for i in which)
        if state.scored is not None:
            length += state.scored.tokens.shape[1]
        self.store.copy([state.slots[i] for i in which], new, length)
        slots = list(state.slots)
        for i, slot in zip(which, new, strict=True):
            slots[i] = slot
        return tuple(slots)

    @one_at_a_time
    @torch.inference_mode()
    def fork(self, state: TreeState, n: int) -> TreeState:
        """n copies of every row; `state` stays as it was."""
        rows = [i for i in range(len(state.slots)) for _ in range(n)]
        picked = replace(state.rows(rows), scored=None)
        return replace(picked, slots=self._copies(picked, range(len(rows))))

    def join(self, states: Sequence[TreeState]) -> TreeState:
        """Rows of several states side by side; they share the store, so nothing moves."""
        return TreeState(
            tuple(slot for s in states for slot in s.slots),
            torch.cat([s.lengths for s in states]),
            [bound for s in states for bound in s.bounds],
            torch.cat([s.last for s in states]),
        )
