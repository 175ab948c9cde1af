"""How much of a reference a response says, in its words and order.

    R = LCS / words of the reference,   P = LCS / words of the response,   F1 = 2 P R / (P + R)

with LCS the length of the longest common subsequence of words (ROUGE-L). Words are runs of a-z and
0-9 in lower case, so texts in other scripts score 0.

Source: C.-Y. Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004; the package
rouge-score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from trimtab.errors import check_word
from trimtab.plugins import optional
from trimtab.rewards.references import best
from trimtab.types import Sample

Kind = Literal["rouge1", "rouge2", "rougeL", "rougeLsum"]


@dataclass(frozen=True)
class Rouge:
    """The F1 of a response and the reference nearest to it, in [0, 1].

    Attributes:
        kind: which ROUGE: of words, pairs of words, the longest common subsequence, or that of each
            line.
        stem: whether words are stemmed first.
    """

    kind: Kind = "rougeL"
    stem: bool = False

    def __post_init__(self) -> None:
        check_word("kind", self.kind, Kind)

    def __call__(self, samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
        """Scores, higher is nearer.

        Raises:
            RewardError: a sample without a reference.
            UsageError: rouge-score is not installed.
        """
        return best(samples, responses, self._score)

    def _score(self, response: str, reference: str) -> float:
        found = _scorer(self.kind, self.stem).score(reference, response)
        return float(found[self.kind].fmeasure)


@cache
def _scorer(kind: str, stem: bool) -> Any:
    module = optional("rouge_score.rouge_scorer", "eval", user="the reward 'rouge'")
    return module.RougeScorer([kind], use_stemmer=stem)


rouge = Rouge()
"""The reward by name: ROUGE-L, without stemming."""
