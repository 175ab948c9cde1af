"""The vocabulary of the library on one page: what a model, a guide and the parts of a method are.

Legend: B rows (one per sequence), K candidates of a row, L tokens, R some rows, N outcomes.
All protocols are structural: a class of yours that has these methods is one. `trimtab.testing`
checks the laws that they cannot spell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trimtab.rng import Rng
from trimtab.types import Candidates, Cost, Prompt, PromptLike, Proposal, Sample, Vocab

__all__ = [
    "Bounded",
    "Guide",
    "LanguageModel",
    "OffersStates",
    "Reader",
    "ReadsStates",
    "Reward",
    "Rule",
    "Sampler",
    "Task",
]

S = TypeVar("S")
"""A reader's state: opaque to everyone else."""


@runtime_checkable
class Reader(Protocol[S]):
    """Anything that reads growing prefixes; one row per sequence.

    `extend`, `select` and `join` consume the state they are given; use what they return. `rows`
    lives on the CPU: which rows go on is known on the host. A state belongs to one call; the
    reader itself may be asked by several threads at once.
    """

    @property
    def cost(self) -> Cost:
        """Tokens read so far; counted by `Cost.add` in the thread that asks for the reading."""

    def prefill(self, prompts: Sequence[Prompt]) -> S:
        """Read whole prompts, one row each."""

    def extend(self, state: S, tokens: Int[Tensor, "B L"], lengths: Int[Tensor, "B"]) -> S:
        """Append `lengths[b]` tokens to row b; a row that gains none stays as it was."""

    def select(self, state: S, rows: Int[Tensor, "R"]) -> S:
        """Drop, reorder or fork rows."""

    def join(self, states: Sequence[S]) -> S:
        """Rows of several states side by side, in order (late arrivals)."""


@runtime_checkable
class LanguageModel(Reader[S], Protocol[S]):
    """The frozen base policy pi_ref."""

    @property
    def vocab(self) -> Vocab:
        """Whose ids it emits."""

    @property
    def device(self) -> torch.device:
        """Where its candidates live."""

    @property
    def eos_ids(self) -> frozenset[int]:
        """The tokens that end a response."""

    @property
    def context(self) -> int | None:
        """Most tokens that a prompt and its response may have; None if unlimited."""

    def encode(self, prompt: PromptLike) -> Prompt:
        """Text or a conversation as token ids, by the model's own template."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of a response's ids; special tokens leave no text."""

    def propose(self, state: S, proposal: Proposal, rng: Rng) -> Candidates:
        """Candidate continuations of each row; leaves `state` as it was."""

    def draw_tail(
        self, state: S, candidates: Candidates, rng: Rng
    ) -> tuple[Int[Tensor, "B"], Float[Tensor, "B"]]:
        """A token of each row from pi_ref outside its candidates, and its log pi_ref."""


@runtime_checkable
class Guide(Reader[S], Protocol[S]):
    """A value function or reward model that reads prefixes.

    Five methods (`prefill`, `extend`, `select`, `join`, `score`) and three attributes (`name`,
    `vocab`, `cost`).
    """

    @property
    def name(self) -> str:
        """What errors and tables call it."""

    @property
    def vocab(self) -> Vocab | None:
        """Whose ids it reads; None if it reads text and so fits every base."""

    def score(self, state: S, candidates: Candidates) -> Float[Tensor, "B K"]:
        """Score of each candidate after the prefix; leaves `state` as it was.

        A candidate that ends in EOS is a finished response, and its score is that of the response.
        """


@runtime_checkable
class Bounded(Protocol):
    """A guide of ids that cannot read prefixes of any length; one without this can."""

    @property
    def context(self) -> int | None:
        """Most tokens that a prompt and its response may have; None if unlimited."""


@runtime_checkable
class ReadsStates(Protocol):
    """A guide that reads hidden states of the base, as candidates carry them."""

    @property
    def state_layers(self) -> frozenset[int]:
        """After how many layers, counted from the embedding; none where it reads none."""
        ...


@runtime_checkable
class OffersStates(Protocol):
    """A base that can hand its hidden states to a guide."""

    def offering(self, layers: frozenset[int]) -> LanguageModel[Any]:
        """The same base, whose candidates carry the states of some layers."""
        ...


@runtime_checkable
class Rule(Protocol):
    """Combines log pi_ref and scores into logits. Equivariant to order; keeps -inf."""

    def __call__(
        self,
        logprobs: Float[Tensor, "B N"],
        scores: Float[Tensor, "B N"],
        beta: float | Float[Tensor, "B 1"],
    ) -> Float[Tensor, "B N"]:
        """Logits of the outcomes, up to a constant per row."""


@runtime_checkable
class Sampler(Protocol):
    """Turns logits into log-probabilities and draws from them; temperature, nucleus are here."""

    @property
    def greedy(self) -> bool:
        """Whether it takes the single best outcome."""

    @property
    def plain(self) -> bool:
        """Whether it draws from softmax(logits) itself."""

    def logprobs(self, logits: Float[Tensor, "B N"]) -> Float[Tensor, "B N"]:
        """log pi, normalised (nats): what `choose` draws from."""

    def choose(self, logprobs: Float[Tensor, "B N"], rng: Rng) -> Int[Tensor, "B"]:
        """Index of the chosen outcome."""


@runtime_checkable
class Reward(Protocol):
    """Judges finished texts: `(samples, responses) -> one score each`."""

    def __call__(self, samples: Sequence[Sample], responses: Sequence[str]) -> Sequence[float]:
        """A score of each finished text, higher is better; `samples` say what each answers."""


@runtime_checkable
class Task(Protocol):
    """Prompts, and how responses to them are judged."""

    @property
    def name(self) -> str:
        """What the command line and tables call it."""

    @property
    def reward(self) -> Reward:
        """What guides are trained or steered to raise (gold)."""

    @property
    def judge(self) -> Reward | None:
        """A second opinion that no guide has seen: shows when the reward is only being gamed."""

    @property
    def max_new_tokens(self) -> int:
        """The longest response worth asking for."""

    @property
    def template(self) -> Literal["auto", "none"]:
        """The base's chat template, where it has one ("auto"), or text to be continued ("none")."""

    def samples(self, split: str) -> Sequence[Sample]:
        """The prompts of "train", "validation", "test" or "all"; always in the same order."""
