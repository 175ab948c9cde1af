"""`trimtab evaluate` and `trimtab sweep`: a task of one's own, from the shell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.shell import Result, Run


@pytest.fixture
def measure(trimtab: Run, model: str, reward_file: str, tmp_path: Path) -> Run:
    """A command on nine prompts of words, with results in `tmp_path/results`."""
    prompts = tmp_path / "words.jsonl"
    lines = [
        {"prompt": f"w{i} w{i + 1}", "split": "test" if i % 2 else "validation"}
        for i in range(3, 12)
    ]
    prompts.write_text("\n".join(map(json.dumps, lines)))
    given = ("--prompts", str(prompts), "--reward", reward_file, "--max-new-tokens", "5")

    def run(command: str, *arguments: str) -> Result:
        folder = ("--out", str(tmp_path / "results"))
        return trimtab(command, *given, "--model", model, *folder, *arguments)

    return run


def test_a_table_comes_out_and_the_second_time_from_the_folder(
    measure: Run, tmp_path: Path
) -> None:
    options = ("-m", "sampling", "-m", "vas", "--beta", "1", "--beta", "2", "-k", "5", "-n", "2")
    first = measure("evaluate", *options)
    assert first.exit_code == 0, first.stderr
    assert "3 batches computed, 0 reused" in first.stderr
    assert "| vas(beta=2, k=5) by score |" in first.stdout
    again = measure("evaluate", *options)
    assert "0 batches computed, 3 reused" in again.stderr
    assert again.stdout == first.stdout
    assert (tmp_path / "results" / "tables" / "test.md").read_text() == first.stdout


def test_a_sweep_says_what_it_chose(measure: Run, tmp_path: Path) -> None:
    result = measure("sweep", "-m", "greedy", "-m", "args", "--beta", "0.5", "--beta", "8")
    assert result.exit_code == 0, result.stderr
    said = json.loads((tmp_path / "results" / "tables" / "sweep.json").read_text())
    chosen = {choice["method"]: choice["label"] for choice in said["choices"]}
    assert f"args by score: {chosen['args']} (most reward of 2)" in result.stdout
    assert result.stdout.count("| greedy |") == 2


def test_parameters_of_methods_are_set_by_name(measure: Run, tmp_path: Path) -> None:
    options = ("-m", "best-of-n", "--set", "n=2", "--set", "n=3")
    assert measure("evaluate", *options).exit_code == 0
    table = json.loads((tmp_path / "results" / "tables" / "test.json").read_text())
    assert [row["method"] for row in table["rows"]] == ["best-of-n(n=2)", "best-of-n(n=3)"]
    assert table["rows"][0]["reward"] is not None


@pytest.mark.parametrize("command", ["evaluate", "sweep"])
def test_metrics_are_asked_for_by_name(measure: Run, tmp_path: Path, command: str) -> None:
    options = ("-m", "sampling", "-m", "args", "--beta", "1", "-n", "2")
    asked = ("--metric", "rouge-l", "--metric", "repetition")
    result = measure(command, *options, *asked)
    assert result.exit_code == 0, result.stderr
    assert "| ROUGE-L | rep-2 | rep-3 | rep-4 |" in result.stdout
    assert "wall time per token, in multiples of sampling:\n" in result.stderr
    assert "  sampling                 1.00\n" in result.stderr
    assert "wall time" not in result.stdout
    table = json.loads((tmp_path / "results" / "tables" / "test.json").read_text())
    assert table["about"]["metrics"] == ["rouge-l", "repetition"]
    assert {"rouge_l", "rouge_l_se", "rep_4"} <= set(table["columns"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-m", "vaz"), "did you mean vas"),
        (("-m", "vas", "--set", "tale=drop"), "did you mean tail"),
        (("-m", "vas", "--set", "tail"), "--set must be NAME=VALUE"),
        (("-m", "greedy", "--judge", "sentimant"), "did you mean sentiment"),
        (("-m", "vas", "--guide", "sentimant"), "did you mean sentiment"),
        (("-m", "greedy", "--baseline", "gready"), "did you mean greedy"),
        (("-m", "greedy", "--metric", "rouge"), "did you mean rouge-l"),
    ],
)
def test_names_that_are_not_known_offer_near_ones(
    measure: Run, arguments: tuple[str, ...], said: str
) -> None:
    result = measure("evaluate", *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("command", ["evaluate", "sweep"])
def test_scores_are_asked_anew_on_demand(
    trimtab: Run, model: str, tmp_path: Path, command: str
) -> None:
    prompts, rule = tmp_path / "words.txt", tmp_path / "tide.py"
    prompts.write_text("\n".join(f"w{i}" for i in range(3, 20)))
    rule.write_text(
        "from pathlib import Path\n"
        "def score(prompts, texts):\n"
        "    return [float(Path(__file__).with_name('level').read_text())] * len(texts)\n"
    )

    def said(level: float, *options: str) -> str:
        (tmp_path / "level").write_text(str(level))
        asked = ["--prompts", str(prompts), "--reward", f"python:{rule}:score"]
        asked += ("-m", "greedy", "-m", "args", "--beta", "1")
        folder = ("--out", str(tmp_path / "results"), "--max-new-tokens", "3")
        result = trimtab(command, *asked, "--model", model, *folder, *options)
        assert result.exit_code == 0, result.stderr
        return result.stdout + result.stderr

    assert "| 1.000" in said(1.0)
    assert "| 1.000" in said(2.0)
    anew = said(2.0, "--rescore")
    assert "| 2.000" in anew
    assert "0 batches computed" in anew


def test_a_task_is_named_once(trimtab: Run, measure: Run) -> None:
    assert "did you mean sentiment" in trimtab("evaluate", "sentimet").stderr
    assert "got neither" in trimtab("evaluate").stderr
    assert "got both" in measure("evaluate", "sentiment").stderr
    assert "add --reward" in trimtab("evaluate", "--prompts", "x.txt").stderr
