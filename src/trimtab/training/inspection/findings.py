"""What is in order, what is not, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

Level: TypeAlias = Literal["ok", "warning", "error"]
LEVELS: tuple[Level, ...] = ("ok", "warning", "error")


@dataclass(frozen=True)
class Finding:
    """One line of an audit.

    Attributes:
        level: "ok"; "warning", where figures may mislead; "error", where the guide cannot be used.
        about: what was looked at.
        said: what was found.
        do: the way out; "" where nothing is to be done.
    """

    level: Level
    about: str
    said: str
    do: str = ""


def worst(findings: Iterable[Finding]) -> Level:
    """The worst of several; "ok" of none."""
    return max((f.level for f in findings), key=LEVELS.index, default="ok")
