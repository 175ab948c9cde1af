"""`trimtab generate`: each way in, each way out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests import toys
from tests.shell import Result, Run
from trimtab.guides import save_guide


def text(result: Result) -> str:
    assert result.exit_code == 0, result.stderr
    return result.stdout


def rows(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text(result).splitlines()]


# --- prompts -------------------------------------------------------------------------------------


def test_every_way_in_gives_the_same_text(generate: Run, tmp_path: Path) -> None:
    lines, objects = tmp_path / "prompts.txt", tmp_path / "prompts.jsonl"
    lines.write_text("w5 w6\n\n")
    objects.write_text('{"prompt": "w5 w6"}\n')
    expected = text(generate("w5 w6"))
    assert expected.strip()
    assert text(generate("-", stdin="w5 w6\n")) == expected
    assert text(generate(stdin="w5 w6\n")) == expected
    assert text(generate("--prompts", str(lines))) == expected
    assert text(generate("--prompts", str(objects))) == expected
    assert text(generate("--prompts", "-", stdin="w5 w6\n")) == expected
    cells, table = tmp_path / "prompts.csv", tmp_path / "prompts.parquet"
    cells.write_text("id,question\r\n1,w5 w6\r\n")
    assert text(generate("--prompts", str(cells), "--column", "question")) == expected
    pq.write_table(pa.table({"prompt": ["w5 w6"]}), table)
    assert text(generate("--prompts", str(table))) == expected
    assert text(generate("--prompts", "-", stdin='{"prompt": "w5 w6"}\n')) == expected


def test_several_prompts_and_samples_are_told_apart(generate: Run) -> None:
    alone = text(generate("w5 w6"))
    both = text(generate("w9", "w5 w6", "-n", "2"))
    heads = [line for line in both.splitlines() if line.startswith("---")]
    assert heads == [f"--- prompt {p}, sample {s} ---" for p in (1, 2) for s in (1, 2)]
    assert f"--- prompt 2, sample 1 ---\n{alone}" in both


def test_messages_need_a_chat_template(generate: Run, tmp_path: Path) -> None:
    talk = tmp_path / "talk.jsonl"
    talk.write_text('{"messages": [{"role": "user", "content": "w5"}]}\n')
    result = generate("--prompts", str(talk))
    assert result.exit_code == 2
    assert "chat template" in result.stderr


# --- output --------------------------------------------------------------------------------------


def test_the_ledger_adds_up(generate: Run, reward_file: str) -> None:
    given = ("w5 w6", "w7", "-n", "2", "-g", reward_file, "--beta", "3", "--alternatives", "2")
    found = rows(generate(*given, "--json"))
    assert [(r["index"], r["sample"]) for r in found] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    for row in found:
        assert row["method"] == "vas"
        assert row["beta"] == 3
        assert row["guide"] == "score"
        assert row["prompt"] == ["w5 w6", "w7"][row["index"]]
        assert "".join(step["text"] for step in row["steps"]) == row["text"]
        assert [t for step in row["steps"] for t in step["tokens"]] == row["tokens"]
        for total in ("kl", "logprob", "ref_logprob"):
            assert row[total] == pytest.approx(sum(step[total] for step in row["steps"]))
        assert all(len(step["alternatives"]) == 2 for step in row["steps"])
        assert all(step["kl"] >= -1e-6 for step in row["steps"])


def test_json_has_no_infinities(generate: Run, reward_file: str) -> None:
    result = generate("w5", "-g", reward_file, "-m", "args", "--json", "--alternatives", "3")
    assert "Infinity" not in text(result)
    assert "NaN" not in text(result)
    assert [a["logprob"] for a in rows(result)[0]["steps"][0]["alternatives"]] == [0, None, None]


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_streaming_changes_nothing(generate: Run, form: tuple[str, ...]) -> None:
    given = ("w5 w6", "w9", "-n", "3", "--stop", "w11", *form)
    assert text(generate(*given, "--stream")) == text(generate(*given))


# --- steering ------------------------------------------------------------------------------------


def test_a_reward_steers(generate: Run, reward_file: str) -> None:
    base = text(generate("w5 w6", "-n", "4"))
    steered = text(generate("w5 w6", "-n", "4", "-g", reward_file, "-b", "20", "-k", "97"))
    assert steered.split().count("w7") > base.split().count("w7") + 10


def test_a_guide_folder_steers(generate: Run, tmp_path: Path) -> None:
    folder = save_guide(toys.value_guide(), tmp_path / "guide")
    plain = rows(generate("w5 w6", "--json", "-m", "sampling"))
    (row,) = rows(generate("w5 w6", "--json", "--guide", str(folder), "--beta", "30"))
    assert row["method"] == "vas"
    assert row["guide_tokens"] > 0
    assert row["kl"] > 0.1
    assert row["tokens"] != plain[0]["tokens"]


def test_options_reach_the_method(generate: Run, reward_file: str) -> None:
    greedy = text(generate("w5 w6", "-t", "0"))
    assert greedy == text(generate("w5 w6", "-m", "greedy"))
    assert greedy == text(generate("w5 w6", "-m", "sampling", "--set", "top_k=1"))
    (best,) = rows(generate("w5", "-g", reward_file, "-m", "best-of-n", "--set", "n=3", "--json"))
    assert best["kl"] is None
    assert len(best["steps"]) == 1
    cold = text(generate("w5 w6", "--base-temperature", "0.001"))
    assert cold == greedy


@pytest.mark.parametrize("method", ["sampling", "greedy"])
def test_what_would_steer_nothing_is_refused(trimtab: Run, reward_file: str, method: str) -> None:
    result = trimtab("generate", "w5", "--guide", reward_file, "-m", method)
    assert result.exit_code == 2
    assert f"--method {method} is steered by nothing; got --guide python:" in result.stderr
    assert "name a guided method, such as vas" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_seed_is_a_text(generate: Run) -> None:
    texts = [text(generate("w5", "--seed", seed)) for seed in ("1", "1", "2")]
    assert texts[0] == texts[1] != texts[2]
