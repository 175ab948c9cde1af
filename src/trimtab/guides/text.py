"""Any Python callable on texts as a guide: rules, sentiment lexicons, services, other tokenizers.

Legend: B rows, K candidates, L tokens of a candidate, R some rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TypeAlias, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trimtab.errors import GuideError, TrimtabError, UsageError
from trimtab.locks import lock_of
from trimtab.types import Candidates, Cost, Prompt

UNFINISHED = "\ufffd"
"""What decoders print for bytes that are not yet a character."""

Pair: TypeAlias = tuple[str, str]  # a prompt and a response, as texts


@dataclass(frozen=True)
class Row:
    """A prompt, its text up to the response, and the response's ids so far."""

    prompt: Prompt
    opening: str
    ids: tuple[int, ...] = ()


def appended_ids(
    rows: Iterable[tuple[int, ...]], tokens: Int[Tensor, "B L"], lengths: Int[Tensor, "B"]
) -> list[tuple[int, ...]]:
    """Rows of ids with the first `lengths[b]` of `tokens[b]` behind them."""
    new = zip(rows, tokens.tolist(), lengths.tolist(), strict=True)
    return [row + tuple(ids[:n]) for row, ids, n in new]


class ResponseReader:
    """What reads responses as text, whatever tokens the base writes."""

    decode: Callable[[Sequence[int]], str]

    def text(self, ids: Sequence[int]) -> str:
        """Text of a response, up to its last whole character."""
        return self.decode(ids).rstrip(UNFINISHED)

    def texts(self, rows: Sequence[Row], candidates: Candidates) -> list[list[str]]:
        """Each row's response with each candidate."""
        new = zip(rows, candidates.tokens.tolist(), candidates.lengths.tolist(), strict=True)
        return [
            [self.text(row.ids + tuple(ids[:n])) for ids, n in zip(many, lengths, strict=True)]
            for row, many, lengths in new
        ]

    @staticmethod
    def longer(
        rows: Sequence[Row], tokens: Int[Tensor, "B L"], lengths: Int[Tensor, "B"]
    ) -> list[Row]:
        """Rows with these tokens at the end of their responses."""
        ids = appended_ids([row.ids for row in rows], tokens, lengths)
        return [replace(row, ids=new) for row, new in zip(rows, ids, strict=True)]


@final
class TextGuide(ResponseReader):
    """score(s + v) = function(prompt, text of s + v).

    Prefix and candidate are decoded together, never token by token, so spaces and characters that
    span tokens come out right; bytes that do not make a character yet are left out. EOS leaves no
    text: a finished response is scored as it stands.

    `cost.scored` counts the texts that the function scored and `cost.forwards` its calls; texts
    that coincide within one step are scored once.

    Args:
        function: `(prompts, texts) -> one number each`, two lists of the same length.
        decode: ids of a response to its text, such as `lm.decode`.
        name: what errors and tables call it.
        batch_size: most texts in one call of the function; None is no limit.
        parallel: lets threads that share the guide call the function at the same time, for services
            that are waited for and functions that bear it; otherwise one at a time calls it.
        prompt: what the function sees of a prompt; None takes the user's text (of a conversation
            the last thing the user said), or the decoded ids where there is none. Words that the
            assistant has begun with are in `Prompt.messages`; the text is what follows them.

    >>> import trimtab as tt
    >>> lm = tt.TableLM(5)
    >>> guide = tt.TextGuide(lambda prompts, texts: [t.count("a") for t in texts], lm.decode)
    >>> [done] = tt.decode(lm, guide, tt.args(9.0, k=5), ["b"], max_new_tokens=4)
    >>> done.text
    'aaaa'
    """

    vocab = None

    def __init__(
        self,
        function: Callable[[list[str], list[str]], Sequence[float] | Tensor],
        decode: Callable[[Sequence[int]], str],
        *,
        name: str = "text",
        batch_size: int | None = None,
        parallel: bool = False,
        prompt: Callable[[Prompt], str] | None = None,
    ) -> None:
        if batch_size is not None and batch_size < 1:
            raise UsageError("batch_size must be at least 1", got=f"{batch_size}", do="raise it")
        self.function, self.decode, self.name = function, decode, name
        self.batch_size, self.cost = batch_size, Cost()
        self._lock = nullcontext() if parallel else lock_of(function)
        self._prompt = prompt or self._user_text

    def _user_text(self, prompt: Prompt) -> str:
        return prompt.text if prompt.text is not None else self.decode(prompt.ids)

    def prefill(self, prompts: Sequence[Prompt]) -> list[Row]:
        """One row per prompt, with no response yet."""
        return [Row(prompt, self._prompt(prompt)) for prompt in prompts]

    def extend(
        self, state: list[Row], tokens: Int[Tensor, "B L"], lengths: Int[Tensor, "B"]
    ) -> list[Row]:
        """Append tokens; nothing is scored."""
        return self.longer(state, tokens, lengths)

    def select(self, state: list[Row], rows: Int[Tensor, "R"]) -> list[Row]:
        """Drop, reorder or fork rows."""
        return [state[i] for i in rows.tolist()]

    def join(self, states: Sequence[list[Row]]) -> list[Row]:
        """Rows of several states side by side."""
        return [row for state in states for row in state]

    def score(self, state: list[Row], candidates: Candidates) -> Float[Tensor, "B K"]:
        """The function's scores of each prefix with each candidate.

        Raises:
            GuideError: the function failed, or returned something else than one number each.
        """
        texts = self.texts(state, candidates)
        pairs = [(row.opening, t) for row, many in zip(state, texts, strict=True) for t in many]
        distinct = list(dict.fromkeys(pairs))
        size = self.batch_size or len(distinct)
        known: dict[Pair, float] = {}
        for i in range(0, len(distinct), size):
            batch = distinct[i : i + size]
            known |= zip(batch, self._call(batch), strict=True)
        scores = torch.tensor([known[pair] for pair in pairs], dtype=torch.float64)
        return scores.to(candidates.logprobs).view(candidates.logprobs.shape)

    def _call(self, batch: list[Pair]) -> list[float]:
        """What the function says of one batch."""
        prompts, texts = [prompt for prompt, _ in batch], [text for _, text in batch]
        self.cost.add(scored=len(batch), forwards=1)
        try:
            with self._lock:
                results: list[object] = list(self.function(prompts, texts))
        except TrimtabError:
            raise
        except Exception as error:
            got = f"{type(error).__name__}: {error} in a batch of {len(batch)}"
            raise self._error(batch[0], got) from error
        if len(results) != len(batch):
            raise self._error(batch[0], f"{len(results)} results for {len(batch)} texts")
        return [self._number(*each) for each in zip(batch, results, strict=True)]

    def _number(self, pair: Pair, result: object) -> float:
        try:
            if isinstance(result, str | bytes):
                raise TypeError("a string")
            return float(result)  # type: ignore[arg-type]  # what cannot be a float says so
        except (TypeError, ValueError, RuntimeError) as error:
            raise self._error(pair, f"{result!r:.60}") from error

    def _error(self, pair: Pair, got: str) -> GuideError:
        prompt, text = (x if len(x) <= 60 else f"{x[:28]}...{x[-28:]}" for x in pair)
        return GuideError(
            f"guide {self.name!r} must return one number for each text",
            got=f"{got} (prompt {prompt!r}, text {text!r})",
            do="mend the function",
        )

    def __repr__(self) -> str:
        """What is called."""
        function = getattr(self.function, "__qualname__", repr(self.function))
        return f"TextGuide({self.name!r}, {function})"
