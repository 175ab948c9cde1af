"""What was left out of training data, counted by reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TypeVar

from trimtab.errors import DataError, UsageError

T = TypeVar("T")


@dataclass(frozen=True)
class Dropped:
    """How many were kept, and why the others were not. Each counts once, by its first reason.

    Attributes:
        kept: rows or groups that are left; of `pairs_of`, groups that gave a pair.
        prompts: their two texts, or conversations, share no prompt.
        template: the ids of prompt and response are not those of the whole, or the chat template
            refuses the conversation.
        identical: chosen and rejected are the same.
        empty: a response without text.
        short: a response of fewer than `min_tokens` tokens.
        long: prompt and response of more than `max_tokens` tokens.
        contradictory: the same two responses were preferred one way and the other; all go.
        duplicates: the same preference again; the first is kept.
        single: groups with fewer than two responses that have the reward.
        tied: groups in which no reward is higher than another by more than the margin.
        unscored: responses without the reward; they are not among the groups.
        pairs: pairs that were made of the groups; None where none are made.
        min_tokens: the limit that `short` means.
        max_tokens: the limit that `long` means; None if there was none.

    >>> str(Dropped(kept=290, duplicates=4, long=6, max_tokens=512))
    'kept 290 of 300: 6 longer than 512 tokens, 4 duplicates'
    """

    kept: int
    prompts: int = 0
    template: int = 0
    identical: int = 0
    empty: int = 0
    short: int = 0
    long: int = 0
    contradictory: int = 0
    duplicates: int = 0
    single: int = 0
    tied: int = 0
    unscored: int = 0
    pairs: int | None = None
    min_tokens: int | None = None
    max_tokens: int | None = None

    @property
    def of(self) -> int:
        """How many there were."""
        gone: int = sum(getattr(self, reason) for reason in _REASONS)
        return self.kept + gone

    def __add__(self, other: Dropped) -> Dropped:
        """Both of one stage, such as two files that were read."""
        mine, theirs = asdict(self), asdict(other)
        sums = {
            name: theirs[name] if n is None else n + (theirs[name] or 0)
            for name, n in mine.items()
            if name not in _LIMITS
        }
        return replace(self, **sums)

    def then(self, later: Dropped) -> Dropped:
        """Both stages as one.

        Args:
            later: of the stage that was given what this one kept.

        Raises:
            UsageError: it was given something else.
        """
        given = self.kept if self.pairs is None else self.pairs
        if later.of != given or self.pairs is not None:
            raise UsageError(
                "a later stage must count what the earlier one kept",
                got=f"{later.of} after {given}" + (" pairs" if self.pairs is not None else ""),
                do="add up the stages of one walk only, and pairs apart from their groups",
            )
        both = {reason: getattr(self, reason) + getattr(later, reason) for reason in _REASONS}
        limits = {
            name: getattr(self, name) if getattr(later, name) is None else getattr(later, name)
            for name in _LIMITS
        }
        return replace(later, **both, **limits)

    @property
    def left_out(self) -> dict[str, int]:
        """The reasons that there were, in words, and their counts: with `kept` they are `of`."""
        return {
            words.format(s="" if n == 1 else "s", **vars(self)): n
            for reason, words in _REASONS.items()
            if (n := getattr(self, reason))
        }

    def as_dict(self) -> dict[str, int]:
        """Plain numbers for a manifest: `of`, `kept`, every reason, and the limits there were."""
        return {"of": self.of} | {name: n for name, n in asdict(self).items() if n is not None}

    def __str__(self) -> str:
        """The counts in words."""
        reasons = ", ".join(f"{n} {words}" for words, n in self.left_out.items())
        kept = f"kept {self.kept} of {self.of}: {reasons}" if reasons else f"kept all {self.kept}"
        made = "" if self.pairs is None else f"; {self.pairs} pair{'' if self.pairs == 1 else 's'}"
        unscored = f"; {self.unscored} responses lack the reward" if self.unscored else ""
        return kept + made + unscored


_LIMITS = ("min_tokens", "max_tokens")
_REASONS = {
    "prompts": "that share no prompt",
    "template": "not prompt + response in tokens",
    "identical": "identical",
    "empty": "empty",
    "short": "shorter than {min_tokens} tokens",
    "long": "longer than {max_tokens} tokens",
    "contradictory": "contradictory",
    "duplicates": "duplicate{s}",
    "single": "with fewer than two rewards",
    "tied": "tied",
}


def some(kept: Sequence[T], dropped: Dropped) -> tuple[T, ...]:
    """What is left, if anything is.

    Raises:
        DataError: nothing is; the message says why.
    """
    if not kept:
        raise DataError(
            "some preferences must be left to train on",
            got=str(dropped) if dropped.of else "none to begin with",
            do="check the data, or loosen the limits",
        )
    return tuple(kept)
