"""`trimtab inspect`: a guide of its own, from the shell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import trimtab as tt
from tests import toys
from tests.shell import Result, Run
from trimtab.runs import write_groups
from trimtab.types import Group, Response


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, model: str) -> Path:
    """A guide with a card for the tiny model, groups and labels."""
    folder = tmp_path_factory.mktemp("inspect")
    lm = tt.TransformersLM(model, device="cpu")
    objective = {"name": "td-lambda", "settings": {"lambda_": 0.95}, "lr": 3e-4, "training": {}}
    about = [{"model": {"base_temperature": 0.7}}]
    tt.save_guide(
        toys.value_guide(vocab=lm.vocab), folder / "guide", base=model, objective=objective,
        data={"groups": 40, "reward": "r", "sources": about},
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)

    def response(length: int) -> Response:
        ids = torch.randint(3, toys.VOCABULARY, (length,), generator=generator).tolist()
        return Response((*ids, toys.EOS), "", rewards={"r": float(sum(ids) % 7)})

    groups = [
        Group(prompt, tuple(response(3 + i) for i in range(3)), f"topic {j}")
        for j, prompt in enumerate(toys.prompts(3, 5, 4, 6))
    ]
    write_groups(folder / "groups", groups)
    halves = [Group(g.prompt, g.responses, g.topic, prefix=(5, 6)) for g in groups]
    write_groups(folder / "labels", halves)
    return folder


@pytest.fixture
def inspect(trimtab: Run, place: Path) -> Run:
    def run(*arguments: str) -> Result:
        return trimtab("inspect", str(place / "guide"), "--device", "cpu", *arguments)

    return run


def test_a_report_comes_out_and_files_are_written(
    inspect: Run, place: Path, tmp_path: Path
) -> None:
    measured = ("-d", str(place / "groups"), "-v", str(place / "labels"))
    result = inspect(*measured, "-o", str(tmp_path / "report"), "--base-temperature", "0.7")
    assert result.exit_code == 0, result.stderr
    assert "| objective | td-lambda (lambda_=0.95) |" in result.stdout
    assert "| learning rate | 0.0003 |" in result.stdout
    assert "| ok | base_temperature | 0.7, as of the rollouts |" in result.stdout
    assert "## Along responses, r: score and reward" in result.stdout
    assert (tmp_path / "report" / "inspect.md").read_text() == result.stdout
    assert (tmp_path / "report" / "inspect.png").read_bytes().startswith(b"\x89PNG")
    figures = json.loads((tmp_path / "report" / "inspect.json").read_text())
    assert [fit["n"] for fit in figures["values"]] == [12] * 6
    assert figures["labels"][0]["ceiling"]["value"] < 1


def test_figures_are_printed_and_without_a_measurement_nothing_is_drawn(
    inspect: Run, place: Path, tmp_path: Path
) -> None:
    result = inspect("-d", str(place / "groups"), "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["labels"] == []
    assert inspect("-o", str(tmp_path / "card")).exit_code == 0
    assert {p.name for p in (tmp_path / "card").iterdir()} == {
        f"inspect.{kind}" for kind in ("md", "json", "html")
    }


def test_warnings_are_lines_and_strict_fails_on_them(inspect: Run) -> None:
    result = inspect()
    assert result.exit_code == 0
    assert "WARNING: base_temperature: the rollouts are of 0.7" in result.stdout
    assert inspect("--strict").exit_code == 1
    assert inspect("--strict", "--base-temperature", "0.7").exit_code == 0


def test_another_tokenizer_fails(inspect: Run, tmp_path: Path) -> None:
    toys.causal_lm(vocabulary=60).save_pretrained(tmp_path / "other")
    toys.tokenizer(60).save_pretrained(tmp_path / "other")
    result = inspect("--model", str(tmp_path / "other"))
    assert result.exit_code == 1
    assert "ERROR: tokenizer: " in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("-d", "{place}/nowhere"), 1, "a run's folder must hold its manifest.json"),
        (("-v", "{place}/groups"), 1, "labels must be groups with a prefix"),
        (("-d", "{place}/groups", "--learn", "odd"), 1, "with the reward 'odd'"),
        (("--pairs", "{place}/pairs.txt"), 2, "No such file"),
        (("--pairs", "{place}/pairs.xlsx"), 2, "a file of rows must be one of"),
    ],
)
def test_what_is_missing_is_said(
    inspect: Run, place: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    result = inspect(*(a.format(place=place) for a in arguments))
    assert result.exit_code == code
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_no_guide_there(trimtab: Run, model: str, tmp_path: Path) -> None:
    result = trimtab("inspect", str(tmp_path), "--model", model)
    assert result.exit_code == 1
    assert "guide.json" in result.stderr
