"""The door of the command line: commands are gathered, errors become one line and an exit code.

Exit codes: 0 done, 1 failed, 2 the call cannot be meant, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import trimtab
from trimtab.errors import TrimtabError

DEBUG = "--debug"
INTERRUPTED, CLOSED = 130, 141  # 128 + SIGINT, 128 + SIGPIPE: what shells expect


class Door(TyperGroup):
    """The group of commands that says errors in one line."""

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
            sys.stdout.flush()  # a closed pipe shows here and not at exit
        except TrimtabError as error:
            if ctx.params.get("debug"):
                raise
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as stopped:
            print("interrupted", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from stopped
        except BrokenPipeError as closed:  # `trimtab ... | head` has read enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(CLOSED) from closed
        return result


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
