"""`trimtab train`, from the shell: what it says when it is done."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.shell import Run


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Twelve pairs that teach nothing, one of them twice."""
    rows = [{"prompt": f"w{30 + i} ", "chosen": "w5 w6", "rejected": "w6 w5"} for i in range(12)]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0]]))
    return path


@pytest.mark.parametrize("objective", ["bradley-terry", "partial-bradley-terry"])
def test_twelve_pairs_move_the_head_and_the_closing_words_count_pairs(
    trimtab: Run, model: str, pairs: Path, tmp_path: Path, objective: str
) -> None:
    done = trimtab(
        "train", objective, str(pairs), "-o", str(tmp_path / "guide"), "--model", model,
        "--layers", "2", "--lora-rank", "2", "--device", "cpu", "--lr", "1e-3",
        "--held-out", "0.3", "--set", "prefixes=all", "--max-length", "128",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    head = load_file(tmp_path / "guide" / "head.safetensors")
    assert head["linear.weight"].abs().max() > 0
    assert "learnt from and validated on 12 of 13 pairs; left out: 1 duplicate\n" in done.stdout
    for number in re.findall(r"(\d+) of", done.stdout):
        assert int(number) <= 13  # no setting among the counts
    assert "a constant's validation error is 0.6931" in done.stdout


def test_a_guide_that_learnt_nothing_is_said_last(
    trimtab: Run, model: str, pairs: Path, tmp_path: Path
) -> None:
    """Its only prompt to validate on prefers the opposite of what the others do."""
    rows = [json.loads(line) for line in pairs.read_text().splitlines()]
    for i, row in enumerate(rows[:12]):
        row["topic"] = "odd" if i == 3 else "even"
        if i == 3:
            row["chosen"], row["rejected"] = row["rejected"], row["chosen"]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows[:12]))
    asked = [
        "train", "bradley-terry", str(pairs), "-o", str(tmp_path / "guide"), "--model", model,
        "--layers", "2", "--lora-rank", "0", "--device", "cpu", "--lr", "1e-2", "--epochs", "4",
        "--max-length", "128",
    ]  # fmt: skip
    for seed in range(8):  # which topic is held out is the seed's to say
        done = trimtab(*asked, "--held-out", "0.5", "--seed", str(seed))
        if done.exit_code == 0:
            break
    assert done.exit_code == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.startswith("WARNING: the guide is no better than a constant: validation error ")
    assert "saying the same of every text has 0.6931; train longer, on more data" in last
    assert "Warning" not in done.stderr
