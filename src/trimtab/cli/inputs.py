"""Where prompts come from: arguments, a file, or stdin."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from trimtab.errors import PromptError, UsageError

STDIN = "-"


def read_prompts(arguments: Sequence[str], file: str | None) -> list[Any]:
    """Texts and conversations, in the order given.

    Args:
        arguments: prompts on the command line; `-` is all of stdin as one prompt.
        file: a text file with one prompt per line, JSON lines, or `-` for stdin line by line.

    Raises:
        UsageError: both are given, or the file cannot be read.
        PromptError: there is nothing in them.
    """
    if arguments and file:
        raise UsageError("prompts come from one place", got="arguments and --file", do="drop one")
    if file:
        return _from_lines(_text_of(file), file)
    if not arguments and sys.stdin.isatty():
        raise PromptError("a prompt must be given", got="none", do='try: trimtab generate "Hello"')
    return [_stdin() if a == STDIN else a for a in arguments or [STDIN]]


def _stdin() -> str:
    """A whole letter or page as one prompt; the last line's end is the shell's, not the text's."""
    text = sys.stdin.read().rstrip("\n")
    if not text:
        raise PromptError("a prompt must not be empty", got="nothing on stdin", do="write one")
    return text


def _text_of(file: str) -> str:
    if file == STDIN:
        return sys.stdin.read()
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UsageError(
            "the file of prompts must be readable text",
            got=f"{file!r} ({reason})",
            do="check the path",
        ) from error


def _from_lines(text: str, file: str) -> list[Any]:
    lines = [(i, line) for i, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise PromptError(f"{file!r} must hold a prompt", got="no lines", do="write one per line")
    as_json = Path(file).suffix in {".jsonl", ".json"} or (
        file == STDIN and lines[0][1].lstrip().startswith("{")
    )
    return list(_from_json(lines, file)) if as_json else [line for _, line in lines]


def _from_json(lines: Sequence[tuple[int, str]], file: str) -> Iterator[Any]:
    for number, line in lines:
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise _bad_line(file, number, f"broken JSON ({error})") from error
        prompt = (row.get("messages") or row.get("prompt")) if isinstance(row, dict) else None
        if not _is_prompt(prompt):
            raise _bad_line(file, number, f"{line.strip():.60}")
        yield prompt


def _is_prompt(prompt: object) -> bool:
    """A text, or messages with a role and a content each."""
    if isinstance(prompt, str):
        return bool(prompt)
    return (
        isinstance(prompt, list)
        and bool(prompt)
        and all(
            isinstance(m, dict)
            and isinstance(m.get("role"), str)
            and isinstance(m.get("content"), str)
            for m in prompt
        )
    )


def _bad_line(file: str, number: int, got: str) -> UsageError:
    return UsageError(
        f'line {number} of {file} must be {{"prompt": "..."}} or '
        '{"messages": [{"role": "user", "content": "..."}]}',
        got=got,
        do="mend that line",
    )
