"""What the ablations show of the figures that they kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recipes.guides.ablations.arms import ARMS
from recipes.guides.ablations.shown import at_kl, picture, table

STRENGTHS = [
    {"beta": 20.0, "kl": 15.0, "reward": 0.8, "judge": 2.0, "relevance": 0.4, "tokens": 30.0},
    {"beta": 10.0, "kl": 5.0, "reward": 0.6, "judge": 1.0, "relevance": 0.5, "tokens": 31.0},
]


def keep(folder: Path, name: str, error: float) -> None:
    figures = {"error": error, "accuracy": None, "decoded": {"": STRENGTHS}}
    (folder / name).write_text(json.dumps(figures))


def test_figures_are_read_off_the_line_between_two_strengths() -> None:
    assert at_kl(STRENGTHS, "reward", 10.0) == pytest.approx(0.7)
    assert at_kl(STRENGTHS, "reward", 15.0) == pytest.approx(0.8)
    assert at_kl(STRENGTHS, "reward", 20.0) is None, "nothing is guessed beyond them"


def test_a_line_has_means_and_standard_errors_over_its_seeds(tmp_path: Path) -> None:
    assert {arm.name for arm in ARMS} > {"q", "td0"}
    keep(tmp_path, "q-0.json", 0.3)
    keep(tmp_path, "q-1.json", 0.5)
    head, _, line = table(tmp_path).splitlines()
    cells = dict(zip(head.split(" | "), line.split(" | "), strict=True))
    assert cells["seeds"] == "2"
    assert cells["error"] == "0.400 ± 0.100"
    assert cells["reward at 10 nats"] == "0.700 ± 0.000"
    assert cells["reward at 20 nats"] == "not met"
    picture(tmp_path, [{"kl": 0.0, "reward": 0.4}, {"kl": 1.0, "reward": 0.9}])
    assert (tmp_path / "frontier.png").stat().st_size > 1000
