"""The ledger's KL: by hand, against Monte Carlo on a tiny transformer, and per token."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest

import trimtab as tt
from tests import toys
from trimtab.errors import UsageError
from trimtab.evaluation.best_of import ledger_kl, monte_carlo_kl, perplexity
from trimtab.types import Completion, Prompt, Step

PROMPTS = toys.prompts(4, 6, 7, 9, 5)


def completion(prompt: int, kls: list[float | None], gain: float = 0.5) -> Completion:
    """A response with given ledger; each step has log pi_ref -2 and log pi -2 + gain."""
    steps = tuple(Step(0, (1,), "", gain - 2.0, -2.0, 0.0, kl, (), 1.0, 1.0) for kl in kls)
    return Completion(Prompt((prompt,)), 0, "", (1,) * len(kls), "length", steps)


BY_HAND = [completion(1, [0.1, 0.3]), completion(1, [0.2]), completion(2, [0.5, 0.4, 0.3])]


def test_the_ledger_by_hand() -> None:
    got = ledger_kl(BY_HAND)
    assert got.sequence.mean == pytest.approx((0.4 + 0.2 + 1.2) / 3)
    assert got.token.mean == pytest.approx(1.8 / 6)
    assert (got.sequence.n, got.sequence.rows) == (2, 3)
    residuals = [0.4 + 0.2 - 2 * 0.6, 1.2 - 0.6]  # of the two prompts, around the mean 0.6
    assert got.sequence.se == pytest.approx(math.sqrt(2 * sum(r**2 for r in residuals)) / 3)


def test_monte_carlo_and_perplexity_by_hand() -> None:
    got = monte_carlo_kl(BY_HAND)
    assert got.sequence.mean == pytest.approx(0.5 * 6 / 3)
    assert got.token.mean == pytest.approx(0.5)
    assert perplexity(BY_HAND).mean == pytest.approx(math.exp(2.0))
    assert perplexity(BY_HAND).se == pytest.approx(0.0)


def test_blocks_have_no_exact_kl() -> None:
    with pytest.raises(UsageError, match=r"1 of 4 responses.*best_of_n_kl"):
        ledger_kl([*BY_HAND, completion(3, [None])])


@cache
def drawn() -> list[Completion]:
    """10,000 responses of a guided tiny transformer, with a tail, so that all terms play."""
    return tt.decode(
        toys.language_model(),
        toys.value_guide(),
        tt.vas(beta=3.0, k=4),
        PROMPTS,
        n=2000,
        max_new_tokens=4,
        seed=11,
    )


@pytest.mark.slow
def test_the_ledger_equals_ten_thousand_draws() -> None:
    assert len(drawn()) == 10_000
    exact, drawn_kl = ledger_kl(drawn()), monte_carlo_kl(drawn())
    assert exact.sequence.mean > 0.2, "a guide that steers"
    # On the same responses the two differ by martingale increments, whose mean is zero.
    apart = np.array([c.logprob - c.ref_logprob - (c.kl or 0.0) for c in drawn()])
    assert abs(apart.mean()) < 3 * apart.std() / 100
    assert exact.sequence.mean == pytest.approx(apart.mean() * -1 + drawn_kl.sequence.mean)


@pytest.mark.slow
def test_few_ledgers_know_what_many_draws_know() -> None:
    few = tt.decode(
        toys.language_model(),
        toys.value_guide(),
        tt.vas(beta=3.0, k=4),
        PROMPTS,
        n=40,
        max_new_tokens=4,
        seed=12,
    )
    nats = np.array([c.logprob - c.ref_logprob for c in drawn()])
    ledger = np.array([c.kl for c in few])
    assert ledger.std() < nats.std() / 2, "exact steps have less variance than draws"
    # Prompts are fixed here, so responses are independent and the SE is over rows.
    se = math.hypot(nats.std() / 100, ledger.std() / math.sqrt(200))
    assert abs(nats.mean() - ledger.mean()) < 3 * se


def test_unguided_is_no_distance() -> None:
    done = tt.decode(toys.language_model(), None, tt.sampling(), PROMPTS, n=4, max_new_tokens=5)
    assert ledger_kl(done).sequence.mean == pytest.approx(0.0, abs=1e-5)
    assert perplexity(done).mean > 1.0
