"""How profane a response is: linear SVMs on its words, each calibrated by a logistic curve.

    P(profane) = mean over five of 1 / (1 + exp(a f + b)),  f = w . tfidf(text) + c

Independent of the toxicity network (other authors, features and training), so it judges what was
steered by that one. AUC .96 on its authors' held-out comments; 20,000 texts per second and core.

Source: alt-profanity-check 1.9.1 (MIT), on about 200,000 comments and tweets.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from trimtab.rewards.vendored import tensors, words
from trimtab.types import Sample

_WORD = re.compile(r"\b\w\w+\b")  # scikit-learn's words: two letters or more


def cleanliness(samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
    """The reward `-P(profane | response)`, in [-1, 0]; the prompt is not read."""
    return (-profanity(responses)).tolist()


@torch.inference_mode()
def profanity(texts: Sequence[str]) -> Float[Tensor, "N"]:
    """P(profane) of each text."""
    numbers = tensors("profanity")
    if not texts:
        return torch.zeros(0)
    margins = _margins(texts, numbers["idf"], numbers["coef"]) + numbers["intercept"]
    return torch.sigmoid(-(numbers["slope"] * margins + numbers["offset"])).mean(1)


def _margins(
    texts: Sequence[str], idf: Float[Tensor, "V"], coef: Float[Tensor, "M V"]
) -> Float[Tensor, "N M"]:
    """w . x of each text, where x = tf * idf / |tf * idf|; 0 for a text without a known word."""
    columns, counts, starts = _count(texts)
    weights = counts * idf[columns]
    rows = torch.repeat_interleave(
        torch.arange(len(texts)), torch.diff(torch.tensor([*starts, len(columns)]))
    )
    norms = torch.zeros(len(texts)).index_add_(0, rows, weights**2).sqrt()
    weights = weights / norms.clamp_min(1e-12)[rows]
    return F.embedding_bag(
        columns, coef.T.contiguous(), torch.tensor(starts), mode="sum", per_sample_weights=weights
    )


def _count(texts: Sequence[str]) -> tuple[Tensor, Tensor, list[int]]:
    """Known words of all texts, how often each, and where each text begins."""
    known = _ids()
    columns: list[int] = []
    counts: list[float] = []
    starts: list[int] = []
    for text in texts:
        starts.append(len(columns))
        found = Counter(known[w] for w in _WORD.findall(text.lower()) if w in known)
        columns.extend(found.keys())
        counts.extend(found.values())
    return torch.tensor(columns, dtype=torch.long), torch.tensor(counts), starts


@cache
def _ids() -> dict[str, int]:
    return {word: i for i, word in enumerate(words("profanity"))}
