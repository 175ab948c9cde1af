"""Whether a response is the answer, word for word."""

from __future__ import annotations

from collections.abc import Sequence

from trimtab.rewards.references import best
from trimtab.types import Sample


def exact(samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
    """1 where a response equals a reference but for case and blanks, else 0.

    Raises:
        RewardError: a sample without a reference.
    """
    return best(samples, responses, _same)


def _same(response: str, reference: str) -> float:
    return float(_plain(response) == _plain(reference))


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()
