"""Guides that leave the reading to another: functions of its score, and a published code's fault.

Legend: B rows, K candidates, L tokens of a candidate, R some rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from trimtab.decoding.step import check_scores
from trimtab.errors import UsageError
from trimtab.guides.text import appended_ids
from trimtab.protocols import Bounded, Guide, ReadsStates
from trimtab.types import Candidates, Cost, Prompt, Vocab, pad_ids


class Delegate(ABC):
    """Hands every reading to `inner`, a guide or a cached reader; a subclass says its own score."""

    @property
    @abstractmethod
    def inner(self) -> Any:
        """What reads; its state is this guide's state."""

    @abstractmethod
    def score(self, state: Any, candidates: Candidates) -> Float[Tensor, "B K"]:
        """Score of each candidate after the prefix; leaves `state` as it was."""

    @property
    def cost(self) -> Cost:
        """Tokens read so far."""
        cost: Cost = self.inner.cost
        return cost

    @property
    def state_layers(self) -> frozenset[int]:
        """The layers of the base whose states it reads."""
        return self.inner.state_layers if isinstance(self.inner, ReadsStates) else frozenset()

    def prefill(self, prompts: Sequence[Prompt]) -> Any:
        """Read whole prompts, one row each."""
        return self.inner.prefill(prompts)

    def extend(self, state: Any, tokens: Int[Tensor, "B L"], lengths: Int[Tensor, "B"]) -> Any:
        """Append `lengths[b]` tokens to row b."""
        return self.inner.extend(state, tokens, lengths)

    def select(self, state: Any, rows: Int[Tensor, "R"]) -> Any:
        """Drop, reorder or fork rows."""
        return self.inner.select(state, rows)

    def join(self, states: Sequence[Any]) -> Any:
        """Rows of several states side by side."""
        return self.inner.join(states)


@dataclass(frozen=True)
class Transform(Delegate):
    """A guide whose scores are a function of another's; everything else is the other's.

    NaN and inf pass through unchanged, so that no transform hides a guide that fails. One of your
    own says `transform`:

    >>> import trimtab as tt
    >>> @dataclass(frozen=True)
    ... class Halved(Transform):
    ...     def transform(self, scores):
    ...         return scores / 2
    >>> lengths = tt.TextGuide(lambda prompts, texts: [len(t) for t in texts], tt.TableLM().decode)
    >>> Halved(lengths).name
    'text'
    """

    guide: Guide[Any]

    @abstractmethod
    def transform(self, scores: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        """The new scores."""

    @property
    def inner(self) -> Guide[Any]:
        """The guide."""
        return self.guide

    @property
    def name(self) -> str:
        """The guide's name."""
        return self.guide.name

    @property
    def vocab(self) -> Vocab | None:
        """Whose ids the guide reads."""
        return self.guide.vocab

    @property
    def context(self) -> int | None:
        """Most tokens that the guide reads."""
        return self.guide.context if isinstance(self.guide, Bounded) else None

    def score(self, state: Any, candidates: Candidates) -> Float[Tensor, "B K"]:
        """The transformed scores."""
        scores = check_scores(self.name, self.guide.score(state, candidates), candidates)
        return torch.where(torch.isfinite(scores), self.transform(scores), scores)


@final
@dataclass(frozen=True)
class LogSigmoid(Transform):
    """log P(attribute | s v) = log sigmoid(z), z a classifier's logit (FUDGE).

    >>> import trimtab as tt
    >>> logits = tt.TextGuide(lambda prompts, texts: [0.0 for _ in texts], tt.TableLM().decode)
    >>> tt.LogSigmoid(logits).transform(torch.zeros(1, 1))  # log 1/2
    tensor([[-0.6931]])
    """

    def transform(self, scores: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        """log sigmoid, in nats."""
        return F.logsigmoid(scores)


@final
@dataclass(frozen=True)
class Clamp(Transform):
    """clamp(score, low, high) (RAD: to [0, 1]).

    Attributes:
        guide: whose scores are clamped.
        low: the least score.
        high: the greatest score.

    >>> import trimtab as tt
    >>> lengths = tt.TextGuide(lambda prompts, texts: [len(t) for t in texts], tt.TableLM().decode)
    >>> tt.Clamp(lengths, high=2.0).transform(torch.tensor([[-1.0, 5.0]]))
    tensor([[0., 2.]])
    """

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise UsageError(
                "low and high must be numbers, low below high",
                got=f"{self.low} and {self.high}",
                do="swap or mend them",
            )

    def transform(self, scores: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        """Clamped scores."""
        return scores.clamp(self.low, self.high)


@final
@dataclass(frozen=True)
class Center(Transform):
    """score - mean_K score, the plain mean over a row's candidates (the form in VAS' code).

    With the tail at the mean score, decoding is as with the plain scores: a constant per row.

    >>> import trimtab as tt
    >>> lengths = tt.TextGuide(lambda prompts, texts: [len(t) for t in texts], tt.TableLM().decode)
    >>> tt.Center(lengths).transform(torch.tensor([[1.0, 3.0]]))
    tensor([[-1.,  1.]])
    """

    def transform(self, scores: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        """Centred scores."""
        return scores - scores.mean(dim=-1, keepdim=True)


TRANSFORMS: dict[str, type[Transform]] = {
    "log_sigmoid": LogSigmoid,
    "clamp": Clamp,
    "center": Center,
}
"""Transforms that can be saved with their guide, by their names on disk."""


# --- guides that keep a note of each row ----------------------------------------------------------


@dataclass
class Noted:
    """The state of what reads, and a note of each row."""

    state: Any
    notes: list[Any]


class NotingDelegate(Delegate):
    """Hands every reading to `inner`, and keeps a note of each row beside it."""

    def select(self, state: Noted, rows: Int[Tensor, "R"]) -> Noted:
        """Drop, reorder or fork rows."""
        notes = [state.notes[row] for row in rows.tolist()]
        return Noted(self.inner.select(state.state, rows), notes)

    def join(self, states: Sequence[Noted]) -> Noted:
        """Rows of several states side by side."""
        notes = [note for noted in states for note in noted.notes]
        return Noted(self.inner.join([noted.state for noted in states]), notes)


class RereadingValueGuide(NotingDelegate):
    """Values as VAS' published decoder computes them, to reproduce its tokens.

    That decoder hands the value model the whole prefix on top of a cache that already holds it: a
    candidate v after prefix s is valued in the context s s v, then s s' s' v, and so on, where s'
    is the prefix one token later. The paper's V(s v) is what `ValueGuide` gives; use this one only
    to compare with published numbers. Its cost grows with the square of the length.

    Args:
        guide: the value function.

    >>> import trimtab as tt
    >>> value = tt.TextGuide(lambda prompts, texts: [len(t) for t in texts], tt.TableLM().decode)
    >>> RereadingValueGuide(value).name
    'text (prefix read again)'
    """

    def __init__(self, guide: Guide[Any]) -> None:
        self.guide = guide
        self.name = f"{guide.name} (prefix read again)"
        self.vocab = guide.vocab

    @property
    def inner(self) -> Guide[Any]:
        """The value function."""
        return self.guide

    def prefill(self, prompts: Sequence[Prompt]) -> Noted:
        """Read the prompts once; the doubling begins with the first candidates."""
        return Noted(self.guide.prefill(prompts), [prompt.ids for prompt in prompts])

    def score(self, state: Noted, candidates: Candidates) -> Float[Tensor, "B K"]:
        """Value of each candidate after the prefix has been read once more."""
        b, k, length = candidates.shape
        again, lengths = pad_ids(state.notes, device=candidates.tokens.device)
        tokens = torch.cat(
            [again[:, None].expand(b, k, -1), candidates.tokens.new_zeros(b, k, length)], dim=-1
        )
        at = lengths[:, None, None] + torch.arange(length, device=tokens.device)
        tokens = tokens.scatter(2, at.expand(b, k, length), candidates.tokens)
        longer = replace(
            candidates, tokens=tokens, lengths=candidates.lengths + lengths[:, None], tail=None
        )
        return self.guide.score(state.state, longer)

    def extend(self, state: Noted, tokens: Int[Tensor, "B L"], lengths: Int[Tensor, "B"]) -> Noted:
        """Append the whole prefix again, the new tokens at its end."""
        ids = appended_ids(state.notes, tokens, lengths)
        again = pad_ids(ids, device=tokens.device)
        return Noted(self.guide.extend(state.state, *again), ids)
