"""Two hundred decodes of anything by anything, each row held to recomputation without a cache."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CASES = 200
PARTS = 2


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_every_row_is_what_recomputation_says(part: int) -> None:
    """In a process without shape checks, which would take half of the time."""
    cases = CASES // PARTS
    command = ["-m", "tests.fuzz", "--cases", str(cases), "--seed", str(part)]
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    assert f"seed {part}: all held; {cases} decodes" in done.stdout
