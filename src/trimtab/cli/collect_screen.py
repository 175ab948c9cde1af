"""What `collect` shows: a bar while it works, and one line at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trimtab.training.rollouts import OnProgress, Progress


class Pace:
    """Tokens per second since the work began."""

    def __init__(self) -> None:
        self.began, self.tokens, self.total = time.perf_counter(), 0, 0

    def note(self, progress: Progress) -> None:
        """How far it is; another total is another stage, with a clock of its own."""
        if progress.total != self.total:
            self.began, self.total = time.perf_counter(), progress.total
        self.tokens = progress.tokens

    def __str__(self) -> str:
        """As "350 tokens/s"; nothing where none was generated."""
        seconds = time.perf_counter() - self.began
        return f"{self.tokens / seconds:.0f} tokens/s" if self.tokens and seconds else ""


@contextmanager
def rolling(rank: int) -> Iterator[tuple[OnProgress, Pace]]:
    """A bar on stderr, where somebody is looking, and the pace so far. Only rank 0 shows one."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("responses"), BarColumn(), MofNCompleteColumn())
    with Bar(
        *columns,
        TextColumn("{task.fields[pace]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=rank != 0 or not sys.stderr.isatty(),
    ) as bar:
        shown, pace = bar.add_task("", total=None, pace=""), Pace()

        def on(progress: Progress) -> None:
            pace.note(progress)
            bar.update(shown, completed=progress.done, total=progress.total, pace=str(pace))

        yield on, pace


def say(manifest: Mapping[str, Any], folder: Path, rank: int, pace: Pace) -> None:
    """What the folder holds, in one line on stderr."""
    if rank:
        return
    counts = manifest["counts"]
    tokens = f"{counts['tokens']} tokens" + (f" ({pace})" if pace.tokens else "")
    size = f"{counts['groups']} groups, {counts['responses']} responses, {tokens}"
    rewards = [_reward(name, facts) for name, facts in sorted(manifest["rewards"].items())]
    print("; ".join([size, *rewards, f"in {folder}"]), file=sys.stderr)


def _reward(name: str, facts: Mapping[str, Any]) -> str:
    if facts["mean"] is None:
        return f"{name}: none of {facts['failed']} scored"
    spread = "" if facts["std"] is None else f" ± {facts['std']:.3f}"
    failed = f" ({facts['failed']} without a score)" if facts["failed"] else ""
    return f"{name} {facts['mean']:.3f}{spread}{failed}"
