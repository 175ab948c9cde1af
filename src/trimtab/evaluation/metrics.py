"""What texts are like: repetition, diversity, overlap; and figures of a table by name.

    evaluate(lm, task, methods, "results", n=10, metrics=["rouge-l", "coherence"])

    perplexity    perplexity           of the texts under the base
    diversity     diversity            ARGS: products of what is not said again
    distinct-n    distinct_1, _2, _3   different n-grams over n-grams of all texts together
    repetition    rep_2, rep_3, rep_4  ARGS: the share of n-grams that a text said before
    rouge-l       rouge_l              on request: alikeness of a prompt's responses
    coherence     coherence            on request: alikeness of prompt and response

The first four are in every table; a name that is asked for is also shown where people read. All
but distinct-n, which pools its texts, have a standard error clustered by prompt in `<column>_se`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import TypeAlias

import numpy as np

from trimtab.errors import UnknownNameError, UsageError
from trimtab.evaluation.best_of import perplexity
from trimtab.evaluation.statistics import Estimate, estimate
from trimtab.plugins import optional
from trimtab.rewards.similarity import MINILM, Similarity, encoder
from trimtab.runs.resolve import Scorer, find_reward
from trimtab.types import Completion

# --- of texts ------------------------------------------------------------------------------------

Split: TypeAlias = Callable[[str], Sequence[Hashable]]
"""Text to words, or to token ids."""


def ngrams(words: Sequence[Hashable], n: int) -> list[tuple[Hashable, ...]]:
    """All runs of n words, the last one included."""
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def repetition(
    text: str, n: int, *, split: Split = str.split, published_code: bool = False
) -> float:
    """rep_n = 1 - unique n-grams / n-grams: the share of n-grams said before (Welleck et al. 2020).

    A text of fewer than n words repeats nothing: 0. The authors of ARGS divide by one n-gram more
    than there are, so that such a text scores 1 and a text without repeats not quite 0; with
    `published_code=True` and `split=nltk.word_tokenize` the figure is theirs.
    """
    grams = ngrams(split(text), n)
    total = len(grams) + int(published_code)
    return 1.0 - len(set(grams)) / total if total else 0.0


def diversity(text: str, *, split: Split = str.split, published_code: bool = False) -> float:
    """prod_{n=2}^{4} (1 - rep_n), in [0, 1]; 1 says nothing twice (ARGS, section 3.1).

    ARGS reports its mean over responses. Short texts score high, so read it beside the length.
    """
    repeats = (repetition(text, n, split=split, published_code=published_code) for n in (2, 3, 4))
    return float(np.prod([1.0 - repeat for repeat in repeats]))


def distinct(texts: Iterable[str], n: int, *, split: Split = str.split) -> float:
    """distinct-n: unique n-grams of all texts together / their n-grams (Li et al. 2016)."""
    grams = [gram for text in texts for gram in ngrams(split(text), n)]
    return len(set(grams)) / len(grams) if grams else 0.0


def pairwise_rouge_l(texts: Sequence[str]) -> float:
    """Mean ROUGE-L F1 over all pairs of one prompt's responses; low is diverse (PARGS, Table 5).

    By the `rouge-score` package, without stemming; PARGS takes 10 responses per prompt.
    """
    if len(texts) < 2:
        raise UsageError(
            "pairwise ROUGE-L needs two or more responses to a prompt",
            got=f"{len(texts)}",
            do="decode with n >= 2",
        )
    scorer = optional("rouge_score.rouge_scorer", "eval").RougeScorer(["rougeL"])
    pairs = combinations(texts, 2)
    return float(np.mean([scorer.score(a, b)["rougeL"].fmeasure for a, b in pairs]))


def bleu(texts: Sequence[str], references: Sequence[str]) -> tuple[float, str]:
    """Corpus BLEU against one reference per text, by `sacrebleu` with its defaults (Post 2018).

    Returns:
        The score, 0 to 100, and sacrebleu's signature, which says how it was computed.
    """
    if len(texts) != len(references) or not texts:
        raise UsageError(
            "there must be as many references as texts, and one or more",
            got=f"{len(references)} references for {len(texts)} texts",
            do="pass one for each text",
        )
    metric = optional("sacrebleu.metrics", "eval").BLEU()
    score = float(metric.corpus_score(list(texts), [list(references)]).score)
    return score, str(metric.get_signature())


# --- of a condition ------------------------------------------------------------------------------

Figure: TypeAlias = "Estimate | float | None"

Column: TypeAlias = tuple[str, str, str]
"""Name, heading and format of a figure that people read."""

ROUGE_RESPONSES = 10
"""Responses of a prompt that `rouge-l` compares, as PARGS does; the time grows with the square."""


@dataclass(frozen=True)
class Answers:
    """What a metric sees of a condition.

    Attributes:
        ids: the prompt of each response.
        completions: the responses.
        scores: by scorer's name, one per response; None where scoring failed.
    """

    ids: tuple[str, ...]
    completions: tuple[Completion, ...]
    scores: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)

    @property
    def texts(self) -> list[str]:
        """The responses as texts."""
        return [completion.text for completion in self.completions]

    def mean(self, scores: Sequence[float | None]) -> Estimate | None:
        """Mean over the responses that have a score, its standard error clustered by prompt."""
        pairs = [(i, x) for i, x in zip(self.ids, scores, strict=True) if x is not None]
        return estimate([x for _, x in pairs], [i for i, _ in pairs]) if pairs else None


@dataclass(frozen=True)
class Metric:
    """A figure of a condition's texts, or several that belong together.

    Attributes:
        name: what it is asked for by.
        columns: name, heading and format of each figure.
        measure: a condition's answers to one figure per column; None where there is none.
        scorer: what scores each response first, once and for all runs; None where nothing has to.
        by: the model behind it, which its figures do not compare without.
    """

    name: str
    columns: tuple[Column, ...]
    measure: Callable[[Answers], Sequence[Figure]]
    scorer: Scorer | None = None
    by: str = ""

    @property
    def label(self) -> str:
        """The name, and the model behind it."""
        return f"{self.name}={self.by}" if self.by else self.name

    def figures(self, answers: Answers) -> dict[str, Figure]:
        """The figure of each column."""
        names = [name for name, _, _ in self.columns]
        return dict(zip(names, self.measure(answers), strict=True))


# --- by name -------------------------------------------------------------------------------------


def _rouge_l(answers: Answers) -> list[Figure]:
    """Mean over prompts of the mean over pairs of a prompt's first ten responses."""
    texts: dict[str, list[str]] = {}
    for i, text in zip(answers.ids, answers.texts, strict=True):
        texts.setdefault(i, []).append(text)
    several = {i: t[:ROUGE_RESPONSES] for i, t in texts.items() if len(t) > 1}
    if not several:
        return [None]
    return [estimate([pairwise_rouge_l(t) for t in several.values()], list(several))]


USUAL: tuple[Metric, ...] = (
    Metric(
        "perplexity",
        (("perplexity", "perplexity", ".2f"),),
        lambda answers: [perplexity(answers.completions)],
    ),
    Metric(
        "diversity",
        (("diversity", "diversity", ".2f"),),
        lambda answers: [answers.mean([diversity(text) for text in answers.texts])],
    ),
    Metric(
        "distinct-n",
        tuple((f"distinct_{n}", f"distinct-{n}", ".3f") for n in (1, 2, 3)),
        lambda answers: [distinct(answers.texts, n) for n in (1, 2, 3)],
    ),
    Metric(
        "repetition",
        tuple((f"rep_{n}", f"rep-{n}", ".3f") for n in (2, 3, 4)),
        lambda answers: [
            answers.mean([repetition(text, n) for text in answers.texts]) for n in (2, 3, 4)
        ],
    ),
)
"""Metrics of every table: cheap, and without a package or a model of their own."""


def _make_rouge_l() -> Metric:
    optional("rouge_score.rouge_scorer", "eval")  # a missing one is said before anything is decoded
    return Metric("rouge-l", (("rouge_l", "ROUGE-L", ".3f"),), _rouge_l)


@cache
def _make_coherence(name: str = MINILM) -> Metric:
    scorer = replace(find_reward(Similarity("prompt", encoder(name))), name="coherence")
    return Metric(
        "coherence",
        (("coherence", "coherence", ".3f"),),
        lambda answers: [answers.mean(answers.scores["coherence"])],
        scorer,
        by=Path(name).name if Path(name).exists() else name,
    )


ON_REQUEST: dict[str, Callable[..., Metric]] = {
    "rouge-l": _make_rouge_l,
    "coherence": _make_coherence,
}
"""Makers of the metrics that need a package or a model, by name."""


def metric(asked: str) -> Metric:
    """A metric by name; `coherence=ENCODER` takes another sentence-transformers model.

    >>> [column for column, _, _ in metric("distinct-n").columns]
    ['distinct_1', 'distinct_2', 'distinct_3']
    """
    name, equals, value = asked.partition("=")
    usual = {m.name: m for m in USUAL}
    if name not in usual and name not in ON_REQUEST:
        raise UnknownNameError("a metric", name, [*usual, *ON_REQUEST])
    if not equals:
        return usual[name] if name in usual else ON_REQUEST[name]()
    if name != "coherence" or not value:
        raise UsageError(
            "only coherence takes a model, as in coherence=MODEL", got=repr(asked), do="name it so"
        )
    return _make_coherence(value)


def find_metrics(asked: Sequence[str | Metric]) -> tuple[Metric, ...]:
    """What was asked for, each once; an error where two would fill the same column."""
    metrics: dict[str, Metric] = {}
    for name in asked:
        new = metric(name) if isinstance(name, str) else name
        metrics.setdefault(new.label, new)
    taken = {column for m in USUAL for column, _, _ in m.columns}
    for m in metrics.values():
        columns = {column for column, _, _ in m.columns}
        if m not in USUAL and columns & taken:
            raise UsageError(
                "a column of the table must belong to one metric",
                got=f"{m.label!r} for {', '.join(sorted(columns & taken))} once more",
                do="ask for one of them",
            )
        taken |= columns
    return tuple(metrics.values())
