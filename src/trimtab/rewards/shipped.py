"""Small classifiers that come with the library: toxicity, profanity, formality.

They read the response alone. `data/README.md` says whose work they are. Toxicity and profanity have
other authors, features and training, so that one judges what was steered by the other.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from safetensors.torch import load_file
from torch import Tensor, nn

from trimtab.errors import check_word
from trimtab.types import Sample

_DATA = Path(__file__).with_name("data")


@cache
def tensors(name: str) -> dict[str, Tensor]:
    """The numbers of one classifier, in float32."""
    stored = load_file(_DATA / f"{name}.safetensors")
    return {key: value.to(torch.float32) for key, value in stored.items()}


@cache
def words(name: str) -> tuple[str, ...]:
    """Its vocabulary in order: one word a line. Some words hold blanks of other kinds."""
    text = (_DATA / f"{name}.words.txt").read_bytes().decode("utf-8")
    return tuple(text.removesuffix("\n").split("\n"))


@cache
def _ids(name: str, start: int) -> dict[str, int]:
    return {word: i for i, word in enumerate(words(name), start)}


# --- toxicity ------------------------------------------------------------------------------------

Kind = Literal["toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate"]

_LENGTH = 100  # words read, counted from the end
_BATCH = 256
_BLANKS = str.maketrans(dict.fromkeys('!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n', " "))


@dataclass(frozen=True)
class Toxicity:
    """The reward `-P(toxic | response)`, in [-1, 0]; the prompt is not read.

    A bidirectional LSTM (50 units each way) on GloVe vectors, its largest activations over time,
    and one sigmoid per kind of toxicity. It was trained on the Jigsaw comments, where each head
    tells its kind from the rest with an AUC of .96-.98, and reads thousands of texts per second on
    one core.

    Source: toxic-comment-classifier 0.3.0 (MIT); numbers and text preparation are its authors'.

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
    stored = tensors("toxicity").items()
    numbers = {k.removeprefix("lstm."): v for k, v in stored if k.startswith("lstm.")}
    for way in ("l0", "l0_reverse"):  # Keras has one bias where torch adds two
        numbers[f"bias_hh_{way}"] = torch.zeros_like(numbers[f"bias_ih_{way}"])
    lstm = nn.LSTM(50, 50, batch_first=True, bidirectional=True)
    lstm.load_state_dict(numbers)
    return lstm.requires_grad_(False).eval()


def _encode(texts: Sequence[str]) -> Int[Tensor, "N L"]:
    """Known words as ids, the last `_LENGTH` of them, padded on the left with 0."""
    ids = torch.zeros(len(texts), _LENGTH, dtype=torch.long)
    known = _ids("toxicity", 1)  # 0 is the padding
    for row, text in zip(ids, texts, strict=True):
        read = [known[w] for w in text.lower().translate(_BLANKS).split(" ") if w in known]
        if read := read[-_LENGTH:]:
            row[-len(read) :] = torch.tensor(read)
    return ids


# --- profanity -----------------------------------------------------------------------------------

_WORD = re.compile(r"\b\w\w+\b")  # scikit-learn's words: two letters or more


def cleanliness(samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
    """The reward `-P(profane | response)`, in [-1, 0]; the prompt is not read."""
    return (-profanity(responses)).tolist()


@torch.inference_mode()
def profanity(texts: Sequence[str]) -> Float[Tensor, "N"]:
    """P(profane) of each text: linear SVMs on words, each calibrated by a logistic curve.

        P(profane) = mean over five of 1 / (1 + exp(a f + b)),  f = w . tfidf(text) + c

    AUC .96 on its authors' held-out comments; 20,000 texts per second and core.

    Source: alt-profanity-check 1.9.1 (MIT), on about 200,000 comments and tweets.
    """
    numbers = tensors("profanity")
    if not texts:
        return torch.zeros(0)
    margins = _margins(texts, numbers["idf"], numbers["coef"]) + numbers["intercept"]
    return torch.sigmoid(-(numbers["slope"] * margins + numbers["offset"])).mean(1)


def _margins(
    texts: Sequence[str], idf: Float[Tensor, "V"], coef: Float[Tensor, "M V"]
) -> Float[Tensor, "N M"]:
    """w . x of each text, where x = tf * idf / |tf * idf|; 0 for a text without a known word."""
    known = _ids("profanity", 0)
    counts = [Counter(known[w] for w in _WORD.findall(t.lower()) if w in known) for t in texts]
    sizes = torch.tensor([len(count) for count in counts])
    columns = torch.tensor([word for count in counts for word in count], dtype=torch.long)
    weights = torch.tensor([n for count in counts for n in count.values()]) * idf[columns]
    rows = torch.repeat_interleave(torch.arange(len(texts)), sizes)
    norms = torch.zeros(len(texts)).index_add_(0, rows, weights**2).sqrt()
    weights = weights / norms.clamp_min(1e-12)[rows]
    starts = sizes.cumsum(0) - sizes
    return F.embedding_bag(
        columns, coef.T.contiguous(), starts, mode="sum", per_sample_weights=weights
    )


# --- formality -----------------------------------------------------------------------------------

_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_TOKEN = re.compile(
    r"\w+(?=n't\b)|n't\b|'(?:s|m|d|ll|re|ve)\b|\.\.\.|--+|``|''|"
    r"\w+(?:[.,:/&@-]\w+|'(?!(?:s|m|d|ll|re|ve)\b)\w+)*|[^\w\s]",
    re.IGNORECASE,
)
_OPENING = re.compile(r'(?:^|(?<=[\s(\[{<]))"')


def formality(samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
    """Log-odds of being formal, in nats; 0 for a text without a word. The prompt is not read.

        s(sentence) = log P(formal) - log P(informal) = b + sum over its distinct features of w,
        formality(text) = mean over its sentences of s

    A logistic regression; see `features`. Most sentences lie between -10 and 10. Editorials are
    told from tweets with an AUC of .92, from product reviews .85 and from film reviews .62
    (`recipes/formality.py`). Much of it is the length of a sentence, which makes a text formal here
    as in the training data.

    Source: S. Lahiri, "SQUINKY! A Corpus of Sentence-level Formality, Informativeness, and
    Implicature", 2015, 7,032 rated sentences; the classifier is squinky 0.1.0's (MIT), without its
    parts of speech, phrases and stems, which need other people's models, and without weights below
    0.02, which is half of them. It was trained on NLTK's tokens; ours are near those.
    """
    return [_formality(response) for response in responses]


def _formality(text: str) -> float:
    weights, bias = _formality_weights(), tensors("formality")["bias"].item()
    scores = []
    for sentence in filter(str.strip, _SENTENCE.split(text)):
        found = sorted(set(features(tokens(sentence))))
        scores.append(bias + sum(weights.get(feature, 0.0) for feature in found))
    return sum(scores) / len(scores) if scores else 0.0


@cache
def _formality_weights() -> dict[str, float]:
    """w by feature; positive is formal."""
    return dict(zip(words("formality"), tensors("formality")["weight"].tolist(), strict=True))


def tokens(sentence: str) -> list[str]:
    """Words and marks, as a treebank has them: "don't" is "do" and "n't", quotes have sides."""
    return _TOKEN.findall(_OPENING.sub(" `` ", sentence).replace('"', " '' "))


def features(found: Sequence[str]) -> Iterator[str]:
    """All features of a sentence's tokens: places, words, parts, shapes, neighbours."""
    for i, token in enumerate(found):
        yield f"at {i}"
        yield f"word {token}"
        yield f"lower {token.lower()}"
        yield f"shape {shape(token)}"
        for n in (3, 4, 5):
            yield f"first{n} {token[:n]}"
            yield f"last{n} {token[-n:]}"
        if i:
            yield f"before {found[i - 1]}"
        if i + 1 < len(found):
            yield f"after {found[i + 1]}"


def shape(token: str) -> str:
    """Kinds of its characters, runs of one kind once: A, a, 0, ! for marks, R for other letters.

    >>> shape("McDonald's"), shape("1990s"), shape("naïve")
    ('AaAa!a', '0a', 'aRa')
    """
    return "".join(kind for kind, _ in groupby(map(_kind, token)))


def _kind(character: str) -> str:
    if not character.isalnum():
        return "!"
    for kind, low, high in (("A", "A", "Z"), ("a", "a", "z"), ("0", "0", "9")):
        if low <= character <= high:
            return kind
    return "R"
