"""What the name of a reward means: a reward of ours or of a plugin, a user's own, or a sum of them.

    sum    = [sign] term { blank sign blank term }
    term   = [ [sign] number "*" ] name
    sign   = "+" | "-"

A name may hold hyphens, colons, slashes and dots (`rated-sentiment`, `hf:./my-model#good`), so **a
minus or plus between two terms stands between blanks**; one without a blank on both sides belongs
to the name or the number it touches. No blanks stand around `*`, and none inside a number.

    0.7*sentiment - 0.01*length     two terms, weights 0.7 and -0.01
    -1*length                       one term
    sentiment-0.01*length           no sum: one (unknown) name

Nothing is imported, and no model read, before it is asked for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import cast

from trimtab.errors import UnknownNameError, UsageError, public
from trimtab.plugins import PYTHON, entry_points, load_object
from trimtab.protocols import Reward
from trimtab.rewards.texts import as_reward
from trimtab.types import Sample

REWARDS: dict[str, str] = {
    "brevity": "length:brevity",
    "chrf": "references:chrf",
    "conciseness": "length:conciseness",
    "exact": "references:exact",
    "formality": "formality:formality",
    "length": "length:length",
    "profanity": "toxicity:cleanliness",
    "rated-sentiment": "sentiment:rated_sentiment",
    "readability": "length:readability",
    "rouge": "references:rouge",
    "sentiment": "sentiment:sentiment",
    "similarity": "similarity:similarity",
    "similarity-to-reference": "similarity:similarity_to_reference",
    "valence": "sentiment:valence",
    "toxicity": "toxicity:nontoxicity",
    "words": "length:words",
}
"""`module:attribute` by name."""

_OTHERS = "python:FILE.py:NAME, hf:MODEL, http://HOST/PATH, or a sum: 'sentiment - 0.1*words'"


def find(name: str) -> Reward:
    """The reward of a name.

    >>> from trimtab.types import Sample
    >>> find("2*words + 0.5*brevity")([Sample("Hi!", "greeting")], ["Good morning."])
    [4.5]

    Args:
        name: one of `REWARDS`; a function of yours, `python:package.module:function` or
            `python:path/to/file.py:function`; one that an installed package offers as an entry
            point of `trimtab.rewards`; a reward model of transformers, `hf:FOLDER` or `hf:HUB/ID`,
            with `#LABEL` where it has several; a server, `http://HOST/PATH`; or a weighted sum of
            such names, as in `0.7*sentiment - 0.01*length`, where a sign between terms stands
            between blanks.

    Raises:
        UnknownNameError: there is none; near names are offered.
        UsageError: the name is none that can be meant, or a file that can't be imported.
        PluginError: the package that offers it fails.
    """
    total = parse(name)
    if total is None:
        return _find_single(name.strip())
    _ = total.rewards  # a name that is not known is told now
    return total


def _find_single(name: str) -> Reward:
    """The reward of one name, which is no sum."""
    kind, _, rest = name.partition(":")
    if name.startswith(PYTHON):
        return as_reward(load_object(name, "a reward"))
    if kind == "hf":
        from trimtab.rewards.classifier import Classifier

        return Classifier.named(rest)
    if kind in ("http", "https"):
        from trimtab.rewards.server import Server

        return Server.named(name)
    if name in REWARDS:
        module, _, attribute = REWARDS[name].partition(":")
        return cast("Reward", getattr(import_module(f"trimtab.rewards.{module}"), attribute))
    plugins = entry_points("trimtab.rewards")
    if name not in plugins:
        raise UnknownNameError("a reward", public(name), [*REWARDS, *plugins], do=f"or {_OTHERS}")
    return as_reward(plugins[name].load())


# --- sums ----------------------------------------------------------------------------------------

_BETWEEN = re.compile(r"\s+([+-])\s+")
_LEADING = re.compile(r"([+-])\s*(?![\d.])")
_TERM = re.compile(r"(?:([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\*)?(\S.*)", re.DOTALL)


@dataclass(frozen=True)
class Sum:
    """r(x, y) = sum_i weight_i reward_i(x, y); in the units of what it adds.

    It prints as it is written, and `find(repr(it))` is it again, unless a server's URL holds
    secrets: they are not printed. Rewards are found by their names, wherever it is sent.

    Attributes:
        terms: weights and names, as for `trimtab.rewards.find`; no sums.
    """

    terms: tuple[tuple[float, str], ...]

    def __post_init__(self) -> None:
        """A sum of nothing, or with a weight that is no number, can't be meant."""
        if not self.terms or not all(math.isfinite(weight) for weight, _ in self.terms):
            raise UsageError(
                "a sum of rewards must have terms with finite weights",
                got=str(self.terms),
                do="write it as in 0.7*sentiment - 0.01*length",
            )

    @property
    def rewards(self) -> tuple[Reward, ...]:
        """What is added, in the order of `terms`.

        Raises:
            UnknownNameError: there is no such reward; near names are offered.
        """
        return tuple(_found(name) for _, name in self.terms)

    def __call__(self, samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
        """The sums, one for each response."""
        total = [0.0] * len(responses)
        for (weight, _), each in zip(self.terms, self.rewards, strict=True):
            scores = each(samples, responses)
            total = [t + weight * float(x) for t, x in zip(total, scores, strict=True)]
        return total

    def __repr__(self) -> str:
        """The one spelling of this sum: every weight said, signs between blanks."""
        return public(spelled(self.terms))


def spelled(terms: Sequence[tuple[float, str]]) -> str:
    """Terms as they are written.

    >>> spelled([(0.7, "sentiment"), (-0.01, "length"), (-2.0, "words")])
    '0.7*sentiment - 0.01*length - 2*words'
    """
    said = "".join(
        f" {'-' if math.copysign(1.0, weight) < 0 else '+'} {_short(abs(weight))}*{name}"
        for weight, name in terms
    )
    return said[3:] if said.startswith(" + ") else f"-{said[3:]}"


def parse(text: str) -> Sum | None:
    """The sum that a text spells; None where it is a single name without sign or weight.

    >>> parse("-1*length"), parse("sentiment + rated-sentiment"), parse("rated-sentiment")
    (-1*length, 1*sentiment + 1*rated-sentiment, None)

    Raises:
        UsageError: a term is missing.
    """
    if not text.strip():
        return None
    first, *rest = _BETWEEN.split(text.strip())
    sign, first = _led(first)
    signs, parts = [sign, *rest[::2]], [first, *rest[1::2]]
    terms = [_term(part, text) for part in parts]
    if len(terms) == 1 and not sign and terms[0][0] is None:
        return None
    return Sum(
        tuple(
            ((-1.0 if s == "-" else 1.0) * (1.0 if weight is None else weight), name)
            for s, (weight, name) in zip(signs, terms, strict=True)
        )
    )


def _led(first: str) -> tuple[str, str]:
    """The sign before the first term, where it is not its number's, and the rest."""
    found = _LEADING.match(first)
    return (found[1], first[found.end() :]) if found else ("", first)


def _term(part: str, text: str) -> tuple[float | None, str]:
    """The weight, where one is said, and the name."""
    found = _TERM.fullmatch(part)
    if found is None or found[2].startswith("*") or found[2].endswith((" +", " -")):
        raise UsageError(
            "each term of a sum of rewards must be NAME or WEIGHT*NAME, with signs between blanks",
            got=repr(text),
            do="write it as in 0.7*sentiment - 0.01*length",
        )
    return (float(found[1]) if found[1] else None), found[2]


def _short(weight: float) -> str:
    """A number as briefly as it can be read back."""
    return repr(weight).removesuffix(".0")


@cache
def _found(name: str) -> Reward:
    return _find_single(name)
