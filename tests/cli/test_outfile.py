"""Many prompts: decoded a few at a time, into a file that a kill may stop at any byte."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from filelock import FileLock

from tests import killing
from tests.shell import Result, Run
from trimtab.cli import answers
from trimtab.decoding import loop
from trimtab.types import Prompt

PROMPTS = ["w5 w6", "w9\u2028w1\x0cw2", "w7", "w5 w6", "w1 w2 w3 w4 w5"]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each batch had."""
    found: list[int] = []
    real = loop.decode_steps

    def spy(lm: Any, guide: Any, method: Any, prompts: Sequence[Prompt], **options: Any) -> Any:
        found.append(len(prompts) * int(options["n"]))
        return real(lm, guide, method, prompts, **options)

    monkeypatch.setattr(loop, "decode_steps", spy)
    return found


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": p}) + "\n" for p in PROMPTS), encoding="utf-8")
    return str(path)


def fine(result: Result) -> Result:
    assert result.exit_code == 0, (result.stderr, result.exception)
    return result


def rows(path: Path) -> list[dict[str, Any]]:
    return objects(path.read_text(encoding="utf-8"))


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.removesuffix("\n").split("\n")]


# --- batches -------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [(), ("--json",), ("--stream",)])
def test_no_text_depends_on_its_batch(
    generate: Run, asked: list[int], file: str, reward_file: str, form: tuple[str, ...]
) -> None:
    given = ("--prompts", file, "-n", "2", "-g", reward_file, "-k", "5", *form)
    alone, few, all_ = (fine(generate(*given, "--rows", many)) for many in ("1", "5", "32"))
    assert asked == [1] * 10 + [4, 4, 2] + [10]
    if form != ("--json",):
        assert alone.stdout == few.stdout == all_.stdout
        return
    texts = [[row["text"] for row in objects(r.stdout)] for r in (alone, few, all_)]
    assert texts[0] == texts[1] == texts[2]


def test_every_prompt_is_checked_before_the_first_is_decoded(
    generate: Run, asked: list[int], tmp_path: Path
) -> None:
    path = tmp_path / "long.txt"
    path.write_text("w5\n" * 3 + "w5 " * 200 + "\n")
    result = generate("--prompts", str(path), "--rows", "1", "-o", str(tmp_path / "out.jsonl"))
    assert result.exit_code == 2
    assert "prompt 3 must be shorter" in result.stderr
    assert asked == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["long.txt"]


# --- the file ------------------------------------------------------------------------------------


def test_a_file_holds_what_would_be_printed(generate: Run, file: str, tmp_path: Path) -> None:
    given = ("--prompts", file, "-n", "2", "--rows", "2")
    printed = objects(fine(generate(*given, "--json")).stdout)
    ledger, lines, cells, table = (
        tmp_path / n for n in ("a.jsonl", "b.jsonl", "c.csv", "d.parquet")
    )
    done = fine(generate(*given, "--json", "-o", str(ledger)))
    assert (done.stdout, "10 responses in" in done.stderr) == ("", True)
    assert rows(ledger) == printed
    short = [{k: v for k, v in row.items() if k != "steps"} for row in printed]
    for path in (lines, cells, table):
        fine(generate(*given, "-o", str(path)))
    assert rows(lines) == short
    assert pq.read_table(table).to_pylist() == short
    with cells.open(encoding="utf-8", newline="") as text:
        found = list(csv.DictReader(text))
    assert [row["text"] for row in found] == [row["text"] for row in short]
    assert [json.loads(row["tokens"]) for row in found] == [row["tokens"] for row in short]
    left = {p.name for p in tmp_path.iterdir()} - {"mine.py", "prompts.jsonl"}
    assert left == {"a.jsonl", "b.jsonl", "c.csv", "d.parquet"}


def test_a_job_cut_at_any_byte_goes_on_to_the_same_file(
    generate: Run, asked: list[int], file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, part = tmp_path / "out.jsonl", tmp_path / "out.jsonl.part"
    given = ("--prompts", file, "-n", "2", "--rows", "2", "--max-new-tokens", "2", "-o", str(out))

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(answers, "_publish", stop)
        assert generate(*given).exit_code == 130
    assert not out.exists()
    whole = part.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    assert len(ends) == 11  # the settings and ten responses
    cuts = [0, 5, ends[0], ends[0] + 9, ends[1], ends[2] - 1, ends[2], ends[3], ends[7], ends[10]]
    kept = [0, 0, 0, 0, 0, 0, 1, 1, 3, 5]
    for cut, prompts in zip(cuts, kept, strict=True):
        asked.clear()
        part.write_bytes(whole[:cut])
        result = fine(generate(*given, "--overwrite"))
        assert (f"after {prompts} of 5" in result.stderr) == (prompts > 0)
        assert asked == [2] * (5 - prompts)
        assert out.read_bytes() == whole[ends[0] :]
        assert not part.exists()


@pytest.mark.slow
def test_a_killed_job_goes_on(generate: Run, file: str, tmp_path: Path) -> None:
    out, twin = tmp_path / "out.jsonl", tmp_path / "twin.jsonl"
    part = tmp_path / "out.jsonl.part"
    given = ("--prompts", file, "-n", "2", "--rows", "2", "--max-new-tokens", "40")

    def done() -> int:
        return part.read_bytes().count(b"\n") if part.exists() else 0

    killing.attempt(lambda: generate(*given, "-o", str(out)), done, 4, 0.002)
    assert not out.exists()
    assert "going on after" in fine(generate(*given, "-o", str(out))).stderr
    fine(generate(*given, "-o", str(twin)))
    assert out.read_bytes() == twin.read_bytes()


def test_another_job_is_not_gone_on_with(
    generate: Run, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reward_file: str
) -> None:
    out, part = tmp_path / "out.jsonl", tmp_path / "out.jsonl.part"
    given = ("--prompts", file, "--max-new-tokens", "2", "-o", str(out), "-g", reward_file)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(answers, "_publish", stop)
        generate(*given)
    begun = part.read_bytes()
    for more, says in [
        (("--seed", "3"), "settings must be the same; got seed 3, begun with 0"),
        (("--beta", "3"), "got beta 3.0, begun with 1.0"),
        (("--base-top-p", "0.5"), "got base "),
        (("--stop", "w1"), "got stop ['w1'], begun with []"),
        (("--json",), "got json True, begun with False"),
    ]:
        result = generate(*given, *more)
        assert result.exit_code == 2
        assert says in result.stderr
    other = tmp_path / "other.txt"
    other.write_text("w5 w6\nw8\n")
    result = generate("--prompts", str(other), *given[2:])
    assert (result.exit_code, "got others, from prompt 2 on" in result.stderr) == (2, True)
    code = Path(reward_file.split(":")[1])
    code.write_text(code.read_text().replace("w7", "w8"))
    result = generate(*given)
    assert (result.exit_code, "got steering" in result.stderr) == (2, True)
    assert part.read_bytes() == begun
    assert not out.exists()
    fine(generate(*given, "--seed", "3", "--overwrite"))
    assert {row["seed"] for row in rows(out)} == {3}


def test_a_finished_file_is_not_replaced_unasked(generate: Run, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("mine\n")
    result = generate("w5", "-o", str(out))
    assert (result.exit_code, "pass --overwrite" in result.stderr) == (2, True)
    assert out.read_text() == "mine\n"
    fine(generate("w5", "-o", str(out), "--overwrite"))
    assert rows(out)[0]["prompt"] == "w5"


def test_files_that_cannot_be_meant(generate: Run, tmp_path: Path) -> None:
    for given, says in [
        (("-o", "out.txt"), "--out must be one of .jsonl, .csv, .parquet"),
        (("-o", "out.csv", "--json"), "needs a .jsonl"),
        (("-o", "out.jsonl", "--stream"), "drop one"),
    ]:
        result = generate("w5", *given)
        assert (result.exit_code, says in result.stderr) == (2, True), result.stderr
    (tmp_path / "dir").touch()
    result = generate("w5", "-o", str(tmp_path / "dir" / "out.jsonl"))
    assert (result.exit_code, "must be writable" in result.stderr) == (1, True)


def test_two_processes_do_not_write_one_file(generate: Run, tmp_path: Path) -> None:
    with FileLock(tmp_path / "out.jsonl.lock"):
        result = generate("w5", "-o", str(tmp_path / "out.jsonl"))
    assert (result.exit_code, "one writer; got another" in result.stderr) == (2, True)
