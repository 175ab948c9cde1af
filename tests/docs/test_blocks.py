"""Every block of README and docs is tried: Python and commands run, settings are read."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cyclopts import CycloptsError

from tests.docs.blocks import LANGUAGES, PAGES, ROOT, Block, blocks_of, commands
from tests.needs import needs_asset
from trimtab.cli import app
from trimtab.protocols import Guide, Reader
from trimtab.training.config import TrainConfig, read_config

NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
WITH_PYTHON = [page for page in PAGES if blocks_of(page, "python")]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_block_has_a_language_that_is_tried(page: Path) -> None:
    for block in blocks_of(page):
        assert block.language in LANGUAGES, block.name


@pytest.mark.slow
@needs_asset("smollm2")
@needs_asset("minilm")
@pytest.mark.filterwarnings("ignore::trimtab.errors.TrimtabWarning")  # a taste learns little
@pytest.mark.parametrize("page", WITH_PYTHON, ids=[str(p.relative_to(ROOT)) for p in WITH_PYTHON])
def test_the_python_of_a_page_runs_from_its_top_to_its_end(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one namespace and an empty folder, in which the page's YAML is `train.yaml`."""
    monkeypatch.chdir(tmp_path)
    for block in blocks_of(page, "yaml"):
        Path("train.yaml").write_text(block.text)
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks_of(page, "python"):
        code = compile("\n" * block.line + block.text, str(page), "exec")  # lines as in the page
        if not block.reason:
            exec(code, names)


def test_what_is_not_run_says_why() -> None:
    """All of it, here: a new one must be worth a line."""
    skipped = {b.name.partition(":")[0]: b.reason for p in PAGES for b in blocks_of(p) if b.reason}
    assert skipped == {"docs/models.md": "needs the Hub, and a model of yours"}


# --- commands ------------------------------------------------------------------------------------

CONSOLE = [
    (b, words) for page in PAGES for b in blocks_of(page, "console") for words in commands(b)
]


def parse(words: list[str]) -> None:
    """What `trimtab` makes of its arguments, without doing it."""
    app.parse_args([word for word in words if word != "--debug"], exit_on_error=False,
                   print_error=False, verbose=False)  # fmt: skip


@pytest.mark.parametrize("words", [w for _, w in CONSOLE], ids=[" ".join(w) for _, w in CONSOLE])
def test_every_command_line_is_one_of_ours(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    program, *rest = words
    if program == "torchrun":
        at = rest.index("-m")
        assert rest[at : at + 2] == ["-m", "trimtab"]
        program, rest = "trimtab", rest[at + 2 :]
    if program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(rest) <= set(targets)
        return
    assert program == "trimtab"
    parse(rest)


@pytest.mark.slow
@needs_asset("smollm2")
@needs_asset("minilm")
def test_the_commands_of_every_page_run(tmp_path: Path) -> None:
    """In a process without shape checks: it decodes, trains and measures, if only a little."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.docs.console"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^README.md: \d+ commands$", done.stdout, re.MULTILINE)


def test_commands_are_in_the_docs() -> None:
    assert len(CONSOLE) > 15
    assert all(commands(b) for page in PAGES for b in blocks_of(page, "console"))


@pytest.mark.parametrize("words", [["train", "--layres", "2"], ["collekt"], ["train", "a", "--lr"]])
def test_a_command_line_that_is_none_is_seen(words: list[str]) -> None:
    with pytest.raises(CycloptsError, match="Unknown|requires an argument"):
        parse(words)


# --- settings ------------------------------------------------------------------------------------

SETTINGS = [block for page in PAGES for block in blocks_of(page, "yaml")]


@pytest.mark.parametrize("block", SETTINGS, ids=lambda block: block.name)
def test_settings_are_read(block: Block, tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text(block.text)
    assert isinstance(read_config(tmp_path / "train.yaml"), TrainConfig)


# --- what the docs say of a guide ----------------------------------------------------------------

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven")


def test_a_guide_has_as_many_methods_and_attributes_as_the_docs_say() -> None:
    members = {n: v for kind in (Guide, Reader) for n, v in vars(kind).items() if n[0] != "_"}
    attributes = sorted(n for n, v in members.items() if isinstance(v, property))
    methods = sorted(members.keys() - set(attributes))
    said = f"{NUMBERS[len(methods)]} methods"
    also = f"{NUMBERS[len(attributes)]} attributes"
    found = 0
    for page in [*PAGES, ROOT / "examples" / "a_guide_of_your_own.py"]:
        text = re.sub(r"\([^)]*\)", "", " ".join(page.read_text().split()))
        assert not re.search(r"A guide is \w+ methods", text) or f"A guide is {said}" in text, page
        found += bool(re.search(f"{said} *,? *and {also}", text))
    assert (methods, attributes) == (
        ["extend", "join", "prefill", "score", "select"], ["cost", "name", "vocab"]
    )  # fmt: skip
    assert found == 3  # README, the page on guides, the example


def test_blocks_are_found_with_their_lines_and_reasons(tmp_path: Path) -> None:
    page = ROOT / "docs" / "models.md"
    first, second, *_ = blocks_of(page, "python")
    assert first.text.startswith("import trimtab as tt")
    assert (first.reason, bool(second.reason)) == ("", True)
    lines = page.read_text().splitlines()
    assert lines[first.line - 1] == "```python"
    assert os.linesep not in commands(blocks_of(ROOT / "docs/guides.md", "console")[0])[0]
