"""`trimtab collect`: groups from the shell."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runs.world import files
from tests.shell import Result, Run
from trimtab.runs import read_groups, read_manifest


@pytest.fixture
def mine(tmp_path: Path) -> str:
    """Rewards in a file: more of `w7` is better; one that cannot score it."""
    path = tmp_path / "mine.py"
    path.write_text(
        "def score(samples, responses):\n"
        "    return [float(r.split().count('w7')) for r in responses]\n"
        "def long(samples, responses):\n"
        "    return [float(len(r)) for r in responses]\n"
        "def picky(samples, responses):\n"
        "    return [float('nan') if len(r) % 2 else 1.0 for r in responses]\n"
    )
    return f"python:{path}"


@pytest.fixture
def collect(trimtab: Run, model: str, tmp_path: Path) -> Run:
    """The command on nine prompts of words, six of them to train on."""
    prompts = tmp_path / "words.jsonl"
    lines = [
        {"prompt": f"w{i} w{i + 1}", "split": "validation" if i % 3 == 0 else "train"}
        for i in range(21, 30)
    ]
    prompts.write_text("\n".join(map(json.dumps, lines)))

    def run(*arguments: str, given: bool = True) -> Result:
        asked = ("--prompts", str(prompts), "--max-new-tokens", "8", "-n", "4") if given else ()
        folder = () if "-o" in arguments else ("-o", str(tmp_path / "rollouts"))
        return trimtab("collect", *asked, "--model", model, *folder, *arguments)

    return run


def test_groups_come_out_and_the_second_time_nothing_is_done(
    collect: Run, mine: str, tmp_path: Path
) -> None:
    first = collect("-r", f"{mine}:score", "-r", f"{mine}:long")
    assert first.exit_code == 0, first.stderr
    assert first.stderr.startswith("6 groups, 24 responses, ")
    assert " tokens/s); long " in first.stderr
    assert first.stderr.endswith(f"; in {tmp_path / 'rollouts'}\n")
    assert first.stdout == ""
    manifest, groups = read_manifest(tmp_path / "rollouts"), read_groups(tmp_path / "rollouts")
    assert manifest["about"]["model"]["base_temperature"] == 0.7
    assert set(groups[0].responses[0].rewards) == {"score", "long"}
    mean = manifest["rewards"]["score"]["mean"]
    assert f"score {mean:.3f} ± " in first.stderr
    before = files(tmp_path / "rollouts")
    again = collect("-r", f"{mine}:score", "-r", f"{mine}:long")
    assert "tokens/s" not in again.stderr
    assert files(tmp_path / "rollouts") == before


def test_a_reward_is_added(collect: Run, mine: str, tmp_path: Path) -> None:
    assert collect().exit_code == 0
    assert read_groups(tmp_path / "rollouts")[0].responses[0].rewards == {}
    done = collect("--relabel", str(tmp_path / "rollouts"), "-r", f"{mine}:score", given=False)
    assert done.exit_code == 0, done.stderr
    assert set(read_groups(tmp_path / "rollouts")[0].responses[0].rewards) == {"score"}


def test_halves_are_labelled(collect: Run, mine: str, tmp_path: Path) -> None:
    done = collect("--validation", "-r", f"{mine}:score", "--completions", "3")
    assert done.exit_code == 0, done.stderr
    groups = read_groups(tmp_path / "rollouts")
    assert {g.prompt.text for g in groups} <= {"w21 w22", "w24 w25", "w27 w28"}
    assert all(len(g.responses) == 3 and g.prefix for g in groups)
    (tmp_path / "again").mkdir()
    halves = str(tmp_path / "rollouts" / "halves")
    done = collect(
        "--validation", "--from", halves, "-r", f"{mine}:score", "--completions", "3",
        "-o", str(tmp_path / "again"), given=False,
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert read_groups(tmp_path / "again") == groups


def test_a_guided_method_needs_no_name(collect: Run, mine: str, tmp_path: Path) -> None:
    done = collect("--guide", f"{mine}:score", "--beta", "4", "-k", "3")
    assert done.exit_code == 0, done.stderr
    about = read_manifest(tmp_path / "rollouts")["about"]
    assert (about["method"]["name"], about["method"]["beta"]) == ("vas", 4.0)
    assert about["guide"]["name"] == "score"


def test_what_fails_is_said_in_a_line(collect: Run, mine: str, tmp_path: Path) -> None:
    failed = collect("-r", f"{mine}:picky")
    assert failed.exit_code == 1
    assert failed.stderr.startswith("error: reward 'picky' must return one finite number")
    assert len(failed.stderr.splitlines()) == 1
    skipped = collect("-r", f"{mine}:picky", "--on-reward-error", "skip")
    assert skipped.exit_code == 0
    count = read_manifest(tmp_path / "rollouts")["rewards"]["picky"]["failed"]
    assert f"picky 1.000 ± 0.000 ({count} without a score)" in skipped.stderr


def test_another_jobs_folder_is_refused(collect: Run, mine: str) -> None:
    assert collect().exit_code == 0
    refused = collect("--seed", "1")
    assert refused.exit_code == 1
    assert "about.seed 0 (now 1)" in refused.stderr
    assert "dtype" in collect("--dtype", "bfloat16").stderr


@pytest.mark.parametrize(
    ("arguments", "given", "said"),
    [
        ((), False, "got neither"),
        (("sentimet",), False, "did you mean sentiment"),
        (("-m", "vaz"), True, "did you mean vas"),
        (("-m", "vas"), True, "add --guide"),
        (("-g", "sentiment", "-m", "sampling"), True, "is steered by nothing"),
        (("--beta", "2"), True, "an option of sampling must be a known name"),
        (("-r", "sentimant"), True, "did you mean sentiment"),
        (("--relabel", "x"), False, "no --reward"),
        (("--relabel", "x", "-r", "length"), True, "got a task, prompts or --validation"),
        (("--from", "x"), False, "no --validation"),
        (("--validation", "--from", "x"), True, "--prompts beside it"),
        (("--validation", "-m", "vas"), True, "a method or its parameters"),
        (("--processes", "2"), True, "must be 2 processes; got 1"),
        (("--dtype", "flot16"), True, "did you mean float16"),
        (("--model", "smolm2"), True, "did you mean smollm2"),
    ],
)
def test_what_cannot_be_meant_is_said(
    collect: Run, arguments: tuple[str, ...], given: bool, said: str, tmp_path: Path
) -> None:
    result = collect(*arguments, given=given)
    assert result.exit_code == 2, result.stderr
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "rollouts").exists()


def test_ranks_and_workers_do_not_mix(collect: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert "by torchrun or by --workers" in collect("--workers", "2").stderr
    monkeypatch.delenv("RANK")
    assert "each must know its RANK" in collect().stderr


def test_help_is_light() -> None:
    code = "import sys\nfrom trimtab.cli import main\nsys.argv[1:] = ['collect', '--help']\n"
    code += "try:\n    main()\nfinally:\n    assert not {'torch', 'numpy'} & set(sys.modules)\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_help_teaches_by_examples(trimtab: Run) -> None:
    said = trimtab("collect", "--help").stdout
    for part in ("-o rollouts --workers 4", "--relabel rollouts", "--validation", "torchrun"):
        assert part in said


def test_changed_rewards_are_asked_anew(collect: Run, mine: str, tmp_path: Path) -> None:
    assert collect("-r", f"{mine}:score").exit_code == 0
    path, other = Path(mine.removeprefix("python:")), tmp_path / "other" / "mine.py"
    other.parent.mkdir()
    other.write_text(path.read_text().replace("count('w7')", "count('w8')"))
    mine = f"python:{other}"
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "rollouts" / "records").iterdir()}
    again = collect("-r", f"{mine}:score")
    assert again.exit_code == 0, again.stderr
    assert before == {p: p.stat().st_mtime_ns for p in before}
    for group in read_groups(tmp_path / "rollouts"):
        assert all(r.rewards["score"] == r.text.split().count("w8") for r in group.responses)
    scores = tmp_path / "rollouts" / "scores"
    stamps = {p: p.stat().st_mtime_ns for p in scores.rglob("*.parquet")}
    assert collect("-r", f"{mine}:score").exit_code == 0
    assert stamps == {p: p.stat().st_mtime_ns for p in stamps}
    assert collect("-r", f"{mine}:score", "--rescore").exit_code == 0
    assert all(p.stat().st_mtime_ns > before for p, before in stamps.items())
