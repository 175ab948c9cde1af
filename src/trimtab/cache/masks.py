"""Who sees whom: tree attention over one shared prefix, with sliding windows where there are any.

Legend: B rows, Q query tokens of a row, W stored positions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedConfig

from trimtab.errors import IncompatibleError


@dataclass(frozen=True)
class Lanes:
    """Where the query tokens of one forward stand.

    A lane sees the row's prefix and its own chain up to itself; a chain is one candidate, or the
    single continuation of an `extend`.

    Attributes:
        prefix: number of tokens already stored, per row.
        start: storage position of the lane's chain.
        at: storage position of the lane itself; out of reach for padding.
        real: False for padding.
    """

    prefix: Int[Tensor, "B"]
    start: Int[Tensor, "B Q"]
    at: Int[Tensor, "B Q"]
    real: Bool[Tensor, "B Q"]

    @property
    def position(self) -> Int[Tensor, "B Q"]:
        """Position in the text: every chain begins right after the prefix."""
        return (self.prefix[:, None] + self.at - self.start).masked_fill(~self.real, 0)


def see(lanes: Lanes, width: int, window: int | None = None) -> Bool[Tensor, "B 1 Q W"]:
    """True where a lane attends to a stored position; `window` is the sliding window in tokens.

    Padding stands beyond the width and sees whatever is there: nobody reads what comes of it, and
    attention over nothing would be NaN.
    """
    s = torch.arange(width, device=lanes.at.device)
    prefix, start, at = lanes.prefix[:, None, None], lanes.start[..., None], lanes.at[..., None]
    chain = (s >= start) & (s <= at)
    mask = (s < prefix) | chain
    if window is not None:
        place = torch.where(chain, prefix + s - start, s)
        mask &= lanes.position[..., None] - place < window
    return mask[:, None]


class MaskMaker:
    """Builds the mask that an architecture wants, from its config.

    An explicit mask replaces a model's own sliding-window mask, so the window has to be in it.
    Models that mix layer types take a dict of masks; all others take one.
    """

    def __init__(self, config: PreTrainedConfig) -> None:
        self.window: int | None = getattr(config, "sliding_window", None)
        kinds = set(getattr(config, "layer_types", None) or ())
        if kinds - {"full_attention", "sliding_attention"}:
            raise IncompatibleError(
                "tree attention needs layers of full or sliding attention",
                got=f"{config.model_type} with {sorted(kinds)}",
                do='pass attention="expanded"',
            )
        if config._attn_implementation not in ("sdpa", "eager"):
            raise IncompatibleError(
                "tree attention needs attention that takes an explicit mask",
                got=f"attn_implementation={config._attn_implementation!r}",
                do='load the model with attn_implementation="sdpa"',
            )
        self.mixed = len(kinds) > 1
        if kinds == {"full_attention"}:
            self.window = None

    def __call__(self, lanes: Lanes, width: int, dtype: torch.dtype) -> Tensor | dict[str, Tensor]:
        """The mask of one forward."""
        return self.shaped(partial(see, lanes, width), dtype)

    def shaped(
        self, see: Callable[[int | None], Bool[Tensor, "B 1 Q W"]], dtype: torch.dtype | None
    ) -> Tensor | dict[str, Tensor]:
        """What the architecture wants of a function from its sliding window to who sees whom.

        Args:
            see: true where a query attends; called with None where all may be seen.
            dtype: of the mask as a term of the scores (sdpa would turn a boolean mask into one in
                every layer); None keeps it boolean.
        """
        if not self.mixed:
            return _finish(see(self.window), dtype)
        return {
            "full_attention": _finish(see(None), dtype),
            "sliding_attention": _finish(see(self.window), dtype),
        }


def _finish(mask: Bool[Tensor, "B 1 Q W"], dtype: torch.dtype | None) -> Tensor:
    if dtype is None:
        return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, torch.finfo(dtype).min)
