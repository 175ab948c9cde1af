"""Bad input: one clear line on stderr, exit code 2 for usage and 1 for failure, no traceback."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import LlamaConfig, LlamaForSequenceClassification

import trimtab as trimtab_package
from tests import toys
from tests.shell import Result, Run
from trimtab.cli.app import CLOSED, app, flags_of


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
    assert 'Did you mean "base"' in said(generate("w5", "--on-guide-error", "bas"), 2)
    assert "got 'q'; known: temperature, top_k, top_p" in said(generate("w5", "--set", "q=1"), 2)


def test_unknown_models_and_guides_are_said_without_asking_the_hub(
    trimtab: Run, generate: Run, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(*given: object) -> None:
        raise AssertionError(f"the Hub was asked: {given}")

    monkeypatch.setattr("socket.getaddrinfo", ask)
    nowhere = str(tmp_path / "nowhere")
    for result in (
        trimtab("generate", "w5", "--model", nowhere),
        generate("w5", "--guide", nowhere),
        generate("w5", "--guide", f"{nowhere}#good"),
        generate("w5", "--reward", f"hf:{nowhere}"),
        trimtab("inspect", nowhere),
        trimtab("evaluate", "detox", "--model", nowhere),
        trimtab("collect", "detox", "--model", nowhere),
    ):
        assert f"a folder must be there; got nothing at '{nowhere}'" in said(result, 2)
    for name in ("smolm2", "smollm", "SmolLM2"):
        assert "did you mean smollm2" in said(trimtab("generate", "w5", "--model", name), 2)
    for name, near in [
        ("sentimet", "did you mean sentiment"),
        ("xyz", "known: "),
    ]:
        for result in (generate("w5", "-g", name), trimtab("inspect", name)):
            line = said(result, 2)
            assert near in line
            assert "with the package come concise and sentiment" in line
    few = ("-m", "vas", "--model", model, "--limit", "1")
    line = said(trimtab("evaluate", "detox", "-g", "sentimet", *few), 2)
    assert "did you mean sentiment" in line
    assert "with the package come concise and sentiment" in line
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
    assert "one place" in said(generate("w5", "--prompts", "x.txt"), 2)
    assert "No such file" in said(generate("--prompts", str(tmp_path / "no.txt")), 2)
    empty, broken, other = (tmp_path / name for name in ("a.txt", "b.jsonl", "c.jsonl"))
    empty.write_text("\n")
    assert "must hold prompts; got none" in said(generate("--prompts", str(empty)), 2)
    broken.write_text('{"prompt": "w5"}\n{"prompt": \n')
    assert "b.jsonl, line 2: must be JSON" in said(generate("--prompts", str(broken)), 2)
    other.write_text('{"text": "w5"}\n')
    assert "c.jsonl, line 1: a row must have" in said(generate("--prompts", str(other)), 2)
    assert "the column 'tex'; got text" in said(
        generate("--prompts", str(other), "--column", "tex"), 2
    )
    assert "no --prompts" in said(generate("w5", "--column", "text"), 2)
    assert "one of .txt, .jsonl" in said(generate("--prompts", str(tmp_path / "x.csv.gz")), 2)


def test_parameters_that_do_not_fit(generate: Run, reward_file: str) -> None:
    assert "97 tokens; got k = 98" in said(generate("w5", "-g", reward_file, "-k", "98"), 2)
    assert "needs a guide" in said(generate("w5", "-m", "vas"), 2)
    assert "NAME=VALUE" in said(generate("w5", "--set", "k"), 2)
    line = said(generate("w5", "-g", reward_file, "--set", "k=many"), 2)
    assert "'many'" in line


def test_rewards_in_python(generate: Run, reward_file: str, tmp_path: Path) -> None:
    file = reward_file.removesuffix(":score")
    broken = tmp_path / "broken.py"
    broken.write_text("import no_such_package\n")
    assert "did you mean score" in said(generate("w5", "-g", f"{file}:scroe"), 2)
    assert "a function" in said(generate("w5", "-g", f"{file}:number"), 2)
    for name, given in [("of_texts", "texts"), ("of_three", "a, b, c")]:
        line = said(generate("w5", "-r", f"{file}:{name}"), 2)
        assert "is called with two lists, (prompts, responses)" in line
        assert f"got {name}({given})" in line
    assert "1 results for" in said(generate("w5", "-g", f"{file}:scores_too_few"), 1)
    assert "FileNotFoundError" in said(generate("w5", "-g", "python:no/such.py:f"), 2)
    assert "No module named" in said(generate("w5", "-g", "python:no_such_module:f"), 2)
    assert "python:MODULE:NAME" in said(generate("w5", "-g", "python:f"), 2)
    assert "no_such_package" in said(generate("w5", "-g", f"python:{broken}:f"), 2)


def test_usage_errors_of_the_parser(trimtab: Run, generate: Run) -> None:
    for result in (generate("w5", "--no-such-option"), trimtab("no-such-command")):
        assert result.exit_code == 2
        assert "Unknown" in result.stderr
        assert len(result.stderr.splitlines()) == 1
        assert "Traceback" not in result.stderr


@pytest.mark.slow
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

    monkeypatch.setattr("trimtab.cli.generate.read_prompts", stop)
    result = trimtab("generate", "w5")
    assert result.exit_code == 130
    assert result.stderr == "interrupted\n"


@pytest.mark.slow
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


# --- a classifier with several outputs -----------------------------------------------------------


@pytest.mark.parametrize("problem", ["single_label_classification", "multi_label_classification"])
def test_of_several_outputs_one_must_be_named(generate: Run, tmp_path: Path, problem: str) -> None:
    config = toys.causal_lm().config.to_dict() | {
        "id2label": {0: "rude", 1: "kind", 2: "dull"},
        "label2id": {"rude": 0, "kind": 1, "dull": 2},
        "problem_type": problem,
        "pad_token_id": 0,
    }
    folder = str(tmp_path / "judge")
    judge = LlamaForSequenceClassification(LlamaConfig(**config))
    judge.save_pretrained(folder)
    toys.tokenizer().save_pretrained(folder)
    line = said(generate("w5", "-g", folder), 2)
    assert "got none of rude, kind, dull; write MODEL#LABEL" in line
    line = said(generate("w5", "-r", f"hf:{folder}"), 2)
    assert "got none of rude, kind, dull; write MODEL#LABEL" in line
    assert "did you mean kind" in said(generate("w5", "-g", f"{folder}#knd"), 2)
    kind, dull = (generate("w5", "-g", f"{folder}#{name}", "-b", "9") for name in ("kind", "2"))
    assert (kind.exit_code, dull.exit_code) == (0, 0), (kind.exception, dull.exception)
    assert kind.stdout != dull.stdout
    assert generate("w5", "-r", f"hf:{folder}#kind").exit_code == 0


# --- errors spell options as the command line does -----------------------------------------------

PYTHON = re.compile(r"(?<!--set )(?<![\w./-])[a-z_]\w*=(?!=)")
"""An option as Python spells it."""

BAD = [
    (("-g", "REWARD", "-m", "best-of-n", "--max-new-tokens", "200"), "--max-new-tokens"),
    (("-g", "NAN"), "--on-guide-error base"),
    (("-g", "REWARD", "-t", "0.5"), "--base-temperature"),
    (("-k", "5"), "known: temperature"),
    (("-g", "REWARD", "--beta", "nan"), "beta"),
    (("--base-temperature", "-1"), "--base-temperature"),
    (("--base-top-p", "0"), "--base-top-p"),
    (("--set", "top_p=2"), "top_p"),
    (("--set", "top_k=0"), "top_k"),
    (("--set", "k"), "--set must be NAME=VALUE"),
    (("--set", "temperature=hot"), "'hot'"),
    (("-g", "REWARD", "-k", "98"), "97 tokens"),
    (("--dtype", "flot"), "float16"),
    (("--device", "gpu9"), "gpu9"),
    (("--column", "x"), "--prompts"),
    (("-o", "x.txt"), "--out"),
    (("--prompts", "COLUMN"), "--column ..."),
]


@pytest.mark.parametrize(("given", "says"), BAD, ids=[" ".join(given) for given, _ in BAD])
def test_errors_spell_options_as_the_command_line_does(
    generate: Run, reward_file: str, tmp_path: Path, given: tuple[str, ...], says: str
) -> None:
    column = tmp_path / "prompts.csv"
    column.write_text("question\nWhy?\n")
    nan = reward_file.replace(":score", ":nan")
    known = {"REWARD": reward_file, "NAN": nan, "COLUMN": str(column)}
    words = [known.get(word, word) for word in given]
    result = generate(*(() if "--prompts" in given else ("w5",)), *words)
    assert result.exit_code in (1, 2), (result.stdout, result.exception)
    assert says in result.stderr
    assert not PYTHON.search(result.stderr), result.stderr


def test_every_option_in_an_error_is_one_that_the_command_line_can_spell() -> None:
    """`name=` in a message must be some command's option, or of a call that no command makes."""
    flags = {flag for name in app if not name.startswith("-") for flag in flags_of([name])}
    only_in_python = {
        "attention", "attn_implementation", "backbone", "lm", "opener", "overwrite", "prompts",
        "stop_at_eos", "template", "tokenizer", "vocab_size", "way", "coherence", "model",
        "difference", "sd", "attention_mask", "vocab", "power", "alpha", "storage", "name", "label",
        "condition",
    }  # fmt: skip
    found: dict[str, str] = {}
    for path in Path(trimtab_package.__file__).parent.rglob("*.py"):
        if path.parent.name == "cli":  # spelled as there
            continue
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = getattr(getattr(call, "func", None), "id", "")
            if isinstance(call, ast.Call) and name.endswith("Error"):
                constants = [t.value for t in ast.walk(call) if isinstance(t, ast.Constant)]
                for text in (t for t in constants if isinstance(t, str)):
                    found |= {m[0][:-1]: f"{path}: {text}" for m in PYTHON.finditer(text)}
    assert len(found) > 5
    unknown = {name: at for name, at in found.items() if name not in {*flags, *only_in_python}}
    assert not unknown


# --- what cannot be printed ----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize(
    ("command", "buffered"),
    [
        *(("methods", ""), ("methods", "1"), ("methods --json", ""), ("methods --json", "1")),
        *(("--help", ""), ("--version", "1"), ("assets list", ""), ("train --help", "1")),
        ("generate", ""),
    ],
)
def test_a_full_disk_is_said_in_one_line(model: str, command: str, buffered: str) -> None:
    if command == "generate":
        command += f" w5 w6 --json --max-new-tokens 2 --model {model}"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "trimtab", *command.split()],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=120,
            env=os.environ | {"PYTHONUNBUFFERED": buffered},
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == (
        "error: stdout must be writable; got No space left on device; print elsewhere\n"
    )


@pytest.mark.parametrize("command", ["methods", "methods --json", "--help", "--version"])
def test_a_pipe_that_closes_is_no_error(command: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "input(); from trimtab.cli import main; main()", *command.split()],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, stderr = process.communicate(b"\n", timeout=120)
    assert (process.returncode, stderr) == (CLOSED, b"")


@pytest.mark.slow
def test_a_file_that_outgrows_the_disk_is_said_and_gone_on_with(
    generate: Run, model: str, tmp_path: Path
) -> None:
    prompts, out = tmp_path / "prompts.txt", tmp_path / "out.jsonl"
    prompts.write_text("".join(f"w{i}\n" for i in range(12)))
    given = ["--prompts", str(prompts), "--max-new-tokens", "6", "--rows", "2", "-o", str(out)]
    small = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000)); "
    small += "import sys; from trimtab.cli import main; main()"
    done = python("-c", small, "generate", "--model", model, *given)
    assert done.returncode == 1
    assert f"error: {out} must be writable; got File too large" in done.stderr
    assert not out.exists()
    assert "going on after" in generate(*given).stderr
    assert len(out.read_text().splitlines()) == 12
