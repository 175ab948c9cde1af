"""What reading costs: counters that threads may share, and what one call added to them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields

_ADDING = threading.RLock()


@dataclass(frozen=True)
class Cost:
    """How many tokens a model or guide has read since it was made; only ever grows, by `add`.

    Attributes:
        prefill: prompt tokens.
        scored: candidate tokens.
        extended: chosen tokens read on their own.
        recomputed: prefix tokens read a second time (0 wherever there is a cache).
        forwards: forward passes.
    """

    prefill: int = 0
    scored: int = 0
    extended: int = 0
    recomputed: int = 0
    forwards: int = 0

    @property
    def decoding(self) -> int:
        """Tokens read after the prompt."""
        return self.scored + self.extended + self.recomputed

    def add(
        self,
        *,
        prefill: int = 0,
        scored: int = 0,
        extended: int = 0,
        recomputed: int = 0,
        forwards: int = 0,
    ) -> None:
        """Count what was read; call it in the thread that was asked to read.

        Any number of threads may add: nothing is lost, and each call of `decode` gets its own.
        """
        counts = self.__dict__  # frozen for all but this
        with _ADDING:
            counts["prefill"] += prefill
            counts["scored"] += scored
            counts["extended"] += extended
            counts["recomputed"] += recomputed
            counts["forwards"] += forwards
        for tally in _active.tallies:
            tally.note(self, scored + extended + recomputed)

    @property
    def parts(self) -> tuple[Cost, ...]:
        """The counters that it is the sum of: itself alone."""
        return (self,)


_NAMES = tuple(f.name for f in fields(Cost))


class TotalCost(Cost):
    """The sum of several counters as it is now; one that occurs twice counts once."""

    def __init__(self, costs: Iterable[Cost]) -> None:
        parts = {id(part): part for cost in costs for part in cost.parts}
        object.__setattr__(self, "_parts", tuple(parts.values()))
        super().__init__(*(sum(getattr(c, name) for c in parts.values()) for name in _NAMES))

    @property
    def parts(self) -> tuple[Cost, ...]:
        """The counters that it is the sum of."""
        parts: tuple[Cost, ...] = self._parts  # type: ignore[attr-defined]  # frozen: set by name
        return parts


class Tally:
    """Tokens after the prompt that one call reads, by counter, whoever else reads meanwhile."""

    def __init__(self) -> None:
        self._read: Counter[int] = Counter()

    @contextmanager
    def counting(self) -> Iterator[None]:
        """While it lasts, what this thread reads is this call's."""
        _active.tallies.append(self)
        try:
            yield
        finally:
            _active.tallies.pop()

    def note(self, cost: Cost, tokens: int) -> None:
        """`cost` grew."""
        self._read[id(cost)] += tokens

    def of(self, cost: Cost) -> int:
        """What was read by those whom `cost` counts, since the beginning."""
        return sum(self._read[id(part)] for part in cost.parts)


class _Active(threading.local):
    """The tallies of the calls that this thread is in, the innermost last."""

    def __init__(self) -> None:
        self.tallies: list[Tally] = []


_active = _Active()
