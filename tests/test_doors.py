"""Closed sets and keywords are checked where they enter, and the near one is offered."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests import toys

ROOT = Path(__file__).parents[1]


def test_no_public_callable_takes_a_misspelt_word_or_keyword(tmp_path: Path) -> None:
    toys.causal_lm().save_pretrained(tmp_path)
    ran = subprocess.run(
        [sys.executable, "-m", "tests.doors", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "TRANSFORMERS_VERBOSITY": "error"},
        capture_output=True,
        text=True,
        check=False,
    )
    *wrong, counted = ran.stdout.splitlines() or [""]
    assert not wrong, "\n".join(wrong)
    assert ran.returncode == 0, ran.stderr
    assert int(counted.split()[0]) > 40, "the closed sets were found"
