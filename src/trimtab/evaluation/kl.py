"""How far from the base? What the completions' ledger says: KL and perplexity, in nats.

pi_ref is the base as it was asked to decode: with `base_temperature` or `base_top_p`, the law that
these leave, and KL and perplexity are against that law.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from trimtab.errors import UsageError
from trimtab.evaluation.statistics import Estimate, estimate, ratio
from trimtab.types import Completion


@dataclass(frozen=True)
class KL:
    """KL(pi || pi_ref), with standard errors clustered by prompt.

    Attributes:
        sequence: nats per response.
        token: nats per token, sum of KL over sum of tokens.
    """

    sequence: Estimate
    token: Estimate


def kl_of(nats: Sequence[float], completions: Sequence[Completion]) -> KL:
    """Per response and per token, from what each response adds."""
    prompts = [c.prompt.ids for c in completions]
    tokens = [len(c.tokens) for c in completions]
    return KL(estimate(nats, prompts), ratio(nats, tokens, prompts))


def ledger_kl(completions: Sequence[Completion]) -> KL:
    """KL(pi || pi_ref) from the exact divergence of every step, averaged over responses.

        KL = E_{y ~ pi} sum_t KL(pi(. | y_<t) || pi_ref(. | y_<t))

    (the chain rule). Each step's term is exact and only the prefixes are sampled, so this is
    unbiased and has less variance than `monte_carlo_kl`, which it otherwise equals on average.

    Raises:
        UsageError: a response was chosen among sampled blocks, whose steps have no closed form.
    """
    nats = [c.kl for c in completions if c.kl is not None]
    if len(nats) < len(completions):
        raise UsageError(
            "an exact KL needs methods that weigh single tokens",
            got=f"{len(completions) - len(nats)} of {len(completions)} responses from samples",
            do="use best_of_n_kl on the samples' rewards",
        )
    return kl_of(nats, completions)


def monte_carlo_kl(completions: Sequence[Completion]) -> KL:
    """KL(pi || pi_ref) as the mean of log pi(y) - log pi_ref(y) over responses y from pi.

    The usual estimator, as a check on `ledger_kl`. Only for methods that draw from pi: under
    sampled blocks `logprob` is the law of the choice and not that of the text.
    """
    return kl_of([c.logprob - c.ref_logprob for c in completions], completions)


def perplexity(completions: Sequence[Completion]) -> Estimate:
    """exp(- sum log pi_ref / sum tokens): how surprising the base finds the responses.

    Over all tokens together, EOS included; the SE is that of the mean surprise times the
    perplexity (delta method), clustered by prompt.
    """
    surprise = ratio(
        [-c.ref_logprob for c in completions],
        [len(c.tokens) for c in completions],
        [c.prompt.ids for c in completions],
    )
    value = math.exp(surprise.mean)
    return Estimate(value, value * surprise.se, surprise.n, surprise.rows, surprise.test)
