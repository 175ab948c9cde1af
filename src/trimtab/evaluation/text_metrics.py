"""What the texts are like: repetition, diversity, overlap, coherence, length.

Words are what `split` makes of a text; by default what stands between blanks.

Legend: N texts, D dimensions of an embedding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeAlias

import numpy as np
from jaxtyping import Float

from trimtab.errors import UsageError
from trimtab.plugins import optional
from trimtab.types import Completion

Split: TypeAlias = Callable[[str], Sequence[Hashable]]
"""Text to words, or to token ids."""

Encoder: TypeAlias = "Callable[[Sequence[str]], Float[np.ndarray, 'N D']]"
"""Texts to sentence embeddings, as `SentenceTransformer.encode` is."""


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
    found = ngrams(split(text), n)
    total = len(found) + int(published_code)
    return 1.0 - len(set(found)) / total if total else 0.0


def diversity(text: str, *, split: Split = str.split, published_code: bool = False) -> float:
    """prod_{n=2}^{4} (1 - rep_n), in [0, 1]; 1 says nothing twice (ARGS, section 3.1).

    ARGS reports its mean over responses. Short texts score high, so read it beside the length.
    """
    repeats = (repetition(text, n, split=split, published_code=published_code) for n in (2, 3, 4))
    return float(np.prod([1.0 - repeat for repeat in repeats]))


def distinct(texts: Iterable[str], n: int, *, split: Split = str.split) -> float:
    """distinct-n: unique n-grams of all texts together / their n-grams (Li et al. 2016)."""
    found = [gram for text in texts for gram in ngrams(split(text), n)]
    return len(set(found)) / len(found) if found else 0.0


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


@dataclass(frozen=True)
class Bleu:
    """A corpus BLEU score.

    Attributes:
        score: 0 to 100.
        n: segments.
        test: sacrebleu's signature, which says how it was computed.
    """

    score: float
    n: int
    test: str


def bleu(texts: Sequence[str], references: Sequence[str]) -> Bleu:
    """Corpus BLEU against one reference per text, by `sacrebleu` with its defaults (Post 2018)."""
    _same_length(texts, references, "references")
    metric = optional("sacrebleu.metrics", "eval").BLEU()
    score = float(metric.corpus_score(list(texts), [list(references)]).score)
    return Bleu(score, len(texts), str(metric.get_signature()))


def coherence(
    prompts: Sequence[str], texts: Sequence[str], encode: Encoder
) -> Float[np.ndarray, "N"]:
    """Cosine of each prompt's and its response's sentence embeddings (ARGS, section 3.1).

    ARGS embeds with `princeton-nlp/sup-simcse-bert-base-uncased`; figures of different encoders
    do not compare. A zero embedding has cosine 0. Each distinct prompt is embedded once.
    """
    _same_length(texts, prompts, "prompts")
    distinct_prompts = list(dict.fromkeys(prompts))
    where = {prompt: i for i, prompt in enumerate(distinct_prompts)}
    asked = _unit(encode(distinct_prompts))[[where[prompt] for prompt in prompts]]
    return np.asarray((asked * _unit(encode(list(texts)))).sum(axis=-1))


def _unit(vectors: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N D"]:
    """Rows of length 1, in float64; rows of zeros stay."""
    exact = np.asarray(vectors, dtype=np.float64)
    length = np.linalg.norm(exact, axis=-1, keepdims=True)
    return exact / np.where(length > 0, length, 1.0)


def _same_length(texts: Sequence[str], others: Sequence[str], what: str) -> None:
    if len(texts) != len(others) or not texts:
        raise UsageError(
            f"there must be as many {what} as texts, and one or more",
            got=f"{len(others)} {what} for {len(texts)} texts",
            do="pass one for each text",
        )


def finish_shares(completions: Sequence[Completion]) -> dict[str, float]:
    """The share of responses that ended by "eos", by "length" and by "stop"."""
    counts = Counter(c.finish for c in completions)
    return {reason: counts[reason] / len(completions) for reason in ("eos", "length", "stop")}
