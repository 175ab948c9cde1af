"""Guided decoding inside transformers' own `generate`, by the same `Method` objects.

    processor = GuidedLogitsProcessor(guide, args(beta=1.5), attention_mask=inputs.attention_mask)
    model.generate(**inputs, logits_processor=[processor], **processor.generate_options)

Legend: B rows, K candidates, T tokens of `generate`'s rows (padding included), V vocabulary, R
some rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import LogitsProcessor

from trimtab.decoding.checks import Beta, check_is_method, strengths
from trimtab.decoding.loop import OnGuideError
from trimtab.decoding.methods import Method, Stochastic
from trimtab.decoding.step import check_scores, finite_or_base, mean_score
from trimtab.errors import GuideError, IncompatibleError, check_word
from trimtab.integrations.follower import Follower, PromptRows, per_row
from trimtab.models.proposals import everything, top_k
from trimtab.protocols import Guide
from trimtab.types import Candidates, Prompt, Samples, Tail, TopK

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
        prompt_rows = PromptRows(prompts, attention_mask, pad_token_id)
        self._follower = Follower(guide, prompt_rows, self.eos_ids)

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
        """How many of the model's outputs are tokens that the guide reads; padding stands behind.

        Raises:
            IncompatibleError: so many more or fewer than the guide's that padding cannot be why.
        """
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
