"""Bad input: one clear line on stderr, exit code 2 for usage and 1 for failure, no traceback."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from trimtab.cli.app import CLOSED

Run = Callable[..., Result]


def said(result: Result, code: int) -> str:
    """The one line."""
    assert result.exit_code == code, (result.stderr, result.exception)
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def test_unknown_names_offer_near_ones(generate: Run) -> None:
    assert "did you mean vas" in said(generate("w5", "-m", "vass"), 2)
    assert "did you mean sentiment" in said(generate("w5", "-r", "sentimnt"), 2)
    assert "did you mean float16" in said(generate("w5", "--dtype", "flot16"), 2)
    assert "did you mean base" in said(generate("w5", "--on-guide-error", "bas"), 2)
    assert "takes temperature, top_k, top_p; got 'q'" in said(generate("w5", "--set", "q=1"), 2)


def test_unknown_models_and_guides(trimtab: Run, generate: Run, tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere")
    assert nowhere in said(trimtab("generate", "w5", "--model", nowhere), 1)
    assert nowhere in said(generate("w5", "--guide", nowhere), 1)
    assert "did you mean smollm2" in said(trimtab("generate", "w5", "--model", "smolm2"), 2)
    assert "'none such'" in said(generate("w5", "--device", "none such"), 2)


def test_a_known_model_that_is_not_fetched(
    trimtab: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIMTAB_CACHE", str(tmp_path))
    command = "run `trimtab assets fetch smollm2`"
    assert command in said(trimtab("generate", "Hello"), 1)
    assert command in said(trimtab("assets", "path", "smollm2"), 1)
    assert command in said(trimtab("demo"), 1)


def test_prompts_that_cannot_be(generate: Run, tmp_path: Path) -> None:
    assert "must not be empty" in said(generate(""), 2)
    assert "must not be empty" in said(generate(stdin="\n"), 2)
    assert "context of 128 tokens" in said(generate("w5 " * 200), 2)
    assert "one place" in said(generate("w5", "--file", "x.txt"), 2)
    assert "No such file" in said(generate("--file", str(tmp_path / "no.txt")), 2)
    empty, broken, other = (tmp_path / name for name in ("a.txt", "b.jsonl", "c.jsonl"))
    empty.write_text("\n")
    assert "must hold prompts; got none" in said(generate("--file", str(empty)), 2)
    broken.write_text('{"prompt": "w5"}\n{"prompt": \n')
    assert "b.jsonl, line 2: must be JSON" in said(generate("--file", str(broken)), 2)
    other.write_text('{"text": "w5"}\n')
    assert "c.jsonl, line 1: a row must have" in said(generate("--file", str(other)), 2)
    assert "the column 'tex'; got text" in said(
        generate("--file", str(other), "--column", "tex"), 2
    )
    assert "no --file" in said(generate("w5", "--column", "text"), 2)
    assert "one of .txt, .jsonl" in said(generate("--file", str(tmp_path / "x.csv.gz")), 2)


def test_parameters_that_do_not_fit(generate: Run, reward_file: str) -> None:
    assert "97 tokens; got k = 98" in said(generate("w5", "-r", reward_file, "-k", "98"), 2)
    assert "needs a guide" in said(generate("w5", "-m", "vas"), 2)
    assert "drop one" in said(generate("w5", "-r", reward_file, "-g", "x"), 2)
    assert "name=value" in said(generate("w5", "--set", "k"), 2)
    assert "right types" in said(generate("w5", "-r", reward_file, "--set", "k=many"), 2)


def test_rewards_in_python(generate: Run, reward_file: str, tmp_path: Path) -> None:
    file = reward_file.removesuffix(":score")
    broken = tmp_path / "broken.py"
    broken.write_text("import no_such_package\n")
    assert "did you mean score" in said(generate("w5", "-r", f"{file}:scroe"), 2)
    assert "a function" in said(generate("w5", "-r", f"{file}:number"), 2)
    assert "1 results for" in said(generate("w5", "-r", f"{file}:scores_too_few"), 1)
    assert "FileNotFoundError" in said(generate("w5", "-r", "python:no/such.py:f"), 2)
    assert "No module named" in said(generate("w5", "-r", "python:no_such_module:f"), 2)
    assert "python:MODULE:FUNCTION" in said(generate("w5", "-r", "python:f"), 2)
    assert "no_such_package" in said(generate("w5", "-r", f"python:{broken}:f"), 2)


def test_usage_errors_of_the_parser(trimtab: Run, generate: Run) -> None:
    for result in (generate("w5", "--no-such-option"), trimtab("no-such-command")):
        assert result.exit_code == 2
        assert "No such" in result.stderr
        assert "Traceback" not in result.stderr


@pytest.mark.parametrize("before", [True, False])
def test_debug_shows_the_traceback(model: str, before: bool) -> None:
    given = ["generate", "w5", "--model", model, "--method", "vass"]
    given = ["--debug", *given] if before else [*given, "--debug"]
    done = python("-m", "trimtab", *given)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "UnknownNameError" in done.stderr


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=120
    )


def test_interruption_is_exit_code_130(trimtab: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("trimtab.cli.inputs.read_prompts", stop)
    result = trimtab("generate", "w5")
    assert result.exit_code == 130
    assert result.stderr == "interrupted\n"


def test_a_reader_that_leaves_is_no_error(model: str) -> None:
    given = [sys.executable, "-m", "trimtab", "generate", "w5", "--model", model, "-n", "400"]
    process = subprocess.Popen(
        [*given, "--stream", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    stderr = process.stderr.read()
    assert process.wait(timeout=120) == CLOSED
    assert stderr == b""
    process.stderr.close()
