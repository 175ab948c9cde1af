"""How near a response comes to the references in `meta["reference"]`, or stays to its prompt.

A reference is a text; where there are several, a response is as good as its nearest one. Texts are
compared letter by letter, by their words, or in meaning.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from trimtab.assets import path_of
from trimtab.errors import RewardError, UsageError, check_word
from trimtab.locks import lock_of
from trimtab.plugins import optional
from trimtab.types import Sample


def references(sample: Sample) -> list[str]:
    """The sample's references, one or more."""
    found = sample.meta.get("reference")
    many = (found,) if isinstance(found, str) else found
    if isinstance(many, Sequence) and many and all(isinstance(text, str) for text in many):
        return list(many)
    shown = sample.text if len(sample.text) <= 60 else f"{sample.text[:60]}..."
    got = "none" if found is None else repr(found)[:60]
    raise RewardError(
        'a reward that compares with references needs meta["reference"], a text or a list of texts',
        got=f"{got} (prompt {shown!r})",
        do="give the file of prompts a column `reference`, or take a reward that needs none",
    )


def _nearest(
    samples: Sequence[Sample], responses: Sequence[str], score: Callable[[str, str], float]
) -> list[float]:
    """max over the sample's references of score(response, reference), for each response."""
    return [
        max(score(response, reference) for reference in references(sample))
        for sample, response in zip(samples, responses, strict=True)
    ]


# --- by letters and words ------------------------------------------------------------------------


def exact(samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
    """1 where a response equals a reference but for case and blanks, else 0."""
    return _nearest(samples, responses, lambda a, b: float(_plain(a) == _plain(b)))


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
        return _nearest(samples, responses, self._score)

    def _score(self, response: str, reference: str) -> float:
        scores = _rouge_scorer(self.kind, self.stem).score(reference, response)
        return float(scores[self.kind].fmeasure)


@cache
def _rouge_scorer(kind: str, stem: bool) -> Any:
    module = optional("rouge_score.rouge_scorer", "eval", user="the reward 'rouge'")
    return module.RougeScorer([kind], use_stemmer=stem)


rouge = Rouge()


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
            float(metric.sentence_score(response, references(sample)).score)
            for sample, response in zip(samples, responses, strict=True)
        ]


@cache
def _chrf_metric(word_order: int) -> Any:
    module = optional("sacrebleu.metrics", "eval", user="the reward 'chrf'")
    return module.CHRF(word_order=word_order)


chrf = Chrf()


# --- in meaning ----------------------------------------------------------------------------------

To: TypeAlias = Literal["prompt", "reference"]

Encoder: TypeAlias = Callable[[Sequence[str]], Float[Tensor, "N D"]]
"""Texts to unit vectors, on the CPU."""

MINILM = "minilm"
"""all-MiniLM-L6-v2 (22.7M parameters, Apache-2.0), the asset of that name."""


@dataclass(frozen=True)
class Similarity:
    """The cosine of two sentence embeddings, in [-1, 1]; to the prompt it measures relevance.

        s(x, y) = e(x) . e(y),   e(.) the unit vector of a text

    Scores of different encoders do not compare.

    Attributes:
        to: what a response is compared with: the text of its prompt, or the nearest of its
            references.
        encoder: what embeds them; MiniLM, which has to be fetched, if none is given.
    """

    to: To = "prompt"
    encoder: Encoder | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_word("to", self.to, To)

    def __call__(self, samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
        """Cosines, higher is nearer.

        Raises:
            NotFetchedError: MiniLM is not on this machine.
            RewardError: a sample without the reference that it should be compared with.
            UsageError: sentence-transformers is not installed.
        """
        if not responses:
            return []
        others = [[s.text] if self.to == "prompt" else references(s) for s in samples]
        texts = [text for several in others for text in several]
        vectors = (self.encoder or encoder())([*texts, *responses])
        others_of = vectors[: len(texts)].split([len(several) for several in others])
        pairs = zip(others_of, vectors[len(texts) :], strict=True)
        return [float((near @ response).max()) for near, response in pairs]


similarity = Similarity()
similarity_to_reference = Similarity("reference")


@dataclass(frozen=True)
class SentenceEncoder:
    """A model of sentence-transformers; equal texts are read once.

    Attributes:
        model: a `SentenceTransformer`.
    """

    model: Any

    def __call__(self, texts: Sequence[str]) -> Float[Tensor, "N D"]:
        """The unit vector of each text, on the CPU."""
        unique = list(dict.fromkeys(texts))
        if not unique:
            return torch.zeros(0, self.model.get_embedding_dimension())
        with lock_of(self.model):
            vectors: Tensor = self.model.encode(
                unique, show_progress_bar=False, convert_to_tensor=True, normalize_embeddings=True
            ).cpu()
        row = {text: i for i, text in enumerate(unique)}
        return vectors[[row[text] for text in texts]]


@cache
def encoder(name: str = MINILM) -> SentenceEncoder:
    """A sentence encoder, loaded once.

    Args:
        name: "minilm" for what `trimtab assets fetch minilm` stored, or whatever
            `SentenceTransformer` opens: a folder or a Hub id.

    Raises:
        NotFetchedError: MiniLM is not on this machine; the message names the command.
        UsageError: sentence-transformers is not installed, or cannot open the model.
    """
    place, device = (str(path_of(MINILM)), "cpu") if name == MINILM else (name, None)
    package = optional("sentence_transformers", "eval", user="a sentence encoder")
    try:
        with redirect_stderr(io.StringIO()):  # a progress bar for a tenth of a second
            return SentenceEncoder(package.SentenceTransformer(place, device=device))
    except Exception as error:  # the hub, a config, a tensor: each raises in its own way
        raise UsageError(
            f"an encoder must be {MINILM!r} or a model of sentence-transformers",
            got=f"{name!r}, which cannot be opened ({type(error).__name__}: {error})",
            do="name a folder or a Hub id, or take MiniLM",
        ) from error
