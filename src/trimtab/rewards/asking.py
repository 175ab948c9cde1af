"""Asking a reward for many texts, so that one which fails costs only itself."""

from __future__ import annotations

import math
from collections.abc import Sequence

from trimtab.errors import RewardError, TrimtabError, UnavailableError
from trimtab.protocols import Reward
from trimtab.types import Sample


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
