"""What `generate` prints: texts or JSON lines, always in the order of the prompts."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from trimtab.types import Completion, Prompt, Step


class Writer:
    """Takes the steps of all rows as they come and prints them row after row.

    Rows grow side by side. Streaming shows the first row that is not finished and holds the others
    back, so the output is the same characters with and without it.

    Args:
        prompts: the encoded prompts.
        n: responses per prompt.
        stream: print text as it comes.
        ledger: facts for every JSON object; None prints texts.
        out: where.
    """

    def __init__(
        self,
        prompts: Sequence[Prompt],
        n: int,
        *,
        stream: bool,
        ledger: dict[str, Any] | None,
        out: TextIO,
    ) -> None:
        self.prompts, self.n, self.stream, self.ledger, self.out = prompts, n, stream, ledger, out
        self.steps: dict[int, list[Step]] = defaultdict(list)
        self.done: list[Completion] = []
        self.row, self.begun, self.shown = 0, False, 0

    def push(self, step: Step) -> None:
        """Notes a step, and prints what can be printed now."""
        self.steps[step.row].append(step)
        while self.row < len(self.prompts) * self.n:
            steps = self.steps[self.row]
            finished = bool(steps) and steps[-1].finish is not None
            if steps and self.ledger is None and (self.stream or finished):
                self._text(steps)
            if not finished:
                return
            self._finish(steps)

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
        self.done.append(done)
        if self.ledger is not None:
            facts = {"index": self.row // self.n, **self.ledger, **done.as_dict()}
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


def summary(done: Sequence[Completion], seconds: float) -> str:
    """One line on what it took."""
    tokens = sum(len(c.tokens) for c in done)
    kls = [c.kl for c in done if c.kl is not None]
    kl = f"KL {sum(kls) / tokens:.3f} nats per token, " if len(kls) == len(done) else ""
    guide = sum(c.guide_tokens for c in done) / tokens
    return f"{tokens} tokens, {kl}{guide:.1f} guide reads per token, {seconds:.1f} s"


def progress(total: int, what: str) -> tuple[Any, Callable[[int], None]]:
    """A bar on stderr, where a person is looking; elsewhere nothing.

    Returns:
        A context manager, and a function that moves the bar on.
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
