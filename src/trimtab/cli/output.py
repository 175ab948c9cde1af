"""What `generate` prints: texts or JSON lines, always in the order of the prompts."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from trimtab.types import Completion, Prompt, Step


@runtime_checkable
class Out(Protocol):
    """What a writer writes to."""

    def write(self, text: str, /) -> object:
        """Takes a text."""

    def flush(self) -> object:
        """Hands it on."""


@dataclass
class Totals:
    """What all responses so far took; `kl` is None where one has none."""

    tokens: int = 0
    guide_tokens: float = 0.0
    kl: float | None = 0.0

    def add(self, done: Completion) -> None:
        """Counts one more."""
        self.tokens += len(done.tokens)
        self.guide_tokens += done.guide_tokens
        self.kl = None if self.kl is None or done.kl is None else self.kl + done.kl


class Writer:
    """Takes the steps of all rows as they come and prints them row after row.

    Rows grow side by side. Streaming shows the first row that is not finished and holds the others
    back, so the output is the same characters with and without it. Rows that are printed are
    forgotten.

    Args:
        prompts: the encoded prompts.
        n: responses per prompt.
        stream: print text as it comes.
        ledger: facts for every JSON object; None prints texts.
        out: where.
        steps: whether JSON objects have every step.
        first: index of the first prompt that is decoded; those before it are printed already.
    """

    def __init__(
        self,
        prompts: Sequence[Prompt],
        n: int,
        *,
        stream: bool,
        ledger: dict[str, Any] | None,
        out: Out,
        steps: bool = True,
        first: int = 0,
    ) -> None:
        self.prompts, self.n, self.stream, self.ledger, self.out = prompts, n, stream, ledger, out
        self.whole, self.totals = steps, Totals()
        self.steps: dict[int, list[Step]] = defaultdict(list)
        self.row, self.begun, self.shown = first * n, False, 0

    def push(self, step: Step) -> None:
        """Notes a step, and prints what can be printed now."""
        self.steps[step.row].append(step)
        while self.row in self.steps:
            steps = self.steps[self.row]
            finished = steps[-1].finish is not None
            if self.ledger is None and (self.stream or finished):
                self._text(steps)
            if not finished:
                return
            self._finish(self.steps.pop(self.row))

    def _text(self, steps: Sequence[Step]) -> None:
        """The steps of the current row that are not on the page yet."""
        if not self.begun and len(self.prompts) * self.n > 1:
            which = f"--- prompt {self.row // self.n + 1}"
            which += f", sample {self.row % self.n + 1}" if self.n > 1 else ""
            self.out.write(f"{which} ---\n")
        self.begun = True
        self.out.write("".join(step.text for step in steps[self.shown :]))
        self.shown = len(steps)
        self.out.flush()

    def _finish(self, steps: Sequence[Step]) -> None:
        from trimtab.decoding.loop import completion

        done = completion(self.prompts[self.row // self.n], self.row % self.n, steps)
        self.totals.add(done)
        if self.ledger is not None:
            facts = {"index": self.row // self.n, **self.ledger, **done.as_dict()}
            if not self.whole:
                del facts["steps"]
            self.out.write(json.dumps(_finite(facts), ensure_ascii=False))
        self.out.write("\n")
        self.out.flush()
        self.row, self.begun, self.shown = self.row + 1, False, 0


def _finite(value: Any) -> Any:
    """JSON has no infinity: log 0 becomes null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def summary(totals: Totals, seconds: float) -> str:
    """One line on what it took."""
    tokens = totals.tokens
    kl = "" if totals.kl is None else f"KL {totals.kl / tokens:.3f} nats per token, "
    guide = totals.guide_tokens / tokens
    return f"{tokens} tokens, {kl}{guide:.1f} guide reads per token, {seconds:.1f} s"


def progress(total: int, what: str) -> tuple[Any, Callable[[int], None]]:
    """A bar on stderr, where a person is looking; elsewhere nothing.

    Returns:
        A context manager that may be entered again, and a function that moves the bar on.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Eta

    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Eta(),
        console=console,
        transient=True,
        redirect_stdout=False,  # text is for whoever reads stdout, not for the bar's terminal
        redirect_stderr=False,
        disable=not console.is_terminal,
    )
    task = bar.add_task(what, total=total)
    return bar, lambda done: bar.update(task, advance=done)
