"""What a reader asks of a network's config, wherever in it the answer stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel

from trimtab.errors import PromptError


def text_config(net: PreTrainedModel | PreTrainedConfig) -> Any:
    """The config of what reads and writes text: a part of the whole for a multimodal model."""
    config: Any = net if isinstance(net, PreTrainedConfig) else net.config
    try:
        return config.get_text_config()
    except ValueError:  # a model that also encodes text has two
        return config.get_text_config(decoder=True)


def text_decoder(net: PreTrainedModel) -> PreTrainedModel:
    """The decoder of text in a network: without towers for images or sound, and without a head."""
    inner: Any = net.base_model if text_config(net) is net.config else net.get_decoder()
    if inner is net and net.can_generate():  # whose class misnames its body
        inner = getattr(net, "model", net)
    return inner if isinstance(inner, PreTrainedModel) else net


@dataclass(frozen=True)
class Context:
    """How many tokens a row may have.

    Attributes:
        tokens: at most; None if unlimited.
        why: why not more, where that is not simply the network's length.
    """

    tokens: int | None
    why: str = ""

    def hold(self, tokens: int) -> None:
        """Raise `PromptError` if a row of so many tokens does not fit."""
        if self.tokens is not None and tokens > self.tokens:
            raise PromptError(
                f"a row must fit the context of {self.tokens} tokens"
                + (f" ({self.why})" if self.why else ""),
                got=f"{tokens} tokens",
                do="shorten the prompt or the token budget",
            )


def context_of(net: PreTrainedModel | PreTrainedConfig) -> Context:
    """The longest row whose law depends on the row alone.

    Some networks change how they read at a length: longrope has other rotary frequencies for all
    tokens once any row of a forward is longer, and Llama 4 scales queries by the number of stored
    places. Beyond it a row's law would depend on the rows beside it and on when it was read, so a
    row may not go there.
    """
    config = text_config(net)
    longest = getattr(config, "max_position_embeddings", None)
    contexts = [Context(longest)] if isinstance(longest, int) and longest > 0 else []
    for rope in _ropes(config):
        if rope.get("rope_type", rope.get("type")) == "longrope":
            switch = rope.get("original_max_position_embeddings") or getattr(
                config, "original_max_position_embeddings", longest
            )
            why = "its longrope changes the rotary frequencies of the whole text beyond"
            contexts.append(Context(switch, why))
    if getattr(config, "attn_temperature_tuning", False) and hasattr(config, "floor_scale"):
        why = "beyond, it scales queries by places in the cache"
        contexts.append(Context(int(config.floor_scale) - 1, why))
    limited = [context for context in contexts if context.tokens is not None]
    return min(limited, key=lambda context: context.tokens or 0, default=Context(None))


def _ropes(config: Any) -> list[dict[str, Any]]:
    """Its rotary parameters; one set for each type of layer, where they differ."""
    given = getattr(config, "rope_parameters", None) or {}
    nested = [value for value in given.values() if isinstance(value, dict)]
    return nested or [given]
