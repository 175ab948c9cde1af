"""A causal reward model whose token ids are not the base's: read as text, cached all the same.

Legend: B rows, K candidates, L tokens of a candidate, R some rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from trimtab.cache.reader import open_reader
from trimtab.cache.state import TreeState
from trimtab.guides.text import UNFINISHED
from trimtab.models.text import ChatTemplate
from trimtab.types import Candidates, Cost, Prompt, pad_ids

Ids = list[int]


@dataclass(frozen=True)
class Row:
    """A prompt, its text up to the response, and the response's ids as the base wrote them."""

    prompt: Prompt
    opening: str
    ids: tuple[int, ...] = ()


@dataclass
class RetokenisedState:
    """Rows, and what the reward model has read of each.

    `cache` and `read` only save work: whatever they hold, the scores are those of `rows`.
    """

    rows: list[Row]
    cache: TreeState
    read: list[Ids]


def shortened(state: TreeState, lengths: Sequence[int]) -> TreeState:
    """The first `lengths[b]` tokens of each row; what stands behind will be overwritten."""
    on = torch.tensor(lengths, device=state.lengths.device)
    return replace(state, lengths=on, bounds=list(lengths), scored=None)


@final
class Retokenised:
    """Scores prefix + candidate by retokenising the whole text.

    Merges may reach back across the end of the prefix, so tokens are never appended blindly. Each
    step reads once what the K texts have in common and was not read yet, and K times only what
    differs (one to a few tokens); the longest common token prefix with what was read is kept.

    Args:
        model: a decoder with a classification head.
        head: its head.
        chat_template: the reward model's template and tokenizer.
        decode: the base's ids of a response to its text.
    """

    vocab = None

    def __init__(
        self,
        model: PreTrainedModel,
        head: nn.Module,
        chat_template: ChatTemplate,
        decode: Callable[[Sequence[int]], str],
    ) -> None:
        self.net, self.head, self.chat_template, self.decode = model, head, chat_template, decode
        self.name = "retokenised"
        self.reader = open_reader(
            model,
            lambda out: out.last_hidden_state,
        )

    @property
    def cost(self) -> Cost:
        """Tokens of the reward model read so far."""
        return self.reader.cost

    def prefill(self, prompts: Sequence[Prompt]) -> RetokenisedState:
        """Read whole prompts, in the reward model's template."""
        rows = [Row(prompt, self.chat_template.opening(prompt)) for prompt in prompts]
        ids = self.chat_template.encode([row.opening for row in rows])
        return RetokenisedState(rows, self.reader.prefill(ids), ids)

    def extend(
        self, state: RetokenisedState, tokens: Int[Tensor, "B L"], lengths: Int[Tensor, "B"]
    ) -> RetokenisedState:
        """Append tokens; they are read with the next candidates, which decide how they tokenise."""
        new = zip(state.rows, tokens.tolist(), lengths.tolist(), strict=True)
        rows = [replace(row, ids=row.ids + tuple(ids[:n])) for row, ids, n in new]
        return replace(state, rows=rows)

    def select(self, state: RetokenisedState, rows: Int[Tensor, "R"]) -> RetokenisedState:
        """Drop, reorder or fork rows."""
        at = rows.tolist()
        return RetokenisedState(
            [state.rows[i] for i in at],
            self.reader.select(state.cache, rows),
            [state.read[i] for i in at],
        )

    def join(self, states: Sequence[RetokenisedState]) -> RetokenisedState:
        """Rows of several states side by side."""
        return RetokenisedState(
            [row for s in states for row in s.rows],
            self.reader.join([s.cache for s in states]),
            [ids for s in states for ids in s.read],
        )

    @torch.inference_mode()
    def score(self, state: RetokenisedState, candidates: Candidates) -> Float[Tensor, "B K"]:
        """The reward of each text at its last token."""
        b, k, _ = candidates.shape
        flat = self.chat_template.encode(self._texts(state, candidates))
        ids = [flat[i * k : (i + 1) * k] for i in range(b)]
        # One token of each text is left to branch on: its output is the score.
        shared = [common([*many, min(many, key=len)[:-1]]) for many in ids]
        self._read(state, shared)
        rest = [[one[len(s) :] for one in many] for many, s in zip(ids, shared, strict=True)]
        hidden = self.reader.branch(state.cache, self._branches(rest, candidates))
        scores: Tensor = self.head(hidden)
        return scores.to(candidates.logprobs.device)

    def _texts(self, state: RetokenisedState, candidates: Candidates) -> list[str]:
        """The whole text of every candidate; a finished response is closed by the template."""
        texts = []
        for row, many, lengths, ends in zip(
            state.rows,
            candidates.tokens.tolist(),
            candidates.lengths.tolist(),
            candidates.ends.tolist(),
            strict=True,
        ):
            for ids, n, end in zip(many, lengths, ends, strict=True):
                response = self.decode(row.ids + tuple(ids[:n])).rstrip(UNFINISHED)
                texts.append(
                    self.chat_template.closed(row.prompt, response)
                    if end
                    else row.opening + response
                )
        return texts

    def _read(self, state: RetokenisedState, wanted: Sequence[Ids]) -> None:
        """Make `wanted` what has been read of each row: back up where it differs, then read on."""
        kept = [len(common([a, b])) for a, b in zip(state.read, wanted, strict=True)]
        state.cache = shortened(state.cache, kept)
        new = [ids[n:] for ids, n in zip(wanted, kept, strict=True)]
        if any(new):
            tokens, lengths = pad_ids(new, device=self.net.device)
            state.cache = self.reader.extend(state.cache, tokens, lengths)
            state.cache = shortened(state.cache, [len(ids) for ids in wanted])
        state.read = list(wanted)

    def _branches(self, rest: list[list[Ids]], like: Candidates) -> Candidates:
        """What is left of each text, as candidates in the reward model's ids."""
        b, k, _ = like.shape
        tokens, lengths = pad_ids([ids for many in rest for ids in many], device=self.net.device)
        return Candidates(tokens.view(b, k, -1), like.logprobs, lengths.view(b, k), like.ends)


def common(rows: Sequence[Ids]) -> Ids:
    """The longest common token prefix."""
    first, last = min(rows), max(rows)  # whatever these two share, all between them share
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), None)
    return first[:same]
