"""The door of the command line: commands are gathered, errors become one line and an exit code.

Exit codes: 0 done, 1 failed, 2 the call cannot be meant, 130 interrupted.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, TextIO, TypeVar, cast

import typer
from typer.core import TyperGroup

import trimtab
from trimtab.errors import OutputError, TrimtabError

T = TypeVar("T")

DEBUG = "--debug"
INTERRUPTED, CLOSED = 130, 141  # 128 + SIGINT, 128 + SIGPIPE: what shells expect


class Door(TyperGroup):
    """The group of commands that says errors in one line."""

    def main(self, *arguments: Any, **named: Any) -> Any:
        """Runs the whole, so that what cannot be printed is said wherever it shows."""
        try:
            try:
                return super().main(*arguments, **named)
            finally:
                sys.stdout.flush()
        except ClosedError as error:
            raise SystemExit(CLOSED) from error
        except OutputError as error:  # of the help, or at the end
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(error.exit_code) from error

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Lets `--debug` stand anywhere before a bare `--`."""
        end = args.index("--") if "--" in args else len(args)
        if DEBUG in args[:end]:
            args = [DEBUG, *(a for a in args[:end] if a != DEBUG), *args[end:]]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Runs the command; what trimtab raises on purpose never shows a traceback."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # a closed pipe or a full disk shows here and not at exit
        except TrimtabError as error:
            if ctx.params.get("debug"):
                raise
            command = self.commands.get(ctx.invoked_subcommand or "")
            print(f"error: {on_command_line(str(error), flags_of(command))}", file=sys.stderr)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as stopped:
            print("interrupted", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from stopped
        return result


class ClosedError(Exception):
    """Whoever read stdout has gone: `trimtab ... | head` has read enough."""


class Stdout:
    """The process' stdout, whose failures are told from those of files.

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


def flags_of(command: Any) -> dict[str, str]:
    """The options of a command and of those below it, by their names in Python."""
    if command is None:
        return {}
    found: dict[str, str] = {}
    for below in getattr(command, "commands", {}).values():
        found |= flags_of(below)
    return found | {
        option.name: max(option.opts, key=len)
        for option in command.params
        if option.param_type_name == "option"
    }


def on_command_line(said: str, flags: Mapping[str, str]) -> str:
    """A message with options as they are spelled there: errors come from Python and spell its way.

    >>> flags = {"max_new_tokens": "--max-new-tokens", "k": "--k", "overwrite": "--overwrite"}
    >>> on_command_line("max_new_tokens must be at least 1; pass max_new_tokens=3", flags)
    '--max-new-tokens must be at least 1; pass --max-new-tokens 3'
    >>> on_command_line("pass overwrite=True, or k=5; --set k=5; k must fit", flags)
    'pass --overwrite, or --k 5; --set k=5; k must fit'
    """

    def value(found: re.Match[str]) -> str:
        name, given = found["name"], found["value"].strip("\"'")
        if found["set"] or name not in flags:
            return found[0]
        return flags[name] if given == "True" else f"{flags[name]} {given}"

    def alone(found: re.Match[str]) -> str:
        return flags.get(found[0], found[0])

    return _ALONE.sub(alone, _GIVEN.sub(value, said))


_GIVEN = re.compile(
    r"(?P<set>--set )?(?<![\w./-])(?P<name>[a-z]\w*)=(?P<value>\"[^\"]*\"|'[^']*'|[^\s,;)]+)"
)
"""An option with its value, as Python spells it; not after `--set`, which is spelled so."""

_ALONE = re.compile(r"(?<![\w./=\"'-])[a-z]+(?:_[a-z]+)+(?![\w./=\"'])")
"""A name that no other word is: with an underscore, and no part of a path or a quoted text."""


def _version(wanted: bool) -> bool:
    if wanted:
        print(f"trimtab {trimtab.__version__}")
        raise typer.Exit
    return wanted


app = typer.Typer(
    name="trimtab",
    cls=Door,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
    debug: Annotated[bool, typer.Option(DEBUG, help="Show the traceback of an error.")] = False,
) -> None:
    """Steer a frozen language model towards a reward while it decodes.

    Start here:

      trimtab assets fetch smollm2

      trimtab generate "Your opinion on tea, in one sentence." --reward sentiment --beta 8

      trimtab demo
    """
