"""Reading growing prefixes with a transformers decoder, nothing twice; the contract on one page.

    state  = reader.prefill(ids)                  rows of any lengths
    out    = reader.branch(state, candidates)     [B, K, D]; prefixes stay as they were
    state  = reader.extend(state, tokens, n)      the chosen candidate is kept, not read again
    state  = reader.select(state, rows)           drop, reorder, fork
    state  = reader.join([state, state])          side by side

`state.last` is what `finish` makes of the output at each row's last token. States are consumed by
`extend`, `select` and `join`; `fork` leaves its argument alone. `reader.cost` counts every token
that was read. `trimtab.cache.trial` opens readers, of two kinds: a `TreeReader` reads k candidates
behind one shared prefix, an `ExpandedReader` by k copies of it. Rows of both are slots of a store.

Legend: B rows, K candidates of a row, L tokens of a candidate, Q tokens per row in a forward, O of
them with an output, D its size (hidden states of a guide, logits of a base model), R some rows.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial, wraps
from typing import Any, ClassVar, Concatenate, Literal, ParamSpec, TypeAlias, TypeVar, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from trimtab.cache.networks import QueryLayout, answering, context_of
from trimtab.cache.slots import CachedRows, PaddedView, Scored, SlotStore, StepView
from trimtab.errors import IncompatibleError
from trimtab.locks import lock_of
from trimtab.types import Candidates, Cost, pad_ids

P = ParamSpec("P")
T = TypeVar("T")

Attention: TypeAlias = Literal["tree", "expanded"]
"""How k candidates share a prefix."""

CHUNK = 1024
"""Most query tokens per row in one forward over a tree; more go in pieces, so masks stay small."""

COPIES = 256
"""Most rows in one forward of expanded candidates; more go in pieces, so the copies stay few."""


def as_it_is(out: Tensor) -> Tensor:
    """The network's output itself."""
    return out


def one_at_a_time(method: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], T]:
    """A method that holds its reader's `lock` while it runs, and records no gradient."""

    @wraps(method)
    def alone(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self.lock, torch.inference_mode():
            return method(self, *args, **kwargs)

    return alone


class CachedReader(ABC):
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
        self.lock, self.store = lock_of(net.get_input_embeddings()), SlotStore()
        self._output, self._finish = output, finish
        known = inspect.signature(net.forward).parameters
        self._places = "position_ids" in known
        taken = {*known, "output_hidden_states"}  # which transformers takes for every network
        self._arguments = {name: value for name, value in arguments.items() if name in taken}

    @one_at_a_time
    def prefill(self, ids: Sequence[Sequence[int]]) -> CachedRows:
        """Read whole prompts."""
        device = self.net.device
        if not self.store.ready:  # the shapes of keys and values are shown by one token
            shown = DynamicCache()
            self._call(torch.zeros(1, 1, dtype=torch.int64, device=device), shown)
            self.store.lay_out(shown)
        lengths = [len(row) for row in ids]
        nothing = torch.zeros(len(ids), dtype=torch.int64, device=device)
        empty = CachedRows(
            self.store.lease(len(ids)),
            nothing,
            [0] * len(ids),
            torch.empty(len(ids), 0, device=device),
        )
        self.cost.add(prefill=sum(lengths))
        tokens, gained = pad_ids(ids, device=device)
        state = self._grown(empty, self._read(empty, tokens, gained), gained, max(lengths))
        return replace(state, bounds=lengths)

    @one_at_a_time
    def extend(
        self, state: CachedRows, tokens: Int[Tensor, "B L"], lengths: Int[Tensor, "B"]
    ) -> CachedRows:
        """Append `lengths[b]` tokens to row b."""
        gains = self._gains(lengths)
        if tokens.shape[1] == 0 or (gains is not None and not any(gains)):
            return state
        return self._append(state, tokens, lengths)

    def _append(
        self, state: CachedRows, tokens: Int[Tensor, "B L"], lengths: Int[Tensor, "B"]
    ) -> CachedRows:
        self.cost.add(extended=_count(lengths))
        return self._grown(state, self._read(state, tokens, lengths), lengths, tokens.shape[1])

    def _gains(self, lengths: Int[Tensor, "B"]) -> list[int] | None:
        """How many tokens each row gains; None on an accelerator, which is not asked."""
        gains: list[int] | None = lengths.tolist() if lengths.device.type == "cpu" else None
        return gains

    def _grown(
        self, state: CachedRows, out: Float[Tensor, "B D"], lengths: Int[Tensor, "B"], most: int
    ) -> CachedRows:
        """The rows with `lengths` more tokens; those that gained none keep their output."""
        last, gains = self._finish(out), self._gains(lengths)
        begun = state.last.shape[1] > 0
        if begun and (gains is None or 0 in gains):
            last = torch.where((lengths > 0)[:, None], last, state.last)
        more = [most] * len(state.bounds) if gains is None else gains
        bounds = [bound + n for bound, n in zip(state.bounds, more, strict=True)]
        return CachedRows(state.slots, state.lengths + lengths, bounds, last)

    @one_at_a_time
    def branch(self, state: CachedRows, candidates: Candidates) -> Float[Tensor, "B K D"]:
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

    @abstractmethod
    def _at_once(self, rows: int, length: int) -> int:
        """How many candidates of each row are read in one forward."""

    @abstractmethod
    def _branch(
        self, state: CachedRows, tokens: Int[Tensor, "B K L"], lengths: Int[Tensor, "B K"]
    ) -> Float[Tensor, "B K D"]: ...

    def _read(
        self, state: CachedRows, tokens: Int[Tensor, "B L"], lengths: Int[Tensor, "B"]
    ) -> Float[Tensor, "B D"]:
        """Read tokens behind the rows; the output at the last of each row.

        Lanes are padded on the left, so the last one is last.
        """
        b, total = tokens.shape
        self._hold(state, total)
        lane = torch.arange(total, device=tokens.device).expand(b, -1)
        shift = (total - lengths)[:, None]
        real = lane >= shift
        width = max(state.bounds) + total
        # Padding is written where nobody reads: behind all that this forward may see.
        at = torch.where(real, state.lengths[:, None] + lane - shift, width)
        self.store.reserve(width + 1)
        tokens = tokens.gather(1, (lane - shift).clamp(min=0))
        return self._forward(state, tokens, at, real, width)[:, -1]

    @abstractmethod
    def _forward(
        self,
        state: CachedRows,
        tokens: Int[Tensor, "B Q"],
        at: Int[Tensor, "B Q"],
        real: Bool[Tensor, "B Q"],
        width: int,
    ) -> Float[Tensor, "B O D"]:
        """Read tokens into the store, where they attend to its first `width` positions."""

    def _hold(self, state: CachedRows, more: int) -> None:
        """Raise `PromptError` unless every row has room for `more` tokens."""
        most = self.context.tokens
        if most is not None and max(state.bounds) + more > most:
            # Bounds may be loose; to be sure is worth a wait.
            state.bounds = state.lengths.tolist()
        self.context.hold(max(state.bounds) + more)

    def _call(self, tokens: Int[Tensor, "B Q"], cache: Any, **where: Tensor) -> Any:
        """What the network returns for tokens behind what the cache holds."""
        return self.net(
            input_ids=tokens, past_key_values=cache, use_cache=True, **where, **self._arguments
        )

    @one_at_a_time
    def select(self, state: CachedRows, rows: Int[Tensor, "R"]) -> CachedRows:
        """Drop, reorder or fork rows; only a row's second and later copies move numbers."""
        wanted = rows.tolist()
        again = [i for i, row in enumerate(wanted) if row in wanted[:i]]
        picked = state.rows(wanted)
        return self._copy(picked, again) if again else picked

    @one_at_a_time
    def fork(self, state: CachedRows, n: int) -> CachedRows:
        """n copies of every row; `state` stays as it was."""
        rows = [i for i in range(len(state.slots)) for _ in range(n)]
        return self._copy(replace(state.rows(rows), scored=None), range(len(rows)))

    def _copy(self, state: CachedRows, which: Sequence[int]) -> CachedRows:
        """The same rows, some of them in slots of their own."""
        new = self.store.lease(len(which))
        scored = 0 if state.scored is None else state.scored.tokens.shape[1]
        length = max(state.bounds[i] for i in which) + scored
        self.store.copy([state.slots[i] for i in which], new, length)
        slots = dict(enumerate(state.slots)) | dict(zip(which, new, strict=True))
        return replace(state, slots=tuple(slots.values()))

    def join(self, states: Sequence[CachedRows]) -> CachedRows:
        """Rows side by side; they share the store, so nothing moves."""
        return CachedRows(
            tuple(slot for s in states for slot in s.slots),
            torch.cat([s.lengths for s in states]),
            [bound for s in states for bound in s.bounds],
            torch.cat([s.last for s in states]),
        )


def _count(lengths: Int[Tensor, "..."]) -> int:
    """Number of tokens; without asking an accelerator, the padded number."""
    return int(lengths.sum()) if lengths.device.type == "cpu" else lengths.numel()


@final
class TreeReader(CachedReader):
    """Tree attention: k candidates over one shared prefix in one forward, the chosen one kept."""

    attention = "tree"

    def _append(
        self, state: CachedRows, tokens: Int[Tensor, "B L"], lengths: Int[Tensor, "B"]
    ) -> CachedRows:
        """Tokens are kept where they were just scored, read where they were not."""
        if state.scored is None or tokens.shape[1] != 1:
            return super()._append(state, tokens, lengths)
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
        state: CachedRows,
        hit: Bool[Tensor, "B K"],
        lengths: Int[Tensor, "B"],
        missed: Bool[Tensor, "B"] | None = None,
    ) -> CachedRows:
        """Move the chosen candidate's keys and values to the end of the prefix."""
        assert state.scored is not None
        index = hit.int().argmax(dim=-1)
        rows = torch.tensor([slot.index for slot in state.slots], device=index.device)
        self.store.move(rows, state.lengths + index, state.lengths, missed)
        out = state.scored.out[torch.arange(len(index), device=index.device), index]
        return self._grown(state, out, lengths, 1)

    def _keep_or_read(
        self,
        state: CachedRows,
        tokens: Int[Tensor, "B 1"],
        hit: Bool[Tensor, "B K"],
        kept: Bool[Tensor, "B"],
        lengths: Int[Tensor, "B"],
    ) -> CachedRows:
        """Some rows took a token that was no candidate (the tail): only those are read."""
        flags = kept.tolist()
        yes = [i for i, k in enumerate(flags) if k]
        no = [i for i, k in enumerate(flags) if not k]
        missed = replace(state.rows(no), scored=None)
        parts = [super()._append(missed, tokens[~kept], lengths[~kept])]
        if yes:
            parts.append(self._keep(state.rows(yes), hit[kept], lengths[kept]))
        return self.join(parts).rows([(no + yes).index(i) for i in range(len(flags))])

    @one_at_a_time
    def branch(self, state: CachedRows, candidates: Candidates) -> Float[Tensor, "B K D"]:
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
        self, state: CachedRows, tokens: Int[Tensor, "B K L"], lengths: Int[Tensor, "B K"]
    ) -> Float[Tensor, "B K D"]:
        b, k, length = tokens.shape
        self._hold(state, length)
        lanes = QueryLayout.of_candidates(state.lengths, k, length)
        width = max(state.bounds) + k * length
        self.store.reserve(width)
        out = self._see(state, tokens.reshape(b, -1), lanes, width)
        if length == 1:
            return out
        last = (lengths - 1).clamp(min=0)[..., None, None].expand(-1, -1, 1, out.shape[-1])
        return out.view(b, k, length, -1).gather(2, last)[:, :, 0]

    def _forward(
        self,
        state: CachedRows,
        tokens: Int[Tensor, "B Q"],
        at: Int[Tensor, "B Q"],
        real: Bool[Tensor, "B Q"],
        width: int,
    ) -> Float[Tensor, "B O D"]:
        start = state.lengths[:, None].expand_as(at)
        for i in range(0, tokens.shape[1], CHUNK):
            piece = slice(i, i + CHUNK)
            lanes = QueryLayout(state.lengths, start[:, piece], at[:, piece], real[:, piece])
            out = self._see(state, tokens[:, piece], lanes, width)
        return out

    def _see(
        self, state: CachedRows, tokens: Int[Tensor, "B Q"], lanes: QueryLayout, width: int
    ) -> Float[Tensor, "B O D"]:
        # Rows that lie apart would be gathered, prefix and all, at every layer of every forward.
        state.slots = self.store.close_up(state.slots, max(state.bounds))
        self.cost.add(forwards=1)
        cache = StepView(self.store, state.slots, lanes.at, width)
        with answering(partial(lanes.see, width), self.net.dtype, packed=True) as answers:
            out = self._call(tokens, cache, position_ids=lanes.position)
        if not answers.count:
            raise IncompatibleError(
                "a tree needs a network that asks transformers for its masks",
                got=f"{self.net.config.model_type} with masks of its own making",
                do='pass attention="expanded"',
            )
        return self._output(out)


@final
class ExpandedReader(CachedReader):
    """k candidates by k copies of the prefix, for networks that take no tree mask.

    A network sees its rows padded on the left and without holes: positional schemes that count
    stored places (alibi, index-based windows) are right as well. It is dear in memory and costs
    k + 1 tokens per emitted token, because the chosen candidate is read again; so it is never
    chosen silently.
    """

    attention = "expanded"

    def _at_once(self, rows: int, length: int) -> int:
        return COPIES // rows

    def _branch(
        self, state: CachedRows, tokens: Int[Tensor, "B K L"], lengths: Int[Tensor, "B K"]
    ) -> Float[Tensor, "B K D"]:
        b, k, _ = tokens.shape
        copies = self.fork(state, k)
        return self._read(copies, tokens.flatten(0, 1), lengths.flatten()).view(b, k, -1)

    def _forward(
        self,
        state: CachedRows,
        tokens: Int[Tensor, "B Q"],
        at: Int[Tensor, "B Q"],
        real: Bool[Tensor, "B Q"],
        width: int,
    ) -> Float[Tensor, "B O D"]:
        self.cost.add(forwards=1)
        lengths = state.lengths + real.sum(dim=-1)
        cache = PaddedView(self.store, state.slots, at, width, lengths)
        where = {"attention_mask": (cache.place >= 0).long()}
        if self._places:
            where["position_ids"] = at.masked_fill(~real, 0)
        return self._output(self._call(tokens, cache, **where))
