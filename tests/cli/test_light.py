"""What only prints text imports nothing heavy; what works waits without spinning."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tools.methods import describe
from trimtab.cli import app
from trimtab.cli.catalogue import METHODS

_RUN = """
import sys
from trimtab.cli import main
sys.argv[1:] = {arguments!r}
try:
    main()
finally:
    heavy = {{"torch", "transformers", "numpy", "matplotlib", "pyarrow"}} & set(sys.modules)
    assert not heavy, heavy
"""


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_", "KMP_"))}
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True, text=True, check=False, timeout=120, env=env | variables,
    )  # fmt: skip


def commands() -> list[tuple[str, ...]]:
    """Every command, so that a new one is tried as well."""
    found: list[tuple[str, ...]] = [()]
    for name in sorted(app):
        if not name.startswith("-"):
            inner = [below for below in app[name] if not below.startswith("-")]
            found += [(name,), *((name, below) for below in sorted(inner))]
    return found


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_help_is_there_and_light(command: tuple[str, ...]) -> None:
    done = run("-c", _RUN.format(arguments=[*command, "--help"]))
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["--version"], "trimtab "),
        (["methods"], "best-of-n"),
        (["methods", "--json"], '"best-of-n"'),
        (["assets", "list"], "smollm2"),
    ],
)
def test_what_prints_text_is_light(command: list[str], says: str) -> None:
    done = run("-c", _RUN.format(arguments=command))
    assert done.returncode == 0, done.stderr
    assert says in done.stdout


def test_the_methods_that_are_printed_are_those_that_decode() -> None:
    """After a change: python -m tools.methods."""
    assert json.loads(METHODS.read_text()) == json.loads(json.dumps(describe()))


_THREADS = """
import contextlib, sys
from trimtab.cli import main
sys.argv[1:] = ["--version"]
with contextlib.suppress(SystemExit):
    main()
import torch
"""


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({}, "GOMP_SPINCOUNT = '0'"),
        ({"GOMP_SPINCOUNT": "77"}, "GOMP_SPINCOUNT = '77'"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "OMP_WAIT_POLICY = 'ACTIVE'"),
    ],
)
def test_threads_that_wait_sleep_unless_the_user_chose(chosen: dict[str, str], said: str) -> None:
    shown = run("-c", _THREADS, OMP_DISPLAY_ENV="VERBOSE", **chosen).stderr
    if "GOMP_SPINCOUNT" not in shown:
        pytest.skip("torch comes with another OpenMP than GNU's")
    assert said in shown
