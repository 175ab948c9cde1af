"""The laws of rules, one small function each, and the numbers that rules and samplers are tried on.

Legend: B rows, N outcomes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from trimtab.protocols import Rule
from trimtab.testing.fixture import hold, same


@dataclass(frozen=True)
class Outcomes:
    """Random laws with outcomes that have no chance, and random scores of all.

    Attributes:
        rows: how many laws.
        size: outcomes of each.
        tolerance: see `same`.
    """

    rows: int = 4
    size: int = 7
    tolerance: float = 1e-5

    @property
    def logprobs(self) -> Tensor:
        """log pi_ref [B, N]; of every row but the first, two outcomes are at -inf."""
        logits = 2 * torch.randn(self.rows, self.size, generator=self._generator(0))
        dead = torch.rand(self.rows, self.size, generator=self._generator(1)).argsort(dim=-1) < 2
        dead[0] = False
        return logits.masked_fill(dead, -torch.inf).log_softmax(dim=-1)

    @property
    def scores(self) -> Tensor:
        """Scores [B, N]."""
        return torch.randn(self.rows, self.size, generator=self._generator(2))

    @property
    def order(self) -> Tensor:
        """Another order of the outcomes [N]."""
        return torch.randperm(self.size, generator=self._generator(3))

    @property
    def strengths(self) -> Tensor:
        """A strength of each row [B, 1], from 0 on."""
        return torch.linspace(0, 3, self.rows)[:, None]

    @staticmethod
    def _generator(seed: int) -> torch.Generator:
        return torch.Generator().manual_seed(seed)


RuleLaw: TypeAlias = Callable[[Rule, Outcomes], None]


def _unchanged(call: Callable[..., Any], must: str, *given: Any) -> Any:
    """What a call returns; its tensors must be as they were."""
    before = [x.clone() if isinstance(x, Tensor) else x for x in given]
    result = call(*given)
    for now, then in zip(given, before, strict=True):
        if isinstance(then, Tensor):
            hold(torch.equal(now, then), must, "changed numbers")
    return result


def logits_are_numbers_of_the_outcomes_shape(rule: Rule, given: Outcomes) -> None:
    """[B, N] for a strength as a float and as a column; no NaN, no +inf, a chance for something."""
    p, s = given.logprobs, given.scores
    for beta in (0.0, 0.7, 3.0, given.strengths):
        must = "logits must be a tensor of shape [B, N], also for one beta per row, [B, 1]"
        logits: object = rule(p, s, beta)
        hold(isinstance(logits, Tensor), must, type(logits).__name__)
        assert isinstance(logits, Tensor)
        hold(logits.shape == p.shape, must, f"{list(logits.shape)} for {list(p.shape)}")
        hold(logits.is_floating_point(), "logits must be floating-point numbers", logits.dtype)
        odd = torch.isnan(logits) | torch.isposinf(logits)
        hold(not bool(odd.any()), "logits must be finite, or -inf", "NaN or +inf")
        alive = bool((logits > -torch.inf).any(dim=-1).all())
        hold(alive, "some outcome of each row must keep a chance", "a row of -inf")


def what_the_base_excludes_stays_excluded(rule: Rule, given: Outcomes) -> None:
    """-inf stays -inf: neither score nor strength brings it back."""
    p = given.logprobs
    for beta in (0.0, 3.0, given.strengths):
        logits = rule(p, 50 * given.scores, beta)
        dead = torch.isneginf(logits)[torch.isneginf(p)]
        hold(bool(dead.all()), "what has no chance under pi_ref must keep none", "a finite logit")


def the_order_of_outcomes_decides_nothing(rule: Rule, given: Outcomes) -> None:
    """Outcomes in another order have the same logits, in that order."""
    p, s, order = given.logprobs, given.scores, given.order
    for beta in (0.7, given.strengths):
        moved = rule(p[:, order], s[:, order], beta)
        must = "logits must move with their outcomes"
        same(must, _normal(moved), _normal(rule(p, s, beta)[:, order]), given.tolerance)


def a_row_decides_for_itself(rule: Rule, given: Outcomes) -> None:
    """No row's logits depend on others, and a column of strengths is each of them alone."""
    p, s, betas = given.logprobs, given.scores, given.strengths
    together = rule(p, s, betas)
    for i in range(given.rows):
        alone = rule(p[i : i + 1], s[i : i + 1], float(betas[i]))
        must = "a row's logits must be those that it has alone, at its own strength"
        same(must, _normal(together[i : i + 1]), _normal(alone), given.tolerance)


def nothing_is_changed_in_place(rule: Rule, given: Outcomes) -> None:
    """A rule's inputs are the base's and the guide's: it leaves them as they were."""
    for beta in (0.0, 0.7, given.strengths):
        must = "a rule must leave logprobs, scores and beta as they were"
        _unchanged(rule, must, given.logprobs, given.scores, beta)


def the_same_numbers_give_the_same_logits(rule: Rule, given: Outcomes) -> None:
    """A rule draws nothing and remembers nothing."""
    p, s = given.logprobs, given.scores
    first = rule(p, s, 0.7).clone()
    rule(s.log_softmax(dim=-1), p.clamp(min=-9), 3.0)
    same("a rule must be a function of its arguments", rule(p, s, 0.7), first, 0.0)


def strength_zero_is_the_base(rule: Rule, given: Outcomes) -> None:
    """beta = 0 gives pi_ref itself."""
    p, s = given.logprobs, given.scores
    for beta in (0.0, torch.zeros(given.rows, 1)):
        same("beta = 0 must be the base", _normal(rule(p, s, beta)), p, given.tolerance)


def a_constant_score_changes_no_law(rule: Rule, given: Outcomes) -> None:
    """Only differences of scores count."""
    p, s = given.logprobs, given.scores
    for beta in (0.7, given.strengths):
        moved = _normal(rule(p, s + 2.5, beta))
        must = "a constant that is added to all scores must change nothing"
        same(must, moved, _normal(rule(p, s, beta)), 10 * given.tolerance)


def a_better_score_is_never_less_likely(rule: Rule, given: Outcomes) -> None:
    """At a strength above 0, raising one outcome's score raises its chance, or leaves it."""
    p, s = given.logprobs, given.scores
    raised = s.clone()
    raised[:, 0] += 1
    before, after = (_normal(rule(p, scores, 0.7))[:, 0] for scores in (s, raised))
    ok = bool((after >= before - given.tolerance).all())
    hold(ok, "a better score must not make an outcome less likely", "less")


def _normal(logits: Tensor) -> Tensor:
    """Logits count up to a constant per row."""
    return logits.double().log_softmax(dim=-1)


LAWS_OF_RULES: tuple[RuleLaw, ...] = (
    nothing_is_changed_in_place,
    logits_are_numbers_of_the_outcomes_shape,
    what_the_base_excludes_stays_excluded,
    the_order_of_outcomes_decides_nothing,
    a_row_decides_for_itself,
    the_same_numbers_give_the_same_logits,
)
"""What the decode loop relies on."""

LAWS_OF_TILTS: tuple[RuleLaw, ...] = (
    strength_zero_is_the_base,
    a_constant_score_changes_no_law,
    a_better_score_is_never_less_likely,
)
"""What users rely on where a rule tilts pi_ref by beta times a score; `score_only` does not."""

DRAWS = 4000
"""Rows that a sampler is watched on."""

BOUND = 6 * math.sqrt(1 / DRAWS)
"""Total variation between 4000 draws of seven outcomes and their law: .095. A right sampler stays
below a quarter of it."""
