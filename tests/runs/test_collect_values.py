"""Validation labels: half a response, completed, and the whole text rewarded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import trimtab as tt
from tests import toys
from tests.runs import world
from tests.runs.world import files, roll
from trimtab.errors import DataError, IncompatibleError
from trimtab.runs import collect, collect_values, read_groups, read_manifest
from trimtab.runs.record import Row
from trimtab.runs.values import halves
from trimtab.types import Group, Prompt, Response, Sample


def values(responses: Any, folder: Path, **options: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "rewards": [world.count_b],
        "completions": 10,
        "max_new_tokens": 6,
        "rows": 30,
    }
    return collect_values(world.model(), responses, folder, **(usual | options))


# --- what is cut ---------------------------------------------------------------------------------


def row(*lengths: int, prefix: tuple[int, ...] = ()) -> Row:
    responses = tuple(Response((*range(5, 4 + n), 0), "", "eos") for n in lengths)
    return Row("x", Group(Prompt((1, 2)), responses, "t", prefix))


def test_a_response_is_cut_half_way_and_never_after_its_end() -> None:
    found = [halves([row(n)], 16)[0] for n in range(2, 9)]
    assert [len(item.prefix) for item in found] == [1, 1, 2, 2, 3, 3, 4]
    assert [item.room for item in found] == [15, 15, 14, 14, 13, 13, 12]
    assert all(0 not in item.prefix for item in found)
    assert found[4].read.ids == (1, 2, 5, 6, 7)


def test_single_tokens_and_doubles_are_passed_over() -> None:
    assert [len(i.prefix) for i in halves([row(1, 4, 5, 9, 9)], 16, per_prompt=9)] == [2, 4]
    assert [len(i.prefix) for i in halves([row(1, 4, 9)], 16)] == [2]
    assert [len(i.prefix) for i in halves([row(12, 4)], 5)] == [2]  # no room after six tokens
    with pytest.raises(DataError, match="responses of two tokens"):
        halves([row(1)], 16)
    with pytest.raises(DataError, match="must begin at the prompt"):
        halves([row(4, prefix=(3,))], 16)


# --- labels --------------------------------------------------------------------------------------


def test_the_label_is_the_mean_reward_of_whole_texts(tmp_path: Path) -> None:
    roll(tmp_path / "rollouts")
    manifest = values(tmp_path / "rollouts", tmp_path / "values")
    lm, cut = world.model(), {g.prompt.ids: g for g in read_groups(tmp_path / "rollouts")}
    groups = read_groups(tmp_path / "values")
    assert groups
    assert manifest["about"]["kind"] == "values"
    for group in groups:
        source = next(r for r in cut[group.prompt.ids].responses if len(r.tokens) > 1)
        assert group.prefix == source.tokens[: len(source.tokens) // 2]
        assert len(group.responses) == 10
        for response in group.responses:
            assert response.text == lm.decode(group.prefix + response.tokens)
            assert response.rewards["count_b"] == response.text.count("b")
            assert 0 < len(response.tokens) <= 6 - len(group.prefix)
            assert len(response.logprobs) == len(response.tokens)
            ended = response.tokens[-1] == 0
            assert response.finish == ("eos" if ended else "length")
            assert ended or len(response.tokens) == 6 - len(group.prefix)
        label = sum(r.text.count("b") for r in group.responses) / 10
        assert group.mean("count_b") == pytest.approx(label)


def test_completions_are_those_of_the_prefix_alone_whatever_its_batch_mates(tmp_path: Path) -> None:
    roll(tmp_path / "rollouts")
    values(tmp_path / "rollouts", tmp_path / "values")
    lm = world.model()
    for group in read_groups(tmp_path / "values"):
        alone = tt.decode(
            lm,
            None,
            tt.sampling(),
            [Prompt(group.prompt.ids + group.prefix)],
            n=10,
            max_new_tokens=6 - len(group.prefix),
        )
        assert [c.tokens for c in alone] == [r.tokens for r in group.responses]
        assert [c.finish for c in alone] == [r.finish for r in group.responses]


def test_labels_are_near_the_enumerated_value(tmp_path: Path) -> None:
    """With 400 completions the mean misses the exact value by 5 standard errors about never."""
    lm = tt.TableLM(size=3, seed=1)
    asked = [Sample("a", "a"), Sample("b", "b"), Sample("ab", "ab")]
    collect_values(
        lm, asked, tmp_path, rewards=[world.count_b], completions=400, max_new_tokens=5, rows=400
    )
    groups = read_groups(tmp_path)
    assert groups
    for group in groups:
        exact = value(lm, group.prompt.ids, group.prefix, 5)
        scores = [r.rewards["count_b"] for r in group.responses]
        mean = group.mean("count_b")
        error = (sum((x - mean) ** 2 for x in scores) / 399 / 400) ** 0.5
        assert abs(mean - exact) <= 5 * error + 1e-9


def value(lm: tt.TableLM, prompt: Sequence[int], prefix: tuple[int, ...], budget: int) -> float:
    """E[number of b's], by enumeration."""
    if len(prefix) == budget or (prefix and prefix[-1] == 0):
        return float(lm.decode(prefix).count("b"))
    law = lm.next_logprobs((*prompt, *prefix)).exp().tolist()
    return sum(p * value(lm, prompt, (*prefix, v), budget) for v, p in enumerate(law))


def test_responses_are_generated_where_none_are_named(tmp_path: Path) -> None:
    values(world.samples(), tmp_path / "values", per_prompt=2, seed=4)
    roll(tmp_path / "rollouts", n=2, seed=4, rows=30, rewards=[])
    assert files(tmp_path / "values" / "halves") == files(tmp_path / "rollouts")
    values(tmp_path / "rollouts", tmp_path / "from", per_prompt=2, seed=4)
    assert read_groups(tmp_path / "values") == read_groups(tmp_path / "from")
    counts = Counter(group.prompt.ids for group in read_groups(tmp_path / "from"))
    assert max(counts.values()) == 2


def test_the_whole_text_of_a_transformer_has_its_prefix(tmp_path: Path) -> None:
    lm = toys.language_model(vocabulary=12)
    asked = [Sample(f"w{i} w{i + 1}", f"w{i}") for i in range(2, 8)]
    collect_values(lm, asked, tmp_path, completions=3, max_new_tokens=10, rows=9)
    for group in read_groups(tmp_path):
        start = lm.decode(group.prefix)
        assert all(r.text.startswith(start) for r in group.responses)
        assert all("w0" not in r.text for r in group.responses)


def test_what_was_interrupted_goes_on_with_the_same_bytes(tmp_path: Path) -> None:
    values(world.samples(), tmp_path / "whole", rows=10)
    folder = tmp_path / "stopped"

    def stop(progress: Any) -> None:
        if progress.done >= 15 and progress.total > 9:  # among the completions
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        values(world.samples(), folder, rows=10, on=stop)
    assert not read_manifest(folder)["complete"]
    assert len(list((folder / "records").iterdir())) == 1
    values(world.samples(), folder, rows=10)
    assert files(folder) == files(tmp_path / "whole")


# --- what does not fit ---------------------------------------------------------------------------


def test_folders_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    roll(tmp_path / "rollouts")
    with pytest.raises(DataError, match="must hold a validation set, or nothing; got rollouts"):
        values(world.samples(), tmp_path / "rollouts")
    values(tmp_path / "rollouts", tmp_path / "values")
    with pytest.raises(DataError, match="plain rollouts"):
        values(tmp_path / "values", tmp_path / "twice")
    with pytest.raises(DataError, match=r"about\.n 10 \(now 4\)"):
        values(tmp_path / "rollouts", tmp_path / "values", completions=4)
    lm = toys.language_model()
    collect(lm, [Sample("w3", "w3")], tmp_path / "other", n=2, max_new_tokens=4)
    with pytest.raises(IncompatibleError, match="collect them with this base"):
        values(tmp_path / "other", tmp_path / "never")
    assert not (tmp_path / "never").exists()
