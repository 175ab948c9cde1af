"""The slot store: keys and values of all rows, preallocated, one slot per row.

A row is a slot, so dropping, reordering and joining rows move no numbers. Lengths differ freely
between slots. Storage grows by doubling. transformers' attention layers ask a cache for nothing
but `update`, given a 4-D mask and position ids, so a small duck-typed view is all they see.

A store belongs to one reader, which holds its lock during every operation. Slots alone may be
given back from outside, by whichever thread drops the last state that holds one, even amid another
operation: they are only noted then, and put among the free ones by the next operation that asks.

Legend: P planes (keys or values of a layer), S slots, T positions, H key-value heads, D head size,
B rows of this forward, Q tokens per row of it, W positions that its attention reads.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import DynamicCache


class Slot:
    """A row's claim on one slot; when the last state that holds it is gone, the slot is free."""

    __slots__ = ("_returned", "index")

    def __init__(self, index: int, returned: deque[int]) -> None:
        self.index, self._returned = index, returned

    def __del__(self) -> None:
        # Runs in any thread at any moment: an append is atomic, and takes no lock.
        self._returned.append(self.index)


class SlotStore:
    """Keys and values by slot. Layers are laid out when the first forward shows their shapes.

    Planes of one shape lie in one tensor, so that moving a row's token or copying a row is one
    operation for all layers.
    """

    def __init__(self, slots: int = 1, length: int = 64) -> None:
        self.slots, self.length = slots, length
        self._free = set(range(slots))
        self._returned: deque[int] = deque()
        self._stacks: list[Tensor] = []  # each [P, S, T, H, D]
        self._where: dict[tuple[int, int], tuple[int, int]] = {}  # (layer, 0|1) -> (stack, plane)

    @property
    def ready(self) -> bool:
        """Whether the layout is known."""
        return bool(self._stacks)

    @property
    def bytes(self) -> int:
        """Memory held, in bytes."""
        return sum(stack.numel() * stack.element_size() for stack in self._stacks)

    @property
    def free(self) -> int:
        """How many slots nobody holds."""
        return len(self._free) + len(self._returned)

    def lay_out(self, shown: DynamicCache) -> None:
        """Allocate planes like the keys and values that a first forward showed, by layer."""
        layers: list[Any] = shown.layers
        seen = {
            (i, kind): x
            for i, layer in enumerate(layers)
            for kind, x in enumerate((layer.keys, layer.values))
            if layer.is_initialized
        }
        groups: dict[tuple[int, int, torch.dtype, torch.device], list[tuple[int, int]]]
        groups = defaultdict(list)
        for at, x in seen.items():
            groups[(x.shape[1], x.shape[3], x.dtype, x.device)].append(at)
        for (heads, dim, *_), planes in groups.items():
            like = seen[planes[0]]
            self._where |= {at: (len(self._stacks), p) for p, at in enumerate(planes)}
            shape = (len(planes), self.slots, self.length, heads, dim)
            self._stacks.append(like.new_zeros(shape))

    def lease(self, n: int) -> tuple[Slot, ...]:
        """n slots, the lowest free ones first, so that rows tend to lie side by side."""
        self._collect()
        while len(self._free) < n:
            self._grow(slots=2 * self.slots, length=self.length)
        lowest = sorted(self._free)[:n]
        for stack in self._stacks:
            # A masked key weighs zero, but zero times a NaN of a former row would still be NaN.
            stack[:, lowest] = 0
        return tuple(self._claim(index) for index in lowest)

    def _collect(self) -> None:
        """Put the slots that were given back among the free ones."""
        while self._returned:
            self._free.add(self._returned.popleft())

    def _claim(self, index: int) -> Slot:
        self._free.remove(index)
        return Slot(index, self._returned)

    def close_up(self, slots: tuple[Slot, ...], length: int) -> tuple[Slot, ...]:
        """The same rows side by side, by filling the gaps that dropped rows left; once per drop.

        Rows stay as they are when they are out of order or a gap belongs to another state.
        """
        at = [slot.index for slot in slots]
        wanted = range(at[0], at[0] + len(at))
        gaps = set(wanted) - set(at)
        self._collect()
        if not gaps or at != sorted(at) or not gaps <= self._free:
            return slots
        claims = {slot.index: slot for slot in slots} | {i: self._claim(i) for i in gaps}
        for source, target in zip(at, wanted, strict=True):  # downwards: nothing is overwritten
            for stack in self._stacks if source != target else ():
                stack[:, target, :length] = stack[:, source, :length]
                stack[:, target, length:] = 0
        return tuple(claims[i] for i in wanted)

    def reserve(self, length: int) -> None:
        """Make room for `length` positions in every slot."""
        if length > self.length:
            self._grow(self.slots, max(length, 2 * self.length))

    def _grow(self, slots: int, length: int) -> None:
        for i, old in enumerate(self._stacks):
            planes, s, t, heads, dim = old.shape
            new = old.new_zeros((planes, slots, length, heads, dim))
            new[:, :s, :t] = old
            self._stacks[i] = new
        self._free.update(range(self.slots, slots))
        self.slots, self.length = slots, length

    def copy(self, source: Sequence[Slot], target: Sequence[Slot], length: int) -> None:
        """Copy the first `length` positions of some slots into others."""
        src, dst = [s.index for s in source], [s.index for s in target]
        for stack in self._stacks:
            stack[:, dst, :length] = stack[:, src, :length]

    def move(
        self,
        rows: Int[Tensor, "B"],
        source: Int[Tensor, "B"],
        target: Int[Tensor, "B"],
        missed: Bool[Tensor, "B"] | None = None,
    ) -> None:
        """In slot rows[b], position source[b] becomes position target[b].

        Where that was not what is wanted (`missed`) it becomes NaN, which cannot go unseen.
        """
        for stack in self._stacks:
            at = rows.to(stack.device)
            moved = stack[:, at, source.to(stack.device)]
            if missed is not None:
                moved = moved.masked_fill(missed.to(stack.device)[:, None, None], torch.nan)
            stack[:, at, target.to(stack.device)] = moved

    def plane(self, layer: int, kind: int) -> Float[Tensor, "S T H D"]:
        """Keys (kind 0) or values (kind 1) of a layer."""
        stack, plane = self._where[layer, kind]
        return self._stacks[stack][plane]


@dataclass(frozen=True)
class Scored:
    """What the last `branch` left behind each row's prefix."""

    tokens: Int[Tensor, "B K"]  # the candidates, one token each
    out: Float[Tensor, "B K D"]  # the network's output at each
    closed: bool  # whether the next token is certain to be among them (the tail was dropped)


@dataclass
class CachedRows:
    """Rows that have been read."""

    slots: tuple[Slot, ...]
    lengths: Int[Tensor, "B"]  # tokens read, on the device
    bounds: list[int]  # the same on the host; more where an accelerator was not asked
    last: Float[Tensor, "B D"]
    scored: Scored | None = None

    def rows(self, rows: Sequence[int]) -> CachedRows:
        """The same for some rows, each at most once."""
        at = torch.tensor(rows, dtype=torch.int64).to(self.lengths.device)
        scored = self.scored and Scored(
            self.scored.tokens[at], self.scored.out[at], self.scored.closed
        )
        return CachedRows(
            tuple(self.slots[i] for i in rows),
            self.lengths[at],
            [self.bounds[i] for i in rows],
            self.last[at],
            scored,
        )


class StepView:
    """The cache as transformers' attention layers see it during one forward.

    Besides `update`, networks ask it for sizes only where they get no position ids and no mask of
    ours.
    """

    def __init__(
        self, store: SlotStore, slots: Sequence[Slot], at: Int[Tensor, "B Q"], width: int
    ) -> None:
        self._store, self._at, self._width = store, at, width
        rows = [slot.index for slot in slots]
        first, end = rows[0], rows[0] + len(rows)
        # Rows side by side are read as a view; only scattered rows have to be gathered.
        self._span = slice(first, end) if rows == [*range(first, end)] else None
        self._rows = torch.tensor(rows, device=at.device)

    def update(
        self,
        keys: Float[Tensor, "B H Q D"],
        values: Float[Tensor, "B H Q D"],
        layer_idx: int,
        *args: object,
        **kwargs: object,
    ) -> tuple[Float[Tensor, "B H W D"], Float[Tensor, "B H W D"]]:
        """Store the tokens' keys and values; all that attention may read."""
        return self._put(keys, layer_idx, 0), self._put(values, layer_idx, 1)

    def _put(self, new: Float[Tensor, "B H Q D"], layer: int, kind: int) -> Tensor:
        plane = self._store.plane(layer, kind)
        rows, at = self._rows.to(plane.device), self._at.to(plane.device)
        plane[rows[:, None], at] = new.transpose(1, 2)
        return self._read(plane)

    def _read(self, plane: Float[Tensor, "S T H D"]) -> Float[Tensor, "B H W D"]:
        rows = self._span or self._rows.to(plane.device)
        return plane[rows, : self._width].transpose(1, 2)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """How many tokens are stored, to number new ones by: ours have numbers."""
        return 0

    def get_query_offset(self, layer_idx: int | None = 0) -> int:
        """Where queries begin in a mask: ours say where they stand."""
        return 0

    def get_mask_sizes(self, query: object, layer_idx: int | None = 0) -> tuple[int, int]:
        """How wide a mask is, and where it begins."""
        return self._width, 0


class PaddedView(StepView):
    """The same as a cache of rows that are padded on the left, without holes; `lengths` are new."""

    layers = ()  # none holds what was seen of an image, which some networks ask for

    def __init__(
        self,
        store: SlotStore,
        slots: Sequence[Slot],
        at: Int[Tensor, "B Q"],
        width: int,
        lengths: Int[Tensor, "B"],
    ) -> None:
        super().__init__(store, slots, at, width)
        self._before = width - at.shape[1]
        self.place = torch.arange(width, device=at.device) - (width - lengths)[:, None]
        """Which of its row's positions the network sees in each of W places; below 0 in padding."""

    def _read(self, plane: Float[Tensor, "S T H D"]) -> Float[Tensor, "B H W D"]:
        rows, place = self._rows.to(plane.device), self.place.clamp(min=0).to(plane.device)
        return plane[rows[:, None], place].transpose(1, 2).contiguous()

    @property
    def is_initialized(self) -> bool:
        """Whether something was read before; recurrent depth asks for it."""
        return self._before > 0

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """How many places stand before the new tokens."""
        return self._before

    def get_query_offset(self, layer_idx: int | None = 0) -> int:
        """Where queries begin in a mask."""
        return self._before
