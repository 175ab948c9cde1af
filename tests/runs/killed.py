"""Rollouts that are killed twenty times at random moments.

Run as `python -m tests.runs.killed FOLDER`. Prints what it found
as JSON; `test_collect_processes` judges it.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tests import toys
from tests.killing import attempt
from trimtab.runs import collect
from trimtab.runs.batches import Batch
from trimtab.runs.record import Row
from trimtab.runs.worker import Worker
from trimtab.types import Sample

KILLS = 20


def sevens(samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
    """How many words hold a 7."""
    return [float(sum("7" in word for word in text.split())) for text in responses]


def lengths(samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
    """How short the text is."""
    return [-float(len(text)) for text in responses]


def one_job(folder: Path) -> dict[str, Any]:
    """The whole work: some 90 batchs, more than twenty kills let through on any machine."""
    asked = [Sample(f"w{i} w{i + 1} w{i + 2}" + " w5" * (i % 4), f"w{i}") for i in range(3, 95)]
    lm = toys.language_model(base_temperature=0.7)
    return collect(lm, asked, folder, rewards=[sevens, lengths], n=3, rows=3, max_new_tokens=8)


def note_in(log: Path) -> None:
    """Every batch that is begun is noted, before it is decoded."""
    plain = Worker._decode

    def noted(self: Worker, batch: Batch) -> list[Row]:
        with log.open("a") as out:
            out.write(f"{batch.key}\n")
        return plain(self, batch)

    Worker._decode = noted  # type: ignore[method-assign]


def finished(folder: Path) -> dict[str, tuple[int, int]]:
    """Files that are there whole, and which they are."""
    return {
        str(p.relative_to(folder)): (p.stat().st_ino, p.stat().st_mtime_ns)
        for part in ("records", "scores")
        for p in (folder / part).rglob("*.parquet")
    }


def batches(folder: Path) -> int:
    return len(list((folder / "records").glob("*.parquet")))


def main(base: Path) -> None:
    """One job left alone, one killed twenty times, and what the killed one did twice or lost."""
    torch.set_num_threads(1)
    began = time.monotonic()
    whole = one_job(base / "whole")
    pace = (time.monotonic() - began) / batches(base / "whole")
    log, killed, moments = base / "begun", base / "killed", random.Random(0)
    log.write_text("")
    note_in(log)
    redone, lost, progress, ended = list[str](), list[str](), list[int](), 0
    for _ in range(KILLS):
        before, known = finished(killed), len(log.read_text().split())
        ended += attempt(
            lambda: one_job(killed),
            lambda: batches(killed),
            moments.randint(1, 3),
            pace * moments.random(),
        )
        after = finished(killed)
        lost += [name for name, stamp in before.items() if after.get(name) != stamp]
        begun = log.read_text().split()[known:]
        redone += [n for n in begun if f"records/{n}.parquet" in before]
        progress.append(len(after))
    left = sum(1 for _ in killed.rglob(".*.part"))
    there = batches(killed)
    last = one_job(killed)
    found = {
        "batches": batches(base / "whole"),
        "there": there,
        "redone": redone,
        "lost": lost,
        "progress": progress,
        "ended": ended,
        "left": left,
        "begun": len(log.read_text().split()),
        "same": last == whole,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
