"""Metrics of texts: hand-computed, and equal to the libraries' own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import sacrebleu
import torch
from hypothesis import given
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from tests import toys
from trimtab.errors import UsageError
from trimtab.evaluation.metrics import (
    bleu,
    distinct,
    diversity,
    pairwise_rouge_l,
    repetition,
)
from trimtab.rewards.similarity import Similarity

TEXT = "a b a b a b"  # pairs ab ba ab ba ab, triples aba bab aba bab, fours abab baba abab
TEXTS = ["the cat sat on the mat", "a dog sat on the mat today", "nothing in common"]


def test_repetition_and_diversity_by_hand() -> None:
    assert repetition(TEXT, 2) == pytest.approx(1 - 2 / 5)
    assert repetition(TEXT, 3) == pytest.approx(1 - 2 / 4)
    assert repetition(TEXT, 4) == pytest.approx(1 - 2 / 3)
    assert diversity(TEXT) == pytest.approx(2 / 5 * 2 / 4 * 2 / 3)
    assert diversity("all words here differ") == 1.0


def test_the_published_code_counts_one_ngram_more() -> None:
    assert diversity(TEXT, published_code=True) == pytest.approx(2 / 6 * 2 / 5 * 2 / 4)
    assert diversity("", published_code=True) == 0.0


@given(st.text(alphabet="ab ", max_size=40))
def test_diversity_is_a_share(text: str) -> None:
    assert 0 <= diversity(text, published_code=True) <= diversity(text) <= 1


def test_distinct_pools_its_texts() -> None:
    assert distinct(["a b", "a b c"], 1) == pytest.approx(3 / 5)
    assert distinct(["a b", "a b c"], 2) == pytest.approx(2 / 3)
    assert distinct(["a"], 2) == 0.0


def test_rouge_by_hand_and_by_the_library() -> None:
    # The longest common subsequence is "sat on the mat": 4 of 6 and 4 of 7 words.
    assert pairwise_rouge_l(TEXTS[:2]) == pytest.approx(2 * 4 / 13)
    scorer = rouge_scorer.RougeScorer(["rougeL"])
    pairs = [(0, 1), (0, 2), (1, 2)]
    want = np.mean([scorer.score(TEXTS[i], TEXTS[j])["rougeL"].fmeasure for i, j in pairs])
    assert pairwise_rouge_l(TEXTS) == pytest.approx(want)
    with pytest.raises(UsageError, match="two or more responses"):
        pairwise_rouge_l(["alone"])


def test_bleu_is_sacrebleus() -> None:
    score, signature = bleu(TEXTS, [TEXTS[0], TEXTS[0], TEXTS[2]])
    want = sacrebleu.corpus_bleu(TEXTS, [[TEXTS[0], TEXTS[0], TEXTS[2]]])
    assert score == pytest.approx(want.score)
    assert signature.startswith("nrefs:1|case:mixed|")
    assert bleu(TEXTS, TEXTS)[0] == pytest.approx(100.0)


def letters(texts: Sequence[str]) -> torch.Tensor:
    """Counts of a, b, c as unit vectors: an encoder to compute by hand."""
    counts = torch.tensor([[float(text.count(letter)) for letter in "abc"] for text in texts])
    return torch.nn.functional.normalize(counts, dim=-1)


def test_coherence_by_hand() -> None:
    cosine = Similarity("prompt", letters)
    got = cosine(toys.samples("a", "ab", "a"), ["aa", "a", "zzz"])
    assert got == pytest.approx([1.0, 0.5**0.5, 0.0])
