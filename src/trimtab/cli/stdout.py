"""The process' stdout, whose failures are told from those of files."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from typing import Any, TextIO, TypeVar, cast

from trimtab.errors import OutputError

T = TypeVar("T")


class ClosedError(Exception):
    """Whoever read stdout has gone: `trimtab ... | head` has read enough."""


class Stdout:
    """A stream that says in our errors why it cannot be written to.

    Args:
        inner: the stream itself.
    """

    def __init__(self, inner: TextIO) -> None:
        self.inner = inner

    def write(self, text: str) -> int:
        """Prints a text.

        Raises:
            ClosedError: nobody reads any more.
            OutputError: there is no room.
        """
        return self._try(lambda: self.inner.write(text))

    def writelines(self, lines: Iterable[str]) -> None:
        """Prints texts, as `write` does."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Hands on what was printed, as `write` does."""
        self._try(self.inner.flush)

    def _try(self, act: Callable[[], T]) -> T:
        try:
            return act()
        except OSError as error:
            # What it still holds goes nowhere, so that it is not tried again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.inner.fileno())
            if isinstance(error, BrokenPipeError):
                raise ClosedError from error
            why = error.strerror or str(error)
            raise OutputError("stdout must be writable", got=why, do="print elsewhere") from error

    def __getattr__(self, name: str) -> Any:
        """All else is the stream's."""
        return getattr(self.inner, name)


def guard_stdout() -> None:
    """Has this process print through `Stdout`; where stdout is closed, to nowhere."""
    inner = sys.stdout if sys.stdout is not None else open(os.devnull, "w")  # noqa: SIM115
    sys.stdout = cast("TextIO", Stdout(inner))
