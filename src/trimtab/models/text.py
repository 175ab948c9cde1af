"""Between what the user wrote and the base model's ids: chat templates, BOS, fingerprints."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, cast

from transformers import PreTrainedTokenizerBase

from trimtab.errors import PromptError, TemplateError, check_word
from trimtab.locks import lock_of
from trimtab.types import Message, Prompt, PromptLike, Template, asked


class Codec:
    """Encodes prompts and decodes responses with one tokenizer.

    Args:
        tokenizer: of transformers.
        template: "auto" applies the chat template, where there is one, to texts as well.
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
        """Text or a conversation as a `Prompt`.

        Raises:
            PromptError: nothing to read, or messages without a chat template.
            TemplateError: a conversation that the template does not take.
        """
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
        begun = messages[-1]["role"] == "assistant"
        if begun and not messages[-1]["content"]:  # nothing is begun
            messages, begun = messages[:-1], False
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


def _check_message(message: Any) -> None:
    """Raise `PromptError` unless a message has a role and a content, both texts."""
    found = isinstance(message, Mapping) and [message.get(key) for key in ("role", "content")]
    if not found or not all(isinstance(value, str) for value in found):
        raise PromptError(
            'a message must be {"role": ..., "content": ...}, both texts',
            got=f"{message!r:.60}",
            do="mend it",
        )
