"""Closed sets and keywords are checked where they enter, and the near one is offered."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import toys

ROOT = Path(__file__).parents[1]


def outside(module: str, *arguments: str) -> int:
    """Run a module where no import hook checks annotations; how much it tried."""
    ran = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "TRANSFORMERS_VERBOSITY": "error"},
        capture_output=True,
        text=True,
        check=False,
    )
    *wrong, counted = ran.stdout.splitlines() or [""]
    assert not wrong, "\n".join(wrong)
    assert ran.returncode == 0, ran.stderr
    return int(counted.split()[0])


@pytest.mark.slow
def test_no_public_callable_takes_a_misspelt_word_or_keyword(tmp_path: Path) -> None:
    toys.causal_lm().save_pretrained(tmp_path)
    assert outside("tests.doors", str(tmp_path)) > 40


@pytest.mark.slow
def test_calls_of_the_wrong_types_are_refused_in_one_clear_line_or_are_right() -> None:
    assert outside("tests.wrong_types") > 50
