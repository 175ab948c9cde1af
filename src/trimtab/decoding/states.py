"""The device's side of a decode: what base and guide have read of every live row.

Legend: B rows, K candidates, P prompts, R some rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trimtab.decoding.step import BatchStep, check_scores
from trimtab.protocols import Guide, LanguageModel
from trimtab.rng import Rng, row_key
from trimtab.types import Candidates, Prompt


@dataclass(frozen=True)
class States:
    """What the device holds of the live rows, in their order.

    Attributes:
        lm: the base.
        guide: None where every score is zero and nothing is read.
        base: what the base has read.
        aux: what the guide has read.
        beta: strength of all rows, or of each.
        rng: the address of each row's next draw.
    """

    lm: LanguageModel[Any]
    guide: Guide[Any] | None
    base: Any
    aux: Any
    beta: float | Float[Tensor, "B 1"]
    rng: Rng

    def score(self, candidates: Candidates) -> Float[Tensor, "B K"]:
        """The guide's scores of the candidates."""
        if self.guide is None:  # one number, seen from all places
            return candidates.logprobs.new_zeros(()).expand_as(candidates.logprobs)
        scores = self.guide.score(self.aux, candidates)
        return check_scores(self.guide.name, scores, candidates)

    def extend(self, step: BatchStep, keep: Int[Tensor, "R"] | None) -> States:
        """The rows that go on, each with the tokens that it chose.

        Args:
            step: what every row chose.
            keep: positions of the rows that go on, on the CPU; None for all.
        """
        tokens, lengths = step.tokens, step.lengths
        base, aux, beta, rng = self.base, self.aux, self.beta, self.rng.advance(lengths)
        if keep is not None:
            rows = keep.to(tokens.device)
            tokens, lengths, rng = tokens[rows], lengths[rows], rng.select(rows)
            beta = beta[rows] if isinstance(beta, Tensor) else beta
            base = self.lm.select(base, keep)
            aux = self.guide.select(aux, keep) if self.guide is not None else None
        base = self.lm.extend(base, tokens, lengths)
        aux = self.guide.extend(aux, tokens, lengths) if self.guide is not None else None
        return replace(self, base=base, aux=aux, beta=beta, rng=rng)


def prefill(
    lm: LanguageModel[Any],
    guide: Guide[Any] | None,
    prompts: Sequence[Prompt],
    n: int,
    beta: float | Float[Tensor, "P 1"],
    seed: int,
    keys: Sequence[int],
) -> States:
    """Read every prompt once, and fork it into its n rows (prompt-major).

    Args:
        lm: the base.
        guide: None where none is asked.
        prompts: encoded.
        n: rows of each.
        beta: strength of all prompts, or of each.
        seed: the user's.
        keys: the random key of each row.
    """
    base = lm.prefill(prompts)
    aux = guide.prefill(prompts) if guide is not None else None
    fork = torch.arange(len(prompts)).repeat_interleave(n)
    if n > 1:
        base = lm.select(base, fork)
        aux = guide.select(aux, fork) if guide is not None else None
    if isinstance(beta, Tensor):
        beta = beta[fork].to(lm.device)
    key = torch.tensor(keys, dtype=torch.int64, device=lm.device)
    return States(lm, guide, base, aux, beta, Rng(seed, key, torch.zeros_like(key)))


def row_keys(prompts: Sequence[Prompt], n: int, drawn: Sequence[int]) -> list[int]:
    """The random key of every row. The i-th time a prompt occurs it counts as more samples.

    Args:
        prompts: encoded.
        n: rows of each.
        drawn: for each prompt the samples that were drawn before this call.
    """
    seen: Counter[tuple[int, ...]] = Counter()
    keys: list[int] = []
    for prompt, before in zip(prompts, drawn, strict=True):
        first = before + seen[prompt.ids] * n
        keys += [row_key(prompt.ids, first + sample) for sample in range(n)]
        seen[prompt.ids] += 1
    return keys
