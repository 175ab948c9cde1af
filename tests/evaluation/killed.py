"""A sweep that is killed ten times at random moments; run as `python -m tests.evaluation.killed`.

Prints what it found as JSON; `test_sweep` judges it.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path

import torch

import trimtab as tt
from tests import toys
from tests.evaluation import worlds
from tests.killing import attempt
from trimtab.evaluation.sweep import sweep
from trimtab.runs import Progress
from trimtab.runs.resolve import GuideSource, find_methods, find_reward
from trimtab.types import Sample

KILLS = 10


class Words(worlds.Letters):
    """Prompts for the tiny transformer."""

    def samples(self, split: str) -> list[Sample]:
        first = {"validation": 3, "test": 50}[split]
        return [Sample(f"w{i} w{i + 1} w{i + 2}", f"w{i}") for i in range(first, first + 20)]


def sevens(samples: list[Sample], responses: list[str]) -> list[float]:
    """How many words hold a 7."""
    return [float(sum("7" in word for word in text.split())) for text in responses]


def lengths(samples: list[Sample], responses: list[str]) -> list[float]:
    """How short the text is."""
    return [-float(len(text)) for text in responses]


def one_sweep(folder: Path) -> int:
    """The whole work; every batch that is begun is noted in `started`."""

    def note(progress: Progress) -> None:
        if progress.stage == "start":
            with (folder / "started").open("a") as log:
                log.write(progress.batch + "\n")

    guide = GuideSource.on_prefixes(find_reward(sevens))
    methods = find_methods(
        ["greedy", "sampling", "args", "vas"], {"beta": [1.0, 2.0, 4.0], "k": [5]}
    )
    task = Words(reward=sevens, judge=lengths, max_new_tokens=8)
    lm = toys.language_model()
    return sweep(lm, task, methods, folder, guides=[guide], n=2, rows=4, on=note).computed


def finished(folder: Path) -> dict[str, tuple[int, int]]:
    """Units and scores that are there, and which files they are."""
    return {
        str(p.relative_to(folder)): (p.stat().st_ino, p.stat().st_mtime_ns)
        for part in ("records", "scores")
        for p in (folder / part).rglob("*.parquet")
    }


def main(base: Path) -> None:
    """One sweep left alone, one killed ten times, and what the killed one did twice or lost."""
    torch.set_num_threads(1)
    whole, killed = base / "whole", base / "killed"
    whole.mkdir()
    killed.mkdir()
    began = time.monotonic()
    batches = one_sweep(whole)
    pace = (time.monotonic() - began) / batches
    moments = random.Random(0)
    redone: list[str] = []
    lost: list[str] = []
    progress: list[int] = []
    ended = 0
    for _ in range(KILLS):
        before = finished(killed)
        known = len(_started(killed))
        ended += attempt(
            lambda: one_sweep(killed),
            lambda: _batches(killed),
            moments.randint(1, 5),
            pace * moments.random(),
        )
        after = finished(killed)
        lost += [name for name, stamp in before.items() if after.get(name) != stamp]
        begun = _started(killed)[known:]
        redone += [batch for batch in begun if f"records/{batch}.parquet" in before]
        progress.append(len(after))
    reused = _batches(killed)
    last = one_sweep(killed)
    found = {
        "batches": batches,
        "redone": redone,
        "lost": lost,
        "progress": progress,
        "ended": ended,
        "last": last,
        "reused": reused,
        "started": len(_started(killed)),
        "again": one_sweep(killed),
    }
    print(json.dumps(found))


def _batches(folder: Path) -> int:
    return len(list((folder / "records").glob("*.parquet")))


def _started(folder: Path) -> list[str]:
    path = folder / "started"
    return path.read_text().split() if path.exists() else []


if __name__ == "__main__":
    assert tt.__version__
    main(Path(sys.argv[1]))
