"""How many runs of letters a response shares with a reference: chrF, for translations.

    chrF = 100 (1 + b^2) P R / (b^2 P + R),   b = 2

with P and R the precision and recall of character n-grams, each the mean over n = 1, ..., 6.

Source: M. Popović, "chrF: character n-gram F-score for automatic MT evaluation", WMT 2015; the
package sacrebleu.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from trimtab.plugins import optional
from trimtab.rewards.references import references
from trimtab.types import Sample


@dataclass(frozen=True)
class Chrf:
    """chrF of a response and the reference nearest to it, in [0, 100].

    Attributes:
        word_order: longest run of words that counts too; 2 is chrF++.
    """

    word_order: int = 0

    def __call__(self, samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
        """Scores, higher is nearer.

        Raises:
            RewardError: a sample without a reference.
            UsageError: sacrebleu is not installed.
        """
        metric = _metric(self.word_order)
        return [
            float(metric.sentence_score(response, list(references(sample))).score)
            for sample, response in zip(samples, responses, strict=True)
        ]


@cache
def _metric(word_order: int) -> Any:
    module = optional("sacrebleu.metrics", "eval", user="the reward 'chrf'")
    return module.CHRF(word_order=word_order)


chrf = Chrf()
"""The reward by name: chrF without words."""
