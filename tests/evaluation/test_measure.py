"""One record: what was collected is measured, and what was measured trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import trimtab as tt
from tests.evaluation import worlds
from tests.evaluation.test_experiment import run
from tests.runs import world
from trimtab import report
from trimtab.errors import ResultsError, UnknownNameError
from trimtab.evaluation.table import measure
from trimtab.runs import collect, read_groups, read_manifest, write_groups
from trimtab.training.data import base_temperature

FIGURES = ("reward", "reward_se", "judge", "kl", "length", "eos", "perplexity", "base_tokens")


def test_a_folder_is_measured_as_when_it_was_evaluated(tmp_path: Path) -> None:
    table = run(tmp_path).table
    again = measure(tmp_path)
    assert {row["method"] for row in again.rows} == {row["method"] for row in table.rows}
    for row in table.rows:
        assert again.row(str(row["method"])) == row
    assert again.best_of == table.best_of
    assert again.about["reward"] == "count_b"
    assert again.about["judge"] == "early"


def test_what_was_collected_is_measured_like_what_was_evaluated(tmp_path: Path) -> None:
    row = run(tmp_path / "results", methods=[tt.sampling()]).table.rows[0]
    samples = worlds.Letters().samples("test")
    rewards = [worlds.count_b, worlds.early]
    folder = tmp_path / "rollouts"
    collect(worlds.model(), samples, folder, rewards=rewards, n=4, max_new_tokens=6)
    table = measure(folder, reward="count_b", judge="early")
    for name in FIGURES:
        assert table.rows[0][name] == pytest.approx(row[name], rel=1e-6), name
    assert table.rows[0]["method"] == "sampling"
    with pytest.raises(UnknownNameError, match="known: count_b, early"):
        measure(folder)


def test_what_was_collected_has_a_report(tmp_path: Path) -> None:
    samples = worlds.Letters().samples("test")
    rewards = [worlds.count_b]
    collect(worlds.model(), samples, tmp_path / "in", rewards=rewards, n=2, max_new_tokens=6)
    before = sorted((tmp_path / "in").rglob("*"))
    written = {path.name for path in report(tmp_path / "in", tmp_path / "out")}
    assert {"report.html", "report.md", "all.csv", "best-of-n.csv"} <= written
    assert sorted((tmp_path / "in").rglob("*")) == before


def test_finish_reasons_are_shares(tmp_path: Path) -> None:
    row: Any = run(tmp_path).table.row("sampling")
    reasons = [r.finish for group in read_groups(tmp_path) for r in group.responses]
    assert row["eos"] + row["length_cut"] + row["stop"] == pytest.approx(1.0)
    assert 0 < row["eos"] == pytest.approx(reasons.count("eos") / len(reasons))


def test_only_what_is_finished_is_measured(tmp_path: Path) -> None:
    run(tmp_path)
    (sampling,) = [c for c in world.conditions(tmp_path) if c["label"] == "sampling"]
    (tmp_path / "records" / f"{sampling['batches'][0]}.parquet").unlink()
    assert "sampling" not in {row["method"] for row in measure(tmp_path).rows}
    for path in (tmp_path / "records").iterdir():
        path.unlink()
    with pytest.raises(ResultsError, match="a table needs a finished condition"):
        measure(tmp_path)
    with pytest.raises(ResultsError, match="must be complete"):
        read_groups(tmp_path)


def test_text_that_was_given_cannot_be_measured(tmp_path: Path) -> None:
    from trimtab.errors import DataError
    from trimtab.types import Group, Prompt, Response

    response = Response((1, 0), "a", rewards={"mine": 1.0})
    write_groups(tmp_path, [Group(Prompt((1,), "a"), (response,), "t")])
    with pytest.raises(DataError, match="must have its ledger"):
        measure(tmp_path)


def test_what_was_evaluated_trains(tmp_path: Path) -> None:
    run(tmp_path)
    groups = read_groups(tmp_path)
    assert [g.prompt.text for g in groups] == [s.prompt for s in worlds.Letters().samples("test")]
    responses = [r for g in groups for r in g.responses]
    assert len(responses) == 9 * 4
    for response in responses:
        assert response.rewards["count_b"] == response.text.count("b")
        assert set(response.rewards) == {"count_b", "early"}
        assert response.kl == pytest.approx(0.0, abs=1e-6)  # the base's own samples
        assert len(response.logprobs) == len(response.tokens)
    about = read_manifest(tmp_path)["about"]
    assert about["kind"] == "evaluation"
    assert base_temperature([about]) == 1.0


def test_a_condition_is_named_by_its_title_or_label(tmp_path: Path) -> None:
    run(tmp_path)
    steered: Any = {name: read_groups(tmp_path, name) for name in (
        "vas(beta=2, k=2)", "vas(beta=2, k=2) by count_b", "vas(beta=2, k=2)/test"
    )}  # fmt: skip
    assert len({id(groups) for groups in steered.values()}) == 3
    assert len(set(map(repr, steered.values()))) == 1
    assert any(r.kl for g in steered["vas(beta=2, k=2)"] for r in g.responses)
    with pytest.raises(UnknownNameError, match=r"did you mean vas\(beta=2, k=2\) by count_b/test"):
        read_groups(tmp_path, "vas(beta=3, k=2) by count_b/test")


def test_several_conditions_without_a_plain_one_are_listed(tmp_path: Path) -> None:
    run(tmp_path, methods=[tt.greedy(), tt.args(1.0, k=2)])
    with pytest.raises(UnknownNameError, match=r"greedy/test.*name one of them as condition="):
        read_groups(tmp_path)
    run(tmp_path, methods=[tt.sampling()])
    run(tmp_path, methods=[tt.sampling()], split="validation")
    with pytest.raises(UnknownNameError, match="sampling/test, sampling/validation"):
        read_groups(tmp_path)
    assert len(read_groups(tmp_path, "sampling/validation")) == 9


def test_guides_methods_and_tasks_may_be_named(tmp_path: Path) -> None:
    table = run(tmp_path, methods=["sampling", "best-of-n"], guides=["words"], n=2).table
    assert [(row["method"], row["guide"]) for row in table.rows] == [
        ("sampling", None),
        ("best-of-n", "words"),
    ]
    with pytest.raises(UnknownNameError, match="did you mean words"):
        run(tmp_path, methods=[tt.vas()], guides=["wordz"])


def test_alternatives_are_kept_with_their_text_and_change_no_token(tmp_path: Path) -> None:
    lm = worlds.model()
    run(tmp_path / "none", alternatives=0)
    run(tmp_path / "some")
    for name in ("sampling", "vas(beta=2, k=2)"):
        bare = [r for g in read_groups(tmp_path / "none", name) for r in g.responses]
        some = [r for g in read_groups(tmp_path / "some", name) for r in g.responses]
        assert [(r.tokens, r.logprobs) for r in bare] == [(r.tokens, r.logprobs) for r in some]
        for response in some:
            assert response.ledger is not None
            for step in response.ledger.alternatives:
                assert all(one.text == lm.decode((one.token,)) for one in step)
                assert [a.logprob for a in step] == sorted((a.logprob for a in step), reverse=True)
