"""The demonstration: its numbers on small known runs, its files, and a small real run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import shell, toys
from tests.needs import needs_asset
from trimtab.cli.demo import PAGE, PICTURE
from trimtab.demo.page import page, tinted
from trimtab.demo.plot import picture
from trimtab.demo.results import lines, sign_flips
from trimtab.demo.running import Demo, Outcome
from trimtab.demo.settings import Settings
from trimtab.demo.table import cells

SMALL = Settings(
    topics=("w5", "w6 w7"),
    n=2,
    best_n=1,
    draws=3,
    max_new_tokens=5,
    betas=(1.0, 4.0),
    value_betas=(1.0, 4.0),
    sweep_n=2,
)


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    lm = toys.language_model(base_temperature=SMALL.base_temperature)
    demo = Demo(lm, toys.value_guide(layers=2), SMALL)
    found = demo.run()
    assert demo.meter.done == demo.meter.total
    return found


def test_every_arm_and_strength_is_there(outcome: Outcome) -> None:
    sizes = {run.arm.name: len(run.completions) for run in outcome.arms}
    assert sizes == {"base": 4, "best-of-3": 2, "ARGS": 2, "ARGS stochastic": 4, "VAS": 4}
    for runs in outcome.curves.values():
        assert [run.beta for run in runs] == [1.0, 4.0]
        assert [run.prompts for run in runs] == [[p for p in SMALL.prompts for _ in "ab"]] * 2
    assert outcome.clocks.keys() == {1, 2}


def test_traces_join_to_the_texts(outcome: Outcome) -> None:
    for run in outcome.arms:
        firsts = run.completions[:: run.arm.n]
        for done, trace in zip(firsts, outcome.traces[run.arm.name], strict=True):
            assert "".join(piece for piece, _ in trace) == done.text
            assert len(trace) == len(done.tokens)


def test_the_table_says_what_is_known(outcome: Outcome) -> None:
    base, best, args, *_ = found = lines(outcome)
    assert base.gain is None
    assert base.kl is not None
    assert base.kl.mean == pytest.approx(0, abs=1e-5)
    assert base.guide == 0
    assert base.time == 1
    assert best.kl is None
    assert best.kl_bound == pytest.approx((1.0986 - 2 / 3) / best.length, rel=1e-3)
    assert args.kl is not None
    assert args.kl.mean > 0
    assert args.guide == pytest.approx(10)
    heads, *rows = cells(found)
    assert all(len(row) == len(heads) for row in rows)


def test_sign_flips_are_counted() -> None:
    assert sign_flips([1.0] * 8) == 2 / 256
    assert sign_flips([1.0, -1.0]) == 1


def test_the_page_is_whole_and_alone(outcome: Outcome) -> None:
    made = page(outcome, lines(outcome))
    assert made.count("<article>") == 10
    assert "http" not in made
    assert "<script" not in made
    assert 'name="viewport"' in made


def test_tints_escape_their_text() -> None:
    assert tinted("<b>", 0.0) == "&lt;b&gt;"
    assert tinted("<", -1.0) == '<i style="--c:var(--down);--a:.65" title="-1.00">&lt;</i>'


def test_the_picture_is_a_png(outcome: Outcome) -> None:
    assert picture(outcome).startswith(b"\x89PNG")


@pytest.mark.slow
@needs_asset("smollm2")
def test_a_small_real_demonstration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    small = ["--limit", "2", "-n", "2", "--max-new-tokens", "8", "--threads", "1"]
    result = shell.trimtab("demo", *small, "--out", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [PICTURE, PAGE]
    assert (tmp_path / "out" / PAGE).read_text().endswith("</html>\n")
    for name in ("base", "best-of-8", "ARGS", "VAS"):
        assert re.search(rf"^{name} .*±", result.output, re.MULTILINE)
    assert "paired by prompt (n = 2; p: exact sign-flip test, two-sided)" in result.output
