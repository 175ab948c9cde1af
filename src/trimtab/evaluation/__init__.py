"""Measuring: how large a gain is and how sure, how far texts are from the base, what they cost.

evaluate(lm, task, methods, "results", n=4).table             one row per method
bootstrap(a, b), wilcoxon(a, b)                               is the gain real?
best_of_n_reward(rewards, n), best_of_n_kl(rewards, n)        best-of-n without decoding again
trimtab.measure("results").to_pandas()                        what any run has written
trimtab.report("results", "report")                           all of it as a page
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trimtab.lazy import door

if TYPE_CHECKING:
    from trimtab.evaluation.best_of import (
        best_of_n_kl,
        best_of_n_kl_bound,
        best_of_n_reward,
        best_of_n_scores,
        best_of_steered_kl,
        ledger_kl,
        monte_carlo_kl,
        perplexity,
    )
    from trimtab.evaluation.cost import Flops, Shape, forward, kaplan, shape_of, spent
    from trimtab.evaluation.experiment import Evaluation, Options, evaluate
    from trimtab.evaluation.metrics import (
        Answers,
        Metric,
        bleu,
        distinct,
        diversity,
        pairwise_rouge_l,
        repetition,
    )
    from trimtab.evaluation.statistics import (
        Estimate,
        bootstrap,
        by_prompt,
        estimate,
        holm,
        paired_differences,
        paired_power,
        ratio,
        sample_size,
        sign_flips,
        wilcoxon,
        win_tie_lose,
    )
    from trimtab.evaluation.sweep import Choice, Sweep
    from trimtab.evaluation.table import Table

__all__ = [
    "Answers",
    "Choice",
    "Estimate",
    "Evaluation",
    "Flops",
    "Metric",
    "Options",
    "Shape",
    "Sweep",
    "Table",
    "best_of_n_kl",
    "best_of_n_kl_bound",
    "best_of_n_reward",
    "best_of_n_scores",
    "best_of_steered_kl",
    "bleu",
    "bootstrap",
    "by_prompt",
    "distinct",
    "diversity",
    "estimate",
    "evaluate",
    "forward",
    "holm",
    "kaplan",
    "ledger_kl",
    "monte_carlo_kl",
    "paired_differences",
    "paired_power",
    "pairwise_rouge_l",
    "perplexity",
    "ratio",
    "repetition",
    "sample_size",
    "shape_of",
    "sign_flips",
    "spent",
    "wilcoxon",
    "win_tie_lose",
]
__getattr__, __dir__ = door(__name__)
