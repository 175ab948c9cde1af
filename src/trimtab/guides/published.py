"""Where a paper's published code departs from its formula, as a named option.

Legend: B rows, K candidates, L tokens of a candidate, R some rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trimtab.guides.value import ValueGuide
from trimtab.types import Candidates, Cost, Prompt, Vocab


@dataclass(frozen=True)
class Reread:
    """The inner guide's rows, and the text that will be fed to them again."""

    inner: Any
    ids: list[tuple[int, ...]]


class RereadingValueGuide:
    """Values as VAS' published decoder computes them, to reproduce its tokens.

    That decoder hands the value model the whole prefix on top of a cache that already holds it: a
    candidate v after prefix s is valued in the context s s v, then s s' s' v, and so on, where s'
    is the prefix one token later. The paper's V(s v) is what `ValueGuide` gives; use this one only
    to compare with published numbers. Its cost grows with the square of the length.

    Args:
        guide: the value function.
    """

    def __init__(self, guide: ValueGuide) -> None:
        self.guide = guide
        self.name = f"{guide.name} (prefix read again)"
        self.vocab: Vocab = guide.vocab

    @property
    def cost(self) -> Cost:
        """Tokens read so far."""
        return self.guide.cost

    def prefill(self, prompts: Sequence[Prompt]) -> Reread:
        """Read the prompts once; the doubling begins with the first candidates."""
        return Reread(self.guide.prefill(prompts), [p.ids for p in prompts])

    def score(self, state: Reread, candidates: Candidates) -> Float[Tensor, "B K"]:
        """Value of each candidate after the prefix has been read once more."""
        b, k, length = candidates.shape
        again, lengths = _ragged(state.ids, candidates.tokens.device)
        tokens = torch.cat(
            [again[:, None].expand(b, k, -1), candidates.tokens.new_zeros(b, k, length)], dim=-1
        )
        at = lengths[:, None, None] + torch.arange(length, device=tokens.device)
        tokens = tokens.scatter(2, at.expand(b, k, length), candidates.tokens)
        longer = replace(
            candidates, tokens=tokens, lengths=candidates.lengths + lengths[:, None], tail=None
        )
        return self.guide.score(state.inner, longer)

    def extend(
        self, state: Reread, tokens: Int[Tensor, "B L"], lengths: Int[Tensor, "B"]
    ) -> Reread:
        """Append the whole prefix again, the new tokens at its end."""
        ids = [
            row + tuple(new[:n])
            for row, new, n in zip(state.ids, tokens.tolist(), lengths.tolist(), strict=True)
        ]
        return Reread(self.guide.extend(state.inner, *_ragged(ids, tokens.device)), ids)

    def select(self, state: Reread, rows: Int[Tensor, "R"]) -> Reread:
        """Drop, reorder or fork rows."""
        return Reread(self.guide.select(state.inner, rows), [state.ids[i] for i in rows.tolist()])

    def join(self, states: Sequence[Reread]) -> Reread:
        """Rows of several states side by side."""
        inner = self.guide.join([s.inner for s in states])
        return Reread(inner, [row for s in states for row in s.ids])


def _ragged(
    ids: Sequence[tuple[int, ...]], device: torch.device
) -> tuple[Int[Tensor, "B L"], Int[Tensor, "B"]]:
    """Rows of ids, padded on the right, and their lengths."""
    rows = [torch.tensor(row, dtype=torch.int64) for row in ids]
    lengths = torch.tensor([len(row) for row in rows])
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device), lengths.to(device)
