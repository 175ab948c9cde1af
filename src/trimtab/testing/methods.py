"""The laws of methods: of their sampler, and of the steps that they make of a base and a guide.

Legend: B rows, N outcomes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trimtab.decoding.loop import decode
from trimtab.decoding.methods import Method
from trimtab.models.proposals import TableLM
from trimtab.rng import Rng
from trimtab.testing.fixture import hold, same
from trimtab.testing.rules import BOUND, DRAWS, Outcomes
from trimtab.types import Candidates, Cost, Prompt, Samples, Step, TopK

MethodLaw: TypeAlias = Callable[[Method, Outcomes], None]


def _logits(given: Outcomes) -> Tensor:
    """Logits that are no law yet: shifted by row."""
    return given.logprobs + torch.arange(given.rows)[:, None]


def _rng(rows: int, seed: int = 0) -> Rng:
    keys = torch.arange(rows) * 7919 + 13
    return Rng(seed, keys, torch.zeros_like(keys))


# --- its sampler ---------------------------------------------------------------------------------


def laws_are_normalised(method: Method, given: Outcomes) -> None:
    """log pi has the logits' shape, is at most 0 and sums to 1; -inf stays -inf."""
    logits = _logits(given)
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
    law = method.sampler.logprobs(_logits(given))
    for seed in range(16):
        index = method.sampler.choose(law, _rng(given.rows, seed))
        must = "choose must return one index per row, int64"
        hold(index.shape == (given.rows,) and index.dtype == torch.int64, must, f"{index.dtype} "
             f"of shape {list(index.shape)}")  # fmt: skip
        hold(bool(((index >= 0) & (index < given.size)).all()), "an index must be of an outcome",
             index.tolist())  # fmt: skip
        chosen = law.gather(1, index[:, None])
        hold(bool((chosen > -torch.inf).all()), "a choice must have a chance", "one of none")


def choices_follow_the_law(method: Method, given: Outcomes) -> None:
    """Many rows of one law choose each outcome about as often as it is likely."""
    law = method.sampler.logprobs(_logits(given))
    for row in law[: 2 if given.rows > 1 else 1]:
        index = method.sampler.choose(row.expand(DRAWS, -1), _rng(DRAWS))
        often = torch.bincount(index, minlength=given.size).double() / DRAWS
        away = float((often - row.double().exp()).abs().sum()) / 2
        must = f"{DRAWS} choices must be within {BOUND:.2f} of their law (total variation)"
        hold(away <= BOUND, must, f"{away:.2f}")


def greedy_says_what_it_does(method: Method, given: Outcomes) -> None:
    """`greedy` is true of samplers that take the best outcome, and of no others."""
    logits = _logits(given)
    best, law = logits.argmax(dim=-1), method.sampler.logprobs(logits)
    if method.sampler.greedy:
        index = method.sampler.choose(law, _rng(given.rows))
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
        law, want = method.sampler.logprobs(_logits(given)), _logits(given).log_softmax(dim=-1)
        same("a plain law must be softmax(logits)", law, want, given.tolerance)


def laws_move_with_their_outcomes(method: Method, given: Outcomes) -> None:
    """The order of outcomes decides nothing (of equals, the first may)."""
    logits = _logits(given)
    law = method.sampler.logprobs(logits)
    moved = method.sampler.logprobs(logits[:, given.order])
    same("a law must move with its outcomes", moved, law[:, given.order], given.tolerance)


def rows_decide_for_themselves(method: Method, given: Outcomes) -> None:
    """A row's law and choice are those that it has alone; its choice is of its own address."""
    logits, rng, sampler = _logits(given), _rng(given.rows), method.sampler
    law = sampler.logprobs(logits)
    index = sampler.choose(law, rng)
    for i in range(given.rows):
        alone = sampler.logprobs(logits[i : i + 1])
        same("a row's law must be as alone", law[i : i + 1], alone, given.tolerance)
        one = sampler.choose(law[i : i + 1], rng.select(torch.tensor([i])))
        hold(int(one) == int(index[i]), "a row's choice must be as alone", "another")


def a_sampler_changes_nothing_in_place(method: Method, given: Outcomes) -> None:
    """`logprobs` leaves the logits, and `choose` the log-probabilities as they were."""
    logits, sampler = _logits(given), method.sampler
    kept = logits.clone()
    law = sampler.logprobs(logits)
    hold(
        torch.equal(logits, kept), "logprobs must leave the logits as they were", "changed numbers"
    )
    kept = law.clone()
    sampler.choose(law, _rng(given.rows))
    hold(torch.equal(law, kept), "choose must leave the law as it was", "changed numbers")


# --- its steps -----------------------------------------------------------------------------------


class _Looked:
    """Scores of single tokens after the last one, drawn once."""

    name, vocab = "looked up", None

    def __init__(self, size: int) -> None:
        self.cost = Cost()
        self.values = torch.randn(size, size, generator=torch.Generator().manual_seed(4))

    def prefill(self, prompts: Sequence[Prompt]) -> list[int]:
        return [prompt.ids[-1] for prompt in prompts]

    def extend(
        self, state: list[int], tokens: Int[Tensor, "B L"], lengths: Int[Tensor, "B"]
    ) -> list[int]:
        return [int(row[n - 1]) for row, n in zip(tokens, lengths, strict=True)]

    def select(self, state: list[int], rows: Int[Tensor, "R"]) -> list[int]:
        return [state[i] for i in rows.tolist()]

    def join(self, states: Sequence[list[int]]) -> list[int]:
        return [row for state in states for row in state]

    def score(self, state: list[int], candidates: Candidates) -> Float[Tensor, "B K"]:
        last = candidates.tokens.gather(2, (candidates.lengths - 1)[..., None])[..., 0]
        return self.values[torch.tensor(state)[:, None], last]


def _steps(method: Method, prompts: Sequence[Prompt], **options: Any) -> list[list[Step]]:
    k = method.proposal.k if isinstance(method.proposal, TopK) else 0
    size = max(12, k + 1)
    guide = _Looked(size) if method.guided else None
    lm = TableLM(size, seed=3)
    done = decode(lm, guide, method, prompts, max_new_tokens=5, **options)
    return [list(completion.steps) for completion in done]


_PROMPTS = (Prompt((1, 2, 3)), Prompt((4,)), Prompt((5, 6)))


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
