"""`trimtab steer`: from a reward to a steered model, in one command that goes on where it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import shell, toys
from trimtab.errors import ResultsError
from trimtab.steering import Plan, steer

SPLITS = ("train", "train", "validation", "test")


@pytest.fixture
def given(tmp_path: Path) -> list[str]:
    """A tiny base, prompts of words, and a reward in a file."""
    toys.causal_lm().save_pretrained(tmp_path / "base")
    toys.tokenizer().save_pretrained(tmp_path / "base")
    rows = [{"prompt": f"w{i} w{i + 1}", "split": SPLITS[i % 4]} for i in range(20, 44)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    code = "def score(prompts, texts):\n    return [float(t.count('w7')) + len(t) for t in texts]\n"
    (tmp_path / "mine.py").write_text(code)
    return [
        str(tmp_path / "prompts.jsonl"), "--reward", f"{tmp_path / 'mine.py'}:score",
        "--model", str(tmp_path / "base"), "--out", str(tmp_path / "out"), "--lr", "1e-3",
        "--layers", "2", "--max-new-tokens", "6", "-n", "3", "--test-n", "2",
        "--base-samples", "2", "--beta", "1", "--beta", "2",
    ]  # fmt: skip


def stamps(folder: Path) -> dict[Path, int]:
    kept = [p for p in folder.rglob("*") if p.suffix in (".parquet", ".safetensors")]
    return {path: path.stat().st_mtime_ns for path in kept}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::trimtab.errors.TrimtabWarning")
def test_one_command_makes_a_guide_and_shows_what_it_changes(
    given: list[str], tmp_path: Path
) -> None:
    done = shell.trimtab("steer", *given)
    assert done.exit_code == 0, (done.stderr, done.exception)
    assert "| vas(beta=" in done.stdout
    assert "trimtab sweep --prompts" in done.stderr
    out = tmp_path / "out"
    assert {"plan.json", "rollouts", "guide", "results", "report"} <= {
        p.name for p in out.iterdir()
    }
    before = stamps(out)
    assert len(before) > 4
    again = shell.trimtab("steer", *given)
    assert (again.exit_code, again.stdout) == (0, done.stdout)
    assert stamps(out) == before
    for line in Plan("p", "r").commands():
        shell.parse(line)
    collect = next(line for line in done.stderr.splitlines() if line.startswith("trimtab collect"))
    assert shell.trimtab(*shell.words(collect)[1:]).exit_code == 0
    assert stamps(out) == before
    other = shell.trimtab("steer", *given, "--seed", "1")
    assert other.exit_code == 1
    assert "seed 0 (now 1)" in other.stderr


def test_a_plan_is_shown_without_being_done(given: list[str], tmp_path: Path) -> None:
    done = shell.trimtab("steer", *given, "--dry-run")
    assert [line.split()[1] for line in done.stdout.splitlines()] == [
        "collect", "train", "sweep", "report",
    ]  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_another_plans_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text('{"seed": 3}')
    (tmp_path / "prompts.jsonl").write_text(
        "\n".join(json.dumps({"prompt": s, "split": s}) for s in sorted(set(SPLITS)))
    )
    toys.causal_lm().save_pretrained(tmp_path / "base")
    plan = Plan(str(tmp_path / "prompts.jsonl"), "length", str(tmp_path),
                model=str(tmp_path / "base"))  # fmt: skip
    with pytest.raises(ResultsError, match="seed 3 .now 0."):
        steer(plan)
