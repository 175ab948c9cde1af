"""What a card says of a reward is what the manifest of its rollouts says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runs import world
from trimtab.runs import read_groups
from trimtab.training.objectives.base import statistics


def test_a_card_and_a_manifest_say_the_same_of_a_reward(tmp_path: Path) -> None:
    facts = world.roll(tmp_path, rewards=[world.count_b])["rewards"]["count_b"]
    known = statistics(read_groups(tmp_path), "count_b")
    assert (known.n, known.least, known.most) == (facts["n"], facts["min"], facts["max"])
    assert known.mean == pytest.approx(facts["mean"], rel=1e-12)
    assert (known.std, known.within) == (facts["std"], facts["within_std"])
