"""How near a response comes to the references that a sample brings in `meta["reference"]`.

A reference is a text; where there are several, a response is as good as its nearest one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from trimtab.errors import RewardError, check_word
from trimtab.plugins import optional
from trimtab.types import Sample

SHOWN = 60
"""Characters of a prompt that an error shows."""


def references(sample: Sample) -> tuple[str, ...]:
    """The sample's references, one or more.

    Raises:
        RewardError: it has none, or something else than texts.
    """
    found = sample.meta.get("reference")
    many = (found,) if isinstance(found, str) else found
    if isinstance(many, Sequence) and many and all(isinstance(text, str) for text in many):
        return tuple(many)
    shown = sample.text if len(sample.text) <= SHOWN else f"{sample.text[:SHOWN]}..."
    got = "none" if found is None else repr(found)[:SHOWN]
    raise RewardError(
        'a reward that compares with references needs meta["reference"], a text or a list of texts',
        got=f"{got} (prompt {shown!r})",
        do="give the file of prompts a column `reference`, or take a reward that needs none",
    )


def best(
    samples: Sequence[Sample],
    responses: Sequence[str],
    score: Callable[[str, str], float],
) -> list[float]:
    """max over the sample's references of score(response, reference), for each response.

    Raises:
        RewardError: a sample without a reference.
    """
    return [
        max(score(response, reference) for reference in references(sample))
        for sample, response in zip(samples, responses, strict=True)
    ]


# --- the rewards ----------------------------------------------------------------------------------


def exact(samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
    """1 where a response equals a reference but for case and blanks, else 0.

    Raises:
        RewardError: a sample without a reference.
    """
    return best(samples, responses, _same)


def _same(response: str, reference: str) -> float:
    return float(_plain(response) == _plain(reference))


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


RougeKind = Literal["rouge1", "rouge2", "rougeL", "rougeLsum"]


@dataclass(frozen=True)
class Rouge:
    """How much of the nearest reference a response says, in its words and order; in [0, 1].

        R = LCS / words of the reference,   P = LCS / words of the response,   F1 = 2 P R / (P + R)

    with LCS the length of the longest common subsequence of words (ROUGE-L). Words are runs of a-z
    and 0-9 in lower case, so texts in other scripts score 0.

    Source: C.-Y. Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004; the package
    rouge-score.

    Attributes:
        kind: which ROUGE: of words, pairs of words, the longest common subsequence, or that of each
            line.
        stem: whether words are stemmed first.
    """

    kind: RougeKind = "rougeL"
    stem: bool = False

    def __post_init__(self) -> None:
        check_word("kind", self.kind, RougeKind)

    def __call__(self, samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
        """Scores, higher is nearer.

        Raises:
            RewardError: a sample without a reference.
            UsageError: rouge-score is not installed.
        """
        return best(samples, responses, self._score)

    def _score(self, response: str, reference: str) -> float:
        scores = _rouge_scorer(self.kind, self.stem).score(reference, response)
        return float(scores[self.kind].fmeasure)


@cache
def _rouge_scorer(kind: str, stem: bool) -> Any:
    module = optional("rouge_score.rouge_scorer", "eval", user="the reward 'rouge'")
    return module.RougeScorer([kind], use_stemmer=stem)


rouge = Rouge()
"""The reward by name: ROUGE-L, without stemming."""


@dataclass(frozen=True)
class Chrf:
    """chrF of a response and the reference nearest to it, in [0, 100]: for translations.

        chrF = 100 (1 + b^2) P R / (b^2 P + R),   b = 2

    with P and R the precision and recall of character n-grams, each the mean over n = 1, ..., 6.

    Source: M. Popović, "chrF: character n-gram F-score for automatic MT evaluation", WMT 2015; the
    package sacrebleu.

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
        metric = _chrf_metric(self.word_order)
        return [
            float(metric.sentence_score(response, list(references(sample))).score)
            for sample, response in zip(samples, responses, strict=True)
        ]


@cache
def _chrf_metric(word_order: int) -> Any:
    module = optional("sacrebleu.metrics", "eval", user="the reward 'chrf'")
    return module.CHRF(word_order=word_order)


chrf = Chrf()
"""The reward by name: chrF without words."""
