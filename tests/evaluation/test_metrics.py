"""Metrics by name: equal to hand-computed values, asked for once, kept for the next run."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

import trimtab as tt
from tests import toys
from tests.evaluation import worlds
from tests.evaluation.test_experiment import METHODS, run
from tests.needs import needs_asset
from tests.runs.test_store import files
from trimtab.errors import NotFetchedError, UnknownNameError, UsageError
from trimtab.evaluation.best_of import perplexity
from trimtab.evaluation.cost import Shape
from trimtab.evaluation.metrics import (
    Answers,
    Figure,
    Metric,
    _make_coherence,
    find_metrics,
    metric,
    pairwise_rouge_l,
)
from trimtab.evaluation.statistics import Estimate, estimate
from trimtab.rewards.similarity import encoder
from trimtab.runs import read_groups
from trimtab.types import Completion, Prompt, Step

TEXTS = {"p": ["a b a b a b", "a b c"], "q": ["a b c", "c c c c"]}


def completion(prompt: str, text: str, sample: int = 0) -> Completion:
    step = Step(0, (1, 2), text, -1.0, -3.0, 0.0, 0.5, (), 1.0, 0.0, finish="length")
    return Completion(Prompt((ord(prompt),), prompt), sample, text, (1, 2), "length", (step,))


def answers(texts: dict[str, list[str]] = TEXTS, **scores: Any) -> Answers:
    rows = [(p, t) for p, ts in texts.items() for t in ts]
    done = tuple(completion(p, t) for p, t in rows)
    return Answers(tuple(p for p, _ in rows), done, scores)


def found(name: str, given: Answers | None = None) -> dict[str, Figure]:
    return metric(name).figures(given or answers())


def mean(figure: Figure) -> float:
    assert isinstance(figure, Estimate)
    return figure.mean


# --- the figures ---------------------------------------------------------------------------------


def test_distinct_n_by_hand() -> None:
    got = found("distinct-n")  # pairs: ab ba ab ba ab, ab bc, ab bc, cc cc cc
    assert got["distinct_1"] == pytest.approx(3 / 16)
    assert got["distinct_2"] == pytest.approx(4 / 12)
    assert got["distinct_3"] == pytest.approx(4 / 8)


def test_repetition_by_hand_clustered_by_prompt() -> None:
    got = found("repetition")
    per_text = {2: [3 / 5, 0, 0, 2 / 3], 3: [2 / 4, 0, 0, 1 / 2], 4: [1 / 3, 0, 0, 0]}
    for n, values in per_text.items():
        want = estimate(values, ["p", "p", "q", "q"])
        figure = got[f"rep_{n}"]
        assert isinstance(figure, Estimate)
        assert (figure.mean, figure.se) == pytest.approx((want.mean, want.se))
        assert (figure.n, figure.rows) == (2, 4)


def test_diversity_is_the_product_of_what_is_not_repeated() -> None:
    want = np.mean([2 / 5 * 2 / 4 * 2 / 3, 1, 1, 1 / 3 * 1 / 2])
    assert mean(found("diversity")["diversity"]) == pytest.approx(want)


def test_perplexity_is_that_of_the_ledger() -> None:
    given = answers()
    assert found("perplexity", given)["perplexity"] == perplexity(given.completions)
    assert mean(found("perplexity", given)["perplexity"]) == pytest.approx(np.exp(3 / 2))


def test_rouge_l_is_a_mean_over_prompts_of_means_over_pairs() -> None:
    want = estimate([pairwise_rouge_l(texts) for texts in TEXTS.values()], list(TEXTS))
    assert found("rouge-l")["rouge_l"] == want
    uneven = {"p": ["a b", "a b"], "q": ["a"]}  # a single response has no pair
    assert mean(found("rouge-l", answers(uneven))["rouge_l"]) == 1.0
    assert found("rouge-l", answers({"p": ["a"], "q": ["a"]}))["rouge_l"] is None


def test_rouge_l_compares_ten_responses_at_most() -> None:
    many = {"p": ["a b"] * 10 + ["c d"] * 5}
    assert mean(found("rouge-l", answers(many))["rouge_l"]) == 1.0


# --- names ---------------------------------------------------------------------------------------


def test_unknown_metrics_offer_near_names() -> None:
    with pytest.raises(UnknownNameError, match="a metric must be a known name.*did you mean rou"):
        metric("rouge")
    with pytest.raises(UnknownNameError, match="did you mean distinct-n"):
        metric("distinct-2")
    with pytest.raises(UnknownNameError, match="known: coherence, distinct-n, diversity"):
        metric("zzz")
    with pytest.raises(UsageError, match="only coherence takes a model"):
        metric("rouge-l=2")
    with pytest.raises(UsageError, match="only coherence takes a model"):
        metric("coherence=")


def test_metrics_are_asked_for_once() -> None:
    assert [m.name for m in find_metrics(["rouge-l", "rouge-l", "diversity"])] == [
        "rouge-l",
        "diversity",
    ]
    mine = Metric("mine", (("rouge_l", "mine", ".1f"),), lambda given: [0.0])
    with pytest.raises(UsageError, match="'mine' for rouge_l once more"):
        find_metrics(["rouge-l", mine])


def test_a_missing_package_is_said_before_anything_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.import_module

    def without(name: str) -> Any:
        if name.partition(".")[0] in ("rouge_score", "sentence_transformers"):
            raise ModuleNotFoundError(name=name)
        return real(name)

    monkeypatch.setattr(importlib, "import_module", without)
    for name in ("rouge-l", "coherence=some/model"):
        with pytest.raises(UsageError, match=r"pip install 'trimtab\[eval\]'"):
            run(tmp_path, metrics=[name])
    assert not (tmp_path / "records").exists()


def test_without_minilm_the_command_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIMTAB_CACHE", str(tmp_path))
    encoder.cache_clear(), _make_coherence.cache_clear()
    with pytest.raises(NotFetchedError, match="run `trimtab assets fetch minilm`"):
        metric("coherence")
    encoder.cache_clear(), _make_coherence.cache_clear()


# --- in a table ----------------------------------------------------------------------------------

NEW = (
    *("perplexity", "perplexity_se", "diversity", "diversity_se"),
    *("distinct_1", "distinct_2", "distinct_3"),
    *(f"rep_{n}{end}" for n in (2, 3, 4) for end in ("", "_se")),
)


def test_every_table_has_the_cheap_ones(tmp_path: Path) -> None:
    table = run(tmp_path).table
    columns = list(table.rows[0])
    at = columns.index("perplexity")
    assert tuple(columns[at : at + len(NEW)]) == NEW
    assert columns[at + len(NEW)] == "length"
    assert "metrics" not in table.about
    assert "rep-2" not in table.to_markdown()


def test_what_is_asked_for_is_measured_and_shown(tmp_path: Path) -> None:
    plain = run(tmp_path).table
    asked = run(tmp_path, metrics=["rouge-l", "repetition", "diversity"])
    table = asked.table
    assert asked.computed == 0
    assert table.about["metrics"] == ["rouge-l", "repetition", "diversity"]
    assert table.row("greedy")["rouge_l"] is None  # one response to a prompt
    assert 0 < float(str(table.row("sampling")["rouge_l"])) < 1
    head = table.to_markdown().split("\n")[2]
    assert head.endswith("| ROUGE-L | rep-2 | rep-3 | rep-4 |")
    assert head.count("diversity") == 1
    assert "rouge_l,rouge_l_se" in table.to_csv()
    for before, after in zip(plain.rows, table.rows, strict=True):
        assert before.items() <= after.items()
    written = files(tmp_path / "tables")
    run(tmp_path, metrics=["rouge-l", "repetition", "diversity"])
    assert files(tmp_path / "tables") == written


def test_a_metric_of_ones_own(tmp_path: Path) -> None:
    def bs(given: Answers) -> list[Figure]:
        return [given.mean([float(c.text.count("b")) for c in given.completions])]

    mine = Metric("bs", (("bs", "b's", ".1f"),), bs)
    row = run(tmp_path, metrics=[mine]).table.row("sampling")
    assert row["bs"] == row["reward"]
    assert row["bs_se"] == row["reward_se"]


def test_an_unknown_metric_is_said_before_anything_is_decoded(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean coherence"):
        run(tmp_path, metrics=["coherense"])
    assert not (tmp_path / "records").exists()


# --- coherence -----------------------------------------------------------------------------------


class Letters(nn.Module):
    """Counts of a, b, c, under the interface of a sentence-transformers model."""

    asked: ClassVar[list[str]] = []

    def __init__(self, name: str, device: str | None) -> None:
        if name == "broken":
            raise OSError("no such model")
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def encode(self, texts: Sequence[str], **options: bool) -> torch.Tensor:
        self.asked.extend(texts)
        assert options["normalize_embeddings"]
        counts = [[float(text.count(letter)) for letter in "abc"] for text in texts]
        return torch.nn.functional.normalize(torch.tensor(counts), dim=-1)


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = SimpleNamespace(SentenceTransformer=Letters)
    monkeypatch.setitem(sys.modules, "sentence_transformers", fake)
    _make_coherence.cache_clear(), encoder.cache_clear()
    Letters.asked.clear()


def cosine(prompt: str, text: str) -> float:
    a, b = ([float(t.count(letter)) for letter in "abc"] for t in (prompt, text))
    norm = np.linalg.norm(a) * np.linalg.norm(b)
    return float(np.dot(a, b) / norm) if norm else 0.0


@pytest.mark.usefixtures("package")
def test_coherence_by_any_encoder_is_embedded_once(tmp_path: Path) -> None:
    options: dict[str, Any] = {"metrics": ["coherence=some/model"], "methods": [tt.sampling()]}
    table = run(tmp_path, **options).table
    groups = read_groups(tmp_path)
    texts = [(g.prompt.text or "", r.text) for g in groups for r in g.responses]
    row = table.rows[0]
    assert row["coherence"] == pytest.approx(np.mean([cosine(p, t) for p, t in texts]))
    assert row["coherence_se"] is not None
    assert "coherence_gain" not in row
    assert table.about["metrics"] == ["coherence=some/model"]
    asked = len(Letters.asked)
    assert asked > 0
    assert run(tmp_path, **options).table == table
    assert len(Letters.asked) == asked


@pytest.mark.usefixtures("package")
def test_an_encoder_that_cannot_be_opened_is_named() -> None:
    with pytest.raises(UsageError, match="'broken', which cannot be opened .OSError: no such"):
        metric("coherence=broken")
    with pytest.raises(UsageError, match="must belong to one metric"):
        find_metrics(["coherence=one", "coherence=two"])


@pytest.mark.usefixtures("package")
def test_a_folder_is_called_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "simcse").mkdir()
    assert metric(f"coherence={tmp_path / 'simcse'}").label == "coherence=simcse"


def test_responses_without_a_cosine_are_left_out() -> None:
    scored = Metric("x", (("x", "x", ".1f"),), lambda given: [given.mean(given.scores["x"])])
    assert mean(scored.figures(answers(x=(1.0, None, 0.0, 0.5)))["x"]) == 0.5
    assert scored.figures(answers(x=(None,) * 4))["x"] is None


@needs_asset("minilm")
def test_minilm_finds_an_answer_nearer_than_another_topic() -> None:
    made = metric("coherence")
    assert made.label == "coherence=minilm"
    assert made.scorer is not None
    prompt = "Write about the following topic: fog."
    near, far = made.scorer.function(
        toys.samples(prompt, prompt), ["Mist hides the road.", "I sold my car."]
    )
    assert 1 >= near > far >= -1


# --- cost and time -------------------------------------------------------------------------------


@dataclass(frozen=True)
class OneToken(worlds.Letters):
    max_new_tokens: int = 1


def test_responses_of_one_token_have_no_relative_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = Shape(100, (4,), (None,))
    lm = worlds.model()
    monkeypatch.setattr("trimtab.evaluation.experiment.shape_of", lambda _: shape)
    table = run(tmp_path, OneToken(), lm=lm).table
    assert [row["length"] for row in table.rows] == [1.0] * len(METHODS)
    assert all(row["flops"] is None for row in table.rows)


def test_wall_times_stand_beside_the_table(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert [clock.base for clock in done.times] == ["sampling"] * len(METHODS)
    relative = {clock.name: clock.relative for clock in done.times}
    assert relative["sampling"] == 1.0
    assert set(relative) >= {"greedy", "vas(beta=2, k=2) by count_b"}
    times = {p.stem: json.loads(p.read_text()) for p in (tmp_path / "times").iterdir()}
    conditions = [json.loads(p.read_text()) for p in (tmp_path / "conditions").iterdir()]

    def per_token(label: str) -> float:
        batches = next(c["batches"] for c in conditions if c["label"] == label)
        seconds = sum(times[key]["seconds"] for key in batches)
        return float(seconds / sum(times[key]["tokens"] for key in batches))

    want = per_token("greedy") / per_token("sampling")
    assert relative["greedy"] == pytest.approx(want)
    assert not any("time" in column for column in done.table.rows[0])
    assert run(tmp_path).times == done.times


def test_without_the_base_or_its_times_there_is_no_ratio(tmp_path: Path) -> None:
    guided = run(tmp_path, methods=[tt.vas(2.0, k=2)]).times
    assert [(c.base, c.relative) for c in guided] == [(None, None)]
    assert guided[0].seconds is not None
    for path in (tmp_path / "times").iterdir():
        path.unlink()
    assert run(tmp_path, methods=[tt.vas(2.0, k=2)]).times[0].seconds is None
