"""Where prompts come from: tasks, files, the Hub."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.runs.world import roll
from trimtab import tasks
from trimtab.errors import FetchError, PromptError, UnknownNameError, UsageError
from trimtab.runs import find_prompts, find_responses
from trimtab.tasks import split_of


def test_a_task_brings_its_split_reward_length_and_template() -> None:
    found, detox = find_prompts("detox", None, "validation"), tasks.find("detox")
    assert found.samples == tuple(detox.samples("validation"))
    assert (found.reward, found.max_new_tokens, found.template) == (detox.reward, 20, "none")
    assert found.name == "detox/validation"


def test_a_file_is_split_by_topic_and_brings_no_reward(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    rows = [{"prompt": f"p{i}", "split": "train" if i % 2 else "test", "x": i} for i in range(6)]
    path.write_text("\n".join(map(json.dumps, rows)))
    found = find_prompts(None, str(path), "train")
    assert [s.prompt for s in found.samples] == ["p1", "p3", "p5"]
    assert found.samples[0].meta["x"] == 1
    assert (found.reward, found.max_new_tokens) == (None, 128)
    assert len(find_prompts(None, str(path), "all").samples) == 6


def test_what_cannot_be_meant_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="got neither"):
        find_prompts(None, None)
    with pytest.raises(UsageError, match="got both"):
        find_prompts("detox", "x.txt")
    with pytest.raises(UnknownNameError, match="did you mean sentiment"):
        find_prompts("sentimet", None)
    (tmp_path / "mine.jsonl").write_text('{"prompt": "p", "split": "test"}')
    with pytest.raises(PromptError, match="split 'train' of 'mine'"):
        find_prompts(None, str(tmp_path / "mine.jsonl"))


def test_responses_that_are_cut_say_how_they_were_asked_for(tmp_path: Path) -> None:
    roll(tmp_path)
    found = find_responses(tmp_path, "detox")
    assert (found.max_new_tokens, found.reward) == (6, tasks.find("detox").reward)
    assert find_responses(tmp_path).reward is None


# --- the Hub -------------------------------------------------------------------------------------


class Rows(list[Any]):
    """As much of a data set as is used."""

    @property
    def column_names(self) -> list[str]:
        return list(self[0])


ROWS = Rows(
    [
        {"prompt": "one", "chat": [{"role": "user", "content": "hi"}], "id": 1},
        {"prompt": "two", "chat": [{"role": "user", "content": "ho"}], "id": 2},
    ]
)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The package `datasets` with one data set of two splits; what was asked of it."""
    asked: list[tuple[str, str]] = []
    module: Any = ModuleType("datasets")

    def load_dataset(name: str, split: str) -> Rows:
        asked.append((name, split))
        if name != "some/one":
            raise FileNotFoundError(f"Dataset {name!r} doesn't exist on the Hub\nmore")
        return ROWS

    module.load_dataset = load_dataset
    module.get_dataset_split_names = lambda name: ["train", "test"]
    monkeypatch.setitem(sys.modules, "datasets", module)
    return asked


def test_prompts_come_from_a_column_of_a_data_set(hub: list[tuple[str, str]]) -> None:
    found = find_prompts(None, "hub:some/one", "test")
    assert [s.prompt for s in found.samples] == ["one", "two"]
    assert found.samples[1].meta["id"] == 2
    chats = find_prompts(None, "hub:some/one#chat", "all").samples
    assert chats[1].prompt == ({"role": "user", "content": "ho"},)
    assert chats[1].topic == "ho"
    assert [sample.meta["split"] for sample in chats] == ["train", "train", "test", "test"]
    assert hub == [("some/one", "test"), ("some/one", "train"), ("some/one", "test")]


def test_rows_of_a_named_split_are_split_by_topic(hub: list[tuple[str, str]]) -> None:
    found = find_prompts(None, "hub:some/one@train[:9]", "all")
    assert [s.prompt for s in found.samples] == ["one", "two"]
    for sample in found.samples:
        split = split_of(sample.topic)
        assert sample in find_prompts(None, "hub:some/one@train[:9]", split).samples
    assert set(hub) == {("some/one", "train[:9]")}


def test_a_data_set_that_cannot_be_had_is_said_in_a_line(hub: list[tuple[str, str]]) -> None:
    with pytest.raises(UsageError, match="must have the column 'text'; got prompt, chat, id"):
        find_prompts(None, "hub:some/one#text")
    with pytest.raises(FetchError, match="doesn't exist on the Hub.*; check the name") as caught:
        find_prompts(None, "hub:no/one")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", ["hub:", "hub:@train", "hub:some/one:text", "hub:#text"])
def test_a_data_set_is_written_in_one_way(source: str) -> None:
    with pytest.raises(UsageError, match=r"must be written hub:DATASET\[@SPLIT\]\[#COLUMN\]"):
        find_prompts(None, source)


def test_a_column_is_named_once(hub: list[tuple[str, str]]) -> None:
    with pytest.raises(UsageError, match="must be named once; got #chat and 'prompt'"):
        find_prompts(None, "hub:some/one#chat", column="prompt")


def test_the_hub_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match=r"pip install 'trimtab\[data\]'"):
        find_prompts(None, "hub:some/one")
