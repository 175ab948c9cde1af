"""Where prompts come from: arguments, a file, or stdin."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from trimtab.errors import PromptError, UsageError

if TYPE_CHECKING:
    from trimtab.types import PromptLike

STDIN = "-"


def read_prompts(
    arguments: Sequence[str], file: str | None, column: str | None = None
) -> list[PromptLike]:
    """Texts and conversations, in the order given.

    Args:
        arguments: prompts on the command line; `-` is all of stdin as one prompt.
        file: as for `trimtab.tasks.read_samples`, or `-` for stdin, which is text with a prompt a
            line or JSON lines.
        column: where a file's row has its prompt, as for `trimtab.tasks.read_samples`.

    Raises:
        UsageError: both are given, or the file cannot be read.
        PromptError: there is nothing in them, or a row is no prompt.
    """
    if arguments and file:
        raise UsageError("prompts come from one place", got="arguments and --file", do="drop one")
    if column and not file:
        raise UsageError("--column names a column of --file", got="no --file", do="add it")
    if file:
        return _from_file(file, column)
    if not arguments and sys.stdin.isatty():
        raise PromptError("a prompt must be given", got="none", do='try: trimtab generate "Hello"')
    return [_stdin() if a == STDIN else a for a in arguments or [STDIN]]


def _from_file(file: str, column: str | None) -> list[PromptLike]:
    from trimtab.tasks import read_samples, samples_of
    from trimtab.tasks.files import rows_in

    if file != STDIN:
        return [sample.prompt for sample in read_samples(file, column)]
    rows = rows_in(sys.stdin.buffer.read(), "stdin")
    return [sample.prompt for sample in samples_of(rows, "stdin", column)]


def _stdin() -> str:
    """A whole letter or page as one prompt; the last line's end is the shell's, not the text's."""
    text = sys.stdin.read().rstrip("\n")
    if not text:
        raise PromptError("a prompt must not be empty", got="nothing on stdin", do="write one")
    return text
