"""The benchmarks run from their commands and write what they say; no time is held to anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "benchmarks"


def run_quickly(script: str, *options: str) -> None:
    command = [sys.executable, str(SCRIPTS / script), "--quick", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, timeout=240, env=environment)


@pytest.mark.slow
def test_quick_run_writes_rows_and_bounds(tmp_path: Path) -> None:
    run_quickly("decode_overhead.py", "--profile", "--out", str(tmp_path))
    found = json.loads((tmp_path / "decode_overhead-cpu-tiny.json").read_text())
    assert {row["cell"]["guide"] for row in found["rows"]} == {"same", "6-layer", "vocabulary"}
    for row in found["rows"]:
        assert row["guided"] > row["bound_guided"] > row["bound_unguided"] > 0
        assert row["same_tokens"] is not False
    assert found["breakdowns"]
    page = (tmp_path / "decode_overhead-cpu-tiny.md").read_text()
    assert page.startswith("# Decode overhead")
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json", ".md"]


@pytest.mark.slow
def test_quick_rollouts_write_both_sides(tmp_path: Path) -> None:
    run_quickly("rollouts.py", "--out", str(tmp_path))
    found = json.loads((tmp_path / "rollouts-cpu-tiny.json").read_text())
    assert found["facts"]["dtype"] == "float32"
    for row in found["rows"]:
        assert len(row["decode"]) == len(row["generate"]) == found["facts"]["repeats"]
        assert row["ratio"] > 0
    page = (tmp_path / "rollouts-cpu-tiny.md").read_text()
    assert page.startswith("# Rollouts")
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json", ".md"]


@pytest.mark.slow
def test_quick_training_writes_all_sides(tmp_path: Path) -> None:
    run_quickly("training.py", "--out", str(tmp_path))
    found = json.loads((tmp_path / "training-cpu-tiny.json").read_text())
    for row in found["rows"]:
        assert row["unshared"]
        assert len(row["bare"]) == len(row["trainer"])
        assert row["ratio"] > 0
    assert (tmp_path / "training-cpu-tiny.md").read_text().startswith("# Training")
