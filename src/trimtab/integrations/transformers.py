"""Guided decoding inside transformers' own `generate`, by the same `Method` objects.

    processor = GuidedLogitsProcessor(guide, args(beta=1.5), attention_mask=inputs.attention_mask)
    model.generate(**inputs, logits_processor=[processor], **processor.generate_options)

Legend: B rows, K candidates, P prompts, T tokens of `generate`'s rows (padding included),
V vocabulary, R some rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import LogitsProcessor

from trimtab.decoding.checks import Beta, check_is_method, strengths
from trimtab.decoding.loop import OnGuideError
from trimtab.decoding.methods import Method, Stochastic
from trimtab.decoding.step import check_scores, finite_or_base, mean_score
from trimtab.errors import GuideError, IncompatibleError, UsageError, check_word
from trimtab.models.proposals import everything, top_k
from trimtab.protocols import Guide
from trimtab.types import Candidates, Prompt, Samples, Tail, TopK, is_eos

X = TypeVar("X")

PADDING = 1024
"""Most rows by which two embeddings of one tokenizer differ: they are padded to round numbers."""


class GuidedLogitsProcessor(LogitsProcessor):
    """Steers `model.generate` by a guide: greedy, sampling, streamers, batches, several sequences.

    Returns log pi over the whole vocabulary: rule(log p, score) on the candidates; elsewhere -inf,
    or rule(log p, mean score) for a method with its tail at the mean. Rows that have ended pass
    unchanged.

    Of a model whose embedding is padded further than the guide's, the outputs that the guide cannot
    read are padding, and get no chance.

    `generate` itself chooses, and its temperature acts after this, so the effective strength is
    beta / T. Pass `**processor.generate_options` to choose as the method does: `generate` otherwise
    takes the model's own defaults, among them a hidden top_k = 50.

    Assisted decoding (`prompt_lookup_num_tokens`, `assistant_model`) gives the same tokens if
    `prompts` or `attention_mask` say where the prompt ends; each draft that is taken back costs the
    guide another reading of the row.

    One processor serves any number of `generate` calls, one after the other: rows that do not
    continue those seen last are read anew. `reset` forgets them.

    Args:
        guide: reads the model's token ids, or text.
        method: any token-wise method.
        prompts: what each row answers, for guides that start from text or messages; one for each
            row of `input_ids` before `num_return_sequences` multiplies them. None takes the ids.
        attention_mask: marks padding, as passed to `generate`.
        pad_token_id: tells padding where no attention mask is given: the leading run of this id.
        eos_token_id: what ends a row, as `generate` takes it; None never ends one.
        beta: strength for all rows, or one per prompt; None for the method's own.
        on_guide_error: what a NaN or inf score does: "raise", or "base" to let the base policy
            choose that row's token.

    Raises:
        IncompatibleError: a method that draws whole blocks; later, a model of other token ids.
    """

    def __init__(
        self,
        guide: Guide[Any],
        method: Method,
        *,
        prompts: Sequence[Prompt] | None = None,
        attention_mask: Int[Tensor, "P T"] | None = None,
        pad_token_id: int | None = None,
        eos_token_id: int | Sequence[int] | None = None,
        beta: Beta | None = None,
        on_guide_error: OnGuideError = "raise",
    ) -> None:
        check_word("on_guide_error", on_guide_error, OnGuideError)
        check_is_method(method)
        if isinstance(method.proposal, Samples):
            raise IncompatibleError(
                "`generate` asks for one token at a time",
                got=f"method {method.name!r}, which draws blocks",
                do="use a token-wise method, or trimtab.decode",
            )
        self.guide, self.method, self.on_guide_error = guide, method, on_guide_error
        ids = [eos_token_id] if isinstance(eos_token_id, int) else eos_token_id or ()
        self.eos_ids = frozenset(map(int, ids))
        self.beta = strengths(method.beta if beta is None else beta)
        self._follower = Follower(guide, self.eos_ids, prompts, attention_mask, pad_token_id)

    @property
    def generate_options(self) -> dict[str, Any]:
        """Arguments that make `generate` choose as the method's sampler does."""
        sampler = self.method.sampler
        if sampler.greedy or not isinstance(sampler, Stochastic):
            return {"do_sample": not sampler.greedy}
        return {
            "do_sample": True,
            "temperature": sampler.temperature,
            "top_k": sampler.top_k or 0,
            "top_p": sampler.top_p,
        }

    def reset(self) -> None:
        """Forget the rows seen last, so that the next call starts afresh."""
        self._follower.reset()

    @torch.inference_mode()
    def __call__(
        self, input_ids: Int[Tensor, "B T"], scores: Float[Tensor, "B V"]
    ) -> Float[Tensor, "B V"]:
        """log pi of the next token of each row."""
        size = self._readable(scores.shape[-1])
        live = self._follower.follow(input_ids)
        rows = torch.tensor(live, dtype=torch.int64, device=scores.device)
        logprobs = scores[rows, :size].float().log_softmax(dim=-1)
        candidates = self._candidates(logprobs)
        values = self.guide.score(self._follower.state, candidates)
        strength = self._strength(rows, len(scores))
        values = check_scores(self.guide.name, values, candidates)
        values, fault = finite_or_base(values, strength)
        if self.on_guide_error == "raise":
            self._raise_if(fault != 0, live, input_ids.shape[1])
        guided = self._guided(logprobs, candidates, values.to(logprobs), strength)
        guided_scores = torch.full_like(scores[rows], -torch.inf)
        guided_scores[:, :size] = guided.log_softmax(dim=-1).to(scores.dtype)
        return scores.index_copy(0, rows, guided_scores)

    def _readable(self, columns: int) -> int:
        """How many of the model's outputs are tokens that the guide reads; the rest are padding."""
        size = self.guide.vocab.size if self.guide.vocab is not None else columns
        if abs(columns - size) > PADDING:
            raise IncompatibleError(
                f"guide {self.guide.name!r} must read the token ids of the model that generates",
                got=f"a model with {columns} outputs for a guide that reads {size} ids",
                do="use a guide made for this model, or wrap it as a TextGuide, which reads text",
            )
        return min(size, columns)

    def _candidates(self, logprobs: Float[Tensor, "B V"]) -> Candidates:
        """The method's candidates, beside a tail: `generate` may choose outside them.

        How much lies there nobody asks: it would be another pass over the vocabulary.
        """
        if not isinstance(self.method.proposal, TopK):
            return everything(logprobs, self.eos_ids)
        inside = top_k(logprobs, TopK(self.method.proposal.k), self.eos_ids)
        unknown = torch.full_like(logprobs[:, 0], torch.nan)
        return replace(inside, tail=Tail(unknown, inside.tokens[:, 0, 0], unknown))

    def _guided(
        self,
        logprobs: Float[Tensor, "B V"],
        candidates: Candidates,
        values: Float[Tensor, "B K"],
        beta: float | Float[Tensor, "B 1"],
    ) -> Float[Tensor, "B V"]:
        """The rule over the whole vocabulary."""
        at, proposal = candidates.tokens[:, :, 0], self.method.proposal
        if isinstance(proposal, TopK) and proposal.tail == "drop":
            logits = self.method.rule(candidates.logprobs, values, beta)
            return torch.full_like(logprobs, -torch.inf).scatter(1, at, logits)
        mean = mean_score(candidates, values)
        return self.method.rule(logprobs, mean.expand_as(logprobs).scatter(1, at, values), beta)

    def _strength(self, live: Int[Tensor, "R"], rows: int) -> float | Float[Tensor, "R 1"]:
        """beta of the rows that go on, out of all."""
        if not isinstance(self.beta, Tensor):
            return self.beta
        column = per_row(self.beta[:, 0].tolist(), rows, "beta")
        return torch.tensor(column, device=live.device)[live, None]

    def _raise_if(self, failed: Bool[Tensor, "B"], live: Sequence[int], length: int) -> None:
        bad = [i for i, f in zip(live, failed.tolist(), strict=True) if f]
        if bad:
            raise GuideError(
                f"guide {self.guide.name!r} must return finite scores, also times beta",
                got=f"NaN or inf at row {bad[0]}, position {length - self._follower.start}",
                do='mend the guide, or pass on_guide_error="base" to let the base choose there',
            )


# --- following the engine's rows -----------------------------------------------------------------


class Follower:
    """A guide's state kept in step with the rows that another engine decodes.

    The engine shows all ids of all rows at every step. From those alone it is clear which rows went
    on, which were reordered or forked (beam search), which have ended, and whether a new call
    began.

    One thing is not. Assisted decoding (of one row) shows drafts that it then takes back, and so
    does a new call on part of what a former one wrote; only the first has its prompt where the rows
    began. Whoever says where the prompt ends, by the prompts or their attention mask, is followed
    there.
    """

    def __init__(
        self,
        guide: Guide[Any],
        eos_ids: frozenset[int],
        prompts: Sequence[Prompt] | None,
        attention_mask: Int[Tensor, "P T"] | None,
        pad_token_id: int | None,
    ) -> None:
        self.guide, self.eos_ids = guide, eos_ids
        self.prompts, self.attention_mask, self.pad_token_id = prompts, attention_mask, pad_token_id
        self.reset()

    @property
    def start(self) -> int:
        """Width of the rows when they began."""
        return 0 if self._first is None else self._first.shape[1]

    def reset(self) -> None:
        """Forget all rows."""
        self.state: Any = None
        self._first: Tensor | None = None  # the rows when they began
        self._seen: Tensor | None = None  # the rows now
        self._live: list[int] = []  # those that have not ended; the state holds them, in order

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
        self.state = self.guide.prefill(self._read(ids))
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
        """Read the row's prompt and what now stands behind it."""
        assert self._first is not None
        if self.prompts is None and self.attention_mask is None:
            raise UsageError(
                "where the prompt ends must be told for rows that go back: in assisted decoding "
                "(prompt_lookup_num_tokens, assistant_model), or for a new call on part of a "
                "former one's text",
                got=f"a row of {ids.shape[1]} tokens that began with {self.start}, and neither "
                "prompts nor attention mask",
                do="make the processor with attention_mask=inputs.attention_mask or prompts=...; "
                "before a new call, call its reset()",
            )
        state = self.guide.prefill(self._read(self._first))
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
        rows = [tuple(row) for row in before.tolist()]
        return [known[row] for row in rows] if known.keys() >= {*rows} else None

    def _going(self, ids: Int[Tensor, "B T"]) -> list[int]:
        ended = is_eos(ids[:, self.start :], self.eos_ids).any(dim=-1)
        return [i for i, over in enumerate(ended.tolist()) if not over]

    def _read(self, ids: Int[Tensor, "B T"]) -> list[Prompt]:
        """First rows as prompts, without their padding."""
        rows: list[list[int]] = ids.tolist()
        if self.prompts is not None:
            prompts = per_row(self.prompts, len(rows), "prompts")
            for i, (row, prompt) in enumerate(zip(rows, prompts, strict=True)):
                _check_prompt(i, row, prompt)
            return prompts
        if self.attention_mask is not None:
            mask = _mask_rows(self.attention_mask, len(rows), len(rows[0]))
            return [
                Prompt(tuple(token for token, real in zip(row, flags, strict=True) if real))
                for row, flags in zip(rows, mask, strict=True)
            ]
        return [Prompt(tuple(_unpadded(row, self.pad_token_id))) for row in rows]


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


def _check_prompt(index: int, row: list[int], prompt: Prompt) -> None:
    if tuple(row[max(0, len(row) - len(prompt.ids)) :]) != prompt.ids:
        raise UsageError(
            f"prompt {index} must be what `generate` reads there",
            got="other ids, or rows that went on without the processor",
            do="pass the prompts of this call in the order of its rows, or none; an assistant "
            "model needs the tokenizer of the model that it assists",
        )


def _mask_rows(mask: Int[Tensor, "P T"], rows: int, width: int) -> list[list[int]]:
    if mask.shape[1] != width:
        raise UsageError(
            f"the attention mask must be as wide as the rows that begin: {width} tokens",
            got=f"{mask.shape[1]}",
            do="make a processor for each `generate` call, or pass pad_token_id instead; an "
            "assistant model needs the tokenizer of the model that it assists",
        )
    return per_row(mask.tolist(), rows, "attention masks")


def _unpadded(row: list[int], pad_token_id: int | None) -> list[int]:
    """Without the leading run of padding; the last token always stays."""
    return row[next((i for i, t in enumerate(row) if t != pad_token_id), len(row) - 1) :]
