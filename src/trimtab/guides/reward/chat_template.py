"""How a reward model reads a prompt and a response: its own template, its own tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from transformers import PreTrainedTokenizerBase

from trimtab.errors import PromptError, check_word
from trimtab.locks import lock_of
from trimtab.types import Prompt
from trimtab.types import Template as Word

Template: TypeAlias = Word | Callable[[Prompt], str]
"""What stands before the response: by the tokenizer's chat template where it has one ("auto"), the
user's text as it is ("none"), or whatever a function makes of the prompt."""


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
        template: Template,
        decode: Callable[[Sequence[int]], str],
    ) -> None:
        if not callable(template):
            check_word("template", template, Word)
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
            return plain_text(prompt, self.decode)
        messages = self._messages(prompt)
        ours = messages[-1]["role"] == "assistant"
        if ours and not messages[-1]["content"]:  # nothing is begun
            messages, ours = messages[:-1], False
        return self._render(messages, add_generation_prompt=not ours, continue_final_message=ours)

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
        return [{"role": "user", "content": plain_text(prompt, self.decode)}]

    def _render(self, messages: list[dict[str, str]], **options: Any) -> str:
        text = self.tokenizer.apply_chat_template(messages, tokenize=False, **options)
        assert isinstance(text, str)
        return text


def plain_text(prompt: Prompt, decode: Callable[[Sequence[int]], str]) -> str:
    """A prompt without a template: its text; several turns as "role: text" lines."""
    if prompt.messages is not None and len(prompt.messages) > 1:
        return "\n".join(f"{m['role']}: {m['content']}" for m in prompt.messages)
    return prompt.text if prompt.text is not None else decode(prompt.ids)
