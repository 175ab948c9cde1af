"""What every command takes: a file of options, JSON, quiet; tables and progress for any screen."""

from __future__ import annotations

import copy
import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests import shell, toys
from tests.shell import Run
from trimtab.cli import screen
from trimtab.cli.screen import print_table, progress

# --- a file of options ---------------------------------------------------------------------------


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_a_file_names_options_as_flags_do_and_flags_win(
    trimtab: Run, model: str, reward_file: str, tmp_path: Path
) -> None:
    text = f"model: {model}\nmax_new_tokens: 4\nguide: {reward_file}\nset:\n  k: 5\n  beta: 3\n"
    file = write(tmp_path / "steer.yaml", f"{text}json: true\nstop: [w1, w2]\n")
    done = trimtab("generate", "w5", "--config", file)
    assert done.exit_code == 0, done.stderr
    row = json.loads(done.stdout)
    assert (row["beta"], row["guide"], len(row["tokens"]) <= 4) == (3, "score", True)
    again = trimtab("generate", "w5", f"--config={file}", "--set", "beta=2", "--seed", "4")
    assert (json.loads(again.stdout)["beta"], json.loads(again.stdout)["seed"]) == (2, 4)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("max_new_token: 4\n", "Did you mean --max-new-tokens?"),
        ("max_new_tokens: many\n", 'unable to convert "many" into int'),
        ("- 4\n", "must hold NAME: VALUE lines; got list"),
        ("a: [\n", "--config must name a YAML file"),
    ],
)
def test_what_a_file_cannot_mean_is_said(
    trimtab: Run, tmp_path: Path, text: str, says: str
) -> None:
    result = trimtab("generate", "w5", "--config", write(tmp_path / "bad.yaml", text))
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_missing_file_is_said(trimtab: Run) -> None:
    assert "No such file" in trimtab("evaluate", "detox", "--config", "nowhere.yaml").stderr
    assert "must name a file" in trimtab("evaluate", "detox", "--config").stderr


def test_a_task_can_stand_in_the_file(trimtab: Run, tmp_path: Path) -> None:
    file = write(tmp_path / "task.yaml", "task: sentimet\n")
    assert "did you mean sentiment" in trimtab("evaluate", "--config", file).stderr


def test_the_last_of_a_flag_counts(trimtab: Run, model: str) -> None:
    given = ("generate", "w5", "--model", model, "--json", "--max-new-tokens", "9")
    row = json.loads(trimtab(*given, "--max-new-tokens", "2").stdout)
    assert len(row["tokens"]) <= 2


# --- JSON, quiet ---------------------------------------------------------------------------------


@pytest.fixture
def words(tmp_path: Path) -> str:
    rows = [{"prompt": f"w{i} w{i + 1}", "split": "test" if i % 2 else "train"}
            for i in range(3, 9)]  # fmt: skip
    return write(tmp_path / "words.jsonl", "\n".join(map(json.dumps, rows)))


def test_measurements_are_json_and_quiet_is_quiet(
    trimtab: Run, model: str, reward_file: str, words: str, tmp_path: Path
) -> None:
    few = ("--prompts", words, "-r", reward_file, "--model", model, "--max-new-tokens", "3")
    done = trimtab("evaluate", *few, "-m", "greedy", "-o", str(tmp_path / "r"), "--json", "-q")
    assert (done.exit_code, done.stderr) == (0, "")
    assert [row["method"] for row in json.loads(done.stdout)["rows"]] == ["greedy"]
    done = trimtab("collect", *few, "-n", "2", "-o", str(tmp_path / "g"), "--json", "-q")
    assert (done.exit_code, done.stderr) == (0, "")
    facts = json.loads(done.stdout)
    assert facts["counts"]["responses"] == 6
    assert set(facts["rewards"]) == {"score"}
    quiet = trimtab("collect", *few, "-n", "2", "-o", str(tmp_path / "g"), "--quiet")
    assert (quiet.exit_code, quiet.stdout, quiet.stderr) == (0, "", "")


def test_assets_are_json(trimtab: Run) -> None:
    rows = [json.loads(line) for line in trimtab("assets", "list", "--json").stdout.splitlines()]
    assert "smollm2" in {row["name"] for row in rows}
    assert all(isinstance(row["fetched"], bool) for row in rows)


# --- generate: rewards of the outcome, comparison, a system message ------------------------------


def test_rewards_of_finished_texts_stand_beside_them(
    trimtab: Run, model: str, reward_file: str, words: str, tmp_path: Path
) -> None:
    few = ("generate", "--prompts", words, "--limit", "2", "--model", model,
           "--max-new-tokens", "4", "-r", reward_file, "-r", "words")  # fmt: skip
    shown = trimtab(*few)
    assert shown.exit_code == 0, shown.stderr
    heads = [line for line in shown.stdout.splitlines() if line.startswith("---")]
    assert [head.split(":")[0] for head in heads] == ["--- prompt 1", "--- prompt 2"]
    rows = [json.loads(line) for line in trimtab(*few, "--json").stdout.splitlines()]
    for row in rows:
        assert row["rewards"]["words"] == len(row["text"].split())
    for kind in ("csv", "parquet"):
        assert trimtab(*few, "-o", str(tmp_path / f"out.{kind}")).exit_code == 0
    table = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["rewards"] for row in table] == [row["rewards"] for row in rows]
    with (tmp_path / "out.csv").open(newline="") as file:
        cells = [json.loads(row["rewards"]) for row in csv.DictReader(file)]
    assert cells == [row["rewards"] for row in rows]
    assert "--reward scores whole ones" in trimtab(*few, "--stream").stderr


@pytest.mark.parametrize("width", ["80", "120"])
def test_three_ways_are_compared(
    trimtab: Run, model: str, reward_file: str, width: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    few = ("generate", "w5 w6", "w9", "--model", model, "--max-new-tokens", "6")
    given = ("-g", reward_file, "-b", "9", "-r", reward_file, "--best-of", "3", "--compare")
    shown = trimtab(*few, *given)
    assert shown.exit_code == 0, (shown.stderr, shown.exception)
    for name in ("base", "vas", "best-of-3", "KL <= 0.43", "6 tokens", "--- prompt 2 ---"):
        assert name in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= int(width)
    rows = [json.loads(line) for line in trimtab(*few, *given, "--json").stdout.splitlines()]
    assert [row["method"] for row in rows] == ["base", "vas", "best-of-3"] * 2
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-6)
    assert rows[2]["rewards"]["score"] >= 0
    assert "add --guide" in trimtab(*few, "--compare").stderr
    assert "drop it" in trimtab(*few, *given, "-n", "2").stderr


def test_a_system_message_is_told(trimtab: Run, tmp_path: Path) -> None:
    folder = tmp_path / "chat"
    toys.causal_lm().save_pretrained(folder)
    tokenizer = copy.deepcopy(toys.tokenizer())
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    tokenizer.save_pretrained(folder)
    few = ("generate", "w5", "--model", str(folder), "--max-new-tokens", "2", "--json")
    row = json.loads(trimtab(*few, "--system", "w7 w8").stdout)
    assert [turn["role"] for turn in row["messages"]] == ["system", "user"]


# --- screens -------------------------------------------------------------------------------------


def test_a_wide_table_comes_in_blocks_on_a_narrow_screen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    head = ["method", *(f"figure {i}" for i in range(12))]
    rows = [[name, *(f"{i}.000" for i in range(12))] for name in ("greedy", "vas(beta=2, k=5)")]
    print_table(head, rows, title="on top", note="below")
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.lstrip().startswith("vas(beta=2, k=5)") for line in lines) > 1
    text = " ".join(lines)
    assert all(f"figure {i}" in text for i in range(12))
    assert (text.count("on top"), text.count("below")) == (1, 1)


def test_progress_in_a_pipe_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(screen, "SECONDS_PER_LINE", 0.0)
    for quiet, lines in ((False, 8), (True, 0)):
        with progress("decoding", quiet=quiet) as meter:
            for done in range(10):
                meter(done, 9, note="3 tokens/s")
        shown = capsys.readouterr().err.splitlines()
        assert len(shown) == lines
        assert all(line.startswith("decoding: ") and "of 9, 3 tokens/s" in line for line in shown)
    monkeypatch.setattr(screen, "SECONDS_PER_LINE", 30.0)
    with progress("decoding") as meter:
        meter(3, 9)
    assert capsys.readouterr().err == ""


def test_completion_can_be_installed(trimtab: Run) -> None:
    assert "completion" in trimtab("--help").stdout
    for name in ("bash", "zsh", "fish"):
        assert "trimtab" in shell.app.generate_completion(shell=name)
