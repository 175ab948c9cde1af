"""Reading growing prefixes with a transformers decoder, nothing twice; the contract on one page.

    state  = reader.prefill(ids)                  rows of any lengths
    out    = reader.branch(state, candidates)     [B, K, D]; prefixes stay as they were
    state  = reader.extend(state, tokens, n)      the chosen candidate is kept, not read again
    state  = reader.select(state, rows)           drop, reorder, fork
    state  = reader.join([state, state])          side by side

`state.last` is what `finish` makes of the output at each row's last token. States are consumed by
`extend`, `select` and `join`; `fork` leaves its argument alone. `reader.cost` counts every token
that was read. `trimtab.cache.trial` opens readers, of two kinds: a `TreeReader` reads k candidates
behind one shared prefix, an `ExpandedReader` by k copies of it.

Legend: B rows, K candidates of a row, L tokens of a candidate, Q tokens per row in a forward, O of
them with an output, D its size (hidden states of a guide, logits of a base model), R some rows.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial, wraps
from typing import (
    Any,
    ClassVar,
    Concatenate,
    Generic,
    Literal,
    ParamSpec,
    TypeAlias,
    TypeVar,
    final,
)

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from trimtab.cache.networks import QueryLayout, answering, context_of
from trimtab.cache.slots import Scored, SlotStore, StepView, TreeState
from trimtab.errors import IncompatibleError
from trimtab.locks import lock_of
from trimtab.types import Candidates, Cost, pad_ids

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")

Attention: TypeAlias = Literal["tree", "expanded"]
"""How k candidates share a prefix."""

CHUNK = 1024
"""Most query tokens per row in one forward over a tree; more go in pieces, so masks stay small."""


def as_it_is(out: Tensor) -> Tensor:
    """The network's output itself."""
    return out


def one_at_a_time(method: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], T]:
    """A method that holds its reader's `lock` while it runs."""

    @wraps(method)
    def alone(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self.lock:
            return method(self, *args, **kwargs)

    return alone


class CachedReader(ABC, Generic[S]):
    """A network that reads growing prefixes; see the module's page.

    Args:
        net: a transformers decoder; only called, never changed.
        output: what to take from what it returns, `[B, Q, D]`.
        finish: what to make of it at each row's last token, `[B, D]`: `state.last`.
        arguments: more arguments of each forward; those that the network does not know are left
            out.
    """

    attention: ClassVar[Attention]

    def __init__(
        self,
        net: PreTrainedModel,
        output: Callable[[Any], Tensor],
        *,
        finish: Callable[[Tensor], Tensor] = as_it_is,
        **arguments: Any,
    ) -> None:
        self.net, self.context, self.cost = net, context_of(net), Cost()
        self.lock = lock_of(net.get_input_embeddings())
        self._output, self._finish = output, finish
        known = inspect.signature(net.forward).parameters
        self._places = "position_ids" in known
        self._arguments = {name: value for name, value in arguments.items() if name in known}

    @abstractmethod
    def prefill(self, ids: Sequence[Sequence[int]]) -> S:
        """Read whole prompts."""

    @abstractmethod
    def extend(self, state: S, tokens: Int[Tensor, "B L"], lengths: Int[Tensor, "B"]) -> S:
        """Append `lengths[b]` tokens to row b."""

    @one_at_a_time
    @torch.inference_mode()
    def branch(self, state: S, candidates: Candidates) -> Float[Tensor, "B K D"]:
        """The output at each candidate's last token; `state`'s prefixes stay as they were."""
        b, k, length = candidates.shape
        many = max(1, self._at_once(b, length))
        outs = [
            self._branch(
                state, candidates.tokens[:, i : i + many], candidates.lengths[:, i : i + many]
            )
            for i in range(0, k, many)
        ]
        self.cost.add(scored=b * k if length == 1 else _count(candidates.lengths))
        return torch.cat(outs, dim=1) if len(outs) > 1 else outs[0]

    def _call(self, tokens: Int[Tensor, "B Q"], cache: Any, **where: Tensor) -> Any:
        """What the network returns for tokens behind what the cache holds."""
        return self.net(
            input_ids=tokens, past_key_values=cache, use_cache=True, **where, **self._arguments
        )

    @abstractmethod
    def _at_once(self, rows: int, length: int) -> int:
        """How many candidates of each row are read in one forward."""

    @abstractmethod
    def _branch(
        self, state: S, tokens: Int[Tensor, "B K L"], lengths: Int[Tensor, "B K"]
    ) -> Float[Tensor, "B K D"]: ...

    @abstractmethod
    def select(self, state: S, rows: Int[Tensor, "R"]) -> S:
        """Drop, reorder or fork rows."""

    @abstractmethod
    def fork(self, state: S, n: int) -> S:
        """n copies of every row; `state` stays as it was."""

    @abstractmethod
    def join(self, states: Sequence[S]) -> S:
        """Rows side by side."""


def _count(lengths: Int[Tensor, "..."]) -> int:
    """Number of tokens; without asking an accelerator, the padded number."""
    return int(lengths.sum()) if lengths.device.type == "cpu" else lengths.numel()


# --- k candidates behind one prefix --------------------------------------------------------------


@final
class TreeReader(CachedReader[TreeState]):
    """Tree attention: k candidates over one shared prefix in one forward, the chosen one kept."""

    attention = "tree"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.store = SlotStore()

    @one_at_a_time
    @torch.inference_mode()
    def prefill(self, ids: Sequence[Sequence[int]]) -> TreeState:
        """Read whole prompts."""
        if not self.store.ready:
            self._lay_out()
        lengths, device = [len(row) for row in ids], self.net.device
        nothing = torch.zeros(len(ids), dtype=torch.int64, device=device)
        empty = TreeState(
            self.store.lease(len(ids)),
            nothing,
            nothing.tolist(),
            torch.empty(len(ids), 0, device=device),
        )
        self.cost.add(prefill=sum(lengths))
        state = self._read(empty, *pad_ids(ids, device=device))
        return replace(state, bounds=lengths)

    def _lay_out(self) -> None:
        """Show the store the shape of every layer's keys and values, by one token."""
        zero, cache = torch.zeros(1, 1, dtype=torch.int64, device=self.net.device), DynamicCache()
        self._forward(zero, QueryLayout(zero[0], zero, zero, zero == 0), 1, cache)
        layers: list[Any] = cache.layers
        self.store.lay_out(
            {
                (i, kind): x
                for i, layer in enumerate(layers)
                for kind, x in enumerate((layer.keys, layer.values))
                if layer.is_initialized
            }
        )

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
            return self._keep(state, hit, lengths, ~kept)
        if bool(kept.all()):
            return self._keep(state, hit, lengths)
        return self._keep_or_read(state, tokens, hit, kept, lengths)

    def _keep(
        self,
        state: TreeState,
        hit: Bool[Tensor, "B K"],
        lengths: Int[Tensor, "B"],
        missed: Bool[Tensor, "B"] | None = None,
    ) -> TreeState:
        """Move the chosen candidate's keys and values to the end of the prefix."""
        assert state.scored is not None
        index = hit.int().argmax(dim=-1)
        rows = torch.tensor([slot.index for slot in state.slots], device=index.device)
        self.store.move(rows, state.lengths + index, state.lengths, missed)
        out = state.scored.out[torch.arange(len(index), device=index.device), index]
        return self._grown(state, out, lengths, 1)

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

    def _gains(self, lengths: Int[Tensor, "B"]) -> list[int] | None:
        """How many tokens each row gains; None on an accelerator, which is not asked."""
        gains: list[int] | None = lengths.tolist() if lengths.device.type == "cpu" else None
        return gains

    def _grown(
        self, state: TreeState, out: Float[Tensor, "B D"], lengths: Int[Tensor, "B"], most: int
    ) -> TreeState:
        """The rows with `lengths` more tokens; those that gained none keep their output."""
        last, gains = self._finish(out), self._gains(lengths)
        begun = state.last.shape[1] > 0
        if begun and (gains is None or 0 in gains):
            last = torch.where((lengths > 0)[:, None], last, state.last)
        more = [most] * len(state.bounds) if gains is None else gains
        bounds = [bound + n for bound, n in zip(state.bounds, more, strict=True)]
        return TreeState(state.slots, state.lengths + lengths, bounds, last)

    @one_at_a_time
    def branch(self, state: TreeState, candidates: Candidates) -> Float[Tensor, "B K D"]:
        """The output at each candidate's last token; single tokens are kept for `extend`."""
        out = super().branch(state, candidates)
        _, k, length = candidates.shape
        state.scored = None
        if length == 1 and k <= CHUNK:
            state.scored = Scored(candidates.tokens[:, :, 0], out, candidates.tail is None)
        return out

    def _at_once(self, rows: int, length: int) -> int:
        return CHUNK // length

    def _branch(
        self, state: TreeState, tokens: Int[Tensor, "B K L"], lengths: Int[Tensor, "B K"]
    ) -> Float[Tensor, "B K D"]:
        b, k, length = tokens.shape
        self._hold(state, length)
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
        self._hold(state, total)
        lane = torch.arange(total, device=tokens.device).expand(b, -1)
        shift = (total - lengths)[:, None]
        tokens = tokens.gather(1, (lane - shift).clamp(min=0))
        width = max(state.bounds) + total
        start = state.lengths[:, None].expand(-1, total)
        real = lane >= shift
        # Padding is written where nobody reads: behind all that this forward may see.
        at = torch.where(real, start + lane - shift, width)
        for i in range(0, total, CHUNK):
            piece = slice(i, i + CHUNK)
            lanes = QueryLayout(state.lengths, start[:, piece], at[:, piece], real[:, piece])
            out = self._write(state, tokens[:, piece], lanes, width)
        return self._grown(state, out[:, -1], lengths, total)

    def _hold(self, state: TreeState, more: int) -> None:
        """Raise `PromptError` unless every row has room for `more` tokens."""
        most = self.context.tokens
        if most is not None and max(state.bounds) + more > most:
            # Bounds may be loose; to be sure is worth a wait.
            state.bounds = state.lengths.tolist()
        self.context.hold(max(state.bounds) + more)

    def _write(
        self, state: TreeState, tokens: Int[Tensor, "B Q"], lanes: QueryLayout, width: int
    ) -> Float[Tensor, "B O D"]:
        """Read tokens into the store, with attention to its first `width` positions."""
        self.store.reserve(width + 1)
        # Rows that lie apart would be gathered, prefix and all, at every layer of every forward.
        state.slots = self.store.close_up(state.slots, max(state.bounds))
        self.cost.add(forwards=1)
        cache = StepView(self.store, state.slots, lanes.at, width)
        return self._output(self._forward(tokens, lanes, width, cache))

    def _forward(
        self, tokens: Int[Tensor, "B Q"], lanes: QueryLayout, width: int, cache: Any
    ) -> Any:
        see = partial(lanes.see, width)
        with answering(see, self.net.dtype, packed=True) as answers:
            out = self._call(tokens, cache, position_ids=lanes.position)
        if not answers.count:
            raise IncompatibleError(
                "a tree needs a network that asks transformers for its masks",
                got=f"{self.net.config.model_type} with masks of its own making",
                do='pass attention="expanded"',
            )
        return out

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
        """Rows side by side; they share the store, so nothing moves."""
        return TreeState(
            tuple(slot for s in states for slot in s.slots),
            torch.cat([s.lengths for s in states]),
            [bound for s in states for bound in s.bounds],
            torch.cat([s.last for s in states]),
        )
