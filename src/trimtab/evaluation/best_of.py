"""How far from the base? KL and perplexity from the ledger; best-of-n from the base's own samples.

pi_ref is the base as it was asked to decode: with `base_temperature` or `base_top_p`, the law that
these leave, and KL and perplexity are against that law.

Given m > n samples of the base per prompt, best-of-n needs no decoding: every subset of n is a
best-of-n experiment, and the average over all subsets has a closed form.

Legend: M samples of one prompt, T distinct rewards.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from trimtab.errors import UsageError
from trimtab.evaluation.statistics import (
    Estimate,
    Scores,
    Values,
    estimate,
    finite,
    levels,
    ratio,
)
from trimtab.types import Completion

# --- from the ledger -----------------------------------------------------------------------------


@dataclass(frozen=True)
class KL:
    """KL(pi || pi_ref) in nats, with standard errors clustered by prompt."""

    sequence: Estimate  # per response
    token: Estimate  # sum of KL over sum of tokens


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


# --- best-of-n: its reward -----------------------------------------------------------------------


def best_of_n_weights(rewards: Values, n: int) -> Float[np.ndarray, "M"]:
    """The chance of each of m samples to be the best of n drawn from them without replacement.

        w_(i) = C(i - 1, n - 1) / C(m, n)   for the i-th smallest reward

    Samples of equal reward (but for rounding, see `statistics.levels`) share their chances, as a
    fair tie break would. sum_i w_i f(y_i) is
    then the unbiased estimate of E f under best-of-n with the least variance (a U-statistic; Chen
    et al. 2021 use the same for pass@k).
    """
    x = levels(finite(rewards, "rewards"))
    m = len(x)
    if not 1 <= n <= m:
        raise UsageError(
            "n must be from 1 to the number of samples of each prompt",
            got=f"n = {n} with {m} samples",
            do="draw more samples or ask for a smaller n",
        )
    rank = np.arange(m, 1, -1)  # w_(i-1) = w_(i) (i - n) / (i - 1), downwards from w_(m) = n / m
    falling = np.cumprod(np.maximum(rank - n, 0) / (rank - 1))
    weights = n / m * np.concatenate([[1.0], falling])[::-1]
    _, group, size = np.unique(x, return_inverse=True, return_counts=True)
    shared = np.bincount(np.sort(group), weights) / size
    return np.asarray(shared[group])


def best_of_n_scores(gold: Scores, n: int, judge: Scores | None = None) -> dict[str, list[float]]:
    """Each prompt's expected score under best-of-n by `gold`, ready to be compared or averaged.

    Args:
        gold: rewards of each prompt's samples; the best is chosen by these.
        n: samples that best-of-n draws.
        judge: another score of the same samples (a held-out reward, a length) whose expectation
            at the chosen sample is wanted; None for the gold reward itself.
    """
    of = gold if judge is None else judge
    return {p: [math.fsum(best_of_n_weights(gold[p], n) * finite(of[p], p))] for p in gold}


def best_of_n_reward(gold: Scores, n: int, judge: Scores | None = None) -> Estimate:
    """Mean score under best-of-n with its standard error over prompts; see `best_of_n_scores`."""
    scores = best_of_n_scores(gold, n, judge)
    return estimate([score for (score,) in scores.values()], list(scores))


def best_of_curve(
    gold: Scores,
    beside: Mapping[str, Scores],
    log_ratios: Scores | None = None,
    most: int = 128,
) -> list[dict[str, Estimate | float | None]]:
    """Best-of-n by the reward for n = 1, 2, 4, ... from subsets of the samples of each prompt.

    Beside the reward stand other scores at the response that the reward chose. The KL wants more
    than n samples and is good from 4 n; beyond the samples the curve ends. Samples of a steered
    policy bring their `log_ratios`, log pi(y) - log pi_ref(y): see `best_of_steered_kl`.
    """
    samples = min((len(rewards) for rewards in gold.values()), default=0)
    paired = {
        name: all(len(scores.get(i, ())) == len(gold[i]) for i in gold)
        for name, scores in beside.items()
    }
    curve: list[dict[str, Estimate | float | None]] = []
    n = 1
    while n <= min(samples, most) and samples > 1:
        curve.append(
            {
                "n": n,
                "reward": best_of_n_reward(gold, n),
                **{
                    k: best_of_n_reward(gold, n, s) if paired[k] else None
                    for k, s in beside.items()
                },
                "kl": _kl_of_curve(gold, n, samples, log_ratios),
                "base_tokens": float(n),
                "samples": samples,
            }
        )
        n *= 2
    return curve


def _kl_of_curve(gold: Scores, n: int, samples: int, log_ratios: Scores | None) -> Estimate | None:
    if log_ratios is not None:
        return best_of_steered_kl(gold, log_ratios, n)
    return best_of_n_kl(gold, n) if n < samples else None


# --- best-of-n: its KL ---------------------------------------------------------------------------


def best_of_n_kl_bound(n: int) -> float:
    """log n - (n - 1) / n: the KL of best-of-n if no two responses share a reward (nats).

    Beirami et al. 2024 show that it is an upper bound, and loose where few responses are likely.
    """
    return math.log(n) - (n - 1) / n


def kl_of_best(law: Float[np.ndarray, "T"], n: int) -> float:
    """KL(best-of-n || base) from the law of the base's reward, levels in ascending order (nats).

    With p_t the chance of reward t and F its distribution function, the best of n has reward t
    with chance q_t, and given that, each response as likely as under the base. So

        q_t = F(t)^n - F(t-)^n,   pi_bon(y) = pi_ref(y) q_t / p_t,   KL = sum_t q_t log(q_t / p_t)

    and the divergence of the texts is that of their rewards.
    """
    up_to = np.cumsum(law)
    return float(_terms(up_to - law, up_to, n).sum())


def _terms(
    below: Float[np.ndarray, "T"], up_to: Float[np.ndarray, "T"], n: int
) -> Float[np.ndarray, "T"]:
    """q_t log(q_t / p_t) of each level from F(t-) and F(t)."""
    p, q = up_to - below, up_to**n - np.maximum(below, 0.0) ** n
    held = (q > 0) & (p > 0)
    return np.where(held, q * np.log(np.where(held, q, 1.0) / np.where(held, p, 1.0)), 0.0)


def _kl_of_samples(rewards: Values, n: int) -> float:
    """`kl_of_best` of the sampled law, its bias of order 1/m removed by the jackknife.

    Without one sample of level g, levels under g keep their counts and those above have one less
    below them: three rows of terms give all leave-one-out values.
    """
    _, counts = np.unique(levels(finite(rewards, "rewards")), return_counts=True)
    m, up_to = int(counts.sum()), np.cumsum(counts)
    below = up_to - counts
    whole = _terms(below / m, up_to / m, n).sum()
    under = _terms(below / (m - 1), up_to / (m - 1), n)
    at = _terms(below / (m - 1), (up_to - 1) / (m - 1), n)
    over = _terms((below - 1) / (m - 1), (up_to - 1) / (m - 1), n)
    without = np.cumsum(under) - under + at + np.cumsum(over[::-1])[::-1] - over
    corrected = m * whole - (m - 1) * (without @ counts) / m
    return float(np.clip(corrected, 0.0, best_of_n_kl_bound(n)))


def best_of_n_kl(rewards: Scores, n: int) -> Estimate:
    """KL of best-of-n from the rewards of m > n independent base samples per prompt.

    `kl_of_best` at the sampled law of rewards. Rewards that are equal but for rounding are one
    level, so a response drawn twice counts as the atom that it is. The plug-in's bias of order 1/m
    is removed by the jackknife, and what no KL of best-of-n can be (below 0, above the bound) is
    clipped. What remains is of order (n / m)^2: take m >= 4 n.

    Raises:
        UsageError: a prompt has n or fewer samples.
    """
    least = min((len(r) for r in rewards.values()), default=0)
    if not 1 <= n < least:
        raise UsageError(
            "a best-of-n KL needs more than n samples of each prompt (better 4 n)",
            got=f"n = {n} with {least} samples",
            do="draw more samples or ask for a smaller n",
        )
    return estimate([_kl_of_samples(r, n) for r in rewards.values()], list(rewards))


def best_of_steered_kl(gold: Scores, log_ratios: Scores, n: int) -> Estimate:
    """KL to pi_ref of the best of n responses that a steered policy pi drew (nats).

        KL(bon || pi_ref) = KL(bon || pi) + E_{y ~ bon}[log pi(y) - log pi_ref(y)]

    bon is the best of n by the reward: the responses that it keeps are further from pi_ref than
    pi's usual ones. The first term is `best_of_n_kl`'s where there are more than n samples, else
    its bound log n - (n - 1) / n: the sum is then an upper bound.

    Args:
        gold: rewards of each prompt's samples from pi.
        log_ratios: log pi(y) - log pi_ref(y) of the same samples, from their ledgers.
        n: samples that best-of-n draws.
    """
    kept = best_of_n_scores(gold, n, log_ratios)
    nats = [
        kept[p][0] + (_kl_of_samples(r, n) if n < len(r) else best_of_n_kl_bound(n))
        for p, r in gold.items()
    ]
    return estimate(nats, list(gold))
