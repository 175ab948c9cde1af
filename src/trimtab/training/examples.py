"""What a guide learns from: prompts with responses and their targets, and what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean
from typing import Any

from trimtab.errors import DataError
from trimtab.training.targets import RewardStatistics
from trimtab.types import Group, Response


@dataclass(frozen=True)
class KeptCounts:
    """How many things of one kind were kept, and why the others were not.

    Attributes:
        what: the kind, such as "responses" or "pairs".
        kept: learnt from or validated on.
        left_out: how many were not, by reason; each by its first reason only.

    >>> str(KeptCounts("pairs", 290, {"longer than 512 tokens": 6, "repeated": 4}))
    '290 of 300 pairs; left out: 6 longer than 512 tokens, 4 repeated'
    """

    what: str
    kept: int
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        some = {reason: n for reason, n in self.left_out.items() if n}
        object.__setattr__(self, "left_out", some)

    @property
    def read(self) -> int:
        """How many there were."""
        return self.kept + sum(self.left_out.values())

    def after(self, left_out: Mapping[str, int]) -> KeptCounts:
        """With what an earlier stage, which read more, left out."""
        return replace(self, left_out=Counter(left_out) + Counter(self.left_out))

    def __add__(self, other: KeptCounts) -> KeptCounts:
        """Two parts of one kind as one, such as two files that were read."""
        left_out = Counter(self.left_out) + Counter(other.left_out)
        return KeptCounts(self.what, self.kept + other.kept, left_out)

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {"read": self.read, **asdict(self)}

    def __str__(self) -> str:
        """The counts in words."""
        if not self.left_out:
            return f"all {self.kept} {self.what}"
        reasons = ", ".join(f"{n} {reason}" for reason, n in self.left_out.items())
        return f"{self.kept} of {self.read} {self.what}; left out: {reasons}"


@dataclass(frozen=True)
class Row:
    """A response to be learnt from.

    Attributes:
        tokens: its ids.
        target: what its states are regressed on: a reward or a label, in the network's unit.
    """

    tokens: tuple[int, ...]
    target: float


@dataclass(frozen=True)
class Example:
    """What is drawn together: a prompt and some responses to it, or a pair of them.

    Attributes:
        prompt: its ids.
        rows: the responses; of a pair, the chosen and the rejected one.
        prefixes: of a pair: how many tokens of prefixes are trained on; None is all.
    """

    prompt: tuple[int, ...]
    rows: tuple[Row, ...]
    prefixes: tuple[int, ...] | None = None

    @property
    def size(self) -> int:
        """Tokens that are read."""
        return len(self.prompt) + sum(len(row.tokens) for row in self.rows)

    @property
    def longest(self) -> int:
        """Tokens of the prompt and the longest response."""
        return len(self.prompt) + max(len(row.tokens) for row in self.rows)


@dataclass(frozen=True)
class Material:
    """What a run learns from.

    Attributes:
        train: examples to learn from.
        validation: held-out examples, of other topics.
        counts: what became of what was read.
        labelled: prefixes with labels, where there are some.
        reward: the reward's statistics on the training responses; None for human preferences.
    """

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    counts: tuple[KeptCounts, ...] = ()
    labelled: tuple[Example, ...] = ()
    reward: RewardStatistics | None = None

    def __post_init__(self) -> None:
        for examples, purpose in ((self.train, "train"), (self.validation, "hold out")):
            if not examples:
                must = f"there must be examples to {purpose}"
                raise DataError(must, got="none", do="collect more, of more topics")


@dataclass(frozen=True)
class SplitGroups:
    """What an objective makes examples of.

    Attributes:
        train: groups to learn from.
        validation: groups of other topics.
        labelled: half responses, each completed several times, to validate values on.
        reward: which reward is learnt; None where the groups are people's preferences, each of two
            responses, the chosen one first.
        max_length: most tokens of a prompt and a response.
        seed: of what is drawn.
    """

    train: Sequence[Group]
    validation: Sequence[Group]
    labelled: Sequence[Group] = ()
    reward: str | None = None
    max_length: int = 512
    seed: int = 0


def scored(
    groups: Sequence[Group],
    reward: str,
    target: Callable[[float], float],
    *,
    max_length: int,
    share: int = 1,
) -> tuple[tuple[Example, ...], KeptCounts]:
    """Every response that has the reward and is short enough, and what became of all.

    Args:
        groups: of any number of responses.
        reward: which of their rewards is learnt.
        target: from the reward to what the network regresses on.
        max_length: most tokens of a prompt and a response.
        share: responses to a prompt in one example, whose reading they share.
    """
    examples: list[Example] = []
    reasons: Counter[str] = Counter()
    for group in groups:
        rows = []
        for response in group.responses:
            reason = _unfit(group, response, reward, max_length)
            reasons[reason] += 1
            if not reason:
                tokens = group.prefix + response.tokens
                rows.append(Row(tokens, target(float(response.rewards[reward]))))
        parts = (rows[i : i + share] for i in range(0, len(rows), share))
        examples += [Example(group.prompt.ids, tuple(part)) for part in parts]
    return tuple(examples), KeptCounts("responses", reasons.pop("", 0), reasons)


def _unfit(group: Group, response: Response, reward: str, max_length: int) -> str:
    """Why a response cannot be learnt from; "" where it can."""
    tokens = group.prefix + response.tokens
    if reward not in response.rewards:
        return "without the reward"
    if not tokens:
        return "without a token"
    return too_long(max_length) if len(group.prompt.ids) + len(tokens) > max_length else ""


def too_long(max_length: int) -> str:
    """Why a response is left out, in words."""
    return f"longer than {max_length} tokens with the prompt"


def labelled_prefixes(
    groups: Sequence[Group], reward: str, target: Callable[[float], float], *, max_length: int
) -> tuple[tuple[Example, ...], KeptCounts]:
    """Half responses with the mean reward of their completions (validation), and their count."""
    examples: list[Example] = []
    reasons: Counter[str] = Counter()
    for group in groups:
        scores = [float(r.rewards[reward]) for r in group.responses if reward in r.rewards]
        reason = ""
        if not group.prefix:
            reason = "without a prefix"
        elif not scores:
            reason = "without the reward"
        elif len(group.prompt.ids) + len(group.prefix) > max_length:
            reason = too_long(max_length)
        else:
            row = Row(group.prefix, target(fmean(scores)))
            examples.append(Example(group.prompt.ids, (row,)))
        reasons[reason] += 1
    return tuple(examples), KeptCounts("labels", reasons.pop("", 0), reasons)


def paired(pairs: Sequence[Group], *, max_length: int) -> tuple[tuple[Example, ...], KeptCounts]:
    """Groups of two, the chosen response first, as examples, and what became of all."""
    examples = []
    for group in pairs:
        chosen, rejected = (group.prefix + response.tokens for response in group.responses)
        examples.append(Example(group.prompt.ids, (Row(chosen, 1.0), Row(rejected, 0.0))))
    kept = tuple(example for example in examples if example.longest <= max_length)
    left_out = {too_long(max_length): len(examples) - len(kept)}
    return kept, KeptCounts("pairs", len(kept), left_out)
