"""What became of the data that was read: so many kept, so many left out, for which reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Tally:
    """Counts of one kind of thing; together they are what was read.

    Attributes:
        what: the kind, such as "responses" or "pairs".
        kept: learnt from or validated on.
        left_out: how many were not, by reason; each by its first reason only.

    >>> str(Tally("pairs", 290, {"longer than 512 tokens": 6, "duplicates": 4}))
    '290 of 300 pairs; left out: 6 longer than 512 tokens, 4 duplicates'
    """

    what: str
    kept: int
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def read(self) -> int:
        """How many there were."""
        return self.kept + sum(self.left_out.values())

    def after(self, left_out: Mapping[str, int]) -> Tally:
        """With what an earlier stage, which read more, left out."""
        reasons = dict(left_out)
        for why, n in self.left_out.items():
            reasons[why] = reasons.get(why, 0) + n
        return Tally(self.what, self.kept, {why: n for why, n in reasons.items() if n})

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        left_out = dict(self.left_out)
        return {"what": self.what, "read": self.read, "kept": self.kept, "left_out": left_out}

    def __str__(self) -> str:
        """The counts in words."""
        if self.kept == self.read:
            return f"all {self.kept} {self.what}"
        lost = ", ".join(f"{n} {why}" for why, n in self.left_out.items() if n)
        return f"{self.kept} of {self.read} {self.what}; left out: {lost}"


def total(tallies: Sequence[Tally]) -> Tally:
    """Several parts of one kind as one; there is one at least."""
    kept = sum(each.kept for each in tallies)
    whole = Tally(tallies[0].what, kept)
    for each in tallies:
        whole = whole.after(each.left_out)
    return whole
