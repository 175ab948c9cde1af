"""What `generate` prints or writes: texts or JSON lines, always in the order of the prompts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from trimtab.cli.screen import finite

if TYPE_CHECKING:
    from trimtab.types import Completion


@runtime_checkable
class Out(Protocol):
    """What a writer writes to."""

    def write(self, text: str, /) -> object:
        """Takes a text."""

    def flush(self) -> object:
        """Hands it on."""


class Writer:
    """Writes responses one after the other.

    Args:
        n: responses per prompt.
        prompts: how many there are.
        out: where.
        ledger: facts for every JSON object; None writes texts.
        steps: whether JSON objects have every step.
    """

    def __init__(
        self, n: int, prompts: int, out: Out, ledger: dict[str, Any] | None, *, steps: bool = True
    ) -> None:
        self.n, self.several, self.out = n, prompts * n > 1, out
        self.ledger, self.steps = ledger, steps
        self.row, self.tokens, self.guide_tokens = 0, 0, 0.0
        self.kl: float | None = 0.0

    def write(
        self, answer: Completion, scores: Mapping[str, float | None], *, streamed: bool = False
    ) -> None:
        """Writes the next response; of a streamed one, what its parts have left."""
        if self.ledger is not None:
            facts = {"index": self.row // self.n, **self.ledger, **answer.as_dict()}
            if not self.steps:
                del facts["steps"]
            if scores:
                facts["rewards"] = dict(scores)
            self.out.write(json.dumps(finite(facts), ensure_ascii=False))
        elif not streamed:
            self._head(scores)
            self.out.write(answer.text)
        self.out.write("\n")
        self.out.flush()
        self.row += 1
        self.tokens += len(answer.tokens)
        self.guide_tokens += answer.guide_tokens
        self.kl = None if self.kl is None or answer.kl is None else self.kl + answer.kl

    def part(self, text: str, *, begins: bool) -> None:
        """Prints more of the next response; nothing where JSON is written."""
        if self.ledger is None:
            if begins:
                self._head({})
            self.out.write(text)
            self.out.flush()

    def _head(self, scores: Mapping[str, float | None]) -> None:
        shown = [f"{k} {'none' if v is None else f'{v:.3f}'}" for k, v in scores.items()]
        if self.several or shown:
            which = f"prompt {self.row // self.n + 1}"
            which += f", sample {self.row % self.n + 1}" if self.n > 1 else ""
            self.out.write(f"--- {': '.join(filter(None, (which, ', '.join(shown))))} ---\n")

    def summary(self, seconds: float) -> str:
        """One line on what it took."""
        tokens = max(self.tokens, 1)
        kl = "" if self.kl is None else f"KL {self.kl / tokens:.3f} nats per token, "
        guide = f"{self.guide_tokens / tokens:.1f} guide reads per token"
        return f"{self.tokens} tokens, {kl}{guide}, {seconds:.1f} s"
