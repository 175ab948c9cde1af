"""Which of a classifier's outputs is the reward.

Legend: C labels; leading dimensions `*rows` are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from trimtab.errors import UnknownNameError, UsageError


@dataclass(frozen=True)
class Label:
    """One label of a classifier as a score.

    Attributes:
        index: which output.
        odds: log P(label) / P(not label) = z_label - log sum_{others} e^z, for labels that exclude
            each other; False takes the output as it is.
    """

    index: int
    odds: bool

    @classmethod
    def of(cls, config: PreTrainedConfig, label: int | str | None) -> Label:
        """The label that is meant: the only output, or the one that is named.

        Raises:
            UsageError: several labels and none is named, or no such label.
        """
        names = {int(i): str(name) for i, name in (config.id2label or {}).items()}
        count = config.num_labels or len(names)
        exclusive = config.problem_type in (None, "single_label_classification")
        odds = count > 1 and exclusive
        if label is None and count > 1:
            raise UsageError(
                "of a classifier with several labels, the one that is the reward must be named",
                got=f"none of {', '.join(names.values())}",
                do=f"write MODEL#LABEL, such as MODEL#{names[count - 1]} (the argument `label`)",
            )
        index = _index(names, label) if isinstance(label, str) else label or 0
        if not 0 <= index < count:
            raise UsageError(f"label must be below {count}", got=f"{index}", do="pass one of them")
        return cls(index, odds)

    def __call__(self, logits: Float[Tensor, "*rows C"]) -> Float[Tensor, "*rows"]:
        """The score, in float32."""
        logits = logits.float()
        mine = logits[..., self.index]
        if not self.odds:
            return mine
        others = [i for i in range(logits.shape[-1]) if i != self.index]
        return mine - torch.logsumexp(logits[..., others], dim=-1)


def _index(names: dict[int, str], label: str) -> int:
    if label not in names.values() and label.isdigit():
        return int(label)
    if label not in names.values():
        raise UnknownNameError("label", label, names.values())
    return next(i for i, name in names.items() if name == label)


class RewardHead(nn.Module):
    """A causal reward model's own head: hidden states to one label's score."""

    def __init__(self, score: nn.Linear, label: Label) -> None:
        super().__init__()
        self.score, self.label = score, label

    def forward(self, hidden: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows"]:
        """One score per state, in float32."""
        scores: Tensor = self.label(self.score(hidden))
        return scores


def causal_head(model: PreTrainedModel) -> nn.Linear | None:
    """The head of a decoder with a classification head; None for encoders.

    transformers' decoders all call it `score`, apply it at every token and pool afterwards.
    """
    head = dict(model.named_children()).get("score")
    return head if isinstance(head, nn.Linear) else None


def body(model: PreTrainedModel) -> PreTrainedModel:
    """A classifier without its head."""
    inner = model.base_model
    assert isinstance(inner, PreTrainedModel)
    return inner
