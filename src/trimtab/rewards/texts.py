"""Rewards and functions of plain texts, each as the other; and asking a reward for many texts."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from trimtab.errors import RewardError, TrimtabError, UnavailableError, UsageError
from trimtab.protocols import Reward
from trimtab.types import Sample


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


@dataclass(frozen=True)
class OnTexts:
    """A reward as a function of two lists of texts; it knows of a prompt no more than its text.

    Attributes:
        reward: judges finished texts.
    """

    reward: Reward

    def __call__(self, prompts: Sequence[str], texts: Sequence[str]) -> Sequence[float]:
        """The reward of each text as if it were finished."""
        return self.reward([Sample(prompt, prompt) for prompt in prompts], texts)


def on_texts(reward: Reward) -> OnTexts:
    """A reward as `TextGuide` takes it: `tt.TextGuide(on_texts(find("sentiment")), ...)`.

    A reward that compares with references raises `RewardError` there: a text alone has none.
    """
    return OnTexts(reward)


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
    names = list(signature.parameters)
    try:
        signature.bind([], [])
    except TypeError as error:
        called = getattr(function, "__name__", type(function).__name__)
        raise UsageError(
            "a reward is called with two lists, (prompts, responses) or (samples, responses)",
            got=f"{called}{signature}: {error}",
            do=f"define it as {called}(prompts, responses)",
        ) from error
    return cast("Reward", function) if names[:1] == ["samples"] else OfTexts(function)


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
    try:
        return [_finite(value) for value in _values(reward, samples, responses)]
    except UnusableError:
        return [_alone(reward, *pair) for pair in zip(samples, responses, strict=True)]


class UnusableError(Exception):
    """Inside this file: a reward raised, or did not return one number for each text."""


def _values(reward: Reward, samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
    try:
        values = [float(x) for x in reward(samples, responses)]
    except TrimtabError as error:
        if not isinstance(error, RewardError) or isinstance(error, UnavailableError):
            raise
        raise UnusableError(str(error)) from error
    except Exception as error:
        raise UnusableError(f"{type(error).__name__}: {error}") from error
    if len(values) != len(responses):
        raise UnusableError(f"{len(values)} scores for {len(responses)} texts")
    return values


def _alone(reward: Reward, sample: Sample, response: str) -> float | str:
    try:
        return _finite(_values(reward, [sample], [response])[0])
    except UnusableError as error:
        return str(error)


def _finite(value: float) -> float | str:
    return value if math.isfinite(value) else f"{value}"
