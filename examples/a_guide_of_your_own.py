"""A guide is five methods and three attributes; then its laws run.

This one likes words that begin like the last one.
"""

from collections.abc import Sequence

import torch

import trimtab as tt


class Alliteration:
    """Scores 1 when a candidate starts with the letter that the previous token started with."""

    name = "alliteration"

    def __init__(self, lm: tt.TransformersLM) -> None:
        self.lm, self.vocab, self.cost = lm, lm.vocab, tt.Cost()

    def prefill(self, prompts: Sequence[tt.Prompt]) -> list[int]:
        """The state is each row's last token."""
        return [prompt.ids[-1] for prompt in prompts]

    def extend(self, state: list[int], tokens: torch.Tensor, lengths: torch.Tensor) -> list[int]:
        new = zip(state, tokens.tolist(), lengths.tolist(), strict=True)
        return [row[n - 1] if n else last for last, row, n in new]

    def select(self, state: list[int], rows: torch.Tensor) -> list[int]:
        return [state[row] for row in rows.tolist()]

    def join(self, states: Sequence[list[int]]) -> list[int]:
        return [token for state in states for token in state]

    def score(self, state: list[int], candidates: tt.Candidates) -> torch.Tensor:
        rows = zip(state, candidates.tokens.tolist(), candidates.lengths.tolist(), strict=True)
        return torch.tensor(
            [
                [self._rhymes([last, *ids[:n]]) for ids, n in zip(many, lengths, strict=True)]
                for last, many, lengths in rows
            ]
        )

    def _rhymes(self, ids: list[int]) -> float:
        return float(self._letter(ids[-2]) == self._letter(ids[-1]))

    def _letter(self, token: int) -> str:
        return self.lm.decode([token]).strip()[:1].lower()


lm = tt.TransformersLM("smollm2")
tt.check_guide(Alliteration(lm), lm=lm)
(done,) = tt.decode(
    lm, Alliteration(lm), tt.args(beta=4.0), ["Describe the sea."], max_new_tokens=30
)
print(done.text)
