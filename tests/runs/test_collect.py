"""Rollouts: what a group holds, what the manifest says, whose folder it is."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch

import trimtab as tt
from tests import toys
from tests.runs import world
from tests.runs.world import files, roll
from trimtab.decoding.loop import decode
from trimtab.errors import DataError, PromptError, UnknownNameError, UsageError
from trimtab.runs import Processes, collect, read_groups, read_manifest
from trimtab.runs.batches import Condition, Item, Policy
from trimtab.runs.identity import identify
from trimtab.runs.resolve import GuideSource
from trimtab.runs.rollouts import items_of
from trimtab.runs.store import Store
from trimtab.runs.worker import Work
from trimtab.types import Prompt, Sample

# --- what a group holds --------------------------------------------------------------------------


def test_groups_are_what_the_decode_loop_says_in_the_order_of_the_prompts(tmp_path: Path) -> None:
    roll(tmp_path)
    lm, groups = world.model(), read_groups(tmp_path)
    assert [g.prompt.text for g in groups] == [s.prompt for s in world.samples()]
    assert [g.topic for g in groups] == [s.topic for s in world.samples()]
    asked = [g.prompt for g in groups]
    done = decode(lm, None, tt.sampling(), asked, n=3, max_new_tokens=6)
    for group, i in zip(groups, range(0, len(done), 3), strict=True):
        assert len(group.responses) == 3
        for response, expected in zip(group.responses, done[i : i + 3], strict=True):
            assert (response.tokens, response.text) == (expected.tokens, expected.text)
            assert response.finish == expected.finish
            assert response.rewards == {"count_b": float(expected.text.count("b"))}


def test_behaviour_logprobs_are_log_pi_ref_recomputed(tmp_path: Path) -> None:
    lm = toys.language_model(vocabulary=12, base_temperature=0.7)
    asked = [Sample(f"w{i} w{i + 1}" + " w9" * (i % 4), f"w{i}") for i in range(2, 11)]
    collect(lm, asked, tmp_path, n=4, max_new_tokens=12, rows=8)
    ended = set()
    for group in read_groups(tmp_path):
        for response in group.responses:
            ids = torch.tensor([group.prompt.ids + response.tokens])
            with torch.inference_mode():
                law = (lm.model(ids).logits[0].float() / 0.7).log_softmax(-1)
            start = len(group.prompt.ids) - 1
            at = torch.arange(start, start + len(response.tokens))
            expected = law[at, torch.tensor(response.tokens)]
            torch.testing.assert_close(
                torch.tensor(response.logprobs), expected, atol=2e-4, rtol=1e-4
            )
            ended.add(response.finish)
            assert (response.finish == "eos") == (response.tokens[-1] == toys.EOS)
    assert ended == {"eos", "length"}


def test_a_guided_method_gives_the_log_probabilities_of_its_own_law(tmp_path: Path) -> None:
    lm, guide = world.model(), toys.TableGuide()
    method = tt.vas(beta=2.0, k=2)
    source = GuideSource.ready(guide)
    manifest = roll(tmp_path, method=method, guide=source)
    assert manifest["about"]["guide"] == {"name": "table", "fingerprint": source.fingerprint}
    assert manifest["about"]["method"]["beta"] == 2.0
    groups = read_groups(tmp_path)
    done = decode(lm, guide, method, [g.prompt for g in groups], n=3, max_new_tokens=6)
    for response, expected in zip([r for g in groups for r in g.responses], done, strict=True):
        assert sum(response.logprobs) == pytest.approx(expected.logprob, abs=1e-5)
    assert any(
        sum(r.logprobs) != pytest.approx(d.ref_logprob, abs=1e-3)
        for r, d in zip([r for g in groups for r in g.responses], done, strict=True)
    )


def test_chosen_blocks_have_no_log_probabilities_of_tokens(tmp_path: Path) -> None:
    source = GuideSource.ready(toys.TableGuide())
    roll(tmp_path, method=tt.cd_blockwise(n=2, length=3), guide=source, n=2)
    assert all(r.logprobs == () for g in read_groups(tmp_path) for r in g.responses)


def test_a_method_that_always_says_the_same_says_it_once(tmp_path: Path) -> None:
    manifest = roll(tmp_path, method=tt.greedy())
    assert manifest["about"]["n"] == 1
    assert manifest["counts"]["responses"] == 9


def test_a_prompt_that_occurs_twice_is_asked_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "trimtab"):
        collect(world.model(), world.samples() + world.samples()[:1], tmp_path, n=1)
    assert len(read_groups(tmp_path)) == 9
    assert "1 were passed over" in caplog.text


def test_a_limit_takes_the_first_prompts(tmp_path: Path) -> None:
    roll(tmp_path, limit=2)
    assert [g.prompt.text for g in read_groups(tmp_path)] == [s.prompt for s in world.samples()[:2]]


def test_rewards_see_what_is_known_of_a_sample(tmp_path: Path) -> None:
    roll(tmp_path, rewards=[world.weights])
    for i, group in enumerate(read_groups(tmp_path)):
        for response in group.responses:
            assert response.rewards == {"weights": i * len(response.text) / 3}


def test_rewards_see_a_text_as_text_and_a_conversation_as_one(tmp_path: Path) -> None:
    seen: list[Any] = []

    def note(samples: list[Sample], responses: list[str]) -> list[float]:
        seen.extend(s.prompt for s in samples)
        return [0.0] * len(responses)

    talk = ({"role": "system", "content": "w4"}, {"role": "user", "content": "w5"})

    class Talking(tt.TableLM):
        def encode(self, prompt: Any) -> Prompt:
            if isinstance(prompt, Prompt):
                return prompt
            if isinstance(prompt, str):
                return Prompt((1,), prompt, ({"role": "user", "content": prompt},))
            return Prompt((2,), prompt[-1]["content"], tuple(prompt))

    collect(
        Talking(),
        [Sample("plain", "a"), Sample(talk, "b")],
        tmp_path,
        rewards=[cast("Any", note)],
        n=1,
    )
    assert sorted(map(str, seen)) == sorted(map(str, ["plain", talk]))
    assert read_groups(tmp_path)[1].prompt.messages == talk


def test_prompts_methods_and_guides_may_be_named(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("ab\nb\nba\n")
    named: dict[str, Any] = {"method": "best-of-n", "guide": "words", "rewards": ["length"]}
    manifest = collect(world.model(), path, tmp_path / "out", n=2, max_new_tokens=4, **named)
    assert manifest["about"]["prompts"]["source"] == f"{path}/all"
    assert manifest["about"]["guide"]["name"] == "words"
    assert [g.prompt.text for g in read_groups(tmp_path / "out")] == ["ab", "b", "ba"]
    with pytest.raises(UnknownNameError, match="did you mean sentiment"):
        collect(world.model(), "sentimant", tmp_path / "never")


# --- the cut -------------------------------------------------------------------------------------


def a_condition(count: int, rows: int = 48, **changes: Any) -> Condition:
    prompts = [Prompt((1,) * (1 + i % 7)) for i in range(count)]
    items = tuple(Item(f"{i}", p, Sample("", "t")) for i, p in enumerate(prompts))
    policy = Policy(identify(world.model()), tt.sampling(), n=12)
    return Condition("x", "", replace(policy, **changes), items, rows)


@pytest.mark.parametrize(("count", "batches", "size"), [(1, 1, 1), (9, 3, 4), (5000, 1250, 4)])
def test_every_prompt_is_in_one_batch_and_the_longest_are_decoded_first(
    tmp_path: Path, count: int, batches: int, size: int
) -> None:
    condition = a_condition(count)
    assert len(condition.batches) == batches
    assert max(len(batch.items) for batch in condition.batches) == size
    found = [item for batch in condition.batches for item in batch.items]
    assert tuple(found) == condition.items
    order = Work(tmp_path, condition.batches).missing(Store(tmp_path))
    lengths = [max(len(item.prompt.ids) for item in batch.items) for batch in order]
    assert lengths == sorted(lengths, reverse=True)  # whether memory suffices shows at once


def test_numbers_below_one_are_refused() -> None:
    with pytest.raises(UsageError, match="n must be at least 1; got 0"):
        a_condition(1, n=0)
    with pytest.raises(UsageError, match="rows must be at least 1; got 0"):
        a_condition(1, rows=0)
    for name in ("workers", "threads"):
        with pytest.raises(UsageError, match=f"{name} must be at least 1; got 0"):
            Processes(**{name: 0})
    with pytest.raises(UsageError, match="limit must be at least 1"):
        items_of(world.model(), world.samples(), limit=0)
    with pytest.raises(PromptError, match="there must be prompts"):
        items_of(world.model(), [])


def test_what_the_call_lacks_is_said_before_a_folder_is_made(tmp_path: Path) -> None:
    folder = tmp_path / "rollouts"
    with pytest.raises(UsageError, match="needs a guide"):
        roll(folder, method=tt.vas())
    with pytest.raises(UsageError, match="'count_b' twice"):
        roll(folder, rewards=[world.count_b, world.count_b])
    with pytest.raises(UsageError, match="did you mean sentiment"):
        roll(folder, rewards=["sentimant"])
    with pytest.raises(UsageError, match="open the model themselves"):
        roll(folder, processes=Processes(2))
    assert not folder.exists()


# --- the folder ----------------------------------------------------------------------------------


def test_the_manifest_has_what_is_needed_to_repeat_it(tmp_path: Path) -> None:
    manifest = roll(tmp_path, seed=5, source="letters/train")
    about = manifest["about"]
    assert {k: about[k] for k in ("kind", "n", "seed", "max_new_tokens", "rows", "threads")} == {
        "kind": "rollouts",
        "n": 3,
        "seed": 5,
        "max_new_tokens": 6,
        "rows": 6,
        "threads": 1,
    }
    assert about["model"]["base_temperature"] == 1.0
    assert about["model"]["weights"]
    assert about["method"]["name"] == "sampling"
    assert about["prompts"]["source"] == "letters/train"
    assert len(about["prompts"]["sha256"]) == 64
    counts, responses = manifest["counts"], [r for g in read_groups(tmp_path) for r in g.responses]
    assert counts["tokens"] == sum(len(r.tokens) for r in responses)
    assert sum(counts["finish"].values()) == counts["responses"] == 27
    facts = manifest["rewards"]["count_b"]
    scores = torch.tensor(
        [[r.rewards["count_b"] for r in g.responses] for g in read_groups(tmp_path)]
    )
    assert facts["mean"] == pytest.approx(scores.mean().item())
    assert facts["std"] == pytest.approx(scores.std().item())
    assert facts["within_std"] == pytest.approx(scores.var(dim=1).mean().sqrt().item())
    assert manifest == json.loads((tmp_path / "manifest.json").read_text())


def test_the_same_call_does_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    roll(tmp_path)
    before = files(tmp_path)
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.parquet")}
    roll(tmp_path)
    assert files(tmp_path) == before
    assert stamps == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.parquet")}
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "conditions",
        "manifest.json",
        "records",
        "scores",
    ]


def test_two_runs_are_the_same_bytes(tmp_path: Path) -> None:
    roll(tmp_path / "a")
    roll(tmp_path / "b")
    assert files(tmp_path / "a") == files(tmp_path / "b")


@pytest.mark.parametrize("finished", [True, False])
def test_a_folder_of_another_job_is_refused_and_the_difference_named(
    tmp_path: Path, finished: bool
) -> None:
    roll(tmp_path)
    if not finished:
        world.records(tmp_path)[1].unlink()
        path = tmp_path / "manifest.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"complete": False}))
    before = files(tmp_path)
    with pytest.raises(DataError, match=r"about\.seed 0 \(now 1\)"):
        roll(tmp_path, seed=1)
    with pytest.raises(DataError, match=r"about\.n 3 \(now 2\)"):
        roll(tmp_path, n=2)
    with pytest.raises(DataError, match=r"about\.prompts\.count 9 \(now 2\)"):
        roll(tmp_path, limit=2)
    source = GuideSource.ready(toys.TableGuide())
    with pytest.raises(DataError, match=r"about\.method\.beta"):
        roll(tmp_path, method=tt.vas(k=2), guide=source)
    with pytest.raises(DataError, match="reward no_cc None .*--relabel adds rewards"):
        roll(tmp_path, rewards=[world.count_b, world.no_cc])
    with pytest.raises(DataError, match=r"about\.model\.weights"):
        collect(tt.TableLM(4, seed=9), world.samples(), tmp_path, rewards=[world.count_b], n=3)
    assert files(tmp_path) == before
    roll(tmp_path, source="the same prompts, called otherwise")
    assert read_manifest(tmp_path)["complete"]


def test_a_finished_folder_may_hold_more_rewards_than_are_asked_for(tmp_path: Path) -> None:
    roll(tmp_path, rewards=[world.count_b, world.weights])
    assert set(roll(tmp_path, rewards=[world.weights])["rewards"]) == {"count_b", "weights"}


def test_a_file_that_was_lost_is_made_again(tmp_path: Path) -> None:
    roll(tmp_path)
    before = files(tmp_path)
    world.records(tmp_path)[2].unlink()
    roll(tmp_path)
    assert files(tmp_path) == before
