"""A tiny model in a folder, and `trimtab` as a function."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import shell, toys
from tests.shell import Result, Run


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a tiny Llama (context 128) and a tokenizer of words."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    toys.causal_lm().save_pretrained(folder)
    toys.tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture
def reward_file(tmp_path: Path) -> str:
    """A reward in a file: more of `w7` is better."""
    path = tmp_path / "mine.py"
    path.write_text(
        "def score(prompts, responses):\n"
        "    return [float(r.split().count('w7')) for r in responses]\n"
        "def scores_too_few(prompts, responses):\n"
        "    return [0.0]\n"
        "def nan(prompts, responses):\n"
        "    return [float('nan') for _ in responses]\n"
        "def of_texts(texts):\n"
        "    return [0.0 for _ in texts]\n"
        "def of_three(a, b, c):\n"
        "    return [0.0]\n"
        "number = 3\n"
    )
    return f"python:{path}:score"


@pytest.fixture
def trimtab() -> Run:
    """Runs a command line; stdout and stderr are apart."""

    def run(*arguments: str, stdin: str = "") -> Result:
        return shell.trimtab(*arguments, stdin=stdin)

    return run


@pytest.fixture
def generate(trimtab: Run, model: str) -> Run:
    """`trimtab generate` with the tiny model and few tokens."""

    def run(*arguments: str, stdin: str = "") -> Result:
        few = () if "--max-new-tokens" in arguments else ("--max-new-tokens", "6")
        return trimtab("generate", "--model", model, *few, *arguments, stdin=stdin)

    return run
