"""Training in processes of its own: killed and taken up again, two at once, from the shell."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training import train_world as world
from trimtab.guides import verify
from trimtab.runs import write_groups

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    write_groups(folder / "rollouts", world.rollouts(world.save_base(folder / "base"), 16, 40))
    return folder


def arguments(place: Path, out: str, **changes: str) -> list[str]:
    options = {
        "--learn": "even", "--model": str(place / "base"), "--layers": "2", "--lora-rank": "4",
        "--lr": "3e-3,1e-3", "--epochs": "3", "--batch-size": "32", "--evaluations": "3",
        "--device": "cpu", "--threads": "1", "--out": str(place / out), **changes,
    }  # fmt: skip
    flags = [part for pair in options.items() for part in pair]
    return ["-m", "trimtab", "train", "td-lambda", str(place / "rollouts"), *flags]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=240,
        check=False,
    )


def weights(folder: Path) -> dict[str, bytes]:
    files = ("head.safetensors", "adapter/adapter_model.safetensors")
    return {name: (folder / name).read_bytes() for name in files}


def test_a_killed_training_ends_with_the_same_weights(place: Path):
    """Killed three times, at moments that a seed decides, after there was something to lose."""
    whole = run(*arguments(place, "whole"))
    assert whole.returncode == 0, whole.stderr
    assert "* lr" in whole.stdout
    rng, kills = random.Random(0), 0
    for _ in range(12):
        child = subprocess.Popen(
            [sys.executable, *arguments(place, "killed")], env=environment(),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        seen = set(place.glob("killed.runs/*/checkpoint-*"))
        while child.poll() is None and set(place.glob("killed.runs/*/checkpoint-*")) <= seen:
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.4))
        if child.poll() is not None or kills == 3:
            child.wait()
            break
        child.send_signal(signal.SIGKILL)
        child.wait()
        kills += 1
        assert not (place / "killed").exists()
    assert kills > 0
    again = run(*arguments(place, "killed", **{"--overwrite": ""}))
    if not (place / "killed").exists():
        again = run(*arguments(place, "killed"))
        assert again.returncode == 0, again.stderr
    assert weights(place / "killed") == weights(place / "whole")


def test_two_processes_train_together(place: Path):
    """Twice half a batch is the batch: the same number of updates, and nearly the same guide."""
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0",
                "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"]  # fmt: skip
    changes = {"--processes": "2", "--lr": "3e-3"}
    both = run(*launcher, *arguments(place, "both", **changes))
    assert both.returncode == 0, both.stderr
    alone = run(*arguments(place, "alone", **{"--lr": "3e-3"}))
    assert alone.returncode == 0, alone.stderr
    cards = [verify(place / name).objective["validation"] for name in ("both", "alone")]
    assert cards[0]["error"] == pytest.approx(cards[1]["error"], rel=0.1)
    one, other = [
        load_file(place / name / "head.safetensors")["linear.weight"] for name in ("both", "alone")
    ]
    assert torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0) > 0.5


def test_a_launcher_that_starts_too_few_is_found_out(place: Path):
    done = run(*arguments(place, "few", **{"--processes": "2"}))
    assert done.returncode == 2
    assert "2 processes train together; got 1; start them with: torchrun" in done.stderr
    assert "Traceback" not in done.stderr


def test_errors_are_one_line(place: Path):
    done = run(*arguments(place, "bad", **{"--learn": "odd"}))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "responses must have the reward 'odd'; got rewards even, short" in done.stderr
