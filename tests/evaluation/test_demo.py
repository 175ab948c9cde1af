"""The demonstration: its rows and files on a toy model, and a small real run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import trimtab as tt
from tests import toys
from tests.needs import needs_asset
from tests.shell import trimtab
from trimtab.evaluation.demo import BASE_TEMPERATURE, Demo, Opinions
from trimtab.evaluation.experiment import Evaluation
from trimtab.evaluation.results import read_results
from trimtab.evaluation.words import curves
from trimtab.rewards.sentiment import sentiment

SMALL = Demo(
    ("w5", "w6 w7"),
    value=toys.value_guide(layers=2),
    n=2,
    draws=3,
    beta=4.0,
    betas=(1.0, 4.0),
    value_beta=4.0,
    value_betas=(1.0, 4.0),
    max_new_tokens=5,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def done(folder: Path) -> Evaluation:
    return SMALL.run(toys.language_model(base_temperature=BASE_TEMPERATURE), folder)


def test_every_way_and_strength_is_a_row(done: Evaluation, folder: Path) -> None:
    sizes = {str(row["method"]): row["responses"] for row in done.table.rows}
    assert sizes == {
        "sampling": 16,
        "best-of-n(n=3)": 2,
        "args(beta=4)": 2,
        "args-stochastic(beta=4, temperature=1.0)": 4,
        "vas(beta=4, k=10)": 4,
    }
    assert done.computed == 0, "the table of all strengths has them all"
    results = read_results(folder)
    assert (results.head.about["split"], results.grid.about["split"]) == ("test", "all")
    assert [curve.name for curve in curves(results.grid)] == [
        "args-stochastic(temperature=1.0) by sentiment",
        "vas(k=10) by value",
    ]
    assert [clock.base for clock in done.times] == ["sampling"] * len(sizes)


def test_the_table_says_what_is_known(done: Evaluation) -> None:
    base, best, args, *_ = done.table.rows
    assert base["kl"] == pytest.approx(0, abs=1e-4)
    assert base["guide_tokens"] == 0
    assert base["reward_gain"] is None
    assert best["kl"] is not None, "from the base's samples"
    assert args["guide_tokens"] == pytest.approx(10)
    assert {row["reward_p"] is None for row in done.table.rows[1:]} == {False}


def test_the_page_and_the_picture_are_there(done: Evaluation, folder: Path) -> None:
    page, *files = tt.report(folder)
    assert "trimtab" in page.read_text()
    assert {"gain.png", "frontier.png", "strength.png"} < {path.name for path in files}


def test_topics_are_asked_in_every_split() -> None:
    task = Opinions(("tea",), sentiment, 4)
    (sample,) = task.samples("test")
    assert task.samples("train") == (sample,)
    assert "tea" in sample.text
    assert sample.topic == "tea"


@pytest.mark.slow
@needs_asset("smollm2")
def test_a_small_real_demonstration(tmp_path: Path) -> None:
    small = ["--limit", "2", "-n", "2", "--max-new-tokens", "8", "--threads", "1"]
    done = trimtab("demo", *small, "--out", str(tmp_path / "out"))
    assert done.exit_code == 0, done.stderr
    for name in ("sampling", "best-of-8", "args", "vas"):
        assert re.search(rf"^\| {name}.* ± ", done.stdout, re.MULTILINE)
    assert "What is the gain?" in done.stdout
    assert "2 prompts: not beyond noise (Wilcoxon with Holm's correction: p = 1)" in done.stdout
    assert (tmp_path / "out" / "report" / "report.html").read_text().endswith("</html>\n")
