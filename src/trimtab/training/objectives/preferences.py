"""Objectives on pairs: rows 2i and 2i + 1 of a batch are the chosen and the rejected response.

Legend: B responses, P pairs (B / 2), S states of the longest, T its tokens, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trimtab.schema import above
from trimtab.training.examples import (
    Batch,
    KeptCounts,
    Material,
    Outputs,
    SplitGroups,
    next_scores,
    state_values,
    token_scores,
)
from trimtab.training.objectives.base import Head, Loss, Metrics, PairObjective
from trimtab.training.objectives.values import mean_over, within
from trimtab.training.preferences.pairs import prefix_subset


def pairwise(
    margins: Float[Tensor, "*P"], where: Bool[Tensor, "*P"] | None = None
) -> tuple[Loss, Metrics]:
    """-log sigmoid(margin), and how often the chosen one is ahead (a tie counts half)."""
    where = torch.ones_like(margins, dtype=torch.bool) if where is None else where
    ahead = (margins > 0).to(margins) + 0.5 * (margins == 0).to(margins)
    return mean_over(-F.logsigmoid(margins), where), {"accuracy": mean_over(ahead.detach(), where)}


def at_end(scores: Float[Tensor, "B N"], last: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
    """Each row's entry at an index; pooled by place, never by a pad id."""
    return scores.gather(1, last[:, None])[:, 0]


@dataclass(frozen=True)
class BradleyTerry(PairObjective):
    """L = -log sigmoid(r(x, y_w) - r(x, y_l)): the usual reward model, on finished responses.

    ARGS' objective. Nothing ties down what it says of prefixes (PARGS, Theorem 1).
    """

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[Loss, Metrics]:
        """The loss over pairs of finished responses."""
        final = at_end(state_values(outputs), batch.lengths)
        return pairwise(final[0::2] - final[1::2])


@dataclass(frozen=True)
class PartialBradleyTerry(PairObjective):
    """L = mean_i -log sigmoid(r(x, y_w[1:i]) - r(x, y_l[1:i])): PARGS, Eq. 4.

    `batch.prefixes` says which prefixes i of which pair; without it all are taken.

    Attributes:
        padding: what stands for the shorter response beyond its end. "repeat" keeps the score of
            the finished response; "cut" leaves such prefixes out. (The authors' code decodes
            padding to text that is attended to, which tells the model the length.)
        prefixes: how many prefixes are trained on, in multiples of the pairs, or "all".
        prefixes_by_row: draw whole responses' prefixes together, as the authors' code does.
    """

    padding: Literal["repeat", "cut"] = "repeat"
    prefixes: Annotated[float, above(0)] | Literal["all"] = 2.0
    prefixes_by_row: bool = False

    def prepare(self, groups: SplitGroups) -> Material:
        """Pairs with the prefixes that are drawn of them; validation asks all prefixes."""
        material = super().prepare(groups)
        if self.prefixes == "all":
            return material
        lengths = [(len(e.rows[0].tokens), len(e.rows[1].tokens)) for e in material.train]
        drawn = prefix_subset(lengths, self.prefixes, seed=groups.seed, by_row=self.prefixes_by_row)
        pairs = zip(material.train, drawn, strict=True)
        learnt = tuple(replace(pair, prefixes=prefixes) for pair, prefixes in pairs if prefixes)
        *others, of_pairs = material.counts
        undrawn = len(material.train) - len(learnt)
        kept = replace(of_pairs, kept=of_pairs.kept - undrawn)
        kept += KeptCounts("pairs", 0, {"of which no prefix was drawn": undrawn})
        return replace(material, train=learnt, counts=(*others, kept))

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[Loss, Metrics]:
        """The loss over the chosen prefixes of all pairs."""
        values = state_values(outputs)
        size = values.shape[1]
        place = torch.arange(size, device=values.device)
        known = values.gather(1, torch.minimum(place, batch.lengths[:, None]))
        either = torch.maximum if self.padding == "repeat" else torch.minimum
        where = within(either(batch.lengths[0::2], batch.lengths[1::2]) + 1, size)
        where = where & (place > 0)  # no token, no difference
        if batch.prefixes is not None:
            where = where & batch.prefixes[:, :size]
        return pairwise(known[0::2] - known[1::2], where)


@dataclass(frozen=True)
class GenARM(PairObjective):
    """L = -log sigmoid(b (sum_t log p(y_w,t | .) - sum_t log p(y_l,t | .))): GenARM, Eq. 6.

    The guide is a causal LM whose log-probabilities sum to the reward of a response (Xu et al.
    2024). The network says log p.

    Attributes:
        scale: b.
    """

    scale: float = 0.05
    head: ClassVar[Head] = "causal"

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[Loss, Metrics]:
        """The loss over pairs of finished responses."""
        each = token_scores(outputs, batch)
        total = each.masked_fill(~within(batch.lengths, each.shape[1]), 0.0).sum(1)
        return pairwise(self.scale * (total[0::2] - total[1::2]))


@dataclass(frozen=True)
class FaRMA(PairObjective):
    """The pairwise loss on the last token's score, and r(y_i | y_<i) = max_v r(v | y_<i y_i).

    FaRMA: a prefix is worth the best of its continuations, so one pass scores every next token.

    Attributes:
        weight: of the squared error of the constraint, beside the pairwise loss.
    """

    weight: float = 1.0
    head: ClassVar[Head] = "vocabulary"

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[Loss, Metrics]:
        """The sum of both."""
        each = token_scores(outputs, batch)
        final = at_end(each, batch.lengths - 1)
        loss, metrics = pairwise(final[0::2] - final[1::2])
        best = next_scores(outputs)[:, 1:-1].amax(-1)
        where = within(batch.lengths - 1, best.shape[1])
        constraint = mean_over((each[:, :-1] - best) ** 2, where)
        return loss + self.weight * constraint, {**metrics, "constraint": constraint.detach()}
