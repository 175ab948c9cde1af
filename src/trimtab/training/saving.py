"""From trained weights to a guide's folder: scores in their unit, and all that is known of them."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from trimtab.evaluation.statistics import variance
from trimtab.guides import Clamp, LogSigmoid, ValueGuide, VocabularyGuide, save_guide
from trimtab.models.transformers import TransformersLM
from trimtab.protocols import Guide
from trimtab.training.batches import to_batch, token_scores
from trimtab.training.examples import Example, collate, to_device, to_network
from trimtab.training.material import Material
from trimtab.training.networks import GuideNetwork, rescale
from trimtab.training.objectives import Fudge, Objective, Rad
from trimtab.training.objectives.preferences import at_end
from trimtab.training.targets import Scale, Unit


def make_guide(network: GuideNetwork, goal: Objective, lm: TransformersLM, name: str) -> Guide[Any]:
    """The guide that a trained network is, as decoding reads it."""
    backbone: Any = network.backbone
    if network.adapter is not None:
        backbone = copy.deepcopy(backbone).merge_and_unload()
    kind = ValueGuide if goal.head == "scalar" else VocabularyGuide
    guide: Guide[Any] = kind(backbone, network.head, vocab=lm.vocab, name=name)
    if isinstance(goal, Fudge):
        return LogSigmoid(guide)
    return Clamp(guide, 0.0, 1.0) if isinstance(goal, Rad) else guide


def save(
    network: GuideNetwork,
    goal: Objective,
    material: Material,
    lm: TransformersLM,
    target: Path,
    *,
    name: str,
    base: str,
    unit: Unit,
    store: Literal["float32", "bfloat16"],
    objective: Mapping[str, Any],
    data: Mapping[str, Any],
    overwrite: bool,
) -> None:
    """Put the scores into their unit, in place, and write the guide's folder.

    Args:
        network: trained.
        goal: what by.
        material: what from.
        lm: the base.
        target: the folder.
        name: the guide's.
        base: how others find the base.
        unit: of the scores.
        store: precision of the trained weights on disk; the guide is rounded to it.
        objective: what the card says of the training.
        data: what the card says of the data.
        overwrite: replace a folder that is there.
    """
    spread = final_spread(network, material.validation)
    if not goal.labels:
        _to_unit(network, goal, material.scale, unit, spread)
    dtype = getattr(torch, store)
    round_to(network, dtype)
    guide = make_guide(network, goal, lm, name)
    if network.adapter is not None:  # merged by now: what is left of it goes to the disk
        cast(network.adapter, dtype)
    save_guide(
        guide,
        target,
        storage="base" if network.adapter is not None else "full",
        adapter=network.adapter,
        base=base,
        template=lm.tokenizer.chat_template if lm.codec.template == "auto" else None,
        objective=objective,
        data={**data, "counts": [each.as_dict() for each in material.counts]},
        reward={**(material.reward.as_dict() if material.reward else {}), "unit": unit},
        overwrite=overwrite,
    )


@torch.no_grad()
def round_to(network: GuideNetwork, dtype: torch.dtype) -> None:
    """Round the trained weights, in place, to values that a precision can hold."""
    for weights in network.parameters():
        if weights.requires_grad:
            weights.copy_(weights.to(dtype))


def cast(adapter: Any, dtype: torch.dtype) -> None:
    """Put an adapter's own weights into a precision."""
    for name, weights in adapter.named_parameters():
        if "lora_" in name:
            weights.data = weights.data.to(dtype)


def _to_unit(
    network: GuideNetwork, goal: Objective, scale: Scale, unit: Unit, spread: float
) -> None:
    """From the network's unit to the guide's."""
    if goal.pairs:  # a difference of scores is log-odds of being preferred; it has no other unit
        rescale(network.head, 1 / spread if unit == "std" and spread else 1.0, 0.0)
    elif unit == "std":
        rescale(network.head, 1.0, scale.shift / scale.size)
    else:
        rescale(network.head, scale.size, scale.shift)


@torch.no_grad()
def final_spread(network: GuideNetwork, examples: Sequence[Example]) -> float:
    """Standard deviation of the scores of finished responses."""
    network.eval()
    found = []
    for at in range(0, len(examples), 8):
        tensors = to_device(
            collate(examples[at : at + 8], shared=network.shares), next(network.parameters()).device
        )
        outputs = network(**to_network(tensors))
        each = token_scores(outputs, to_batch(tensors))
        found.append(at_end(each, tensors["lengths"] - 1))
    return math.sqrt(variance(torch.cat(found).tolist()) or 0.0)
