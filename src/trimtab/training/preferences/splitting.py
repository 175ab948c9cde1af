"""Preferences to train on, and preferences to check with, that share no topic."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from trimtab.errors import DataError, UsageError
from trimtab.types import Group


def split(
    groups: Sequence[Group], validation: float = 0.1, *, seed: int = 0
) -> tuple[tuple[Group, ...], tuple[Group, ...]]:
    """Groups for training and for validation, each in its order.

    Where a topic goes depends on the topic and the seed alone: no topic is in both, and it stays
    when others come or go. So the share of validation is met on average, not exactly.

    Args:
        groups: any, preferences or not.
        validation: the share of topics to validate on, between 0 and 1.
        seed: another one gives another split.

    Raises:
        DataError: a side is empty.
        UsageError: the share is not between 0 and 1.
    """
    if not 0 < validation < 1:
        raise UsageError(
            "the share of validation must be between 0 and 1", got=f"{validation}", do="pass 0.1"
        )
    aside = {topic: _share(topic, seed) < validation for topic in {g.topic for g in groups}}
    train = tuple(g for g in groups if not aside[g.topic])
    held = tuple(g for g in groups if aside[g.topic])
    if not train or not held:
        raise DataError(
            "training and validation must both have groups",
            got=f"{len(train)} and {len(held)}, of {len(aside)} topics",
            do="bring groups of more topics, or take another share or seed",
        )
    return train, held


def _share(topic: str, seed: int) -> float:
    """A number in [0, 1), even over topics."""
    digest = hashlib.sha256(f"{seed}\n{topic}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
