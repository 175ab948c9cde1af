"""How toxic a response is, by a network over its words, and how profane, by linear machines.

The two have other authors, features and training, so that one judges what was steered by the other.

Toxicity: a bidirectional LSTM (50 units each way) on GloVe vectors, its largest activations over
time, and one sigmoid per kind of toxicity. It was trained on the Jigsaw comments, where each head
tells its kind from the rest with an AUC of .96-.98, and reads thousands of texts per second on one
core.

Source: toxic-comment-classifier 0.3.0 (MIT); numbers and text preparation are its authors'.

Profanity: linear SVMs on words, each calibrated by a logistic curve,

    P(profane) = mean over five of 1 / (1 + exp(a f + b)),  f = w . tfidf(text) + c

AUC .96 on its authors' held-out comments; 20,000 texts per second and core.

Source: alt-profanity-check 1.9.1 (MIT), on about 200,000 comments and tweets.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from trimtab.errors import check_word
from trimtab.rewards.vendored import tensors, words
from trimtab.types import Sample

Kind = Literal["toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate"]

_WORD = re.compile(r"\b\w\w+\b")  # scikit-learn's words: two letters or more
_LENGTH = 100  # words read, counted from the end
_BATCH = 256
_BLANKS = str.maketrans(dict.fromkeys('!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n', " "))


@dataclass(frozen=True)
class Toxicity:
    """The reward `-P(toxic | response)`, in [-1, 0]; the prompt is not read.

    Attributes:
        kind: which of the network's six heads.
    """

    kind: Kind = "toxic"

    def __post_init__(self) -> None:
        check_word("kind", self.kind, Kind)

    def __call__(self, samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
        """Scores, higher is cleaner."""
        head = get_args(Kind).index(self.kind)
        return (-toxicity(responses)[:, head]).tolist()


nontoxicity = Toxicity()
"""The reward by name: `-P(toxic | response)`."""


@torch.inference_mode()
def toxicity(texts: Sequence[str]) -> Float[Tensor, "N 6"]:
    """The probability of each kind of toxicity, in the order of `Kind`."""
    out = [_forward(_encode(texts[at : at + _BATCH])) for at in range(0, len(texts), _BATCH)]
    return torch.cat(out) if out else torch.zeros(0, len(get_args(Kind)))


def _forward(ids: Int[Tensor, "N L"]) -> Float[Tensor, "N 6"]:
    weights = tensors("toxicity")
    states, _ = _lstm()(weights["embedding"][ids])
    # The network was trained without a mask: the padding's activations count, as they did then.
    hidden = F.linear(states.amax(1), weights["hidden.weight"], weights["hidden.bias"]).relu()
    return F.linear(hidden, weights["heads.weight"], weights["heads.bias"]).sigmoid()


@cache
def _lstm() -> nn.LSTM:
    numbers = {
        name.removeprefix("lstm."): value
        for name, value in tensors("toxicity").items()
        if name.startswith("lstm.")
    }
    for way in ("l0", "l0_reverse"):  # Keras has one bias where torch adds two
        numbers[f"bias_hh_{way}"] = torch.zeros_like(numbers[f"bias_ih_{way}"])
    lstm = nn.LSTM(50, 50, batch_first=True, bidirectional=True)
    lstm.load_state_dict(numbers)
    return lstm.requires_grad_(False).eval()


@cache
def _ids(name: str, start: int) -> dict[str, int]:
    return {word: i for i, word in enumerate(words(name), start)}


def _encode(texts: Sequence[str]) -> Int[Tensor, "N L"]:
    """Known words as ids, the last `_LENGTH` of them, padded on the left with 0."""
    ids = torch.zeros(len(texts), _LENGTH, dtype=torch.long)
    known = _ids("toxicity", 1)  # 0 is the padding
    for row, text in zip(ids, texts, strict=True):
        read = [known[w] for w in text.lower().translate(_BLANKS).split(" ") if w in known]
        if read := read[-_LENGTH:]:
            row[-len(read) :] = torch.tensor(read)
    return ids


# --- profanity ------------------------------------------------------------------------------------


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
    known = _ids("profanity", 0)
    columns: list[int] = []
    counts: list[float] = []
    starts: list[int] = []
    for text in texts:
        starts.append(len(columns))
        seen = Counter(known[w] for w in _WORD.findall(text.lower()) if w in known)
        columns.extend(seen.keys())
        counts.extend(seen.values())
    return torch.tensor(columns, dtype=torch.long), torch.tensor(counts), starts
