"""How far a run is: one event for every listener, such as the bar of the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

Stage: TypeAlias = Literal["start", "decode", "score"]


@dataclass(frozen=True)
class Progress:
    """How far the work is.

    Attributes:
        stage: "start" (a batch is decoded next), "decode" (responses were finished) or "score" (a
            reward was asked for what is there).
        done: responses that are finished, by whoever and whenever.
        total: responses of the run.
        tokens: tokens of responses that were written during this call.
        batch: key of the batch that this is about; "" where several processes report together.
    """

    stage: Stage
    done: int
    total: int
    tokens: int = 0
    batch: str = ""


OnProgress: TypeAlias = Callable[[Progress], object]


def silent(_: Progress) -> None:
    """For whoever does not want to know how far the work is."""
