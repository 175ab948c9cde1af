"""How formal a response is: a logistic regression on its words, their parts, shapes and places.

    s(sentence) = log P(formal) - log P(informal) = b + sum over its distinct features of w,
    formality(text) = mean over its sentences of s

A feature is one of: token i of the sentence exists; a token as it stands or in lower case; the
token before, the token after; its first or last 3, 4 or 5 letters; its shape ("Aa" for "Fog"). In
nats; 0 is undecided, and most sentences lie between -10 and 10. Editorials are told from tweets
with an AUC of .92, from product reviews .85 and from film reviews .62 (`recipes/formality.py`).
Much of it is the length of a sentence, which makes a text formal here as in the training data.

Source: S. Lahiri, "SQUINKY! A Corpus of Sentence-level Formality, Informativeness, and
Implicature", 2015, 7,032 rated sentences; the classifier is squinky 0.1.0's (MIT), without its
parts of speech, phrases and stems, which need other people's models, and without weights below
0.02, which is half of them. It was trained on NLTK's tokens; ours are near those.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import groupby

from trimtab.rewards.vendored import tensors, words
from trimtab.types import Sample

_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_TOKEN = re.compile(
    r"\w+(?=n't\b)|n't\b|'(?:s|m|d|ll|re|ve)\b|\.\.\.|--+|``|''|"
    r"\w+(?:[.,:/&@-]\w+|'(?!(?:s|m|d|ll|re|ve)\b)\w+)*|[^\w\s]",
    re.IGNORECASE,
)
_OPENING = re.compile(r'(?:^|(?<=[\s(\[{<]))"')


def formality(samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
    """Log-odds of being formal, in nats; 0 for a text without a word. The prompt is not read."""
    return [_text(response) for response in responses]


def _text(text: str) -> float:
    sentences = [tokens(part) for part in _SENTENCE.split(text) if part.strip()]
    scores = [_sentence(found) for found in sentences]
    return sum(scores) / len(scores) if scores else 0.0


def _sentence(found: Sequence[str]) -> float:
    weights, bias = _weights(), tensors("formality")["bias"].item()
    return bias + sum(weights.get(feature, 0.0) for feature in sorted(set(features(found))))


def tokens(sentence: str) -> list[str]:
    """Words and marks, as a treebank has them: "don't" is "do" and "n't", quotes have sides."""
    return _TOKEN.findall(_OPENING.sub(" `` ", sentence).replace('"', " '' "))


def features(found: Sequence[str]) -> Iterator[str]:
    """The names of all features of a sentence's tokens."""
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


@cache
def _weights() -> dict[str, float]:
    """w by feature; positive is formal."""
    return dict(zip(words("formality"), tensors("formality")["weight"].tolist(), strict=True))
