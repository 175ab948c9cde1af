"""Any decoder-only causal model of transformers as the frozen base policy.

Legend: B rows, K candidates, L tokens of a candidate, V vocabulary, R some rows.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from trimtab.cache.configs import text_config
from trimtab.cache.reader import Attention, CachedReader, open_reader
from trimtab.decoding.loop import draw_blocks
from trimtab.decoding.methods import nucleus
from trimtab.errors import UsageError, check_word
from trimtab.models.loading import (
    check_decoder,
    eos_ids,
    hidden_settings,
    load_causal_lm,
    load_tokenizer,
)
from trimtab.models.proposals import propose_tokens, tail_draw
from trimtab.models.text import Codec
from trimtab.rng import Rng
from trimtab.types import (
    Candidates,
    Cost,
    Prompt,
    PromptLike,
    Proposal,
    Samples,
    Template,
    Vocab,
)

log = logging.getLogger("trimtab")


@dataclass(frozen=True)
class BaseState:
    """What has been read; the reader keeps log pi_ref as its last output."""

    read: Any

    @property
    def logprobs(self) -> Float[Tensor, "B V"]:
        """log pi_ref of each row's next token."""
        logprobs: Tensor = self.read.last
        return logprobs


class TransformersLM:
    """pi_ref from a causal language model of transformers.

    Args:
        model: a folder, a Hub id, the name of a fetched asset ("smollm2"), or a loaded model.
        tokenizer: likewise; None takes the one that lies beside the model.
        base_temperature: divides the logits before pi_ref is formed; a value function trained on
            rollouts at 0.7 guides the policy at 0.7.
        base_top_p: cuts pi_ref to this nucleus, renormalised.
        template: "auto" puts a text into the tokenizer's chat template, where it has one, as the
            user's message; "none" continues the text as it is.
        attention: "tree" keeps rows in the slot store; "expanded" uses transformers' own cache,
            for architectures that cannot take an explicit mask.
        **loading: passed to `from_pretrained` (dtype, device_map, quantization_config, ...), or
            `device`.

    Ids that the tokenizer has no token for (embeddings are padded to round numbers of rows) are no
    outcomes: pi_ref is the model's law over the tokens. A trained model gives the others nothing.

    A generation_config's penalties and filters are never applied; `hidden_settings` holds those
    that `model.generate` would use without saying so.
    """

    def __init__(
        self,
        model: str | PreTrainedModel,
        tokenizer: str | PreTrainedTokenizerBase | None = None,
        *,
        base_temperature: float = 1.0,
        base_top_p: float = 1.0,
        template: Template = "auto",
        attention: Attention = "tree",
        **loading: Any,
    ) -> None:
        check_word("template", template, Template)
        check_word("attention", attention, Attention)
        if not 0 < base_temperature < math.inf or not 0 < base_top_p <= 1:
            raise UsageError(
                "base_temperature must be above 0 and finite, and base_top_p in (0, 1]",
                got=f"{base_temperature} and {base_top_p}",
                do="decode greedily for temperature 0",
            )
        self.model = load_causal_lm(model, **loading)
        check_decoder(self.model)
        self.tokenizer = load_tokenizer(model if tokenizer is None else tokenizer)
        self.codec = Codec(self.tokenizer, template)
        self.base_temperature, self.base_top_p = base_temperature, base_top_p
        self.eos_ids = eos_ids(self.model, self.tokenizer)
        rows = text_config(self.model).vocab_size
        # Rows past the last token are padding of the embedding: nothing that could be said.
        size = min(rows, max([self.codec.size, *(i + 1 for i in self.eos_ids)]))
        self.vocab = Vocab(size, self.codec.fingerprint, rows if rows > size else None)
        self.hidden_settings = hidden_settings(self.model)
        self.reader: CachedReader[Any] = open_reader(
            self.model,
            lambda out: out.logits[..., :size],
            finish=self._logprobs,
            attention=attention,
            logits_to_keep=1,
        )
        self.context: int | None = self.reader.context.tokens
        if self.reader.context.why:
            log.warning(
                "rows of %s may have %d tokens: %s",
                self.model.config.model_type, self.context, self.reader.context.why,
            )  # fmt: skip

    @property
    def cost(self) -> Cost:
        """Tokens read so far."""
        return self.reader.cost

    @property
    def device(self) -> torch.device:
        """Where its candidates live."""
        return self.model.device

    def encode(self, prompt: PromptLike) -> Prompt:
        """Text or a conversation as token ids, by the model's own template."""
        return self.codec.encode(prompt)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of a response's ids; special tokens leave no text."""
        return self.codec.decode(ids)

    def prefill(self, prompts: Sequence[Prompt]) -> BaseState:
        """Read whole prompts."""
        return BaseState(self.reader.prefill([p.ids for p in prompts]))

    def extend(
        self, state: BaseState, tokens: Int[Tensor, "B L"], lengths: Int[Tensor, "B"]
    ) -> BaseState:
        """Append tokens."""
        return BaseState(self.reader.extend(state.read, tokens, lengths))

    def select(self, state: BaseState, rows: Int[Tensor, "R"]) -> BaseState:
        """Drop, reorder or fork rows."""
        return BaseState(self.reader.select(state.read, rows))

    def join(self, states: Sequence[BaseState]) -> BaseState:
        """Rows of several states side by side."""
        return BaseState(self.reader.join([s.read for s in states]))

    def _logprobs(self, logits: Float[Tensor, "B V"]) -> Float[Tensor, "B V"]:
        """log pi_ref in float32, whatever the model computes in."""
        logprobs = logits.float()
        if self.base_temperature != 1:  # a pass over the vocabulary
            logprobs = logprobs / self.base_temperature
        logprobs = logprobs.log_softmax(dim=-1)
        if self.base_top_p < 1:
            logprobs = nucleus(logprobs, self.base_top_p).log_softmax(dim=-1)
        return logprobs

    def propose(self, state: BaseState, proposal: Proposal, rng: Rng) -> Candidates:
        """Candidate continuations of each row; leaves `state` as it was."""
        if isinstance(proposal, Samples):
            fork = BaseState(self.reader.fork(state.read, proposal.n))
            return draw_blocks(self, fork, proposal, rng)
        return propose_tokens(state.logprobs, proposal, self.eos_ids)

    def draw_tail(
        self, state: BaseState, candidates: Candidates, rng: Rng
    ) -> tuple[Int[Tensor, "B"], Float[Tensor, "B"]]:
        """A token of each row from pi_ref outside its candidates, and its log pi_ref."""
        return tail_draw(state.logprobs, candidates, rng)

    def __repr__(self) -> str:
        """Model, pi_ref's shape and how it reads."""
        return (
            f"TransformersLM({self.model.config.model_type}, {self.model.dtype}, "
            f"base_temperature={self.base_temperature}, base_top_p={self.base_top_p}, "
            f"attention={self.reader.attention!r})"
        )
