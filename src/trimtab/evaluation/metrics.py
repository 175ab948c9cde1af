"""Figures of texts by name: those that every table has, and those that are asked for.

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

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from trimtab.errors import UnknownNameError, UsageError
from trimtab.evaluation.embedding import coherence_scorer
from trimtab.evaluation.kl import perplexity
from trimtab.evaluation.statistics import Estimate, estimate
from trimtab.evaluation.text_metrics import distinct, diversity, pairwise_rouge_l, repetition
from trimtab.plugins import optional
from trimtab.runs.resolve import Scorer
from trimtab.types import Completion

Figure: TypeAlias = "Estimate | float | None"

Column: TypeAlias = tuple[str, str, str]
"""Name, heading and format of a figure that people read."""

ROUGE_RESPONSES = 10
"""Responses of a prompt that `rouge-l` compares, as PARGS does; the time grows with the square."""


@dataclass(frozen=True)
class Answers:
    """What a metric sees of a cell.

    Attributes:
        ids: the prompt of each response.
        completions: the responses.
        scores: by scorer's name, one per response; None where scoring failed.
    """

    ids: tuple[str, ...]
    completions: tuple[Completion, ...]
    scores: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)

    def mean(self, scores: Sequence[float | None]) -> Estimate | None:
        """Mean over the responses that have a score, its standard error clustered by prompt."""
        known = [(i, x) for i, x in zip(self.ids, scores, strict=True) if x is not None]
        return estimate([x for _, x in known], [i for i, _ in known]) if known else None


@dataclass(frozen=True)
class Metric:
    """A figure of a cell's texts, or several that belong together.

    Attributes:
        name: what it is asked for by.
        columns: name, heading and format of each figure.
        measure: a cell's answers to one figure per column; None where there is none.
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


# --- what they measure ---------------------------------------------------------------------------


def _perplexity(answers: Answers) -> list[Figure]:
    """exp(- sum log pi_ref / sum tokens)."""
    return [perplexity(answers.completions)]


def _diversity(answers: Answers) -> list[Figure]:
    """Mean of prod_{n=2}^{4} (1 - rep_n)."""
    return [answers.mean([diversity(c.text) for c in answers.completions])]


def _distinct(answers: Answers) -> list[Figure]:
    """Different n-grams / n-grams of all texts together."""
    return [distinct([c.text for c in answers.completions], n) for n in (1, 2, 3)]


def _repetition(answers: Answers) -> list[Figure]:
    """Mean of rep_n = 1 - different n-grams / n-grams of a text."""
    return [answers.mean([repetition(c.text, n) for c in answers.completions]) for n in (2, 3, 4)]


def _rouge_l(answers: Answers) -> list[Figure]:
    """Mean over prompts of the mean ROUGE-L F1 over pairs of a prompt's first ten responses."""
    texts: dict[str, list[str]] = {}
    for i, completion in zip(answers.ids, answers.completions, strict=True):
        texts.setdefault(i, []).append(completion.text)
    several = {i: t[:ROUGE_RESPONSES] for i, t in texts.items() if len(t) > 1}
    if not several:
        return [None]
    return [estimate([pairwise_rouge_l(t) for t in several.values()], list(several))]


def _coherence(answers: Answers) -> list[Figure]:
    """Mean cosine of the embeddings of prompt and response."""
    return [answers.mean(answers.scores["coherence"])]


# --- by name -------------------------------------------------------------------------------------

USUAL: tuple[Metric, ...] = (
    Metric("perplexity", (("perplexity", "perplexity", ".2f"),), _perplexity),
    Metric("diversity", (("diversity", "diversity", ".2f"),), _diversity),
    Metric(
        "distinct-n",
        tuple((f"distinct_{n}", f"distinct-{n}", ".3f") for n in (1, 2, 3)),
        _distinct,
    ),
    Metric("repetition", tuple((f"rep_{n}", f"rep-{n}", ".3f") for n in (2, 3, 4)), _repetition),
)
"""Metrics of every table: cheap, and without a package or a model of their own."""


def _make_rouge_l() -> Metric:
    optional("rouge_score.rouge_scorer", "eval")  # said before anything is decoded
    return Metric("rouge-l", (("rouge_l", "ROUGE-L", ".3f"),), _rouge_l)


def _make_coherence(encoder: str = "minilm") -> Metric:
    scorer, by = coherence_scorer(encoder)
    return Metric("coherence", (("coherence", "coherence", ".3f"),), _coherence, scorer, by)


ON_REQUEST: dict[str, Callable[..., Metric]] = {
    "rouge-l": _make_rouge_l,
    "coherence": _make_coherence,
}
"""Makers of the metrics that need a package or a model, by name."""


def metric(asked: str) -> Metric:
    """A metric by name; `coherence=ENCODER` takes another sentence-transformers model.

    >>> [column for column, _, _ in metric("distinct-n").columns]
    ['distinct_1', 'distinct_2', 'distinct_3']

    Raises:
        UnknownNameError: there is none; near names are offered.
        UsageError: the metric has nothing to set, or its package or model cannot be had.
        NotFetchedError: MiniLM is not on this machine.
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
    """What was asked for, each once.

    Raises:
        UsageError: two would fill the same column.
    """
    found: dict[str, Metric] = {}
    for one in asked:
        new = metric(one) if isinstance(one, str) else one
        found.setdefault(new.label, new)
    taken = {m.name: {name for name, _, _ in m.columns} for m in USUAL}
    for m in found.values():
        mine = {name for name, _, _ in m.columns}
        known = set[str]().union(*taken.values())
        if m not in USUAL and mine & known:
            raise UsageError(
                "a column of the table must belong to one metric",
                got=f"{m.label!r} for {', '.join(sorted(mine & known))} once more",
                do="ask for one of them",
            )
        taken[m.label] = mine
    return tuple(found.values())


def with_usual(asked: Sequence[Metric]) -> tuple[Metric, ...]:
    """The metrics of every table, and what was asked for beside them."""
    return (*USUAL, *(m for m in asked if m not in USUAL))
