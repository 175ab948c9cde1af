"""What the name of a reward means, rewards from functions of texts, and asking one for many texts.

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

import inspect
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from typing import cast

from trimtab.errors import (
    RewardError,
    TrimtabError,
    UnavailableError,
    UnknownNameError,
    UsageError,
    public,
)
from trimtab.plugins import PYTHON, entry_points, load_object
from trimtab.protocols import Reward
from trimtab.types import Sample

REWARDS: dict[str, str] = {
    "brevity": "length:brevity",
    "chrf": "similarity:chrf",
    "conciseness": "length:conciseness",
    "exact": "similarity:exact",
    "formality": "shipped:formality",
    "length": "length:length",
    "profanity": "shipped:cleanliness",
    "rated-sentiment": "sentiment:rated_sentiment",
    "readability": "length:readability",
    "rouge": "similarity:rouge",
    "sentiment": "sentiment:sentiment",
    "similarity": "similarity:similarity",
    "similarity-to-reference": "similarity:similarity_to_reference",
    "valence": "sentiment:valence",
    "toxicity": "shipped:nontoxicity",
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
        name: one of `REWARDS`; a function of yours, `python:MODULE:NAME` or `python:FILE.py:NAME`;
            an entry point of `trimtab.rewards`; a reward model of transformers, `hf:FOLDER` or
            `hf:HUB/ID`, with `#LABEL` where it has several; a server, `http://HOST/PATH`; or a
            weighted sum of such names, as in `0.7*sentiment - 0.01*length`.

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


_find_once = cache(_find_single)


# --- sums ----------------------------------------------------------------------------------------

_BETWEEN = re.compile(r"\s+([+-])\s+")
_LEADING = re.compile(r"([+-])\s*(?![\d.])")  # before a name; before a number it is the number's
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
        return tuple(_find_once(name) for _, name in self.terms)

    def __call__(self, samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
        """The sums, one for each response."""
        total = [0.0] * len(responses)
        for (weight, _), reward in zip(self.terms, self.rewards, strict=True):
            scores = reward(samples, responses)
            total = [t + weight * float(x) for t, x in zip(total, scores, strict=True)]
        return total

    def __repr__(self) -> str:
        """The one spelling of this sum: every weight said, signs between blanks."""
        return public(spelled(self.terms))


def spelled(terms: Sequence[tuple[float, str]]) -> str:
    """Terms as they are written; weights as briefly as they can be read back.

    >>> spelled([(0.7, "sentiment"), (-0.01, "length"), (-2.0, "words")])
    '0.7*sentiment - 0.01*length - 2*words'
    """
    text = ""
    for weight, name in terms:
        sign = "-" if math.copysign(1.0, weight) < 0 else "+"
        text += f" {sign} {repr(abs(weight)).removesuffix('.0')}*{name}"
    return text[3:] if text.startswith(" + ") else f"-{text[3:]}"


def parse(text: str) -> Sum | None:
    """The sum that a text spells; None where it is a single name without sign or weight.

    >>> parse("-1*length"), parse("sentiment + rated-sentiment"), parse("rated-sentiment")
    (-1*length, 1*sentiment + 1*rated-sentiment, None)

    Raises:
        UsageError: a term is missing.
    """
    text = text.strip()
    if not text:
        return None
    first, *rest = _BETWEEN.split(text)
    lead = _LEADING.match(first)
    signs = [lead[1] if lead else "+", *rest[::2]]
    parts = [first[lead.end() :] if lead else first, *rest[1::2]]
    terms = tuple(_term(sign, part, text) for sign, part in zip(signs, parts, strict=True))
    return None if terms == ((1.0, text),) else Sum(terms)


def _term(sign: str, part: str, text: str) -> tuple[float, str]:
    found = _TERM.fullmatch(part)
    if found is None or found[2].startswith("*") or found[2].endswith((" +", " -")):
        raise UsageError(
            "each term of a sum of rewards must be NAME or WEIGHT*NAME, with signs between blanks",
            got=repr(text),
            do="write it as in 0.7*sentiment - 0.01*length",
        )
    weight = float(found[1] or 1)
    return (-weight if sign == "-" else weight), found[2]


# --- functions of texts --------------------------------------------------------------------------


@dataclass(frozen=True)
class OfTexts:
    """A function of two lists of texts as a reward.

    Attributes:
        function: `(prompts, responses) -> one score each`; of a conversation it sees what the user
            said last.
    """

    function: Callable[[list[str], list[str]], Sequence[float]]

    def __call__(self, samples: Sequence[Sample], responses: Sequence[str]) -> Sequence[float]:
        """What the function says of the samples' texts."""
        return self.function([sample.text for sample in samples], list(responses))


def on_texts(reward: Reward) -> Callable[[Sequence[str], Sequence[str]], Sequence[float]]:
    """A reward as `TextGuide` takes it: `tt.TextGuide(on_texts(find("sentiment")), ...)`.

    A reward that compares with references raises `RewardError` there: a text alone has none.
    """
    return partial(_on_texts, reward)


def _on_texts(reward: Reward, prompts: Sequence[str], texts: Sequence[str]) -> Sequence[float]:
    """The reward of each text as if it were finished."""
    return reward([Sample(prompt, prompt) for prompt in prompts], texts)


def as_reward(function: object) -> Reward:
    """A user's function as a reward.

    A function whose first parameter is named `samples` is one already; any other is called with two
    lists of texts.

    Raises:
        UsageError: it is no function, or cannot be called with two lists.
    """
    if not callable(function):
        raise UsageError(
            "a reward must be a function: (prompts, responses) or (samples, responses)",
            got=f"{function!r:.80}",
            do="name a function",
        )
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some builtins do not say
        return OfTexts(function)
    try:
        signature.bind([], [])
    except TypeError as error:
        called = getattr(function, "__name__", type(function).__name__)
        raise UsageError(
            "a reward is called with two lists, (prompts, responses) or (samples, responses)",
            got=f"{called}{signature}: {error}",
            do=f"define it as {called}(prompts, responses)",
        ) from error
    takes_samples = next(iter(signature.parameters)) == "samples"
    return cast("Reward", function) if takes_samples else OfTexts(function)


# --- asking --------------------------------------------------------------------------------------


def ask(reward: Reward, samples: Sequence[Sample], responses: Sequence[str]) -> list[float | str]:
    """What a reward says of each response: a finite number, or why there is none.

    All are asked for at once where that works, and one by one where it does not. A reward that
    raises, or whose answer is not one finite number for each text, has failed.

    Args:
        reward: what judges.
        samples: what was asked, one for each response.
        responses: finished texts.

    Raises:
        TrimtabError: no text is to blame: a model that is not fetched, a package that is missing, a
            server that is down (`UnavailableError`).
    """
    if not responses:
        return []
    scores = _scores(reward, samples, responses)
    if not isinstance(scores, str):
        return [score if math.isfinite(score) else str(score) for score in scores]
    if len(responses) == 1:
        return [scores]
    pairs = zip(samples, responses, strict=True)
    return [ask(reward, [sample], [response])[0] for sample, response in pairs]


def _scores(
    reward: Reward, samples: Sequence[Sample], responses: Sequence[str]
) -> list[float] | str:
    """One number for each response, or why there are none."""
    try:
        scores = [float(score) for score in reward(samples, responses)]
    except TrimtabError as error:
        if not isinstance(error, RewardError) or isinstance(error, UnavailableError):
            raise
        return str(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if len(scores) != len(responses):
        return f"{len(scores)} scores for {len(responses)} texts"
    return scores
