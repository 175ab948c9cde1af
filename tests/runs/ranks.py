"""A small job by several processes; run as `python -m tests.runs.ranks HOW FOLDER`.

HOW is `ranks` (a launcher has set RANK) or `workers` (two are started here).
"""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from pathlib import Path

from tests import toys
from tests.runs.killed import lengths, sevens
from trimtab.runs import Processes, collect, rank_of
from trimtab.types import Sample

OPEN = partial(toys.language_model, base_temperature=0.7)


def job(folder: Path, *, workers: int = 1, rank: int = 0, count: int = 24) -> None:
    asked = [Sample(f"w{i} w{i + 1}" + " w5" * (i % 4), f"w{i}") for i in range(3, 3 + count)]
    collect(
        OPEN(),
        asked,
        folder,
        rewards=[sevens, lengths],
        n=3,
        rows=3,
        max_new_tokens=8,
        processes=Processes(workers, OPEN, rank=rank),
    )


if __name__ == "__main__":
    # A shell that runs the tests in the background has its children ignore interruptions.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.argv[1] == "ranks":
        job(Path(sys.argv[2]), rank=rank_of(os.environ, processes=2)[0])
    else:
        job(Path(sys.argv[2]), workers=2, count=90)
