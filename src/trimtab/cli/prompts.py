"""Where prompts come from: arguments, a file, or stdin."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from trimtab.cli.options import PromptOptions
from trimtab.errors import PromptError, UsageError

if TYPE_CHECKING:
    from trimtab.types import Sample

STDIN = "<stdin>"
"""What the parser is given for `-`, which it would take for an option."""


def read_prompts(
    arguments: Sequence[str], given: PromptOptions, system: str | None = None
) -> list[Sample]:
    """Texts and conversations, in the order given, with what their file knows of them.

    Args:
        arguments: prompts on the command line; `-` is all of stdin as one prompt.
        given: a file instead; `-` is stdin, which is text with a prompt a line or JSON lines.
        system: what the model is told before each prompt.

    Raises:
        UsageError: both are given, or the file cannot be read.
        PromptError: there is nothing in them, or a row is no prompt.
    """
    from trimtab.types import Sample

    if arguments and given.prompts:
        got = "arguments and --prompts"
        raise UsageError("prompts come from one place", got=got, do="drop one")
    if given.column and not given.prompts:
        raise UsageError("--column names a column of --prompts", got="no --prompts", do="add it")
    if given.prompts:
        samples = _from_file(given.prompts, given.column)
    elif not arguments and sys.stdin.isatty():
        raise PromptError("a prompt must be given", got="none", do='try: trimtab generate "Hello"')
    else:
        texts = [_stdin() if text == STDIN else text for text in arguments or [STDIN]]
        samples = [Sample(text, text) for text in texts]
    samples = samples[: given.limit]
    return samples if system is None else [_told(sample, system) for sample in samples]


def _from_file(file: str, column: str | None) -> list[Sample]:
    from trimtab.tasks import read_samples, samples_of
    from trimtab.tasks.files import rows_in

    if file != STDIN:
        return list(read_samples(file, column))
    rows = rows_in(sys.stdin.buffer.read(), "stdin")
    return list(samples_of(rows, "stdin", column))


def _stdin() -> str:
    """A whole letter or page as one prompt; the last line's end is the shell's, not the text's."""
    text = sys.stdin.read().rstrip("\n")
    if not text:
        raise PromptError("a prompt must not be empty", got="nothing on stdin", do="write one")
    return text


def _told(sample: Sample, system: str) -> Sample:
    """A prompt after a system message."""
    turns = sample.prompt
    talk = ({"role": "user", "content": turns},) if isinstance(turns, str) else turns
    if talk[0]["role"] == "system":
        raise UsageError(
            "--system is told to prompts without a system message of their own",
            got="one that has it",
            do="drop --system",
        )
    return replace(sample, prompt=({"role": "system", "content": system}, *talk))
