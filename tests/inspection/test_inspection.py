"""Guide reports: scores as decoding reads them, figures by hand, warnings that are deserved."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from scipy import stats
from tokenizers import processors
from transformers import AutoModelForSequenceClassification

import trimtab as tt
from tests import toys
from tests.inspection import worlds as known
from tests.training import train_world as world
from trimtab.decoding import prefix_scores
from trimtab.errors import CheckpointError, DataError, GuideError, UsageError
from trimtab.guides import Center, Clamp, LogSigmoid, save_guide, verify
from trimtab.inspection import Inspection, audit, inspect_guide
from trimtab.inspection.fit import (
    Points,
    bins,
    bootstrapped,
    ceiling,
    check_fits,
    check_pairs,
    fit,
    fit_labels,
    fit_responses,
    mse,
    pair_accuracy,
    r2,
    sign_test,
)
from trimtab.inspection.fit import spearman as rank_correlation
from trimtab.inspection.scores import POINTS, Units, units_of, without_center
from trimtab.models.transformers import Codec
from trimtab.runs import write_groups
from trimtab.runs.identity import identify
from trimtab.training.examples import Example, Row, collate, to_batch, to_network, token_scores
from trimtab.training.network import make_guide, make_network
from trimtab.training.objectives import ILQL, OBJECTIVES, Fudge, Rad, objective
from trimtab.training.run import train
from trimtab.types import Group, Prompt, Response, Sample, Vocab

# Trainings of a blink know little, and say so.
pytestmark = pytest.mark.filterwarnings("ignore::trimtab.errors.TrimtabWarning")


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard errors need many draws; what is tested here does not."""
    monkeypatch.setattr("trimtab.inspection.fit.RESAMPLES", 40)


# --- scores through the protocol -----------------------------------------------------------------


def written(seed: int = 0) -> tuple[list[Prompt], list[tuple[int, ...]]]:
    """Prompts, two of them twice, and a response of its own length to each; two end with EOS."""
    first, second, third = toys.prompts(4, 9, 6)
    asked = [first, first, second, third, third]
    generator = torch.Generator().manual_seed(seed)
    said = [
        tuple(torch.randint(3, toys.VOCABULARY, (n,), generator=generator).tolist())
        for n in (7, 3, 12, 1, 5)
    ]
    return asked, [said[0] + (toys.EOS,), said[1], said[2] + (toys.EOS,), *said[3:]]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_scores_are_those_that_training_saw(name: str):
    goal, lm = objective(name), toys.language_model()
    network = make_network(lm.model, goal.head, layers=None, lora_rank=0, lora_alpha=1).eval()
    torch.manual_seed(2)
    for weights in network.head.parameters():
        torch.nn.init.normal_(weights, std=0.2)
    guide = make_guide(network, goal, lm, name)
    asked, said = written()
    at = [tuple(range(1, len(y) + 1))[::-1] if i % 2 else (len(y), 1) for i, y in enumerate(said)]
    at[2] = (4, 2, 4, 13)  # twice the same, and not in order
    got = prefix_scores(guide, lm, asked, said, at, rows=3)
    examples = [
        Example(prompt.ids, (Row(tokens, 0.0),)) for prompt, tokens in zip(asked, said, strict=True)
    ]
    tensors = collate(examples)
    with torch.no_grad():
        outputs = network(**to_network(tensors))
    each = token_scores(outputs, to_batch(tensors))
    if isinstance(goal, ILQL):  # decoded as Q - V
        assert outputs.values is not None
        each = each - outputs.values[:, :-1]
    each = torch.nn.functional.logsigmoid(each) if isinstance(goal, Fudge) else each
    each = each.clamp(0, 1) if isinstance(goal, Rad) else each
    for row, stops, scores in zip(each, at, got, strict=True):
        assert scores == pytest.approx([float(row[t - 1]) for t in stops], abs=2e-4)


def test_a_prompt_is_read_once_and_a_token_once():
    guide, lm = known.KnownGuide(lambda ids: float(sum(ids))), tt.TableLM(size=6)
    prompt, other = Prompt((1, 2)), Prompt((4,))
    said = [(1, 2, 3, 4), (2, 2), (5, 1, 0)]
    got = prefix_scores(guide, lm, [prompt, prompt, other], said, [(2, 4), (2,), (3,)])
    assert got == [[6.0, 13.0], [7.0], [10.0]]
    assert guide.cost.prefill == 3
    assert guide.cost.extended == 3 + 1 + 2


@pytest.mark.parametrize("stops", [(0,), (3,), ()])
def test_a_response_is_scored_where_it_has_tokens(stops: tuple[int, ...]):
    guide = known.KnownGuide(lambda ids: 0.0)
    with pytest.raises(UsageError, match="scored after 1 to 2"):
        prefix_scores(guide, tt.TableLM(size=6), [Prompt((1,))], [(1, 2)], [stops])


def test_a_guide_that_fails_is_said():
    guide = known.KnownGuide(lambda ids: math.nan)
    with pytest.raises(GuideError, match="finite"):
        prefix_scores(guide, tt.TableLM(size=6), [Prompt((1,))], [(1, 2)], [(2,)])


def test_token_scores_are_summed_where_a_prefix_is_their_sum():
    guide = known.KnownGuide(lambda ids: float(ids[-1]))
    summed = known.scoring(guide, Units("sums", False, summed=True))
    assert summed.scores([(Prompt((1,)), (2, 3, 4))], [(1, 3)]) == [[2.0, 9.0]]


# --- figures by hand -----------------------------------------------------------------------------


def points(predicted: list[float], labels: list[float], noise: float = math.nan) -> Points:
    n = len(labels)
    return Points(np.array(predicted), np.array(labels), np.full(n, noise), np.arange(n))


def test_errors_and_correlations_by_hand():
    found = points([1.0, 2.0, 2.0, 5.0], [0.0, 2.0, 4.0, 6.0], noise=1.0)
    assert mse(found) == pytest.approx((1 + 0 + 4 + 1) / 4)
    assert r2(found) == pytest.approx(1 - 1.5 / 5)
    assert ceiling(found) == pytest.approx(1 - 1 / 5)
    want = stats.spearmanr(found.predicted, found.labels).statistic
    assert rank_correlation(found) == pytest.approx(want)
    assert want == pytest.approx(4.5 / math.sqrt(4.5 * 5))  # ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4
    flat = points([1.0, 2.0], [3.0, 3.0])
    assert math.isnan(r2(flat))
    assert fit("all", flat, exact=True).spearman is None
    alone = fit("all", points([1.0], [0.0]), exact=True)
    assert alone.mse is not None
    assert alone.mse.se is None


def test_the_bootstrap_agrees_with_the_closed_form_of_a_mean(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("trimtab.inspection.fit.RESAMPLES", 500)
    rng = np.random.default_rng(0)
    found = points(rng.normal(size=400).tolist(), rng.normal(size=400).tolist())
    errors = (found.predicted - found.labels) ** 2
    (figure,) = bootstrapped(found, [mse])
    assert figure is not None
    assert figure.value == pytest.approx(errors.mean())
    assert figure.se == pytest.approx(errors.std(ddof=1) / 20, rel=0.12)


def test_prefixes_of_one_prompt_are_drawn_together():
    rng = np.random.default_rng(0)
    each = rng.normal(size=50)
    single = points([0.0] * 50, each.tolist())
    four = Points(
        np.zeros(200), np.repeat(each, 4), np.full(200, np.nan),
        np.arange(200) // 4,
    )  # fmt: skip
    (a,), (b,) = bootstrapped(single, [mse]), bootstrapped(four, [mse])
    assert a is not None
    assert b is not None
    assert b.se == pytest.approx(a.se)  # the same prompts, drawn by the same seed


def test_tenths_by_hand():
    predicted = [i / 10 for i in range(20)]
    labels = [0.0, 1.0] * 10
    found = bins(points(predicted, labels))
    assert [b.n for b in found] == [2] * 10
    assert [b.label.value for b in found] == [0.5] * 10
    assert [b.predicted for b in found] == pytest.approx([0.05 + i / 5 for i in range(10)])
    assert [b.label.se for b in found] == pytest.approx([0.5] * 10)  # s / sqrt(n) of (0, 1)
    tied = bins(points([1.0] * 15 + [2.0] * 5, [0.0] * 15 + [1.0] * 5))
    assert [(b.n, b.predicted, b.label.value) for b in tied] == [(15, 1.0, 0.0), (5, 2.0, 1.0)]


def test_a_perfect_value_reaches_the_ceiling_and_another_does_not():
    groups = known.labels(600, completions=10)
    perfect = fit_labels(groups, known.scoring(known.KnownGuide(known.noise)))
    worse = fit_labels(groups, known.scoring(known.KnownGuide(lambda s: 0.5 * known.noise(s))))
    whole = perfect[0]
    assert whole.r2 is not None
    assert whole.ceiling is not None
    assert 0.7 < whole.ceiling.value < 0.9  # E p(1 - p) / 10 = 1/60 against a variance of 1/10
    assert whole.r2.value == pytest.approx(whole.ceiling.value, abs=0.02)
    assert worse[0].r2 is not None
    assert worse[0].r2.value < whole.ceiling.value - 0.1
    assert worse[0].ceiling == whole.ceiling
    assert (whole.n, whole.prompts) == (600, 300)
    assert [f.where for f in perfect[1:]] == [
        "2 to 4 tokens", "5 to 6 tokens", "7 to 8 tokens", "9 to 10 tokens"
    ]  # fmt: skip
    assert sum(f.n for f in perfect[1:]) == 600
    off = [b.label.value - b.predicted for b in whole.bins]
    assert max(map(abs, off)) < 0.06
    single = fit_labels(known.labels(20, 1), known.scoring(known.KnownGuide(known.noise)))
    assert single[0].ceiling is None


def test_along_responses_more_is_known():
    groups = known.pairs(40)
    values, prompt = fit_responses(groups, known.scoring(known.KnownGuide(known.count)))
    assert [f.where for f in values] == list(POINTS)
    errors = [f.mse.value for f in values if f.mse is not None]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] == 0
    assert values[-1].r2 is not None
    assert (values[-1].r2.value, values[-1].ceiling) == (1.0, None)
    assert prompt is not None
    rewards = np.array([[r.rewards["r"] for r in g.responses] for g in groups])
    assert prompt.value == pytest.approx(1 - rewards.var(axis=1, ddof=1).mean() / rewards.var())


def test_what_is_too_long_is_left_out_and_nothing_left_is_an_error():
    how = known.scoring(known.KnownGuide(known.count))
    with pytest.raises(DataError, match="raise --max-length"):
        fit_responses(known.pairs(2), how.__class__(**{**vars(how), "max_length": 5}))
    with pytest.raises(DataError, match="with the reward 'other'.*rewards preference, r"):
        fit_responses(known.pairs(2), how.__class__(**{**vars(how), "reward": "other"}))
    with pytest.raises(DataError, match="groups with a prefix"):
        fit_labels(known.pairs(2), how)
    with pytest.raises(DataError, match="by --validation"):
        fit_responses(known.labels(2, 2), how)


# --- pairs ---------------------------------------------------------------------------------------


def test_a_model_of_finished_responses_is_caught_and_one_of_prefixes_is_not():
    pairs = known.pairs(60)
    full = pair_accuracy(pairs, known.scoring(known.KnownGuide(known.whole_only), known.RANKS))
    assert full[-1].accuracy.value > 0.95
    assert all(abs(a.accuracy.value - 0.5) < 0.2 for a in full[:4])
    said = check_pairs(full, "full")
    assert said.level == "warning"
    assert "PARGS, Theorem 1" in said.message
    assert "sign test" in said.message
    assert "partial-bradley-terry" in said.do
    partial = pair_accuracy(pairs, known.scoring(known.KnownGuide(known.count), known.RANKS))
    assert check_pairs(partial, "partial").level == "ok"
    assert [a.n for a in partial] == [60] * 5
    hopeless = pair_accuracy(pairs, known.scoring(known.KnownGuide(known.noise), known.RANKS))
    assert "not above chance on finished responses" in check_pairs(hopeless, "none").message


def test_ties_count_half_and_the_prompt_is_the_unit():
    flat = pair_accuracy(
        known.pairs(6), known.scoring(known.KnownGuide(lambda s: 1.0), known.RANKS)
    )
    assert [(a.accuracy.value, a.ties, a.p) for a in flat] == [(0.5, 6, 1.0)] * 5
    ahead = [1.0, 1.0, 0.0, 1.0, 0.5, 1.0]
    assert sign_test(ahead, range(6)) == pytest.approx(
        stats.binomtest(4, 5, alternative="greater").pvalue
    )
    assert sign_test(ahead, "aaabbb") == pytest.approx(0.25)


# --- what is compared ----------------------------------------------------------------------------

REWARD = {"name": "r", "n": 9, "mean": 2.0, "std": 4.0, "within": 1.0, "least": -2.0, "most": 6.0}


def card(folder: Path, goal: str, unit: str = "reward", settings: Any = None, wrap: Any = None):
    guide = toys.value_guide(vocab=toys.language_model().vocab)
    told = {"name": goal, "settings": settings or {}, "lr": 1e-3}
    reward = {**REWARD, "unit": unit}
    place = folder / f"{goal}-{unit}-{len(list(folder.iterdir()))}"
    save_guide(wrap(guide) if wrap else guide, place, objective=told, reward=reward)
    return verify(place)


def test_scores_and_rewards_are_brought_to_one_unit(tmp_path: Path):
    plain = units_of(card(tmp_path, "td-lambda"))
    assert (plain.exact, plain.predicted(3.0), plain.label(3.0)) == (True, 3.0, 3.0)
    assert units_of(card(tmp_path, "td-lambda", unit="std")).label(6.0) == 1.5
    hard = units_of(card(tmp_path, "fudge", wrap=LogSigmoid))
    assert hard.predicted(math.log(0.3)) == pytest.approx(0.3)
    assert [hard.label(x) for x in (1.9, 2.1)] == [0.0, 1.0]  # above the mean
    higher = units_of(card(tmp_path, "fudge", settings={"threshold": 5.0}, wrap=LogSigmoid))
    assert [higher.label(x) for x in (2.1, 5.1)] == [0.0, 1.0]
    soft = units_of(card(tmp_path, "fudge", settings={"softness": 2.0}, wrap=LogSigmoid))
    assert soft.label(4.0) == pytest.approx(math.exp(-1))
    rad = units_of(card(tmp_path, "rad", wrap=Clamp))
    assert [rad.label(x) for x in (-2.0, 2.0, 6.0)] == [0.0, 0.5, 1.0]
    for goal in ("bradley-terry", "partial-bradley-terry"):
        ranked = units_of(card(tmp_path, goal))
        assert (ranked.exact, ranked.pairs, ranked.summed) == (False, True, False)
    assert not units_of(None).exact


def test_centring_is_taken_off(tmp_path: Path):
    guide = toys.value_guide()
    assert without_center(guide) is guide
    assert without_center(Center(guide)) is guide
    clamped = without_center(Center(Clamp(guide)))
    assert isinstance(clamped, Clamp)


# --- the audit -----------------------------------------------------------------------------------


def levels(findings: list[Any]) -> dict[str, str]:
    return {f.about: f.level for f in findings}


def lm(chat: str | None = None, **options: Any) -> tt.TransformersLM:
    """A tiny base whose tokenizer has this template."""
    tokenizer = toys.tokenizer().__class__(
        tokenizer_object=toys.tokenizer().backend_tokenizer,
        eos_token="w0", pad_token="w0", bos_token="w1",
    )  # fmt: skip
    tokenizer.chat_template = chat
    return tt.TransformersLM(toys.causal_lm(), tokenizer, **options)


CHAT = "w1 {% for m in messages %}w90 {{ m.content }} w91 {% endfor %}w92"


def test_templates_that_differ_are_shown():
    assert audit.template(CHAT, CHAT).level == "ok"
    assert audit.template(None, None).level == "ok"
    found = audit.template("same\none line", "same\nanother")
    assert found.level == "warning"
    assert "-one line; +another" in found.message
    assert "same" not in found.message
    assert "trained with none and the base has one" in audit.template(None, CHAT).message


def test_bos_twice_and_bos_missing():
    base = lm(CHAT)
    good = base.encode("w7")
    assert levels(audit.bos([good], base)) == {"BOS": "ok"}
    twice = audit.bos([Prompt((1, *good.ids)), good], base)
    assert [f.level for f in twice] == ["warning"]
    assert "1 of 2 prompts of the data begin with BOS twice" in twice[0].message
    doubled = lm("w1 " + CHAT)
    assert "prompts as encoded now begin with BOS twice" in audit.bos([], doubled)[0].message
    bare = lm(CHAT.removeprefix("w1 "))
    bare.tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="w1 $A", special_tokens=[("w1", 1)]
    )
    try:
        assert "lack the BOS" in audit.bos([], bare)[0].message
    finally:
        bare.tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A")


def test_prompts_of_another_template_are_told_by_their_ids():
    base = lm(CHAT)
    same = [base.encode("w7"), base.encode("w8 w9")]
    assert levels(audit.encoding(same, base)) == {"prompts": "ok"}
    plain = [Codec(base.tokenizer, "none").encode(p.text or "") for p in same]
    found = audit.encoding([*plain, same[0]], base)
    assert found[0].level == "warning"
    assert "2 of 3" in found[0].message
    assert "--template none" in found[0].do
    base.codec = Codec(base.tokenizer, "none")
    assert "--template auto" in audit.encoding([*plain, same[0]], base)[0].do
    assert audit.encoding([Prompt((3, 4))], base) == []


def test_eos_is_scored_and_was_seen():
    base, guide = lm(), toys.value_guide()
    asked = toys.prompts(4)
    never = [Group(asked[0], (Response((5, 6), ""),), "t")]
    found = audit.eos(guide, base, asked, never)
    assert [f.level for f in found] == ["ok", "warning"]
    assert "0 of 1" in found[1].message
    once = [Group(asked[0], (Response((5, 0), ""), Response((5, 6), "")), "t")]
    assert "1 of 2" in audit.eos(guide, base, asked, once)[1].message
    broken = known.KnownGuide(lambda ids: math.inf)
    assert audit.eos(broken, base, asked, [])[0].level == "error"
    short = toys.value_guide(vocabulary=5, vocab=Vocab(0))
    assert "beyond the guide's 0 ids" in audit.eos(short, base, asked, [])[0].message


def test_the_base_is_told_by_its_weights(tmp_path: Path):
    base, guide = lm(), toys.value_guide(vocab=lm().vocab)

    def found(name: str, weights: str, **card: Any) -> Any:
        about = {"model": {"name": "rollouts", "weights": weights}, "dtype": "float32"}
        save_guide(guide, tmp_path / name, data={"sources": [about]}, **card)
        return audit.base(verify(tmp_path / name), base)

    assert found("same", identify(base).weights).level == "ok"
    assert "other weights than rollouts" in found("other", "0" * 32).message
    save_guide(guide, tmp_path / "named", base="somewhere/else", revision="abc")
    card = verify(tmp_path / "named")
    assert "names somewhere/else" in audit.base(card, base).message
    assert [f.level for f in audit.revision(card, base)] == ["warning"]


def test_the_policy_is_that_of_the_rollouts(tmp_path: Path):
    guide = toys.value_guide(vocab=lm().vocab)
    about = [{"model": {"base_temperature": 0.7, "base_top_p": 0.9}}]
    save_guide(guide, tmp_path / "guide", data={"sources": about})
    found = audit.policy(verify(tmp_path / "guide"), lm())
    assert levels(found) == {"base_temperature": "warning", "base_top_p": "warning"}
    assert "decode with --base-temperature 0.7" in found[0].do
    same = audit.policy(verify(tmp_path / "guide"), lm(base_temperature=0.7, base_top_p=0.9))
    assert levels(same) == {"base_temperature": "ok", "base_top_p": "ok"}


# --- all of it -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, rollouts, labels, and a value guide of them."""
    folder = tmp_path_factory.mktemp("inspect")
    base, _ = world.make(folder)
    train(world.config(folder, epochs=1, lora_rank=0, evaluations=1))
    groups = world.rollouts(base, prompts=10, n=5, seed=3)
    write_groups(folder / "fresh", groups)
    halves = [
        Group(g.prompt, g.responses[1:], g.topic, prefix=g.responses[0].tokens[: 1 + i % 3])
        for i, g in enumerate(groups)
    ]
    write_groups(folder / "labels", halves)
    rows = [
        {
            "prompt": f"w{i} w{i + 1} ",
            "chosen": f"w{4 + 2 * i} w{6 + i} w8",
            "rejected": f"w{5 + i} w9",
        }
        for i in range(8)
    ]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def base_of(place: Path, **options: Any) -> tt.TransformersLM:
    return tt.TransformersLM(str(place / "base"), dtype="float32", device="cpu", **options)


def test_a_value_is_measured_on_everything(place: Path):
    seen: list[tuple[int, int]] = []
    found = inspect_guide(
        place / "guide", base_of(place), data=[place / "fresh"], validation=[place / "labels"],
        pairs=[place / "pairs.jsonl"], on=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert found.worst in ("ok", "warning")
    audited = levels([f for f in found.findings if f.level != "warning"])
    assert {"tokenizer", "template", "base", "network", "EOS"} <= audited.keys()
    facts = dict(found.facts)
    assert facts["objective"].startswith("td-lambda")
    assert facts["unit of the score"] == "the reward's own"
    assert found.compared == "score and reward"
    assert [f.where for f in found.values] == list(POINTS)
    assert found.values[0].n == 50
    assert found.labels[0].n == 10
    assert found.labels[0].ceiling is not None
    assert [a.n for a in found.pairs] == [8] * 5
    assert seen[-1][0] == seen[-1][1] == 50 + 10 + 16


def test_the_report_is_the_same_every_time_and_holds_no_nan(place: Path):
    found = [
        inspect_guide(
            place / "guide", base_of(place), data=[str(place / "fresh")],
            validation=[place / "labels"],
        )
        for _ in range(2)
    ]  # fmt: skip
    assert found[0].to_json() == found[1].to_json()
    assert found[0].to_markdown() == found[1].to_markdown()
    assert found[0].picture().png == found[1].picture().png
    assert found[0].picture().png.startswith(b"\x89PNG")
    whole = json.loads(found[0].to_json())
    assert whole["values"][0]["mse"].keys() == {"value", "se"}
    text = found[0].to_markdown()
    for heading in ("Guide", "Audit", "Labelled prefixes, even", "Along responses", "Calibration"):
        assert f"## {heading}" in text
    bare = inspect_guide(place / "guide", base_of(place))
    assert not bare.measured
    with pytest.raises(UsageError, match="something measured"):
        bare.picture()


def test_what_was_trained_on_is_left_out(place: Path):
    found = inspect_guide(place / "guide", base_of(place), data=[place / "rollouts"])
    said = next(f for f in found.findings if f.about == "data")
    assert said.level == "ok"
    held = int(said.message.split("only the ")[1].split(" of ")[0])
    assert found.values[0].n == held * 8
    assert held < 12
    both = inspect_guide(
        place / "guide", base_of(place), data=[place / "rollouts", place / "fresh"]
    )
    assert levels(list(both.findings))["data"] == "warning"


def test_another_tokenizer_is_an_error_and_the_rest_is_said(place: Path, tmp_path: Path):
    other = tt.TransformersLM(toys.causal_lm(vocabulary=60), toys.tokenizer(60))
    found = inspect_guide(place / "guide", other)
    assert found.worst == "error"
    assert levels(list(found.findings))["tokenizer"] == "error"
    assert dict(found.facts)["objective"].startswith("td-lambda")
    assert "ERROR: tokenizer" in found.to_markdown()


def test_a_reward_model_of_transformers(place: Path, tmp_path: Path):
    config = toys.config("llama")
    config.num_labels = 1
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "rm")
    toys.tokenizer().save_pretrained(tmp_path / "rm")
    found = inspect_guide(
        tmp_path / "rm", base_of(place), pairs=[place / "fresh"], learn="even", limit=20
    )
    assert [a.n for a in found.pairs] == [20] * 5
    assert dict(found.facts)["reads"] == "the base's ids"
    assert found.picture().png.startswith(b"\x89PNG")


def short(samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
    """Few letters."""
    return [-float(len(text)) for text in responses]


@dataclass(frozen=True)
class Words:
    """A task of prompts that are one word each."""

    name: str = "words"
    reward: Any = short
    judge: Any = None
    max_new_tokens: int = world.LENGTH
    template: Literal["auto", "none"] = "none"

    def samples(self, split: str) -> list[Sample]:
        return [Sample(f"w{30 + i}", f"topic {i}") for i in range(12)]


def test_what_was_evaluated_is_measured_and_a_reward_is_read_on_prefixes(
    place: Path, tmp_path: Path
):
    base = base_of(place)
    tt.evaluate(base, Words(), [tt.greedy(), tt.sampling()], tmp_path / "results", n=4)
    inspection = tt.inspect_guide("length", base, data=[tmp_path / "results"])
    assert inspection.name == "length"
    assert inspection.compared == "score and reward, by ranks only"
    assert [fit.n for fit in inspection.values] == [12 * 4] * 6
    last = inspection.values[-1].spearman
    assert last is not None
    assert abs(last.value) > 0.5  # both count
    assert tt.inspect_guide(short, base).name == "short"
    paths = inspection.write(tmp_path / "report")
    assert {path.name for path in paths} == {f"inspect.{k}" for k in ("md", "json", "html", "png")}
    page = (tmp_path / "report" / "inspect.html").read_text()
    assert "Along responses, short" in page
    assert "<svg" in page
    assert "<table" in inspection._repr_html_()


@pytest.mark.parametrize("name", ["genarm", "fudge"])
def test_other_objectives_are_compared_in_their_own_way(place: Path, name: str):
    out = str(place / name)
    layers = {"layers": None} if name == "genarm" else {}
    train(world.config(place, name, out=out, epochs=1, evaluations=1, **layers))
    found = inspect_guide(out, base_of(place), data=[place / "fresh"])
    exact = name == "fudge"
    assert all((fit.mse is not None) == exact for fit in found.values)
    assert bool(found.pairs) != exact
    assert found.to_markdown()


def test_what_is_not_there_is_said(place: Path, tmp_path: Path):
    base = base_of(place)
    with pytest.raises(CheckpointError, match="with neither"):
        inspect_guide(tmp_path, base)
    with pytest.raises(UsageError, match="a folder must be there"):
        inspect_guide(tmp_path / "nowhere", base)
    with pytest.raises(DataError, match="manifest.json"):
        inspect_guide(place / "guide", base, data=[tmp_path])
    with pytest.raises(DataError, match="labels must be groups with a prefix"):
        inspect_guide(place / "guide", base, validation=[place / "fresh"])
    with pytest.raises(DataError, match="reward 'odd'"):
        inspect_guide(place / "guide", base, data=[place / "fresh"], learn="odd")


# --- enough prompts, and more than nothing -------------------------------------------------------


def found_of(place: Path, **data: Any) -> Inspection:
    lm = world_base(place)
    return inspect_guide(place / "guide", lm, learn="even", **data)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A guide with random scores, and folders of a few prompts."""
    folder = tmp_path_factory.mktemp("small")
    world.save_base(folder / "base")
    lm = world_base(folder)
    tt.save_guide(toys.value_guide(vocab=lm.vocab), folder / "guide", base=str(folder / "base"))
    groups = world.rollouts(folder / "base", prompts=12, n=4)
    for n in (1, 2, 12):
        write_groups(folder / f"groups-{n}", groups[:n])
        halves = [Group(g.prompt, g.responses, g.topic, (5, 6)) for g in groups[:n]]
        write_groups(folder / f"labels-{n}", halves)
    return folder


def world_base(folder: Path) -> tt.TransformersLM:
    return tt.TransformersLM(str(folder / "base"), dtype="float32", device="cpu")


@pytest.mark.parametrize(
    ("n", "words"),
    [(1, "one prompt: nothing can be said of others"), (2, "2 prompts: too few"), (12, None)],
)
@pytest.mark.parametrize("kind", ["groups", "labels"])
def test_figures_of_few_prompts_are_said_to_be(small: Path, kind: str, n: int, words: str | None):
    name = {"groups": "data", "labels": "validation"}[kind]
    found = found_of(small, **{name: [str(small / f"{kind}-{n}")]})
    about = {"groups": "responses", "labels": "labels"}[kind]
    said = [f.message for f in found.findings if f.about == about and "prompt" in f.message]
    assert len(said) == (words is not None)
    assert all(words is not None and words in line for line in said)
    assert all(f"WARNING: {about}: {line}" in found.to_markdown() for line in said)


@pytest.mark.parametrize("kind", ["groups", "labels"])
def test_scores_that_fit_no_better_than_the_mean_are_said_to_be(small: Path, kind: str):
    name = {"groups": "data", "labels": "validation"}[kind]
    found = found_of(small, **{name: [str(small / f"{kind}-12")]})
    assert max(f.r2.value for f in (*found.values, *found.labels) if f.r2) <= 0
    assert [f.level for f in found.findings if "no better than a constant: R2" in f.message] == [
        "warning"
    ]


def test_a_guide_that_knows_is_not_said_to_know_nothing():
    groups = known.pairs(40)
    values, _ = fit_responses(groups, known.scoring(known.KnownGuide(known.count)))
    assert check_fits("responses", values) == []
    flat, _ = fit_responses(groups, known.scoring(known.KnownGuide(lambda ids: 0.0)))
    assert [f.level for f in check_fits("responses", flat)] == ["warning"]


@pytest.mark.parametrize("n", [1, 5, 6])
def test_pairs_of_too_few_prompts_for_the_test_give_no_check_pairs(n: int):
    """Five prompts, all right, have p = .031: no place of two could be below 5 % after Holm."""
    pairs = pair_accuracy(known.pairs(n), known.scoring(known.KnownGuide(known.count), known.RANKS))
    found = check_pairs(pairs, "guide")
    assert (found.level == "ok") == (n >= 6)
    assert (f"{n} prompt" in found.message and "too few" in found.message) == (n < 6)
