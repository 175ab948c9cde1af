"""A file of prompts is a task, or the error names the line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trimtab import tasks
from trimtab.errors import (
    IncompatibleError,
    PluginError,
    PromptError,
    RewardError,
    UnknownNameError,
    UsageError,
)
from trimtab.tasks import read_samples, split_of, task_from_file
from trimtab.types import Sample


def shortest(samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
    return [-float(len(response)) for response in responses]


def write(folder: Path, *rows: Any) -> Path:
    path = folder / "prompts.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_text_file_has_a_prompt_a_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_bytes("\ufeffWhy?\r\n\r\nWhy\u2028not?\r\n".encode())
    mine = task_from_file(path, shortest)
    assert [s.prompt for s in mine.samples("all")] == ["Why?", "Why\u2028not?"]
    assert mine.name == "mine"
    assert mine.judge is None
    assert mine.reward([Sample("Why?", "why")], ["abc"]) == [-3.0]


def test_json_lines_hold_texts_or_conversations(tmp_path: Path) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    rows = {"prompt": "Hm?", "topic": "doubt", "level": 3}, {"messages": messages, "prompt": None}
    text, chat = read_samples(write(tmp_path, *rows))
    assert (text.prompt, text.topic, text.meta) == ("Hm?", "doubt", {"level": 3})
    assert (chat.prompt, chat.topic) == (tuple(messages), "Why?")


def test_parquet_holds_the_same(tmp_path: Path) -> None:
    path = tmp_path / "prompts.parquet"
    chat = [{"role": "user", "content": "Why?"}]
    columns = {"prompt": ["Hm?", None], "messages": [None, chat], "split": ["test", None]}
    pq.write_table(pa.table(columns), path)
    first, second = read_samples(path)
    assert (first.prompt, first.meta) == ("Hm?", {"split": "test"})
    assert (second.prompt, second.meta) == (tuple(chat), {})


def test_a_row_may_name_its_split_or_its_topic(tmp_path: Path) -> None:
    topic = next(t for t in "abcdefghij" if split_of(t) == "train")
    rows = [{"prompt": f"{i}", "topic": topic} for i in range(9)]
    mine = task_from_file(write(tmp_path, *rows, {"prompt": "x", "split": "test"}), shortest)
    assert len(mine.samples("train")) == 9
    assert [s.prompt for s in mine.samples("test")] == ["x"]
    with pytest.raises(PromptError, match="the split 'validation' of 'prompts' must hold prompts"):
        mine.samples("validation")


def test_a_row_may_have_references_that_rewards_compare_with(tmp_path: Path) -> None:
    rows = [{"prompt": "6 x 7?", "reference": ["42", "forty-two"]}, {"prompt": "1 + 1?"}]
    mine = task_from_file(write(tmp_path, *rows), "exact")
    first, second = mine.samples("all")
    assert mine.reward([first], ["Forty-two"]) == [1.0]
    with pytest.raises(RewardError, match="reference"):
        mine.reward([second], ["2"])


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ('{"prompt": "Why?"', "must be JSON"),
        ('"Why?"', "must be an object"),
        ({"prompt": "  "}, "`prompt` must be a text that is not empty; got '  '"),
        ({"prompt": 7}, "`prompt` must be a text that is not empty; got 7"),
        ({"question": "Why?"}, "a row must have a `prompt` or `messages`; got question"),
        ({}, "a row must have a `prompt` or `messages`; got no column"),
        ({"messages": []}, "`messages` must be a list of messages"),
        ({"messages": ["Why?"]}, "a message must have a role"),
        ({"messages": [{"role": "bot", "content": "Why?"}]}, "a message must have a role"),
        ({"messages": [{"role": "user", "content": ""}]}, "a message must not be empty"),
        ({"prompt": "Why?", "split": "dev"}, "`split` must be train, validation, test; got 'dev'"),
        ({"prompt": "Why?", "topic": 5}, "`topic` must be a text"),
        ({"prompt": "Why?", "reference": 5}, "`reference` must be a text or a list of texts"),
        ({"prompt": "Why?", "reference": []}, "`reference` must be a text or a list of texts"),
    ],
)
def test_a_bad_row_is_named_by_its_line(tmp_path: Path, row: Any, says: str) -> None:
    path = write(tmp_path, {"prompt": "Good."}, "", row)
    with pytest.raises(PromptError) as caught:
        read_samples(path)
    assert str(caught.value).startswith("prompts.jsonl, line 3: ")
    assert says in str(caught.value)


def test_an_empty_file_is_no_task(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="must hold prompts; got none"):
        read_samples(write(tmp_path, "", " "))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("prompts.csv.gz", b"", "must be one of .txt, .jsonl, .json, .csv, .tsv, .parquet"),
        ("prompts.csv", b"", "must hold prompts"),
        ("prompts.csv", b"prompt,topic\nWhy?\n", "line 2: a row must have 2 cells, .* got 1"),
        ("prompts.csv", b'prompt\nWhy?\n"Why" not?\n', "line 3: must be CSV"),
        ("prompts.csv", b"a,a\nWhy?,b\n", "line 1: each column must have a name of its own"),
        ("prompts.csv", b"question\nWhy?\n", "line 2: .* got question; .* column=..."),
        ("prompts.csv", b"prompt,topic\n\n,b\n", "line 3: `prompt` must be .*; got nothing"),
        ("prompts.json", b'[{"prompt": "Why?"}, 3]', "row 2: must be an object with columns"),
        ("surrogate.jsonl", b'{"prompt": "\\ud800"}', "line 1: `prompt` must be Unicode text"),
        ("latin.txt", "Größe".encode("latin-1"), "must be a readable file in UTF-8"),
        ("not.parquet", b"PAR", "must be a Parquet file"),
        ("missing.txt", None, "must be a readable file"),
    ],
)
def test_a_file_of_another_kind_is_refused(
    tmp_path: Path, name: str, content: bytes | None, says: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=says):
        read_samples(tmp_path / name)


def test_an_unknown_reward_offers_near_names(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="toxicity"):
        task_from_file(write(tmp_path, {"prompt": "Why?"}), "toxicty")


# --- by name -------------------------------------------------------------------------------------

OWN = """
from trimtab import tasks
from trimtab.types import Sample

def asked():
    return [Sample(f"Why {i}?", f"topic {i}") for i in range(20)]

def made():
    return tasks.PromptTask("why", "ask why", asked, lambda samples, responses: [1.0], None, 8)

ready = made()
number = 3
"""


@pytest.mark.parametrize("name", ["made", "ready"])
def test_a_task_of_ones_own_is_found_by_its_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / "own_tasks.py"
    path.write_text(OWN)
    mine = tasks.find(f"python:{path}:{name}")
    assert (mine.name, len(mine.samples("all"))) == ("why", 20)
    with pytest.raises(IncompatibleError, match="a task must have a name.*number, a int"):
        tasks.find(f"python:{path}:number")


def test_a_task_of_an_installed_package_is_found_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tasks_of_a_plugin.py").write_text(OWN)
    about = tmp_path / "why_tasks-2.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: why-tasks\nVersion: 2.0\n")
    offers = "why = tasks_of_a_plugin:made\ngone = tasks_of_a_plugin:gone\n"
    (about / "entry_points.txt").write_text(f"[trimtab.tasks]\n{offers}")
    monkeypatch.syspath_prepend(tmp_path)
    assert tasks.find("why").name == "why"
    with pytest.raises(PluginError, match="the plugin 'gone' of why-tasks 2.0 must load"):
        tasks.find("gone")
    with pytest.raises(UnknownNameError, match="did you mean why"):
        tasks.find("whyy")
