"""The one record that guides are trained on: a prompt with its responses and their rewards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trimtab.errors import check_word
from trimtab.types.completions import FinishReason
from trimtab.types.prompts import Prompt


@dataclass(frozen=True)
class Response:
    """One response to a prompt, as it was written.

    Attributes:
        tokens: ids after the prompt (and after the group's `prefix`), EOS included where it ended
            so.
        text: the whole response without EOS, the group's `prefix` included: what rewards see.
        finish: why it ended; None for text that no model of ours wrote.
        logprobs: log pi of each token under the policy that wrote it (nats); empty for human text.
        rewards: by name.
    """

    tokens: tuple[int, ...]
    text: str
    finish: FinishReason | None = None
    logprobs: tuple[float, ...] = ()
    rewards: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.finish is not None:
            check_word("finish", self.finish, FinishReason)


@dataclass(frozen=True)
class Group:
    """One prompt and its responses. A human preference is a group of two.

    Attributes:
        prompt: what is asked, encoded for the base.
        responses: what was answered.
        topic: what it is about: groups of one topic are never in two splits.
        prefix: ids that open every response (validation: half a response, completed ten times).
    """

    prompt: Prompt
    responses: tuple[Response, ...]
    topic: str
    prefix: tuple[int, ...] = ()

    def mean(self, reward: str) -> float:
        """The mean reward of the responses: an unbiased label of the prefix' value."""
        return sum(r.rewards[reward] for r in self.responses) / len(self.responses)
