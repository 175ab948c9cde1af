"""Between what the user wrote and a model's ids: chat templates, BOS, fingerprints.

`Codec` encodes for a base, `ChatTemplate` for a reward model, which reads responses too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeAlias, cast

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
        messages, begun = _without_empty_beginning(messages)
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


def _without_empty_beginning(messages: Sequence[Message]) -> tuple[Sequence[Message], bool]:
    """The messages, and whether the last one is a beginning that the assistant goes on from."""
    begun = messages[-1]["role"] == "assistant"
    if begun and not messages[-1]["content"]:
        return messages[:-1], False
    return messages, begun


def _check_message(message: Any) -> None:
    """Raise `PromptError` unless a message has a role and a content, both texts."""
    values = isinstance(message, Mapping) and [message.get(key) for key in ("role", "content")]
    if not values or not all(isinstance(value, str) for value in values):
        raise PromptError(
            'a message must be {"role": ..., "content": ...}, both texts',
            got=f"{message!r:.60}",
            do="mend it",
        )


RewardTemplate: TypeAlias = Template | Callable[[Prompt], str]
"""What stands before a response that a reward model reads: by the tokenizer's chat template where
it has one ("auto"), the user's text as it is ("none"), or whatever a function makes of the prompt.
"""


class ChatTemplate:
    """Prompts and responses as one reward model was trained to read them.

    Args:
        tokenizer: the reward model's.
        template: what stands before the response.
        decode: the base's ids to text, for prompts that came as ids alone.

    Attributes:
        own: whether prompts get a template here, or stand as the user wrote them.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        template: RewardTemplate,
        decode: Callable[[Sequence[int]], str],
    ) -> None:
        if not callable(template):
            check_word("template", template, Template)
        self.tokenizer, self.template, self.decode = tokenizer, template, decode
        self._lock = lock_of(tokenizer)
        self.chat = template == "auto" and bool(tokenizer.chat_template)
        self.own = self.chat or callable(template)
        empty = tokenizer.encode("", add_special_tokens=True)
        bos = tokenizer.bos_token_id
        self._lead = [bos] if bos in empty and not self.chat else []

    def opening(self, prompt: Prompt) -> str:
        """Everything that stands before the response."""
        if callable(self.template):
            return self.template(prompt)
        if not self.chat:
            return self._plain_text(prompt)
        messages, begun = _without_empty_beginning(self._messages(prompt))
        return self._render(messages, add_generation_prompt=not begun, continue_final_message=begun)

    def closed(self, prompt: Prompt, response: str) -> str:
        """The whole text of a finished response, its turn closed as the template closes it."""
        if not self.chat:
            return self.opening(prompt) + response + (self.tokenizer.eos_token or "")
        messages = self._messages(prompt)
        if messages[-1]["role"] == "assistant":
            response = messages.pop()["content"] + response
        return self._render([*messages, {"role": "assistant", "content": response}])

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of whole texts; BOS where the model expects one and the text brings none.

        Raises:
            PromptError: a text of no tokens.
        """
        with self._lock:
            rows = self.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        bos = self.tokenizer.bos_token
        ids = [
            row if bos and text.startswith(bos) else [*self._lead, *row]
            for text, row in zip(texts, rows, strict=True)
        ]
        if not all(ids):
            raise PromptError(
                "a reward model must have something to read", got="no tokens", do="write a prompt"
            )
        return ids

    def _messages(self, prompt: Prompt) -> list[dict[str, str]]:
        if prompt.messages is not None:
            return [dict(message) for message in prompt.messages]
        return [{"role": "user", "content": self._plain_text(prompt)}]

    def _plain_text(self, prompt: Prompt) -> str:
        """A prompt without a template: its text; several turns as "role: text" lines."""
        if prompt.messages is not None and len(prompt.messages) > 1:
            return "\n".join(f"{m['role']}: {m['content']}" for m in prompt.messages)
        return prompt.text if prompt.text is not None else self.decode(prompt.ids)

    def _render(self, messages: Sequence[Message], **options: Any) -> str:
        plain = [dict(message) for message in messages]
        text = self.tokenizer.apply_chat_template(plain, tokenize=False, **options)
        assert isinstance(text, str)
        return text
