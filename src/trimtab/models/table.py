"""The exact toy: a language model whose every conditional law can be looked up.

Small enough to enumerate (|V| <= 6, a handful of tokens), so tests can compute the law of whole
sequences in closed form and hold the decode loop to it.

Legend: B rows, K candidates, L tokens of a candidate, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trimtab.decoding.loop import draw_blocks
from trimtab.errors import IncompatibleError, PromptError
from trimtab.models.proposals import propose_tokens, tail_draw
from trimtab.rng import Rng
from trimtab.types import (
    Candidates,
    Cost,
    Prompt,
    PromptLike,
    Proposal,
    Samples,
    Vocab,
)

Rows = list[tuple[int, ...]]
"""A row is the tuple of ids read so far."""


class TableLM:
    """Next-token laws drawn once per prefix from a seed; text is the letters a, b, c, ...

    Args:
        size: |V|; id 0 is EOS and prints as nothing.
        seed: decides the table.
        spread: standard deviation of the logits (nats); larger is more peaked.
        context: most tokens of prompt and response together.
    """

    def __init__(
        self, size: int = 5, seed: int = 0, spread: float = 1.5, context: int | None = None
    ) -> None:
        self.vocab = Vocab(size)
        self.eos_ids = frozenset({0})
        self.context = context
        self.device = torch.device("cpu")
        self.cost = Cost()
        self.seed, self.spread = seed, spread
        self._table: dict[tuple[int, ...], Tensor] = {}

    def next_logprobs(self, prefix: Sequence[int]) -> Float[Tensor, "V"]:
        """log pi_ref(. | prefix), in float64."""
        key = tuple(prefix)
        if key not in self._table:
            generator = torch.Generator().manual_seed(hash((self.seed, key)) % 2**63)
            logits = torch.randn(self.vocab.size, generator=generator, dtype=torch.float64)
            self._table[key] = (logits * self.spread).log_softmax(-1)
        return self._table[key]

    def encode(self, prompt: PromptLike) -> Prompt:
        """Letters to ids: `"ab"` is (1, 2)."""
        if isinstance(prompt, Prompt):
            return prompt
        if not isinstance(prompt, str):
            raise IncompatibleError("a TableLM reads letters", got="messages", do="pass a string")
        ids = tuple(ord(letter) - ord("a") + 1 for letter in prompt)
        if not all(0 < i < self.vocab.size for i in ids):
            raise PromptError(
                f"letters must be among the first {self.vocab.size - 1}", got=prompt, do="use those"
            )
        return Prompt(ids, text=prompt)

    def decode(self, ids: Sequence[int]) -> str:
        """Ids to letters; EOS prints as nothing."""
        return "".join(chr(ord("a") + i - 1) for i in ids if i != 0)

    def prefill(self, prompts: Sequence[Prompt]) -> Rows:
        """One row per prompt."""
        self.cost.add(prefill=sum(len(p.ids) for p in prompts))
        return [p.ids for p in prompts]

    def extend(self, state: Rows, tokens: Int[Tensor, "B L"], lengths: Int[Tensor, "B"]) -> Rows:
        """Append tokens."""
        self.cost.add(extended=int(lengths.sum()))
        return [
            row + tuple(new[:n])
            for row, new, n in zip(state, tokens.tolist(), lengths.tolist(), strict=True)
        ]

    def select(self, state: Rows, rows: Int[Tensor, "R"]) -> Rows:
        """Drop, reorder or fork rows."""
        return [state[i] for i in rows.tolist()]

    def join(self, states: Sequence[Rows]) -> Rows:
        """Rows side by side."""
        return [row for state in states for row in state]

    def propose(self, state: Rows, proposal: Proposal, rng: Rng) -> Candidates:
        """Candidates from the table."""
        if isinstance(proposal, Samples):
            fork = [row for row in state for _ in range(proposal.n)]
            return draw_blocks(self, fork, proposal, rng)
        return propose_tokens(self._next(state), proposal, self.eos_ids)

    def _next(self, state: Rows) -> Float[Tensor, "B V"]:
        return torch.stack([self.next_logprobs(row) for row in state])

    def draw_tail(
        self, state: Rows, candidates: Candidates, rng: Rng
    ) -> tuple[Int[Tensor, "B"], Float[Tensor, "B"]]:
        """Inverse-CDF draw from the table outside the candidates."""
        return tail_draw(self._next(state), candidates, rng)

    def __repr__(self) -> str:
        """Its size and seed."""
        return f"TableLM({self.vocab.size}, seed={self.seed})"
