"""What a person sees: one progress bar and one table, for every command."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress

    from trimtab.runs import Progress as Event

SECONDS_PER_LINE = 30.0
"""Between two lines of progress where there is no screen: in a pipe, a file, a job's log."""


class Meter:
    """Shows how far the work is; this one shows nothing."""

    def __init__(self, label: str) -> None:
        self.label, self.began, self.rate = label, time.monotonic(), ""

    def __call__(self, done: int, total: int, *, label: str = "", note: str = "") -> None:
        """Shows `done` of `total`; a label says what, a note is shown beside it."""

    def hidden(self) -> AbstractContextManager[object]:
        """Takes the bar off the screen, so that text can be printed."""
        return nullcontext()

    def on(self, event: Event) -> None:
        """Shows a run's event, with tokens per second while it decodes."""
        if event.stage == "score":
            self(event.done, event.total, label="scoring")
            return
        if event.tokens:
            self.rate = f"{event.tokens / (time.monotonic() - self.began):.0f} tokens/s"
        self(event.done, event.total, label="decoding", note=self.rate)


@contextmanager
def progress(label: str, *, quiet: bool = False) -> Iterator[Meter]:
    """A bar on stderr; a line now and then where stderr is no screen; nothing when quiet."""
    from rich.console import Console

    console = Console(stderr=True)
    if quiet:
        yield Meter(label)
    elif not (console.is_terminal or console.is_jupyter):
        yield _Lines(label)
    else:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeRemainingColumn as Left

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Left())
        with Progress(
            *columns,
            TextColumn("{task.fields[note]}"),
            console=console,
            transient=True,
            redirect_stdout=False,  # text is for whoever reads stdout, not for the bar's terminal
        ) as bar:
            yield _Bar(label, bar)


class _Lines(Meter):
    def __init__(self, label: str) -> None:
        super().__init__(label)
        self.shown = self.began

    def __call__(self, done: int, total: int, *, label: str = "", note: str = "") -> None:
        now = time.monotonic()
        if now - self.shown < SECONDS_PER_LINE or not done or done >= total:
            return
        self.shown = now
        minutes = (now - self.began) / 60
        left = f"{minutes:.0f} min so far, about {minutes * (total - done) / done:.0f} min left"
        parts = (f"{label or self.label}: {done} of {total}", note, left)
        print(", ".join(filter(None, parts)), file=sys.stderr, flush=True)


class _Bar(Meter):
    def __init__(self, label: str, bar: Progress) -> None:
        super().__init__(label)
        self.bar, self.total = bar, 0
        self.task = bar.add_task(label, total=None, note="")

    def __call__(self, done: int, total: int, *, label: str = "", note: str = "") -> None:
        if total != self.total:  # another stage has a clock of its own
            self.total = total
            self.bar.reset(self.task, total=total, completed=done)
        self.bar.update(self.task, completed=done, description=label or self.label, note=note)

    @contextmanager
    def hidden(self) -> Iterator[None]:
        self.bar.stop()
        try:
            yield
        finally:
            self.bar.start()


# --- tables --------------------------------------------------------------------------------------


def print_table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    title: str | None = None,
    note: str | None = None,
) -> None:
    """A table on stdout; where the screen is too narrow, its columns come in several blocks."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    blocks = _blocks(head, rows, console.width)
    for columns in blocks:
        table = Table(
            *(head[i] for i in columns),
            box=None,
            header_style="bold",
            show_header=any(head),
            title=title if columns is blocks[0] else None,
            title_justify="left",
            caption=note if columns is blocks[-1] else None,
            caption_justify="left",
        )
        for row in rows:
            table.add_row(*(row[i] for i in columns))
        console.print(table)


def _blocks(head: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[list[int]]:
    """The columns of each block, so that each fits; of one column's text lines are broken."""
    widths = [max(len(row[i]) for row in (head, *rows)) + 2 for i in range(len(head))]
    if sum(widths) <= width or any(w > width // 2 for w in widths[1:]):
        return [list(range(len(head)))]  # it fits, or is prose that is better broken in its cells
    blocks, used = [[0]], widths[0]
    for i in range(1, len(head)):
        if used + widths[i] > width and len(blocks[-1]) > 1:
            blocks.append([0])
            used = widths[0]
        blocks[-1].append(i)
        used += widths[i]
    return blocks


def on_screen() -> bool:
    """Whether somebody reads stdout; in a pipe, tables are Markdown."""
    return sys.stdout.isatty()


def print_json(value: Any, *, indent: int | None = 1) -> None:
    """A value as JSON on stdout; what JSON cannot hold (NaN, infinities) is null."""
    print(json.dumps(finite(value), ensure_ascii=False, indent=indent, default=str))


def finite(value: Any) -> Any:
    """Nested values with null for NaN and infinities, which JSON does not have."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
