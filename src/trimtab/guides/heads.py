"""Heads: from a backbone's hidden states to scores, and how each is spelled on disk.

Legend: D hidden size, V vocabulary; leading dimensions `*rows` are kept.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from trimtab.errors import CheckpointError, UsageError


class ScalarHead(nn.Module):
    """V(s) = w h(s) + b. Starts at zero, so an untrained guide changes nothing."""

    def __init__(self, hidden: int, bias: float = 0.0) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.constant_(self.linear.bias, bias)

    def forward(self, hidden: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows"]:
        """One score per state, in float32."""
        out: Tensor = self.linear(hidden.to(self.linear.weight.dtype))
        return out.squeeze(-1).float()


class VocabularyHead(nn.Module):
    """Q(s, .) = W h(s) + b: one score for every next token (FaRMA; VAS, appendix B)."""

    def __init__(self, hidden: int, vocabulary: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden, vocabulary)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows V"]:
        """One score per next token, in float32."""
        out: Tensor = self.linear(hidden.to(self.linear.weight.dtype))
        return out.float()


class DuelingHead(nn.Module):
    """Q(s, v) = V(s) + A(s, v) (Wang et al. 2016; VAS, appendix B); A starts at zero."""

    def __init__(self, hidden: int, vocabulary: int) -> None:
        super().__init__()
        self.value = ScalarHead(hidden)
        self.advantage = VocabularyHead(hidden, vocabulary)

    def forward(self, hidden: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows V"]:
        """One score per next token, in float32."""
        scores: Tensor = self.value(hidden)[..., None] + self.advantage(hidden)
        return scores


class AdvantageHead(nn.Module):
    """A(s, v) = Q(s, v) - V(s) of two heads trained apart (ILQL, Snell et al. 2023)."""

    def __init__(self, hidden: int, vocabulary: int) -> None:
        super().__init__()
        self.value = ScalarHead(hidden)
        self.q = VocabularyHead(hidden, vocabulary)

    def forward(self, hidden: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows V"]:
        """One score per next token, in float32."""
        scores: Tensor = self.q(hidden) - self.value(hidden)[..., None]
        return scores


class LogProbabilityHead(nn.Module):
    """log p_arm(. | s): a causal LM's own output, normalised (GenARM). It has no weights."""

    def forward(self, logits: Float[Tensor, "*rows V"]) -> Float[Tensor, "*rows V"]:
        """Log-probabilities, in float32."""
        return logits.float().log_softmax(dim=-1)


class Identity(nn.Module):
    """A network's own outputs as scores: FaRMA's r(s, .), a causal LM's raw next-token outputs."""

    def forward(self, outputs: Float[Tensor, "*rows V"]) -> Float[Tensor, "*rows V"]:
        """The same, in float32."""
        return outputs.float()


HEADS: dict[str, type[nn.Module]] = {
    "scalar": ScalarHead,
    "vocabulary": VocabularyHead,
    "dueling": DuelingHead,
    "advantage": AdvantageHead,
    "log_probability": LogProbabilityHead,
    "identity": Identity,
}
"""Heads that can be saved, by their names on disk."""


def head_sizes(kind: str) -> tuple[str, ...]:
    """The sizes that a head is made with: the arguments that it needs.

    >>> head_sizes("dueling")
    ('hidden', 'vocabulary')
    """
    parameters = inspect.signature(HEADS[kind]).parameters.values()
    needed = (p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty)
    return tuple(p.name for p in needed)


def head_spec(head: nn.Module) -> dict[str, Any]:
    """A head's kind and sizes, as `load_head` takes them.

    Raises:
        UsageError: a head of a class of one's own, which nobody else could load.
    """
    kind = next((name for name, known in HEADS.items() if type(head) is known), None)
    if kind is None:
        raise UsageError(
            f"a head that is saved must be one of {', '.join(h.__name__ for h in HEADS.values())}",
            got=type(head).__name__,
            do="use one of those",
        )
    widest = max((w.shape for w in head.parameters() if w.dim() == 2), default=(0, 0))
    sizes = {"vocabulary": widest[0], "hidden": widest[1]}
    return {"kind": kind, **{name: sizes[name] for name in head_sizes(kind)}}


def load_head(spec: dict[str, Any], path: Path) -> nn.Module:
    """The head of a kind and sizes with the weights of a file, in their own precision.

    Args:
        spec: as `head_spec` gives it.
        path: safetensors; no file, of a head without weights.

    Raises:
        CheckpointError: weights that are not this head's, or no safetensors.
    """
    sizes = {name: size for name, size in spec.items() if name != "kind"}
    with torch.device("meta"):  # no memory and no random numbers for weights that are replaced
        head = HEADS[spec["kind"]](**sizes)
    try:
        head.load_state_dict(load_file(path) if path.is_file() else {}, assign=True)
    except (RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"{path.name} must fit a head {spec}",
            got=" ".join(str(error).split()),
            do="save the guide again",
        ) from error
    return head
