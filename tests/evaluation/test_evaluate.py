"""Evaluating: computed once, scored apart, failing on one text only, the same with any workers."""

from __future__ import annotations

import copy
import json
import os
import pickle
import signal
import threading
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

import trimtab as tt
from tests import toys
from tests.evaluation import worlds
from tests.evaluation.test_store import files
from trimtab.errors import (
    IncompatibleError,
    PromptError,
    ResultsError,
    RewardError,
    UnknownNameError,
    UsageError,
)
from trimtab.evaluation.evaluate import Evaluation, evaluate
from trimtab.evaluation.identity import function_fingerprint, identify, weights_fingerprint
from trimtab.evaluation.sources import GuideSource, Scorer
from trimtab.evaluation.tables import Table
from trimtab.evaluation.writers import to_json
from trimtab.protocols import LanguageModel
from trimtab.rewards.exact import exact
from trimtab.types import Sample

TASK = worlds.Letters()
GUIDE = GuideSource.on_prefixes(Scorer.of(worlds.count_b))
METHODS = [tt.greedy(), tt.sampling(), tt.args(1.0, k=2), tt.vas(2.0, k=2), tt.best_of_n(2)]


def run(folder: Path, task: Any = TASK, methods: Any = METHODS, **options: Any) -> Evaluation:
    options = {"guides": [GUIDE], "n": 4, "rows": 16} | options
    return evaluate(options.pop("lm", worlds.model()), task, methods, folder, **options)


def stamps(folder: Path) -> dict[Path, tuple[int, int]]:
    return {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in folder.rglob("*.json")}


# --- computed once -------------------------------------------------------------------------------


def test_a_second_run_computes_nothing(tmp_path: Path) -> None:
    first = run(tmp_path)
    before, tables = stamps(tmp_path / "units"), files(tmp_path / "tables")
    second = run(tmp_path)
    assert (first.reused, second.computed) == (0, 0)
    assert first.computed == second.reused > 10
    assert stamps(tmp_path / "units") == before
    assert files(tmp_path / "tables") == tables
    assert {"test.json", "test.csv", "test.md"} == set(tables)


def test_one_more_method_computes_only_that(tmp_path: Path) -> None:
    run(tmp_path)
    more = run(tmp_path, methods=[*METHODS, tt.vas(3.0, k=2)])
    assert more.computed == 3
    assert len(more.table.rows) == len(METHODS) + 1


def test_another_judge_computes_no_text(tmp_path: Path) -> None:
    run(tmp_path, task=replace(TASK, judge=None))
    judged = run(tmp_path, task=replace(TASK, judge=worlds.early))
    assert judged.computed == 0
    assert judged.table.row("sampling")["judge"] is not None


def test_methods_that_always_say_the_same_say_it_once(tmp_path: Path) -> None:
    table = run(tmp_path).table
    assert [row["n"] for row in table.rows] == [1, 4, 1, 4, 4]


# --- the figures ---------------------------------------------------------------------------------


def test_figures_equal_those_of_the_files(tmp_path: Path) -> None:
    row = run(tmp_path, methods=[tt.vas(2.0, k=2)]).table.rows[0]
    units = [json.loads(p.read_text()) for p in (tmp_path / "units").iterdir()]
    done = [c for unit in units for c in unit["completions"]]
    kl = [sum(c["steps"]["kl"]) for c in done]
    tokens = [len(c["steps"]["tokens"]) for c in done]
    assert row["responses"] == len(done) == 36
    assert row["reward"] == pytest.approx(np.mean([c["text"].count("b") for c in done]))
    assert row["kl"] == pytest.approx(np.mean(kl))
    assert row["kl_token"] == pytest.approx(sum(kl) / sum(tokens))
    assert row["length"] == pytest.approx(np.mean(tokens))
    assert row["guide_score"] == pytest.approx(np.mean([c["steps"]["score"][-1] for c in done]))


def test_rows_are_compared_with_the_baseline(tmp_path: Path) -> None:
    table = run(tmp_path).table
    base, vas = table.row("sampling"), table.row("vas(beta=2, k=2)")
    assert table.about["baseline"] == "sampling"
    assert base["reward_gain"] is None
    assert vas["reward_gain"] == pytest.approx(vas["reward"] - base["reward"])
    assert vas["reward_low"] <= vas["reward_gain"] <= vas["reward_high"]
    assert vas["reward_holm"] >= vas["reward_p"]
    named = run(tmp_path, baseline="greedy").table
    assert named.about["baseline"] == "greedy"
    with pytest.raises(UnknownNameError, match="did you mean sampling"):
        run(tmp_path, baseline="samplin")


def test_best_of_n_comes_from_the_samples(tmp_path: Path) -> None:
    table = run(tmp_path, n=16).table
    assert [row["n"] for row in table.best_of] == [1, 2, 4, 8, 16]
    rewards = [row["reward"] for row in table.best_of]
    assert rewards == sorted(rewards)
    assert rewards[0] == pytest.approx(table.row("sampling")["reward"])
    assert table.best_of[0]["kl"] == pytest.approx(0.0, abs=1e-9)
    # The method itself has the same law: its KL is that of the curve.
    assert table.row("best-of-n(n=2)")["kl"] == pytest.approx(table.best_of[1]["kl"])


def test_only_plain_sampling_draws_the_base_samples(tmp_path: Path) -> None:
    few = run(tmp_path, n=2, base_samples=8).table
    assert [row["n"] for row in few.rows] == [1, 8, 1, 2, 2]
    assert [row["n"] for row in few.best_of] == [1, 2, 4, 8]
    alone = run(tmp_path, methods=[tt.sampling()], n=8)
    assert alone.computed == 0, "the same samples as by n"


def test_a_transformer_is_named_by_its_weights_and_costed(tmp_path: Path) -> None:
    lm = toys.language_model()

    class Words(worlds.Letters):
        def samples(self, split: str) -> list[Sample]:
            return [Sample(f"w{i} w{i + 1}", f"w{i}") for i in range(5, 9)]

    guide = toys.value_guide()
    found = weights_fingerprint(guide.backbone)
    source = GuideSource.ready(guide, fingerprint=found)
    methods = [tt.sampling(), tt.vas(1.0, k=5)]
    table = run(tmp_path, Words(judge=None), methods, lm=lm, guides=[source]).table
    assert table.rows[0]["flops"] == 1.0
    vas = table.rows[1]
    assert vas["guide_tokens"] >= 5
    # The guide has the base's layers and no vocabulary: its tokens cost a little less.
    tokens = vas["guide_tokens"] / vas["base_tokens"]
    assert 1 + 0.7 * tokens < vas["flops"] < 1 + tokens
    assert identify(lm) == identify(toys.language_model())
    assert identify(lm) != identify(toys.language_model(seed=9))


def test_tables_write_the_same_bytes_and_no_nan() -> None:
    table = Table({"task": "t"}, ({"method": "m", "x": -0.0, "y": 1 / 3, "z": None},))
    said = json.loads(to_json(table))
    assert said["rows"] == [{"method": "m", "x": 0.0, "y": 0.333333, "z": None}]
    assert said["columns"] == ["method", "x", "y", "z"]


# --- rewards that compare with references --------------------------------------------------------


@dataclass(frozen=True)
class Answered(worlds.Letters):
    """Letters whose right answer is known."""

    reward: Any = exact
    reference: str | None = "b"

    def samples(self, split: str) -> list[Sample]:
        meta = {"reference": self.reference}
        return [replace(sample, meta=meta) for sample in super().samples(split)]


def test_scores_follow_the_references_and_texts_do_not(tmp_path: Path) -> None:
    first = run(tmp_path, Answered(), [tt.sampling()])
    units = files(tmp_path / "units")
    texts = [c["text"] for unit in units.values() for c in json.loads(unit)["completions"]]
    assert 0 < texts.count("b") < len(texts)
    assert first.table.rows[0]["reward"] == pytest.approx(texts.count("b") / len(texts))
    other = run(tmp_path, Answered(reference="c"), [tt.sampling()])
    assert (other.computed, files(tmp_path / "units")) == (0, units)
    assert other.table.rows[0]["reward"] == pytest.approx(texts.count("c") / len(texts))
    again = run(tmp_path, Answered(), [tt.sampling()])
    assert again.table.rows == first.table.rows


def test_the_same_references_are_scored_once(tmp_path: Path) -> None:
    run(tmp_path, Answered(), [tt.sampling()])
    before = stamps(tmp_path / "scores")
    run(tmp_path, Answered(), [tt.sampling()])
    assert stamps(tmp_path / "scores") == before


def test_a_missing_reference_is_said(tmp_path: Path) -> None:
    with pytest.raises(RewardError, match=r'needs meta\["reference"\]'):
        run(tmp_path, Answered(reference=None), [tt.greedy()])


def test_a_sum_by_name_measures_and_guides(tmp_path: Path) -> None:
    scorer = Scorer.named("2*words - 0.5*brevity")
    task = replace(TASK, reward=scorer.function)
    guides = [GuideSource.named("2*words - 0.5*brevity", worlds.model())]
    table = run(tmp_path, task, [tt.sampling(), tt.vas(2.0, k=2)], guides=guides).table
    assert table.about["reward"] == "2*words - 0.5*brevity"
    assert {row["guide"] for row in table.rows} == {None, "2*words - 0.5*brevity"}
    assert table.rows[0]["reward"] > 0


# --- rewards that fail ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reward", "why"), [(worlds.raises_on_c, "ValueError: two c's"), (worlds.nan_on_c, "nan")]
)
def test_a_failing_reward_names_the_text_and_the_rest_is_kept(
    tmp_path: Path, reward: Any, why: str
) -> None:
    task = replace(TASK, reward=reward, judge=worlds.early)
    with pytest.raises(RewardError, match=rf"{why} \(prompt 'b..', text '\w*cc\w*'\)") as error:
        run(tmp_path, task, methods=[tt.sampling()])
    assert "others are kept" in str(error.value)
    skipped = run(tmp_path, task, methods=[tt.sampling()], on_reward_error="skip")
    row = skipped.table.rows[0]
    assert skipped.computed == 0
    assert row["failed"] == len(skipped.failures) > 0
    assert row["judge"] is not None
    texts = [
        c["text"]
        for p in (tmp_path / "units").iterdir()
        for c in json.loads(p.read_text())["completions"]
    ]
    assert row["reward"] == pytest.approx(np.mean([t.count("b") for t in texts if "cc" not in t]))


def test_a_mended_reward_is_asked_only_for_what_failed(tmp_path: Path) -> None:
    asked: list[str] = []
    broken = True

    def reward(samples: Any, responses: Any) -> list[float]:
        asked.extend(responses)
        return [float("nan") if broken and "cc" in t else 0.0 for t in responses]

    task = replace(TASK, reward=reward, judge=None)
    with pytest.raises(RewardError):
        run(tmp_path, task, methods=[tt.sampling()])
    broken = False
    asked.clear()
    assert run(tmp_path, task, methods=[tt.sampling()]).computed == 0
    assert asked
    assert all("cc" in text for text in asked)


@pytest.mark.parametrize("scores", [[1.0, 2.0], ["x"] * 99, None])
def test_a_reward_of_the_wrong_form_is_a_reward_error(tmp_path: Path, scores: Any) -> None:
    with pytest.raises(RewardError, match="must return one finite number for each text"):
        run(tmp_path, replace(TASK, reward=lambda p, r: scores), methods=[tt.sampling()])


# --- bad input -----------------------------------------------------------------------------------


def test_what_cannot_be_meant_is_said_before_anything_is_decoded(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="must hold prompts"):
        run(tmp_path, split="train")
    with pytest.raises(UsageError, match="prompts must be at least 1"):
        run(tmp_path, prompts=0)
    with pytest.raises(UsageError, match="method 'args' needs a guide"):
        run(tmp_path, guides=[])
    with pytest.raises(UsageError, match="k must be at most"):
        run(tmp_path, methods=[tt.sampling(), tt.vas(1.0, k=50)])
    with pytest.raises(UsageError, match="n must be at least 1"):
        run(tmp_path, n=0)
    with pytest.raises(UsageError, match="there must be a method"):
        run(tmp_path, methods=[])
    assert not list((tmp_path / "units").iterdir())


def test_a_model_that_asks_otherwise_than_the_task_is_refused(tmp_path: Path) -> None:
    tokenizer = copy.deepcopy(toys.tokenizer())
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    lm = tt.TransformersLM(toys.causal_lm(), tokenizer)
    with pytest.raises(IncompatibleError, match="must be asked with template='none'"):
        run(tmp_path, lm=lm)


def test_two_rows_of_one_name_are_refused(tmp_path: Path) -> None:
    other = replace(GUIDE, fingerprint="another")
    with pytest.raises(UsageError, match="must differ in name"):
        run(tmp_path, guides=[GUIDE, other])


def test_a_prompt_that_occurs_twice_counts_once(tmp_path: Path) -> None:
    class Twice(worlds.Letters):
        def samples(self, split: str) -> list[Sample]:
            return super().samples(split) * 2

    assert run(tmp_path, Twice(), methods=[tt.greedy()]).table.rows[0]["prompts"] == 9


def test_functions_are_told_apart_by_text_and_bound_arguments() -> None:
    def one(samples: Any, responses: Any, weight: float = 1.0) -> Any:
        return responses

    def two(samples: Any, responses: Any) -> Any:
        return samples

    found = [one, two, partial(one, weight=2.0), partial(one, weight=3.0), sorted]
    assert len({function_fingerprint(f) for f in found}) == len(found)


# --- several processes ---------------------------------------------------------------------------


@pytest.mark.slow
def test_two_workers_share_the_work(tmp_path: Path) -> None:
    alone = run(tmp_path / "alone")
    shared = run(tmp_path / "shared", opener=worlds.model, workers=2)
    assert (shared.computed, shared.reused) == (alone.computed, 0)
    for part in ("units", "scores", "tables", "cells"):
        assert files(tmp_path / "alone" / part) == files(tmp_path / "shared" / part)


def test_workers_need_a_way_to_open_the_model(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="pass a function that opens it"):
        run(tmp_path, workers=2)
    with pytest.raises(UsageError, match="must be picklable"):
        run(tmp_path, opener=lambda: tt.TableLM(size=4, seed=3), workers=2)


def deadly() -> LanguageModel[Any]:
    """A model that kills the worker that opens it."""
    os.kill(os.getpid(), signal.SIGKILL)
    return worlds.model()


@pytest.mark.slow
def test_a_worker_that_is_killed_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="workers must live"):
        run(tmp_path, opener=deadly, workers=2)
    assert run(tmp_path).computed > 0


def test_errors_survive_the_way_from_a_worker() -> None:
    for error in (
        UsageError("it must hold", got="less", do="more"),
        UnknownNameError("a method", "vaz", ["vas"]),
    ):
        back = pickle.loads(pickle.dumps(error))  # noqa: S301  (our own bytes)
        assert (type(back), str(back), back.do) == (type(error), str(error), error.do)


def test_a_unit_that_another_process_works_on_is_waited_for(tmp_path: Path) -> None:
    reference = run(tmp_path / "reference", methods=[tt.sampling()])
    store_folder = tmp_path / "shared"
    run(store_folder, methods=[tt.greedy()])
    key = json.loads((tmp_path / "reference" / "cells").glob("*").__next__().read_text())["units"][
        0
    ]
    held = FileLock(store_folder / "locks" / key, thread_local=False)
    held.acquire()
    release = threading.Timer(0.6, held.release)
    release.start()
    started = time.monotonic()
    shared = run(store_folder, methods=[tt.sampling()])
    release.join()
    assert time.monotonic() - started >= 0.5
    assert shared.computed == reference.computed
