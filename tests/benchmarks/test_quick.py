"""The benchmark runs from its command and writes what it says; no time is held to anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "decode_overhead.py"


def test_quick_run_writes_rows_and_bounds(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--quick", "--profile", "--out", str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, timeout=240, env=environment)
    found = json.loads((tmp_path / "decode_overhead-cpu-tiny.json").read_text())
    assert {row["cell"]["guide"] for row in found["rows"]} == {"same", "6-layer", "vocabulary"}
    for row in found["rows"]:
        assert row["guided"] > row["bound_guided"] > row["bound_unguided"] > 0
        assert row["same_tokens"] is not False
    assert found["breakdowns"]
    page = (tmp_path / "decode_overhead-cpu-tiny.md").read_text()
    assert page.startswith("# Decode overhead")
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json", ".md"]
