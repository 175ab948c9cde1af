"""From a trained network to the guide that decoding reads: its unit, its rounding, its card."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch

from trimtab.guides import ValueGuide, VocabularyGuide
from trimtab.models.transformers import TransformersLM
from trimtab.protocols import Guide
from trimtab.training.batches import collate, to_batch, to_network, token_scores
from trimtab.training.examples import Example, Material
from trimtab.training.network import GuideNetwork, rescale
from trimtab.training.objectives import Objective
from trimtab.training.objectives.preferences import at_end
from trimtab.training.targets import Unit


def to_guide(
    network: GuideNetwork,
    objective: Objective,
    material: Material,
    lm: TransformersLM,
    *,
    name: str,
    unit: Unit,
    dtype: torch.dtype,
) -> Guide[Any]:
    """The guide that a trained network is; the network itself is put into its unit and rounded.

    Args:
        network: trained.
        objective: what by.
        material: what from.
        lm: the base.
        name: the guide's.
        unit: of its scores.
        dtype: precision of the trained weights on disk; the guide is rounded to it.
    """
    spread = final_spread(network, material.validation) if unit == "std" else 0.0
    rescale(network.head, *objective.rescaling(material.reward, spread, unit))
    _round(network, dtype)
    guide = make_guide(network, objective, lm, name)
    if network.adapter is not None:  # merged by now: what is left of it goes to the disk
        for parameter, weights in network.adapter.named_parameters():
            if "lora_" in parameter:
                weights.data = weights.data.to(dtype)
    return guide


def make_guide(
    network: GuideNetwork, objective: Objective, lm: TransformersLM, name: str
) -> Guide[Any]:
    """The guide that a network is as it stands; the adapter is merged into a copy of the layers."""
    backbone: Any = network.backbone
    if network.adapter is not None:
        backbone = copy.deepcopy(backbone).merge_and_unload()
    kind = ValueGuide if objective.head == "scalar" else VocabularyGuide
    guide: Guide[Any] = kind(backbone, network.head, vocab=lm.vocab, name=name)
    return objective.wrap(guide)


@torch.no_grad()
def _round(network: GuideNetwork, dtype: torch.dtype) -> None:
    """Round the trained weights, in place, to values that a precision can hold."""
    for weights in network.parameters():
        if weights.requires_grad:
            weights.copy_(weights.to(dtype))


@torch.no_grad()
def final_spread(network: GuideNetwork, examples: Sequence[Example]) -> float:
    """Standard deviation of the scores of finished responses."""
    network.eval()
    device = next(network.parameters()).device
    scores = []
    for start in range(0, len(examples), 8):
        tensors = collate(examples[start : start + 8], shared=network.shares)
        tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
        each = token_scores(network(**to_network(tensors)), to_batch(tensors))
        scores.append(at_end(each, tensors["lengths"] - 1))
    every = torch.cat(scores).double()
    return float(every.std()) if len(every) > 1 else 0.0
