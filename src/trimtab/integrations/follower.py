"""A guide's state kept in step with the rows that another engine decodes.

The engine shows all ids of all rows at every step. From those alone it is clear which rows went
on, which were reordered or forked (beam search), which have ended, and whether a new call began.

One thing is not. Assisted decoding (of one row) shows drafts that it then takes back, and so does a
new call on part of what a former one wrote; only the first has its prompt where the rows began.
Whoever says where the prompt ends, by the prompts or their attention mask, is followed there.

Legend: B rows, P prompts, T tokens of the engine's rows (padding included).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from jaxtyping import Int
from torch import Tensor

from trimtab.errors import UsageError
from trimtab.protocols import Guide
from trimtab.types import Prompt, is_eos

X = TypeVar("X")


def per_row(each: Sequence[X], rows: int, what: str) -> list[X]:
    """One entry per row from one per prompt; an engine puts a prompt's rows side by side."""
    if not each or rows % len(each):
        raise UsageError(
            f"{what} must be one per prompt, for a batch of {rows} rows",
            got=f"{len(each)}",
            do="pass one for each row of input_ids as `generate` was given it",
        )
    times = rows // len(each)
    return [x for x in each for _ in range(times)]


@dataclass(frozen=True)
class PromptRows:
    """How the rows of a first step become prompts, without their padding.

    Attributes:
        prompts: what the rows answer, if the caller said so.
        attention_mask: where the padding is, if the caller said so.
        pad_token_id: whose leading run is padding, if the caller said so.
    """

    prompts: Sequence[Prompt] | None
    attention_mask: Int[Tensor, "P T"] | None
    pad_token_id: int | None

    @property
    def says_where_prompts_end(self) -> bool:
        """Whether the caller said where prompts end."""
        return self.prompts is not None or self.attention_mask is not None

    def read(self, ids: Int[Tensor, "B T"]) -> list[Prompt]:
        """One prompt per row."""
        rows = ids.tolist()
        if self.prompts is not None:
            prompts = per_row(self.prompts, len(rows), "prompts")
            for i, (row, prompt) in enumerate(zip(rows, prompts, strict=True)):
                _check_prompt(i, row, prompt)
            return prompts
        if self.attention_mask is not None:
            return [Prompt(ids) for ids in self._unmasked(self.attention_mask.tolist(), rows)]
        return [Prompt(self._unpadded(row)) for row in rows]

    def _unmasked(self, mask: list[list[int]], rows: list[list[int]]) -> list[tuple[int, ...]]:
        width = len(rows[0])
        if len(mask[0]) != width:
            raise UsageError(
                f"the attention mask must be as wide as the rows that begin: {width} tokens",
                got=f"{len(mask[0])}",
                do="make a processor for each `generate` call, or pass pad_token_id instead; an "
                "assistant model needs the tokenizer of the model that it assists",
            )
        return [
            tuple(token for token, real in zip(row, flags, strict=True) if real)
            for row, flags in zip(rows, per_row(mask, len(rows), "attention masks"), strict=True)
        ]

    def _unpadded(self, row: list[int]) -> tuple[int, ...]:
        """Without the leading run of padding; the last token always stays."""
        start = next((i for i, t in enumerate(row) if t != self.pad_token_id), len(row) - 1)
        return tuple(row[start:])


def _check_prompt(index: int, row: list[int], prompt: Prompt) -> None:
    if tuple(row[max(0, len(row) - len(prompt.ids)) :]) != prompt.ids:
        raise UsageError(
            f"prompt {index} must be what `generate` reads there",
            got="other ids, or rows that went on without the processor",
            do="pass the prompts of this call in the order of its rows, or none; an assistant "
            "model needs the tokenizer of the model that it assists",
        )


class Follower:
    """Keeps `state` in step; it holds the rows that have not ended, in order.

    Args:
        guide: whose state it is.
        opening: how first rows become prompts.
        eos_ids: what ends a row.
    """

    def __init__(self, guide: Guide[Any], prompt_rows: PromptRows, eos_ids: frozenset[int]) -> None:
        self.guide, self.prompt_rows, self.eos_ids = guide, prompt_rows, eos_ids
        self.state: Any = None
        self._first: Tensor | None = None  # the rows when they began
        self._seen: Tensor | None = None  # the rows now
        self._live: list[int] = []

    @property
    def start(self) -> int:
        """Width of the rows when they began."""
        return 0 if self._first is None else self._first.shape[1]

    def reset(self) -> None:
        """Forget all rows."""
        self.state, self._first, self._seen, self._live = None, None, None, []

    def follow(self, ids: Int[Tensor, "B T"]) -> list[int]:
        """Bring the state to these rows; returns those that have not ended."""
        sources = self._sources(ids)
        live = self._going(ids) if sources is not None else []
        # An engine stops when all rows have ended, so if they seem to, this is no mere next step.
        if sources is None or not live:
            return self._resume(ids) if self._goes_back(ids) else self._begin(ids)
        places = [self._live.index(sources[i]) for i in live]
        if places != list(range(len(self._live))):
            self.state = self.guide.select(self.state, torch.tensor(places))
        tokens = ids[torch.tensor(live, device=ids.device), -1:]
        self.state = self.guide.extend(self.state, tokens, torch.ones_like(tokens[:, 0]))
        self._seen, self._live = ids.clone(), live
        return live

    def _begin(self, ids: Int[Tensor, "B T"]) -> list[int]:
        """Read whole rows as prompts."""
        self.reset()
        self.state = self.guide.prefill(self.prompt_rows.read(ids))
        self._first = self._seen = ids.clone()
        self._live = list(range(len(ids)))
        return self._live

    def _goes_back(self, ids: Int[Tensor, "B T"]) -> bool:
        """Whether a row, the only one, begins as it did and then has other tokens, or fewer."""
        if self._first is None or self._seen is None or len(ids) != 1 or len(self._first) != 1:
            return False
        start, width = self.start, ids.shape[1]
        within = start < width <= self._seen.shape[1] + 1
        return within and torch.equal(ids[:, :start], self._first)

    def _resume(self, ids: Int[Tensor, "B T"]) -> list[int]:
        """Read the row's prompt and what now stands behind it.

        Raises:
            UsageError: nobody said that the prompt ends where the row began.
        """
        assert self._first is not None
        if not self.prompt_rows.says_where_prompts_end:
            raise UsageError(
                "where the prompt ends must be told for rows that go back: in assisted decoding "
                "(prompt_lookup_num_tokens, assistant_model), or for a new call on part of a "
                "former one's text",
                got=f"a row of {ids.shape[1]} tokens that began with {self.start}, and neither "
                "prompts nor attention mask",
                do="make the processor with attention_mask=inputs.attention_mask or prompts=...; "
                "before a new call, call its reset()",
            )
        state = self.guide.prefill(self.prompt_rows.read(self._first))
        response = ids[:, self.start :]
        length = torch.full_like(response[:, 0], response.shape[1])
        self.state = self.guide.extend(state, response, length)
        self._seen, self._live = ids.clone(), [0]
        return self._live

    def _sources(self, ids: Int[Tensor, "B T"]) -> list[int] | None:
        """Which row seen last each row continues by one token; None if any continues none."""
        if self._seen is None or ids.shape[1] != self._seen.shape[1] + 1:
            return None
        before = ids[:, :-1]
        if torch.equal(before, self._seen):
            return list(range(len(ids)))
        known = {tuple(row): i for i, row in enumerate(self._seen.tolist())}
        sources = [known.get(tuple(row)) for row in before.tolist()]
        return None if None in sources else [i for i in sources if i is not None]

    def _going(self, ids: Int[Tensor, "B T"]) -> list[int]:
        ended = is_eos(ids[:, self.start :], self.eos_ids).any(dim=-1)
        return [i for i, over in enumerate(ended.tolist()) if not over]
