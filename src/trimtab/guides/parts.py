"""The parts of a guide by name, so that a card can spell them: heads and transforms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn

from trimtab.errors import CheckpointError, UsageError
from trimtab.guides.fields import HEAD_SIZES
from trimtab.guides.heads import (
    AdvantageHead,
    DuelingHead,
    Identity,
    LogProbabilityHead,
    ScalarHead,
    VocabularyHead,
)
from trimtab.guides.transforms import Center, Clamp, LogSigmoid, Transform
from trimtab.protocols import Guide

HEADS: dict[str, type[nn.Module]] = {
    "scalar": ScalarHead,
    "vocabulary": VocabularyHead,
    "dueling": DuelingHead,
    "advantage": AdvantageHead,
    "log_probability": LogProbabilityHead,
    "identity": Identity,
}
TRANSFORMS: dict[str, type[Transform]] = {
    "log_sigmoid": LogSigmoid,
    "clamp": Clamp,
    "center": Center,
}


def head_card(head: nn.Module) -> dict[str, Any]:
    """A head's kind and the sizes that make it.

    Raises:
        UsageError: a head of a class of one's own, which nobody else could load.
    """
    kind = next((name for name, made in HEADS.items() if type(head) is made), None)
    if kind is None:
        raise UsageError(
            f"a head that is saved must be one of {', '.join(h.__name__ for h in HEADS.values())}",
            got=type(head).__name__,
            do="use one of those",
        )
    card: dict[str, Any] = {"kind": kind}
    widest = max((w for w in head.parameters() if w.dim() == 2), key=len, default=None)
    if widest is not None:
        card["hidden"] = widest.shape[1]
    if "vocabulary" in HEAD_SIZES[kind] and widest is not None:
        card["vocabulary"] = widest.shape[0]
    return card


def make_head(card: dict[str, Any], weights: dict[str, Tensor]) -> nn.Module:
    """The head of a card with its weights, in their own precision.

    Raises:
        CheckpointError: weights that are not this head's.
    """
    sizes = {name: size for name, size in card.items() if name != "kind"}
    with torch.device("meta"):  # no memory and no random numbers for weights that are replaced
        head = HEADS[card["kind"]](**sizes)
    try:
        head.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"head.safetensors must fit a head {card}", got=reason, do="save the guide again"
        ) from error
    return head


def unwrap(guide: Guide[Any]) -> tuple[Guide[Any], list[dict[str, Any]]]:
    """The guide inside its transforms, and these, innermost first.

    Raises:
        UsageError: a transform that is not the library's, which no card can spell.
    """
    cards: list[dict[str, Any]] = []
    names = {made: name for name, made in TRANSFORMS.items()}
    while isinstance(guide, Transform):
        if type(guide) not in names:
            raise UsageError(
                f"a card spells the transforms {', '.join(TRANSFORMS)}",
                got=type(guide).__name__,
                do="save the guide inside it, and put it around that again after loading",
            )
        arguments = {f.name: getattr(guide, f.name) for f in fields(guide) if f.name != "guide"}
        cards.insert(0, {"kind": names[type(guide)], **arguments})
        guide = guide.guide
    return guide, cards


def wrap(guide: Guide[Any], cards: Sequence[dict[str, Any]]) -> Guide[Any]:
    """A guide inside the transforms of a card."""
    for card in cards:
        arguments = {name: value for name, value in card.items() if name != "kind"}
        guide = TRANSFORMS[card["kind"]](guide, **arguments)
    return guide
