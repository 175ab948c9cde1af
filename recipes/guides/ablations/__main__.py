"""The command line."""

from __future__ import annotations

import argparse
from multiprocessing import get_context
from pathlib import Path

import recipes.guides.ablations as ablations
from recipes.guides.ablations.arms import ARMS, SEEDS
from recipes.guides.ablations.run import best_of_n, run
from recipes.guides.ablations.shown import picture, table


def main() -> None:
    """Do what is missing, seed by seed, and write the table."""
    parser = argparse.ArgumentParser(
        prog="python -m recipes.guides.ablations",
        description=ablations.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("rollouts", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", default="")
    asked = parser.parse_args()
    names = [name for name in asked.only.split(",") if name]
    arms = [arm for arm in ARMS if not names or arm.name in names]
    jobs = [(arm, s, asked.rollouts, asked.labels, asked.folder) for s in SEEDS for arm in arms]
    with get_context("spawn").Pool(asked.processes, maxtasksperchild=1) as pool:
        for _ in pool.imap_unordered(run, jobs):
            (asked.folder / "table.md").write_text(table(asked.folder))
    picture(asked.folder, best_of_n(asked.folder))
    print(table(asked.folder))


if __name__ == "__main__":
    main()
