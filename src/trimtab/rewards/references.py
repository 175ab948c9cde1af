"""What a response should have been: the references that a sample brings in `meta["reference"]`.

A reference is a text; where there are several, a response is as good as its nearest one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trimtab.errors import RewardError
from trimtab.types import Sample

SHOWN = 60
"""Characters of a prompt that an error shows."""


def references(sample: Sample) -> tuple[str, ...]:
    """The sample's references, one or more.

    Raises:
        RewardError: it has none, or something else than texts.
    """
    found = sample.meta.get("reference")
    many = (found,) if isinstance(found, str) else found
    if isinstance(many, Sequence) and many and all(isinstance(text, str) for text in many):
        return tuple(many)
    shown = sample.text if len(sample.text) <= SHOWN else f"{sample.text[:SHOWN]}..."
    got = "none" if found is None else repr(found)[:SHOWN]
    raise RewardError(
        'a reward that compares with references needs meta["reference"], a text or a list of texts',
        got=f"{got} (prompt {shown!r})",
        do="give the file of prompts a column `reference`, or take a reward that needs none",
    )


def best(
    samples: Sequence[Sample],
    responses: Sequence[str],
    score: Callable[[str, str], float],
) -> list[float]:
    """max over the sample's references of score(response, reference), for each response.

    Raises:
        RewardError: a sample without a reference.
    """
    return [
        max(score(response, reference) for reference in references(sample))
        for sample, response in zip(samples, responses, strict=True)
    ]
