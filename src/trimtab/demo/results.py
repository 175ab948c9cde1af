"""From runs to numbers with standard errors. The prompt is the unit: its samples resemble."""

from __future__ import annotations

from dataclasses import dataclass

from trimtab.demo.running import Outcome, Run
from trimtab.evaluation.best_of import best_of_n_kl_bound
from trimtab.evaluation.comparison import paired_differences, sign_flips
from trimtab.evaluation.metrics import diversity
from trimtab.evaluation.statistics import Estimate, by_prompt, estimate, ratio

EXACT = 12
"""Prompts up to which all sign flips are counted (2^12)."""


@dataclass(frozen=True)
class Gain:
    """One arm against the base on the same prompts.

    Attributes:
        difference: mean over prompts of the difference of mean rewards.
        se: its standard error over prompts.
        n: prompts.
        p: two-sided, by flipping the signs of the prompts' differences; None beyond `EXACT`.
    """

    difference: float
    se: float
    n: int
    p: float | None

    @property
    def errors(self) -> float:
        """The difference in standard errors."""
        return self.difference / self.se if self.se else float("inf")


@dataclass(frozen=True)
class Line:
    """A row of the table.

    Attributes:
        name: of the arm.
        rewards: mean reward.
        kl: KL to pi_ref per token, in nats; None where no closed form exists.
        kl_bound: the most it can be, where only that is known.
        diversity: mean over responses.
        length: mean tokens of a response.
        guide: texts that the guide read per emitted token.
        time: seconds per emitted token over the base's at the same number of requests.
        gain: against the base; None for the base itself.
    """

    name: str
    rewards: Estimate
    kl: Estimate | None
    kl_bound: float | None
    diversity: Estimate
    length: float
    guide: float
    time: float
    gain: Gain | None


def lines(outcome: Outcome) -> list[Line]:
    """The table's rows, in the order of the arms."""
    base, *others = outcome.arms
    return [_line(base, None, outcome), *(_line(run, base, outcome) for run in others)]


def _line(run: Run, base: Run | None, outcome: Outcome) -> Line:
    prompts, per = run.prompts, run.tokens / len(run.completions)
    return Line(
        name=run.arm.name,
        rewards=estimate(run.rewards, prompts),
        kl=kl_per_token(run),
        kl_bound=None if run.arm.draws == 1 else best_of_n_kl_bound(run.arm.draws) / per,
        diversity=estimate([diversity(c.text) for c in run.completions], prompts),
        length=per,
        guide=sum(c.guide_tokens for c in run.completions) / run.tokens,
        time=run.seconds / run.tokens / outcome.clocks[run.arm.n],
        gain=None if base is None else gain(run, base),
    )


def kl_per_token(run: Run) -> Estimate | None:
    """Exact KL(pi || pi_ref) over all tokens; None for methods whose steps have none."""
    kls = kl_per_response(run)
    if kls is None:
        return None
    return ratio(kls, [len(c.tokens) for c in run.completions], run.prompts)


def kl_per_response(run: Run) -> list[float] | None:
    """Sum of each response's exact KLs, in nats; rounding may leave a hair below zero."""
    kls = [c.kl for c in run.completions]
    return None if None in kls else [max(0.0, kl) for kl in kls if kl is not None]


def gain(run: Run, base: Run) -> Gain:
    """How much more reward than the base, paired by prompt."""
    differences = paired_differences(
        by_prompt(run.prompts, run.rewards), by_prompt(base.prompts, base.rewards)
    )
    mean = estimate(differences)
    p = sign_flips(list(differences)) if mean.n <= EXACT else None
    return Gain(mean.mean, mean.se, mean.n, p)
