"""`trimtab` as a function: a command line in this process, with what it prints."""

from __future__ import annotations

import io
import shlex
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from unittest.mock import patch

from trimtab.cli import app, run


@dataclass(frozen=True)
class Result:
    """What a command printed, and how it ended."""

    exit_code: int
    stdout: str
    stderr: str
    exception: BaseException | None = None

    @property
    def output(self) -> str:
        return self.stdout + self.stderr


Run = Callable[..., Result]


def words(line: str) -> list[str]:
    """A command line as the shell splits it."""
    return shlex.split(line)


def parse(line: str) -> None:
    """Raises where a command line is none of ours; nothing is done."""
    app.parse_args(words(line)[1:], exit_on_error=False, print_error=False)


def trimtab(*arguments: str, stdin: str = "") -> Result:
    """Runs a command line; stdout and stderr are apart, and neither is a screen."""
    out, err = io.StringIO(), io.StringIO()
    given, error = io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8"), None
    with redirect_stdout(out), redirect_stderr(err), patch.object(sys, "stdin", given):
        try:
            code = run(arguments)
        except SystemExit as stopped:
            code = int(stopped.code or 0)
        except Exception as raised:  # a test says what it expected
            code, error = 1, raised
    return Result(code, out.getvalue(), err.getvalue(), error)
