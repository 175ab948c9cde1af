"""How often a guide prefers the better of two responses, having read a part of both.

A reward model that is trained on finished responses alone may say anything of prefixes: its loss
pins down r(x, y) and not r(x, y_1 .. y_i) (PARGS, Theorem 1; its own models agreed with people on
50, 43, 50 and 80 % of pairs at 25, 50, 75 and 100 % of the length).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from trimtab.errors import DataError
from trimtab.evaluation.statistics import by_prompt, estimate, holm
from trimtab.inspection.audit import Finding
from trimtab.inspection.fit import Figure
from trimtab.inspection.scores import SHARES, WHOLE, Scoring, prefix_points
from trimtab.plugins import optional
from trimtab.types import Group

ALPHA = 0.05
EARLY = ("25%", "50%")
"""Where a guide that is fit for decoding token by token must beat chance."""

ENOUGH = 6
"""Prompts, of fewer no sign test is below 5 % / 2, as Holm asks of the better of two points."""

TEST = "exact one-sided sign test over prompts"


@dataclass(frozen=True)
class Accuracy:
    """Pairs at one point of responses.

    Attributes:
        where: share of each response that was read.
        n: pairs.
        prompts: of how many prompts.
        accuracy: share of pairs whose better response scores higher, ties half; its standard error
            is clustered by prompt (with one pair per prompt, the binomial one).
        ties: pairs of equal scores.
        p: of "no better than chance", by `TEST`.
    """

    where: str
    n: int
    prompts: int
    accuracy: Figure
    ties: int
    p: float

    def __str__(self) -> str:
        """In words."""
        return f"{self.accuracy.value:.3f} at {self.where} (n {self.n}, p {self.p:.2g})"


def pair_accuracy(pairs: Sequence[Group], scoring: Scoring) -> tuple[Accuracy, ...]:
    """Accuracy at each of `SHARES`; each response is cut at that share of its own length.

    Args:
        pairs: groups of two, the better response first.
        scoring: what scores them.

    Raises:
        DataError: no pair is short enough.
    """
    kept = [
        g
        for g in pairs
        if all(g.prefix + r.tokens and scoring.fits(g, r.tokens) for r in g.responses)
    ]
    if not kept:
        raise DataError(
            f"there must be pairs of at most {scoring.max_length} tokens with their prompt",
            got=f"none of {len(pairs)}",
            do="raise --max-length, or name other pairs",
        )
    rows = [(g.prompt, g.prefix + r.tokens) for g in kept for r in g.responses]
    scores = scoring.scores(rows, [prefix_points(len(tokens))[1:] for _, tokens in rows])
    prompts = [group.prompt.ids for group in kept]
    both = list(zip(scores[0::2], scores[1::2], strict=True))
    return tuple(
        _accuracy(where, [(better[i], worse[i]) for better, worse in both], prompts)
        for i, where in enumerate(SHARES)
    )


def _accuracy(
    where: str, scores: Sequence[tuple[float, float]], prompts: Sequence[Hashable]
) -> Accuracy:
    ahead = [0.5 if better == worse else float(better > worse) for better, worse in scores]
    mean = estimate(ahead, prompts)
    figure = Figure(mean.mean, mean.se if math.isfinite(mean.se) else None)
    return Accuracy(where, len(ahead), mean.n, figure, ahead.count(0.5), sign_test(ahead, prompts))


def sign_test(ahead: Sequence[float], prompts: Sequence[Hashable]) -> float:
    """P of so many prompts, or more, being above one half by chance; those at one half are out.

    The prompt is the unit: pairs of one prompt are not independent. With one pair per prompt this
    is the exact binomial test of the accuracy.
    """
    means = [sum(x) / len(x) for x in by_prompt([str(p) for p in prompts], ahead).values()]
    wins, losses = sum(m > 0.5 for m in means), sum(m < 0.5 for m in means)
    if wins + losses == 0:
        return 1.0
    test = optional("scipy.stats", "eval").binomtest(wins, wins + losses, alternative="greater")
    return float(test.pvalue)


def check_pairs(accuracies: Sequence[Accuracy], name: str) -> Finding:
    """Whether prefixes are told apart as finished responses are.

    A warning where the prompts are too few for the test, and where the accuracy on finished
    responses is above chance and that at a quarter and at a half is not: at neither of the two is p
    below 5 % (`TEST`, Holm over the two).
    """
    at = {accuracy.where: accuracy for accuracy in accuracies}
    whole = at[WHOLE]
    if whole.prompts < ENOUGH:
        return Finding(
            "warning",
            "pairs",
            f"{whole.prompts} prompt{'s' * (whole.prompts > 1)}: too few to say anything; were "
            f"all right, p would still be {2.0**-whole.prompts:.2g} ({TEST}): {whole}",
            f"name pairs of at least {ENOUGH} prompts",
        )
    if whole.p >= ALPHA:
        return Finding(
            "warning",
            "pairs",
            f"not above chance on finished responses: {whole}",
            "name more pairs; else the guide was trained on another reward, template or label",
        )
    shown = ", ".join(str(at[where]) for where in (*EARLY, WHOLE))
    if min(holm({where: at[where].p for where in EARLY}).values()) < ALPHA:
        return Finding("ok", "pairs", f"prefixes are told apart: {shown}")
    return Finding(
        "warning",
        "pairs",
        f"{name} ranks finished responses and is near chance on prefixes: {shown} ({TEST}, Holm "
        f"over {' and '.join(EARLY)}, level {ALPHA:g}). A reward model of finished responses may "
        "score prefixes arbitrarily (PARGS, Theorem 1)",
        "train it on prefixes (`trimtab train partial-bradley-terry`), or use it on finished "
        "responses only (best-of-n)",
    )
