"""Any decoder-only causal model of transformers as the frozen base policy.

Legend: B rows, K candidates, L tokens of a candidate, V vocabulary, R some rows.
"""

from __future__ import annotations

import copy
import hashlib
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from trimtab.cache.networks import text_config
from trimtab.cache.reader import Attention, CachedReader
from trimtab.cache.trial import open_reader
from trimtab.decoding.loop import draw_blocks
from trimtab.decoding.methods import nucleus
from trimtab.errors import PromptError, TemplateError, UsageError, check_word
from trimtab.locks import lock_of
from trimtab.models.loading import load_causal_lm, load_tokenizer
from trimtab.models.proposals import propose_tokens, tail_draw
from trimtab.rng import Rng
from trimtab.types import (
    Candidates,
    Cost,
    Message,
    Prompt,
    PromptLike,
    Proposal,
    Samples,
    Template,
    Vocab,
    asked,
)

log = logging.getLogger("trimtab")


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
        attention: "tree" reads k candidates behind one prefix; "expanded" behind k copies of it,
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
        self.tokenizer = load_tokenizer(model if tokenizer is None else tokenizer)
        self.codec = Codec(self.tokenizer, template)
        self.base_temperature, self.base_top_p = base_temperature, base_top_p
        self.eos_ids = _eos_ids(self.model, self.tokenizer)
        rows = text_config(self.model).vocab_size
        # Rows past the last token are padding of the embedding: nothing that could be said.
        size = min(rows, max([self.codec.size, *(i + 1 for i in self.eos_ids)]))
        self.vocab = Vocab(size, self.codec.fingerprint, rows if rows > size else None)
        self.hidden_settings = _hidden_settings(self.model)
        self.attention: Attention = attention
        self.layers: tuple[int, ...] = ()
        self._offering: dict[frozenset[int], TransformersLM] = {}
        self.reader: CachedReader = self._open_reader()
        self.context: int | None = self.reader.context.tokens
        if why := self.reader.context.why:
            kind = self.model.config.model_type
            log.warning("rows of %s may have %d tokens: %s", kind, self.context, why)

    def _open_reader(self, **arguments: Any) -> CachedReader:
        """What reads: log pi_ref of the next token, and behind it the states of `layers`."""
        return open_reader(
            self.model,
            self._output,
            finish=self._finish,
            attention=self.attention,
            logits_to_keep=1,
            **arguments,
        )

    def offering(self, layers: frozenset[int]) -> TransformersLM:
        """The same base, whose candidates carry the hidden states of some layers.

        Args:
            layers: after how many layers; after the last they have passed its norm.

        Raises:
            UsageError: the network has no such layer.
        """
        if layers not in self._offering:
            most = text_config(self.model).num_hidden_layers
            if odd := [layer for layer in layers if not 0 <= layer <= most]:
                raise UsageError(
                    f"a layer must be from 0 to {most}", got=f"{odd[0]}", do="name another"
                )
            other = copy.copy(self)
            other.layers = tuple(sorted(layers))
            other.reader = other._open_reader(output_hidden_states=True)
            other.reader.cost = self.cost
            self._offering.setdefault(layers, other)
        return self._offering[layers]

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

    def prefill(self, prompts: Sequence[Prompt]) -> Any:
        """Read whole prompts; `last` of the state is log pi_ref of each row's next token."""
        return self.reader.prefill([p.ids for p in prompts])

    def extend(self, state: Any, tokens: Int[Tensor, "B L"], lengths: Int[Tensor, "B"]) -> Any:
        """Append tokens."""
        return self.reader.extend(state, tokens, lengths)

    def select(self, state: Any, rows: Int[Tensor, "R"]) -> Any:
        """Drop, reorder or fork rows."""
        return self.reader.select(state, rows)

    def join(self, states: Sequence[Any]) -> Any:
        """Rows of several states side by side."""
        return self.reader.join(states)

    def _output(self, out: Any) -> Float[Tensor, "B Q N"]:
        """Logits of the tokens, and the states that are offered."""
        logits: Tensor = out.logits[..., : self.vocab.size]
        if not self.layers:
            return logits
        states = (out.hidden_states[layer][:, -logits.shape[1] :] for layer in self.layers)
        return torch.cat([logits, *(state.to(logits.device) for state in states)], dim=-1)

    def _finish(self, last: Float[Tensor, "B N"]) -> Float[Tensor, "B N"]:
        """The same of a row's last token, with log pi_ref in place of logits."""
        logprobs = self._logprobs(last[:, : self.vocab.size])
        if not self.layers:
            return logprobs
        return torch.cat([logprobs, last[:, self.vocab.size :].float()], dim=-1)

    def _logprobs(self, logits: Float[Tensor, "B V"]) -> Float[Tensor, "B V"]:
        """log pi_ref in float32, whatever the model computes in."""
        logprobs = logits.float()
        if self.base_temperature != 1:  # a pass over the vocabulary
            logprobs = logprobs / self.base_temperature
        logprobs = logprobs.log_softmax(dim=-1)
        if self.base_top_p < 1:
            logprobs = nucleus(logprobs, self.base_top_p).log_softmax(dim=-1)
        return logprobs

    def propose(self, state: Any, proposal: Proposal, rng: Rng) -> Candidates:
        """Candidate continuations of each row; leaves `state` as it was."""
        if isinstance(proposal, Samples):
            return draw_blocks(self, self.reader.fork(state, proposal.n), proposal, rng)
        candidates = propose_tokens(self._next(state), proposal, self.eos_ids)
        if not self.layers:
            return candidates
        states = state.last[:, self.vocab.size :].chunk(len(self.layers), dim=-1)
        return replace(candidates, states=dict(zip(self.layers, states, strict=True)))

    def _next(self, state: Any) -> Float[Tensor, "B V"]:
        """log pi_ref of each row's next token."""
        last: Tensor = state.last
        return last[:, : self.vocab.size]

    def draw_tail(
        self, state: Any, candidates: Candidates, rng: Rng
    ) -> tuple[Int[Tensor, "B"], Float[Tensor, "B"]]:
        """A token of each row from pi_ref outside its candidates, and its log pi_ref."""
        return tail_draw(self._next(state), candidates, rng)

    def __repr__(self) -> str:
        """Model, pi_ref's shape and how it reads."""
        return (
            f"TransformersLM({self.model.config.model_type}, {self.model.dtype}, "
            f"base_temperature={self.base_temperature}, base_top_p={self.base_top_p}, "
            f"attention={self.reader.attention!r})"
        )


def _eos_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Every id that the model's configs or its tokenizer take for the end of a response."""
    ids: set[int] = set()
    for source in (text_config(model), model.generation_config, tokenizer):
        found = source.eos_token_id
        ids.update([found] if isinstance(found, int) else found or ())
    return frozenset(ids)


_SHAPING = (
    "repetition_penalty", "no_repeat_ngram_size", "encoder_repetition_penalty",
    "encoder_no_repeat_ngram_size", "exponential_decay_length_penalty", "bad_words_ids",
    "suppress_tokens", "begin_suppress_tokens", "sequence_bias", "forced_bos_token_id",
    "forced_eos_token_id", "min_length", "min_new_tokens", "temperature", "top_k", "top_p", "min_p",
    "typical_p", "epsilon_cutoff", "eta_cutoff", "guidance_scale",
)  # fmt: skip


def _hidden_settings(model: PreTrainedModel) -> dict[str, Any]:
    """What the model's generation_config would do to the distribution inside `generate`.

    Said once in the log, never applied: they would change pi_ref behind the user's back.
    """
    differs = model.generation_config.to_diff_dict()
    found = {name: differs[name] for name in _SHAPING if differs.get(name) is not None}
    if found:
        log.warning("generation_config of %s is not applied: %s", model.name_or_path, found)
    return found


# --- between what the user wrote and the model's ids ---------------------------------------------


class Codec:
    """Encodes prompts and decodes responses with one tokenizer.

    The template "auto" applies the chat template, where there is one, to texts as well.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: Template = "auto") -> None:
        check_word("template", template, Template)
        self.tokenizer, self.template = tokenizer, template
        self._lock = lock_of(tokenizer)  # truncation and padding are set on it, call by call

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the token-to-id map: ids mean the same tokens where it is the same."""
        digest = hashlib.sha256()
        for token, i in sorted(self.tokenizer.get_vocab().items(), key=lambda kv: kv[1]):
            digest.update(f"{i}\t{token}\n".encode())
        return digest.hexdigest()[:16]

    @cached_property
    def size(self) -> int:
        """One more than the largest id of a token."""
        return max(self.tokenizer.get_vocab().values()) + 1

    def encode(self, prompt: PromptLike) -> Prompt:
        """Text or a conversation as a `Prompt`; `PromptError` where it cannot be one."""
        if isinstance(prompt, Prompt):
            return prompt
        with self._lock:
            if isinstance(prompt, str):
                return self._encode_text(prompt)
            return self._encode_messages(prompt)

    def _encode_text(self, text: str) -> Prompt:
        if not text:
            raise PromptError("a prompt must not be empty", got="''", do="write one")
        if self.template == "auto" and self.tokenizer.chat_template:
            prompt = self._encode_messages([{"role": "user", "content": text}])
            return Prompt(prompt.ids, text, prompt.messages)
        # A text that brings its own BOS must not get a second one.
        bos = self.tokenizer.bos_token
        fresh = not (bos and text.startswith(bos))
        return Prompt(tuple(self.tokenizer.encode(text, add_special_tokens=fresh)), text)

    def _encode_messages(self, messages: Sequence[Message]) -> Prompt:
        if not messages:
            raise PromptError("a conversation must not be empty", got="[]", do="write a message")
        for message in messages:
            _check_message(message)
        if not self.tokenizer.chat_template:
            raise PromptError(
                "messages need a tokenizer with a chat template",
                got="one without",
                do="pass the prompt as text",
            )
        return Prompt(tuple(self._templated(messages)), asked(messages), tuple(messages))

    def _templated(self, messages: Sequence[Message]) -> list[int]:
        """The template's ids, up to where the assistant speaks, or goes on to.

        The template writes BOS itself; the tokenizer adds none to its output.
        """
        messages, begun = without_empty_beginning(messages)
        try:
            ids = self.tokenizer.apply_chat_template(
                [dict(m) for m in messages],
                add_generation_prompt=not begun,
                continue_final_message=begun,
                tokenize=True,
                return_dict=False,
            )
        except ImportError:  # jinja2 is missing: transformers says so
            raise
        except Exception as error:  # a template is a program of the model's makers
            reason = " ".join(str(error).split())
            raise TemplateError(
                "the model's chat template must take the conversation",
                got=f"{', '.join(m['role'] for m in messages) or 'nothing to answer'} ({reason})",
                do="give the roles that it knows, in its order; an assistant's beginning as the "
                "template keeps it, without spaces around it",
            ) from error
        return cast("list[int]", ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; special tokens leave none."""
        with self._lock:
            text = self.tokenizer.decode(
                list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        assert isinstance(text, str)
        return text


def without_empty_beginning(messages: Sequence[Message]) -> tuple[Sequence[Message], bool]:
    """The messages, and whether the last one is a beginning that the assistant goes on from."""
    begun = messages[-1]["role"] == "assistant"
    if begun and not messages[-1]["content"]:
        return messages[:-1], False
    return messages, begun


def _check_message(message: Any) -> None:
    values = isinstance(message, Mapping) and [message.get(key) for key in ("role", "content")]
    if not values or not all(isinstance(value, str) for value in values):
        raise PromptError(
            'a message must be {"role": ..., "content": ...}, both texts',
            got=f"{message!r:.60}",
            do="mend it",
        )
