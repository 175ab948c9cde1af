"""The fenced blocks of README and docs: what they are in, what language, what they say."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

LANGUAGES = ("python", "console", "yaml", "text")
"""`text` is what something prints; all others are tried."""

SKIP = re.compile(r"<!-- not run: (?P<reason>.+) -->")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: where it is.
        line: of its fence, from 1.
        language: of its fence.
        text: without the fences.
        reason: why it cannot run, of the comment on the line before; "" where it can.
    """

    page: Path
    line: int
    language: str
    text: str
    reason: str = ""

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path, *languages: str) -> list[Block]:
    """The blocks of a page in their order, of some languages or of all."""
    found: list[Block] = []
    lines = page.read_text(encoding="utf-8").splitlines()
    opened: int | None = None
    for i, line in enumerate(lines):
        if not line.lstrip().startswith("```"):
            continue
        if opened is None:
            opened = i
            continue
        said = SKIP.fullmatch(lines[opened - 1].strip()) if opened else None
        language = lines[opened].strip().removeprefix("```")
        inside = "\n".join(lines[opened + 1 : i]) + "\n"
        reason = said["reason"] if said else ""
        found.append(Block(page, opened + 1, language, inside, reason))
        opened = None
    assert opened is None, f"{page}: a fence that is not closed"
    return [b for b in found if not languages or b.language in languages]


def commands(block: Block) -> list[list[str]]:
    """The words of each command of a console block; lines without `$` are what it prints."""
    joined = block.text.replace("\\\n", " ")
    typed = [line.removeprefix("$ ") for line in joined.splitlines() if line.startswith("$ ")]
    return [shlex.split(line, comments=True) for line in typed]
