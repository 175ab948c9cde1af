"""Guides: value functions, vocabulary-wide heads, reward models, functions on texts, sums.

    guide = load_guide("sentiment", lm=lm)                           a saved one
    guide = RewardGuide.load("ORG/NAME", lm)                         a reward model on prefixes
    guide = TextGuide(my_score, lm.decode)                           a Python function
    guide = WeightedSum([(1.0, guide), (0.5, LogSigmoid(other))])    several at once

A guide of your own needs five methods (`trimtab.protocols.Guide`); `Delegate` has four of them for
one that leaves the reading to another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trimtab.lazy import door

if TYPE_CHECKING:
    from trimtab.guides.cached import (
        AdvantageHead,
        DuelingHead,
        Identity,
        LogProbabilityHead,
        ScalarHead,
        ValueGuide,
        VocabularyGuide,
        VocabularyHead,
    )
    from trimtab.guides.checkpoint import load_guide, save_guide
    from trimtab.guides.compose import WeightedSum
    from trimtab.guides.manifest import Manifest, shipped_guides, verify
    from trimtab.guides.reward import RewardGuide
    from trimtab.guides.states import EmbeddingHead, StateGuide
    from trimtab.guides.text import TextGuide
    from trimtab.guides.transforms import (
        Center,
        Clamp,
        Delegate,
        LogSigmoid,
        RereadingValueGuide,
        Transform,
    )

__all__ = [
    "AdvantageHead",
    "Center",
    "Clamp",
    "Delegate",
    "DuelingHead",
    "EmbeddingHead",
    "Identity",
    "LogProbabilityHead",
    "LogSigmoid",
    "Manifest",
    "RereadingValueGuide",
    "RewardGuide",
    "ScalarHead",
    "StateGuide",
    "TextGuide",
    "Transform",
    "ValueGuide",
    "VocabularyGuide",
    "VocabularyHead",
    "WeightedSum",
    "load_guide",
    "save_guide",
    "shipped_guides",
    "verify",
]
__getattr__, __dir__ = door(__name__)
