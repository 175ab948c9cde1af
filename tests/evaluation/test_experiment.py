"""Evaluating: computed once, scored apart, failing on one text only, the same with any workers."""

from __future__ import annotations

import copy
import itertools
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
from tests.runs import pairs
from tests.runs.test_store import files
from trimtab.errors import (
    IncompatibleError,
    PromptError,
    ResultsError,
    RewardError,
    UnknownNameError,
    UsageError,
)
from trimtab.evaluation.experiment import Evaluation, evaluate, items_of
from trimtab.evaluation.report import compose
from trimtab.evaluation.results import read_results
from trimtab.evaluation.table import Table
from trimtab.protocols import LanguageModel
from trimtab.rewards.similarity import exact
from trimtab.runs.batches import Condition, Policy
from trimtab.runs.identity import identify
from trimtab.runs.processes import Processes
from trimtab.runs.resolve import GuideSource, find_guide, find_reward
from trimtab.types import Sample

TASK = worlds.Letters()
GUIDE = GuideSource.on_prefixes(find_reward(worlds.count_b))
METHODS = [tt.greedy(), tt.sampling(), tt.args(1.0, k=2), tt.vas(2.0, k=2), tt.best_of_n(2)]


def run(folder: Path, task: Any = TASK, methods: Any = METHODS, **options: Any) -> Evaluation:
    options = {"guides": [GUIDE], "n": 4, "rows": 16} | options
    return evaluate(options.pop("lm", worlds.model()), task, methods, folder, **options)


def stamps(folder: Path) -> dict[Path, tuple[int, int]]:
    return {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}


# --- computed once -------------------------------------------------------------------------------


def test_a_second_run_computes_nothing(tmp_path: Path) -> None:
    first = run(tmp_path)
    before, tables = stamps(tmp_path / "records"), files(tmp_path / "tables")
    second = run(tmp_path)
    assert (first.reused, second.computed) == (0, 0)
    assert first.computed == second.reused > 10
    assert stamps(tmp_path / "records") == before
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
    done = worlds.recorded(tmp_path)
    ledgers = [r.ledger for r in done if r.ledger is not None]
    kl = [sum(x for x in ledger.kl if x is not None) for ledger in ledgers]
    tokens = [len(r.tokens) for r in done]
    assert row["responses"] == len(done) == 36
    assert row["reward"] == pytest.approx(np.mean([r.text.count("b") for r in done]))
    assert row["kl"] == pytest.approx(np.mean(kl))
    assert row["kl_token"] == pytest.approx(sum(kl) / sum(tokens))
    assert row["length"] == pytest.approx(np.mean(tokens))
    assert row["guide_score"] == pytest.approx(np.mean([ledger.scores[-1] for ledger in ledgers]))


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
    rewards: list[Any] = [row["reward"] for row in table.best_of]
    assert rewards == sorted(rewards)
    assert rewards[0] == pytest.approx(table.row("sampling")["reward"])
    assert table.best_of[0]["kl"] == pytest.approx(0.0, abs=1e-9)
    # The method itself has the same law: its KL is that of the curve.
    assert table.row("best-of-n(n=2)")["kl"] == pytest.approx(table.best_of[1]["kl"])


def test_best_of_n_of_steered_samples_goes_on_from_their_own_kl(tmp_path: Path) -> None:
    table = run(tmp_path, n=8).table
    vas = [row for row in table.steered if row["method"] == "vas(beta=2, k=2)"]
    assert [row["n"] for row in vas] == [1, 2, 4, 8]
    rewards: list[Any] = [row["reward"] for row in vas]
    assert rewards == sorted(rewards)
    assert rewards[0] == pytest.approx(table.row("vas(beta=2, k=2)")["reward"])
    nats: list[Any] = [row["kl"] for row in vas]
    assert nats == sorted(nats)
    assert not [row for row in table.steered if str(row["method"]).startswith("best-of-n")]
    named = [row[0] for row in compose(read_results(tmp_path)).tables[-1].rows]
    assert "best-of-4 by the reward, of vas(beta=2, k=2)" in named


def test_best_of_n_by_the_guide_and_by_the_reward_have_two_names(tmp_path: Path) -> None:
    found = run(tmp_path, n=8)
    assert "| best-of-2 by the guide count_b |" in found.table.to_markdown()
    assert "best-of-2 by the guide count_b" in {clock.name for clock in found.times}
    page = compose(read_results(tmp_path))
    methods, _, costs, curve, _ = page.tables
    assert "best-of-2 by the guide" in {row[0] for row in methods.rows}
    assert {row[0] for row in curve.rows} == {f"best-of-{n} by the reward" for n in (1, 2, 4, 8)}
    assert any(head.startswith("best-of-n by the reward") for head in costs.head)
    names = [row[0] for table in page.tables for row in table.rows]
    assert not {name for name in names if name.startswith("best-of") and " by the " not in name}


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

    source = GuideSource.ready(toys.value_guide())
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
    said = json.loads(table.to_json())
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
    records = files(tmp_path / "records")
    texts = [response.text for response in worlds.recorded(tmp_path)]
    assert 0 < texts.count("b") < len(texts)
    assert first.table.rows[0]["reward"] == pytest.approx(texts.count("b") / len(texts))
    other = run(tmp_path, Answered(reference="c"), [tt.sampling()])
    assert (other.computed, files(tmp_path / "records")) == (0, records)
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
    scorer = find_reward("2*words - 0.5*brevity")
    task = replace(TASK, reward=scorer.function)
    guides = [find_guide("2*words - 0.5*brevity", worlds.model())]
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
    texts = [response.text for response in worlds.recorded(tmp_path)]
    assert row["reward"] == pytest.approx(np.mean([t.count("b") for t in texts if "cc" not in t]))


def test_a_mended_reward_is_asked_only_for_what_failed(tmp_path: Path) -> None:
    asked: list[str] = []
    broken = True

    def reward(samples: Any, responses: Any) -> list[float]:
        asked.extend(responses)
        return [float("nan") if broken and "cc" in t else 0.0 for t in responses]

    reward.fingerprint = "the same, mended"  # type: ignore[attr-defined]
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


# --- things of one name --------------------------------------------------------------------------


def at_most(limit: int) -> Any:
    def score(samples: Any, responses: Any) -> list[float]:
        return [float(len(text) <= limit) for text in responses]

    return score


class Counts:
    def __init__(self, letter: str) -> None:
        self.letter = letter

    def score(self, samples: Any, responses: Any) -> list[float]:
        return [float(text.count(self.letter)) for text in responses]


def times(power: float) -> Any:
    return lambda logprobs, scores, beta: logprobs + power * beta * scores


def scaled(logprobs: Any, scores: Any, beta: Any, power: float) -> Any:
    return logprobs + power * beta * scores


class Pick:
    """Samples by a temperature that nothing shows."""

    greedy, plain = False, False

    def __init__(self, heat: float) -> None:
        self.heat = heat

    def logprobs(self, logits: Any) -> Any:
        return (logits / self.heat).log_softmax(-1)

    def choose(self, law: Any, rng: Any) -> Any:
        return law.argmax(-1)


def of_texts(letter: str) -> Any:
    return lambda prompts, texts: [float(text.count(letter)) for text in texts]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (at_most(2), at_most(5)),
        (Counts("a").score, Counts("c").score),
        (partial(lambda s, r, k: [len(t) * k for t in r], k=1.0), None),
    ],
    ids=["closures", "bound methods", "partials"],
)
def test_another_reward_of_one_name_is_asked_itself(
    tmp_path: Path, first: Any, second: Any
) -> None:
    second = second or partial(first.func, k=3.0)
    tasks = [replace(TASK, reward=reward, judge=None) for reward in (first, second)]
    before = run(tmp_path / "one", tasks[0], [tt.sampling()]).table.rows
    after = run(tmp_path / "one", tasks[1], [tt.sampling()])
    assert after.computed == 0
    assert after.table.rows == run(tmp_path / "fresh", tasks[1], [tt.sampling()]).table.rows
    assert after.table.rows != before
    assert run(tmp_path / "one", tasks[0], [tt.sampling()]).table.rows == before


@pytest.mark.parametrize(
    "part",
    [
        lambda x: {"rule": times(x)},
        lambda x: {"sampler": Pick(1.0 + x)},
        lambda x: {"rule": partial(scaled, power=x)},
    ],
    ids=["rules", "samplers", "partials"],
)
def test_texts_of_another_method_of_one_name_are_not_served(tmp_path: Path, part: Any) -> None:
    def rows(x: float, folder: str) -> Any:
        mine = replace(tt.cd(beta=1.0, k=3), name="mine", **part(x))
        found = run(tmp_path / folder, replace(TASK, judge=None), [mine])
        return [{k: v for k, v in row.items() if k != "conditions"} for row in found.table.rows]

    before, after = rows(0.0, "one"), rows(5.0, "one")
    assert after == rows(5.0, "fresh") != before
    assert rows(0.0, "one") == before


def test_texts_of_another_guide_of_one_name_are_not_served(tmp_path: Path) -> None:
    lm, method = worlds.model(), [tt.cd(beta=5.0, k=3)]

    def rows(letter: str, folder: str) -> Any:
        source = GuideSource.ready(tt.TextGuide(of_texts(letter), lm.decode, name="mine"))
        return run(tmp_path / folder, methods=method, guides=[source]).table.rows

    before, after = rows("b", "one"), rows("c", "one")
    assert after == rows("c", "fresh") != before
    assert rows("b", "one") == before


def test_texts_of_another_transform_are_not_served(tmp_path: Path) -> None:
    inner = tt.TextGuide(of_texts("b"), worlds.model().decode, name="mine")

    def rows(transform: Any, folder: str) -> Any:
        source = GuideSource.ready(transform(inner))
        return run(tmp_path / folder, methods=[tt.cd(beta=1.0, k=3)], guides=[source]).table.rows

    before, after = rows(pairs.Scaled, "one"), rows(pairs.Doubled, "one")
    assert after == rows(pairs.Doubled, "fresh") != before
    assert rows(pairs.Scaled, "one") == before


def test_what_cannot_be_known_is_asked_anew_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asked = []
    handle = (tmp_path / "log").open("w")

    def score(samples: Any, responses: Any) -> list[float]:
        asked.extend(responses)
        return [float(handle.name is not None) for _ in responses]

    task = replace(TASK, reward=score, judge=None)
    for _ in range(2):
        asked.clear()
        caplog.clear()
        assert run(tmp_path / "one", task, [tt.sampling()]).table.rows[0]["reward"] == 1.0
        assert len(asked) == 36
        (said,) = (record.getMessage() for record in caplog.records)
        assert "score cannot be told from others of its name, so it is asked anew" in said
        assert "the closure's handle is a _io.TextIOWrapper, which cannot be looked into" in said
    handle.close()


def test_a_rule_that_cannot_be_known_decodes_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    endless = (0 for _ in itertools.count())
    mine = replace(tt.cd(k=2), rule=lambda p, s, b: p + next(endless), name="mine")
    for _ in range(2):
        caplog.clear()
        found = run(tmp_path, methods=[tt.greedy(), mine])
        assert [row["method"] for row in found.table.rows] == ["greedy", "mine(beta=1)"]
        assert found.computed >= 3, "the second run reuses greedy alone"
        (said,) = (record.getMessage() for record in caplog.records)
        assert "mine(beta=1) cannot be told" in said
        assert "texts are decoded anew each time" in said


def times_two(logprobs: Any, scores: Any, beta: Any = 1.0) -> Any:
    return logprobs + 2 * beta * scores


@pytest.mark.parametrize("most", [1000, 0])  # of 0 nothing can be known
def test_a_unit_keeps_its_key_on_its_way_to_a_worker(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr("trimtab.runs.fingerprint.MOST", most)
    for rule in (times_two, partial(times_two, beta=2.0)):
        items = items_of(worlds.model(), TASK, "test")
        method = replace(tt.cd(k=2), rule=rule)
        policy = Policy(identify(worlds.model()), method, max_new_tokens=4)
        condition = Condition("t", "test", policy, items)
        assert bool(policy.unknown) == (most == 0)
        batch = condition.batches[0]
        back = pickle.loads(pickle.dumps(batch))  # noqa: S301  (our own bytes)
        assert back.key == batch.key == condition.batches[0].key
        assert back.policy.key(back.items) == batch.key


class Tide:
    """A reward that reads what it is not made of."""

    asked = 0

    def __call__(self, samples: Any, responses: Any) -> list[float]:
        type(self).asked += len(responses)
        return [float(Path(os.environ["TIDE"]).read_text()) for _ in responses]


def test_rescoring_asks_all_scores_anew_and_no_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tide = Tide()
    tide.fingerprint = "tide"  # type: ignore[attr-defined]
    monkeypatch.setenv("TIDE", str(tmp_path / "tide"))
    task = replace(TASK, reward=tide)
    (tmp_path / "tide").write_text("1.0")
    assert run(tmp_path / "one", task, [tt.sampling()]).table.rows[0]["reward"] == 1.0
    (tmp_path / "tide").write_text("2.0")
    assert run(tmp_path / "one", task, [tt.sampling()]).table.rows[0]["reward"] == 1.0
    again = run(tmp_path / "one", task, [tt.sampling()], rescore=True)
    assert (again.computed, again.table.rows[0]["reward"]) == (0, 2.0)
    assert run(tmp_path / "one", task, [tt.sampling()]).table.rows[0]["reward"] == 2.0


def test_topics_and_references_that_are_rebuilt_are_known_again(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Tagged(worlds.Letters):
        tags: tuple[str, ...] = ("a", "b")

        def samples(self, split: str) -> list[Sample]:
            meta = {"tags": set(self.tags), "by": Counts("b")}
            return [replace(sample, meta=meta) for sample in super().samples(split)]

    run(tmp_path, Tagged(), [tt.sampling()])
    before = stamps(tmp_path / "scores")
    run(tmp_path, Tagged(), [tt.sampling()])
    assert stamps(tmp_path / "scores") == before
    run(tmp_path, Tagged(tags=("a", "c")), [tt.sampling()])
    assert stamps(tmp_path / "scores") != before


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
    assert not (tmp_path / "records").exists()


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


# --- several processes ---------------------------------------------------------------------------


@pytest.mark.slow
def test_two_workers_share_the_work(tmp_path: Path) -> None:
    alone = run(tmp_path / "alone")
    shared = run(tmp_path / "shared", processes=Processes(2, worlds.model))
    assert (shared.computed, shared.reused) == (alone.computed, 0)
    for part in ("records", "scores", "tables", "conditions"):
        assert files(tmp_path / "alone" / part) == files(tmp_path / "shared" / part)


def test_workers_need_a_way_to_open_the_model(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="pass a function that opens it"):
        run(tmp_path, processes=Processes(2))
    with pytest.raises(UsageError, match="must be picklable"):
        run(tmp_path, processes=Processes(2, lambda: tt.TableLM(size=4, seed=3)))


def deadly() -> LanguageModel[Any]:
    """A model that kills the worker that opens it."""
    os.kill(os.getpid(), signal.SIGKILL)
    return worlds.model()


@pytest.mark.slow
def test_a_worker_that_is_killed_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="workers must live"):
        run(tmp_path, processes=Processes(2, deadly))
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
    (path,) = (tmp_path / "reference" / "conditions").iterdir()
    key = json.loads(path.read_text())["batches"][0]
    held = FileLock(store_folder / "locks" / key, thread_local=False)
    held.acquire()
    release = threading.Timer(0.6, held.release)
    release.start()
    started = time.monotonic()
    shared = run(store_folder, methods=[tt.sampling()])
    release.join()
    assert time.monotonic() - started >= 0.5
    assert shared.computed == reference.computed
