"""The laws of rules, and of methods: their sampler, and the steps they make of a base and a guide.

Legend: B rows, N outcomes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from trimtab.decoding.loop import decode
from trimtab.decoding.methods import Method
from trimtab.guides.text import TextGuide
from trimtab.models.proposals import TableLM
from trimtab.protocols import Rule
from trimtab.rng import Rng
from trimtab.testing.fixture import hold, same
from trimtab.types import Prompt, Samples, Step, TopK

ROWS, SIZE = 4, 7

DRAWS = 4000
"""Rows that a sampler is watched on."""

BOUND = 6 * math.sqrt(1 / DRAWS)
"""Total variation between 4000 draws of seven outcomes and their law: .095. A right sampler stays
below a quarter of it."""


@dataclass(frozen=True)
class Outcomes:
    """Random laws with outcomes that have no chance, and random scores of all; new at each look."""

    tolerance: float = 1e-5  # see `same`

    @property
    def logprobs(self) -> Tensor:
        """log pi_ref [B, N]; of every row but the first, two outcomes are at -inf."""
        logits = 2 * torch.randn(ROWS, SIZE, generator=_generator(0))
        dead = torch.rand(ROWS, SIZE, generator=_generator(1)).argsort(dim=-1) < 2
        dead[0] = False
        return logits.masked_fill(dead, -torch.inf).log_softmax(dim=-1)

    @property
    def logits(self) -> Tensor:
        """Logits [B, N] that are no law yet: shifted by row."""
        return self.logprobs + torch.arange(ROWS)[:, None]

    @property
    def scores(self) -> Tensor:
        """Scores [B, N]."""
        return torch.randn(ROWS, SIZE, generator=_generator(2))

    @property
    def order(self) -> Tensor:
        """Another order of the outcomes [N]."""
        return torch.randperm(SIZE, generator=_generator(3))

    @property
    def strengths(self) -> Tensor:
        """A strength of each row [B, 1], from 0 on."""
        return torch.linspace(0, 3, ROWS)[:, None]


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


RuleLaw: TypeAlias = Callable[[Rule, Outcomes], None]
MethodLaw: TypeAlias = Callable[[Method, Outcomes], None]


# --- rules ---------------------------------------------------------------------------------------


def nothing_is_changed_in_place(rule: Rule, given: Outcomes) -> None:
    """A rule's inputs are the base's and the guide's: it leaves them as they were."""
    for beta in (0.0, 0.7, given.strengths):
        logprobs, scores = given.logprobs, given.scores
        rule(logprobs, scores, beta)
        kept = torch.equal(logprobs, given.logprobs) and torch.equal(scores, given.scores)
        kept = kept and (isinstance(beta, float) or torch.equal(beta, given.strengths))
        hold(kept, "a rule must leave logprobs, scores and beta as they were", "changed numbers")


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
    for i in range(ROWS):
        alone = rule(p[i : i + 1], s[i : i + 1], float(betas[i]))
        must = "a row's logits must be those that it has alone, at its own strength"
        same(must, _normal(together[i : i + 1]), _normal(alone), given.tolerance)


def the_same_numbers_give_the_same_logits(rule: Rule, given: Outcomes) -> None:
    """A rule draws nothing and remembers nothing."""
    p, s = given.logprobs, given.scores
    first = rule(p, s, 0.7).clone()
    rule(s.log_softmax(dim=-1), p.clamp(min=-9), 3.0)
    same("a rule must be a function of its arguments", rule(p, s, 0.7), first, 0.0)


def strength_zero_is_the_base(rule: Rule, given: Outcomes) -> None:
    """beta = 0 gives pi_ref itself."""
    p, s = given.logprobs, given.scores
    for beta in (0.0, torch.zeros(ROWS, 1)):
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


# --- a method's sampler --------------------------------------------------------------------------


def _rng(rows: int, seed: int = 0) -> Rng:
    keys = torch.arange(rows) * 7919 + 13
    return Rng(seed, keys, torch.zeros_like(keys))


def laws_are_normalised(method: Method, given: Outcomes) -> None:
    """log pi has the logits' shape, is at most 0 and sums to 1; -inf stays -inf."""
    logits = given.logits
    law = method.sampler.logprobs(logits)
    hold(law.shape == logits.shape, "a law must have its logits' shape", list(law.shape))
    hold(not bool(torch.isnan(law).any()), "a law must be of numbers", "NaN")
    hold(bool((law <= given.tolerance).all()), "log pi must not be above 0", float(law.max()))
    total = law.double().logsumexp(dim=-1)
    same("pi must sum to 1", total, torch.zeros_like(total), given.tolerance)
    dead = torch.isneginf(law)[torch.isneginf(logits)]
    hold(bool(dead.all()), "what has no chance must keep none", "a chance")


def choices_have_a_chance(method: Method, given: Outcomes) -> None:
    """`choose` gives one index per row, of an outcome that has mass under the law."""
    law = method.sampler.logprobs(given.logits)
    for seed in range(16):
        index = method.sampler.choose(law, _rng(ROWS, seed))
        right = index.shape == (ROWS,) and index.dtype == torch.int64
        got = f"{index.dtype} of shape {list(index.shape)}"
        hold(right, "choose must return one index per row, int64", got)
        inside = bool(((index >= 0) & (index < SIZE)).all())
        hold(inside, "an index must be of an outcome", index.tolist())
        chosen = law.gather(1, index[:, None])
        hold(bool((chosen > -torch.inf).all()), "a choice must have a chance", "one of none")


def choices_follow_the_law(method: Method, given: Outcomes) -> None:
    """Many rows of one law choose each outcome about as often as it is likely."""
    for row in method.sampler.logprobs(given.logits)[:2]:
        index = method.sampler.choose(row.expand(DRAWS, -1), _rng(DRAWS))
        often = torch.bincount(index, minlength=SIZE).double() / DRAWS
        away = float((often - row.double().exp()).abs().sum()) / 2
        must = f"{DRAWS} choices must be within {BOUND:.2f} of their law (total variation)"
        hold(away <= BOUND, must, f"{away:.2f}")


def greedy_says_what_it_does(method: Method, given: Outcomes) -> None:
    """`greedy` is true of samplers that take the best outcome, and of no others."""
    logits = given.logits
    best, law = logits.argmax(dim=-1), method.sampler.logprobs(logits)
    if method.sampler.greedy:
        index = method.sampler.choose(law, _rng(ROWS))
        hold(torch.equal(index, best), "a greedy sampler must choose the best outcome", "another")
        point = law.gather(1, best[:, None])
        same("a greedy law must be a point mass", point, torch.zeros_like(point), given.tolerance)
        return
    flat = method.sampler.logprobs(torch.zeros_like(logits))
    spread = bool((flat.max(dim=-1).values < -given.tolerance).any())
    hold(spread, "a sampler that says it is not greedy must spread its law", "a point mass")


def plain_says_what_it_does(method: Method, given: Outcomes) -> None:
    """`plain` is true only of samplers whose law is softmax(logits) as it is."""
    if method.sampler.plain:
        law, want = method.sampler.logprobs(given.logits), given.logits.log_softmax(dim=-1)
        same("a plain law must be softmax(logits)", law, want, given.tolerance)


def laws_move_with_their_outcomes(method: Method, given: Outcomes) -> None:
    """The order of outcomes decides nothing (of equals, the first may)."""
    law = method.sampler.logprobs(given.logits)
    moved = method.sampler.logprobs(given.logits[:, given.order])
    same("a law must move with its outcomes", moved, law[:, given.order], given.tolerance)


def rows_decide_for_themselves(method: Method, given: Outcomes) -> None:
    """A row's law and choice are those that it has alone; its choice is of its own address."""
    logits, rng, sampler = given.logits, _rng(ROWS), method.sampler
    law = sampler.logprobs(logits)
    index = sampler.choose(law, rng)
    for i in range(ROWS):
        alone = sampler.logprobs(logits[i : i + 1])
        same("a row's law must be as alone", law[i : i + 1], alone, given.tolerance)
        one = sampler.choose(law[i : i + 1], rng.select(torch.tensor([i])))
        hold(int(one) == int(index[i]), "a row's choice must be as alone", "another")


def a_sampler_changes_nothing_in_place(method: Method, given: Outcomes) -> None:
    """`logprobs` leaves the logits, and `choose` the log-probabilities as they were."""
    logits = given.logits
    law = method.sampler.logprobs(logits)
    must = "logprobs must leave the logits as they were"
    hold(torch.equal(logits, given.logits), must, "changed numbers")
    kept = law.clone()
    method.sampler.choose(law, _rng(ROWS))
    hold(torch.equal(law, kept), "choose must leave the law as it was", "changed numbers")


# --- a method's steps ----------------------------------------------------------------------------

_PROMPTS = (Prompt((1, 2, 3)), Prompt((4,)), Prompt((5, 6)))


def _waves(prompts: list[str], texts: list[str]) -> list[float]:
    """Some score of a text, the last letter of which matters most."""
    return [math.sin(7 * sum(map(ord, text))) for text in texts]


def _steps(method: Method, prompts: Sequence[Prompt], **options: Any) -> list[list[Step]]:
    k = method.proposal.k if isinstance(method.proposal, TopK) else 0
    lm = TableLM(max(12, k + 1), seed=3)
    guide = TextGuide(_waves, lm.decode) if method.guided else None
    done = decode(lm, guide, method, prompts, max_new_tokens=5, **options)
    return [list(completion.steps) for completion in done]


def steps_are_those_of_a_law(method: Method, given: Outcomes) -> None:
    """log pi and log pi_ref of every choice are at most 0, and no divergence is negative."""
    for beta in (0.0, 0.5, method.beta):
        for step in (step for row in _steps(method, _PROMPTS, n=3, beta=beta) for step in row):
            for name in ("logprob", "ref_logprob"):
                number = getattr(step, name)
                hold(number <= given.tolerance, f"{name} must not be above 0", number)
            if step.kl is not None:
                hold(step.kl >= 0, "KL(pi || pi_ref) must not be negative", step.kl)


def batch_mates_decide_nothing(method: Method, given: Outcomes) -> None:
    """A prompt gets the same tokens alone and among others."""
    together = _steps(method, _PROMPTS)
    for prompt, row in zip(_PROMPTS, together, strict=True):
        (alone,) = _steps(method, [prompt])
        got, want = ([token for step in steps for token in step.tokens] for steps in (row, alone))
        hold(got == want, "a row's tokens must be those that it gets alone", f"{got} and {want}")


def a_seed_says_the_same_again(method: Method, given: Outcomes) -> None:
    """The same seed, the same steps."""
    first, again = (_steps(method, _PROMPTS, seed=5, n=2) for _ in range(2))
    hold(first == again, "a seed must say the same again", "other steps")


def strength_zero_is_the_base_where_nothing_is_lost(method: Method, given: Outcomes) -> None:
    """At beta = 0 a method that drops and reshapes nothing is pi_ref, at no distance from it."""
    if not method.lossless or isinstance(method.proposal, Samples):
        return
    for step in (step for row in _steps(method, _PROMPTS, beta=0.0) for step in row):
        away = abs(step.logprob - step.ref_logprob)
        hold(away <= given.tolerance, "beta = 0 must be the base", f"{away:.2g} nats away")
        hold((step.kl or 0) <= given.tolerance, "beta = 0 must be at no distance", step.kl)


LAWS_OF_METHODS: tuple[MethodLaw, ...] = (
    laws_are_normalised,
    choices_have_a_chance,
    choices_follow_the_law,
    greedy_says_what_it_does,
    plain_says_what_it_does,
    laws_move_with_their_outcomes,
    rows_decide_for_themselves,
    a_sampler_changes_nothing_in_place,
    steps_are_those_of_a_law,
    batch_mates_decide_nothing,
    a_seed_says_the_same_again,
)
"""What the decode loop and its users rely on."""

LAWS_OF_TILTING_METHODS: tuple[MethodLaw, ...] = (strength_zero_is_the_base_where_nothing_is_lost,)
"""Where the method's rule tilts pi_ref."""
