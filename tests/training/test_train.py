"""From groups to a guide that decodes, for every objective, through the public functions."""

from __future__ import annotations

import errno
import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file

import trimtab as tt
from tests import toys
from tests.training import train_world as world
from trimtab.errors import (
    CheckpointError,
    DataError,
    IncompatibleError,
    OutputError,
    TrainingError,
    TrimtabWarning,
    UnknownNameError,
    UsageError,
)
from trimtab.evaluation import evaluate
from trimtab.guides import verify
from trimtab.inspection import inspect_guide
from trimtab.runs import read_groups, write_groups
from trimtab.training.config import make_config, read_config
from trimtab.training.objectives import OBJECTIVES, objective
from trimtab.training.run import Trained, train
from trimtab.training.trainer import GuideTrainer, rate
from trimtab.types import Group, Response, Sample

# Trainings of a blink know little; where that must be said, `pytest.warns` asks for it.
pytestmark = pytest.mark.filterwarnings("ignore::trimtab.errors.TrimtabWarning")


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train")
    world.make(folder)
    return folder


@pytest.fixture
def place(ready: Path, tmp_path: Path) -> Path:
    """A folder of the test's own with the base and its rollouts."""
    for name in ("base", "rollouts"):
        (tmp_path / name).symlink_to(ready / name)
    return tmp_path


def base(folder: Path) -> tt.TransformersLM:
    return tt.TransformersLM(str(folder / "base"), dtype="float32", device="cpu")


@pytest.mark.slow
def test_a_value_learns_and_steers(place: Path):
    write_groups(place / "many", world.rollouts(place / "base", prompts=16, n=40))
    data = [str(place / "many")]
    done = train(world.config(place, data=data, lora_rank=0, epochs=8, lr=[3e-3]))
    lm = base(place)
    guide = tt.load_guide(done.folder, lm=lm)
    asked = toys.prompts(*[3] * 6, seed=11)

    def mean(beta: float) -> float:
        out = tt.decode(
            lm, guide, tt.vas(beta=beta, k=10), asked, n=20, max_new_tokens=world.LENGTH
        )
        return sum(world.reward(c.tokens) for c in out) / len(out)

    assert mean(20.0) > mean(0.0) + 0.04
    lines = (place / "guide.runs/lr-0.003/log.jsonl").read_text().splitlines()
    log = [json.loads(line) for line in lines]
    errors = [entry["eval_error"] for entry in log if "eval_error" in entry]
    assert min(errors) < errors[0]


def test_scores_are_in_the_unit_that_was_asked_for(place: Path):
    train(world.config(place, out=str(place / "plain"), unit="reward"))
    train(world.config(place, out=str(place / "std"), unit="std"))
    heads = [load_file(place / name / "head.safetensors") for name in ("plain", "std")]
    known = verify(place / "std").reward
    scaled = heads[1]["linear.weight"] * known["std"]
    torch.testing.assert_close(heads[0]["linear.weight"], scaled)
    torch.testing.assert_close(heads[0]["linear.bias"], heads[1]["linear.bias"] * known["std"])
    assert known["unit"] == "std"
    assert known["n"] > 0


def test_a_guide_stored_in_half_says_the_same_when_it_is_loaded(place: Path):
    for store in ("float32", "bfloat16"):
        train(world.config(place, out=str(place / store), store=store))
    sizes = [
        (place / s / "adapter/adapter_model.safetensors").stat().st_size
        for s in ("float32", "bfloat16")
    ]
    assert sizes[1] < 0.8 * sizes[0]
    lm = base(place)
    said = []
    for store in ("float32", "bfloat16"):
        guide = tt.load_guide(place / store, lm=lm)
        out = tt.decode(lm, guide, tt.args(0.0, k=3), toys.prompts(4), max_new_tokens=3)
        said.append([step.score for step in out[0].steps])
    assert said[0] == pytest.approx(said[1], abs=0.02)
    assert load_file(place / "bfloat16/head.safetensors")["linear.weight"].dtype == torch.float32


def test_the_lowest_validation_error_wins(place: Path):
    done = train(world.config(place, lr=[1e-5, 3e-3, 1e-2]))
    errors = [fit.error for fit in done.runs]
    assert done.best.error == min(errors)
    assert verify(done.folder).objective["lr"] == done.best.lr
    assert [fit.lr for fit in done.runs] == [1e-5, 3e-3, 1e-2]


def test_the_same_config_gives_the_same_guide(place: Path):
    for name in ("one", "two"):
        train(world.config(place, out=str(place / name)))
    for file in ("head.safetensors", "adapter/adapter_model.safetensors"):
        assert (place / "one" / file).read_bytes() == (place / "two" / file).read_bytes()


def test_accumulation_is_the_same_update(place: Path):
    settings = {"epochs": 1, "lora_rank": 0, "clip": 1e9, "head_lr": 5e-3}
    train(world.config(place, out=str(place / "one"), **settings))
    train(world.config(place, out=str(place / "two"), accumulation=2, **settings))
    one, two = (load_file(place / name / "head.safetensors") for name in ("one", "two"))
    torch.testing.assert_close(one["linear.weight"], two["linear.weight"], rtol=0.3, atol=5e-3)


def test_gradient_checkpointing_changes_nothing(place: Path):
    train(world.config(place, out=str(place / "one")))
    train(world.config(place, out=str(place / "two"), gradient_checkpointing=True))
    one, two = (load_file(place / name / "head.safetensors") for name in ("one", "two"))
    torch.testing.assert_close(one["linear.weight"], two["linear.weight"], rtol=1e-3, atol=1e-5)


def test_bf16_trains(place: Path):
    done = train(world.config(place, bf16=True))
    assert done.best.error < 2


def test_a_sum_of_rewards_is_learnt(place: Path):
    done = train(world.config(place, learn="even + 0.1*short"))
    known = verify(done.folder).reward
    values = [
        r.rewards["even"] + 0.1 * r.rewards["short"]
        for g in read_groups(place / "rollouts")
        for r in g.responses
    ]
    assert min(values) - 1e-6 <= known["least"] <= known["most"] <= max(values) + 1e-6


def evens(samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
    """How many words end in an even digit."""
    return [float(sum(word[-1] in "02468" for word in text.split())) for text in responses]


@dataclass(frozen=True)
class Words:
    """A task of prompts that are one word each."""

    name: str = "words"
    reward: Any = evens
    judge: Any = None
    max_new_tokens: int = world.LENGTH
    template: Literal["auto", "none"] = "none"

    def samples(self, split: str) -> list[Sample]:
        return [Sample(f"w{30 + i}", f"topic {i}") for i in range(12)]


def test_what_was_evaluated_is_learnt_from(place: Path):
    """Of several methods, the one that shows the base as it is."""
    evaluate(base(place), Words(), [tt.greedy(), tt.sampling()], place / "evaluated", n=8)
    done = train(world.config(place, data=[str(place / "evaluated")], learn="evens"))
    assert learnt(done) == 12 * 8
    known = verify(done.folder).reward
    assert (known["name"], known["least"] >= 0) == ("evens", True)


def test_validation_labels_decide_and_their_topics_are_held_out(place: Path):
    groups = read_groups(place / "rollouts")
    halves = [
        Group(g.prompt, g.responses, g.topic, prefix=g.responses[0].tokens[:2]) for g in groups[:4]
    ]
    write_groups(place / "labels", halves)
    done = train(world.config(place, validation=str(place / "labels")))
    held = {g.topic for g in groups[:4]}
    assert verify(done.folder).data["groups"] <= len(groups) - len(held)
    assert len(done.material.labelled) == 4


# --- bad input -----------------------------------------------------------------------------------


def test_a_guide_that_is_there_is_kept(place: Path):
    train(world.config(place))
    with pytest.raises(CheckpointError, match="must not exist yet"):
        train(world.config(place))
    train(world.config(place), overwrite=True)


def test_rewards_that_are_all_the_same_teach_nothing(place: Path):
    groups = [
        Group(g.prompt, tuple(world_same(r) for r in g.responses), g.topic)
        for g in read_groups(place / "rollouts")
    ]
    write_groups(place / "same", groups)
    with pytest.raises(DataError, match="better and worse responses"):
        train(world.config(place, data=[str(place / "same")]))


def world_same(response):
    return type(response)(response.tokens, response.text, rewards={"even": 1.0})


def test_no_data_and_unknown_rewards_say_what_to_do(place: Path):
    with pytest.raises(DataError, match="must have the reward 'odd'"):
        train(world.config(place, learn="odd"))
    with pytest.raises(UsageError, match="must be named"):
        train(world.config(place, learn=None))
    with pytest.raises(DataError, match="no odd among even, short"):
        train(world.config(place, learn="even + odd"))
    with pytest.raises(UsageError, match="data must be folders of groups"):
        train(world.config(place, data=[str(place / "nowhere")]))


def test_a_run_of_other_settings_is_not_taken_up(place: Path):
    train(world.config(place))
    shutil.rmtree(place / "guide")
    with pytest.raises(DataError, match="must be of the same run; got epochs 2 .now 3."):
        train(world.config(place, epochs=3))


def test_overwriting_clears_what_other_settings_left(place: Path):
    train(world.config(place, epochs=1))
    done = train(world.config(place, epochs=2), overwrite=True)
    run = json.loads((place / "guide.runs/lr-0.003/run.json").read_text())
    assert run["epochs"] == 2
    whole = train(world.config(place, out=str(place / "whole"), epochs=2))
    assert done.best == whole.best


def test_names_and_settings_are_a_config(place: Path):
    values = world.config(place).as_dict()
    names = [values.pop(name) for name in ("objective", "data", "out")]
    done = tt.train(*names, **values)
    again = train(world.config(place, out=str(place / "again")))
    assert done.best == again.best


def test_a_learning_rate_that_explodes_is_said(place: Path):
    with pytest.raises(TrainingError, match="finite validation error"):
        train(world.config(place, lr=[1e18], lora_rank=0, clip=1e30, head_lr=1e18, epochs=3))
    assert not (place / "guide").exists()


def test_groups_of_another_tokenizer_are_refused(place: Path):
    about = {"model": {"tokenizer": "another", "base_temperature": 1.0}}
    write_groups(place / "foreign", read_groups(place / "rollouts"), about)
    with pytest.raises(IncompatibleError, match="fingerprint another against the base's"):
        train(world.config(place, data=[str(place / "foreign")]))


def test_groups_of_two_policies_are_refused(place: Path):
    for t in (0.7, 1.0):
        about = {"model": {"base_temperature": t}}
        write_groups(place / f"at-{t}", read_groups(place / "rollouts"), about)
    with pytest.raises(DataError, match="the same base temperature; got 0.7, 1.0"):
        train(world.config(place, data=[str(place / "at-0.7"), str(place / "at-1.0")]))


def test_a_disk_that_fills_up_is_said_in_a_line(place: Path, monkeypatch: pytest.MonkeyPatch):
    """At the trainer's own checkpoint; after there is room again, it goes on."""
    whole = train(world.config(place, out=str(place / "whole")))

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("transformers.trainer.Trainer._save_optimizer_and_scheduler", full)
        with pytest.raises(
            OutputError, match="No space left on device; make room and run it again"
        ):
            train(world.config(place))
    assert not (place / "guide").exists()
    again = train(world.config(place))
    assert again.best.error == whole.best.error


def test_a_folder_that_cannot_be_written_is_said(place: Path):
    (place / "file").write_text("in the way")
    with pytest.raises(OutputError, match="must be writable"):
        train(world.config(place, out=str(place / "file" / "guide")))


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"objective": "td-lamda"}, "did you mean td-lambda"),
        ({"settings": {"lamda": 1}}, "did you mean lambda_"),
        ({"lr": []}, "lr must have one at least; got none"),
        ({"batch_size": 10, "accumulation": 3}, "accumulation must divide"),
        ({"epochs": 0}, "epochs must be a whole number, 1 or more; got 0"),
        ({"epoch": 2}, "did you mean epochs"),
        ({"data": []}, "data must have one at least; got none"),
        ({"data": None}, "data must be given"),
        ({"lr": [0.0]}, r"lr\[0\] must be a number, above 0; got 0.0"),
        ({"settings": {"lambda_": "much"}}, "lambda_ must be a number; got 'much'"),
        ({"held_out": "some"}, "held_out must be a number; got 'some'"),
        ({"bf16": 1}, "bf16 must be true or false; got 1"),
        ({"seed": 1.5}, "seed must be a whole number, 0 or more; got 1.5"),
    ],
)
def test_settings_that_cannot_be_meant(place: Path, values: dict[str, Any], error: str):
    with pytest.raises(UsageError, match=error):
        train(world.config(place, **values))


def test_a_config_is_read_from_yaml_and_flags_win(tmp_path: Path):
    path = tmp_path / "train.yaml"
    path.write_text("objective: fudge\ndata: [a, b]\nout: c\nlr: 1e-4\nclip: 3\n")
    found = read_config(path, seed=4, lr=(2e-4, 3e-4))
    assert found.objective == "fudge"
    assert found.data == ("a", "b")
    assert found.lr == (2e-4, 3e-4)
    assert found.seed == 4
    again = make_config(json.loads(json.dumps(found.as_dict())))
    assert again == found
    path.write_text("- not a mapping")
    with pytest.raises(UsageError, match="must map names to values"):
        read_config(path)
    path.write_text("objektive: fudge")
    with pytest.raises(UnknownNameError, match="did you mean objective"):
        read_config(path)


def test_tensorboard_logs_beside_our_own(place: Path):
    train(world.config(place, epochs=1, tensorboard=True))
    assert list((place / "guide.runs").rglob("events.out.tfevents*"))
    assert (place / "guide.runs/lr-0.003/log.jsonl").is_file()


# --- the first update, and nothing learnt --------------------------------------------------------


def one_update(place: Path, name: str, **changes: Any) -> Trained:
    layers = {"layers": None} if name == "genarm" else {}
    settings: dict[str, Any] = {"epochs": 1, "evaluations": 1, "batch_size": 10_000}
    if name == "partial-bradley-terry":
        settings["settings"] = {"prefixes": "all"}
    return train(world.config(place, name, **{**settings, **layers, **changes}))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_first_update_of_every_objective_gives_a_guide_that_decodes(place: Path, name: str):
    """All there is to learn in one update: its rate is not that of a warm-up that begins at 0."""
    done = one_update(place, name)
    assert (done.best.step, done.best.steps) == (1, 1)
    log = (place / "guide.runs/lr-0.003/log.jsonl").read_text().splitlines()
    rates = [entry["learning_rate"] for entry in map(json.loads, log) if "learning_rate" in entry]
    assert rates == [3e-3]
    card = verify(done.folder)
    assert card.objective["name"] == name
    assert card.adapter
    lm = base(place)
    guide = tt.load_guide(done.folder, lm=lm)
    out = tt.decode(lm, guide, tt.vas(2.0, k=5), toys.prompts(3, 4), n=2, max_new_tokens=4)
    assert len(out) == 4
    assert len({step.score for completion in out for step in completion.steps}) > 1


@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.5, 1.0])
def test_no_update_has_a_rate_of_zero(warmup: float):
    for updates in (1, 2, 3, 20, 41):
        first = math.ceil(warmup * updates)
        rates = [rate(i, warmup=first, updates=updates) for i in range(updates)]
        assert 0 < min(rates) <= max(rates) == 1
        assert rates[0] == (1 / first if first else 1)
        assert rates[first:] == sorted(rates[first:], reverse=True)


def test_a_training_that_changes_nothing_is_an_error(place: Path):
    """Twice: what a finished run left is no better when it is taken up again."""
    for _ in range(2):
        with pytest.raises(TrainingError, match=r"must change the guide's weights; got none .* 0 "):
            one_update(place, "td-lambda", lr=[1e-300], head_lr=1e-300)
    assert not (place / "guide").exists()


def test_a_guide_no_better_than_a_constant_says_so(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rewards that nothing in the text tells: in Python, in the card, on the screen."""
    groups = [
        Group(g.prompt, tuple(Response(r.tokens, r.text, rewards={"even": float(sum(r.tokens) % 2)})
                              for r in g.responses), g.topic)
        for g in read_groups(place / "rollouts")
    ]  # fmt: skip
    write_groups(place / "noise", groups)
    config = world.config(place, data=[str(place / "noise")], epochs=12, lora_rank=0, lr=[1e-2])
    with pytest.warns(TrimtabWarning, match=r"guide: no better than a constant: validation error"):
        done = train(config)
    assert done.best.error >= done.best.constant
    said = verify(done.folder).objective["validation"]
    assert said["constant"] == done.best.constant
    found = inspect_guide(done.folder, base(place))
    (audit,) = [f for f in found.findings if f.about == "validation"]
    assert audit.level == "warning"
    assert f"{done.best.constant:.4f}" in audit.message
    assert f"a constant's {done.best.constant:.4g}" in dict(found.facts)["validation"]


@pytest.mark.parametrize(
    ("name", "labelled"),
    [
        ("td-lambda", False),
        ("td-lambda", True),
        ("fudge", False),
        ("rad", False),
        ("genarm", False),
    ],
)
def test_a_constants_error_is_the_least_that_one_number_has(
    place: Path, name: str, labelled: bool, monkeypatch: pytest.MonkeyPatch
):
    """Measured by the trainer itself, with networks that say one number."""
    goal = objective(name)
    if labelled:
        groups = read_groups(place / "rollouts")[:4]
        halves = [Group(g.prompt, g.responses, g.topic, g.responses[0].tokens[:2]) for g in groups]
        write_groups(place / "labels", halves)
    seen: list[GuideTrainer] = []
    whole = GuideTrainer.constant_error

    def watched(self: GuideTrainer) -> float:
        seen.append(self)
        return whole(self)

    monkeypatch.setattr(GuideTrainer, "constant_error", watched)
    done = one_update(place, name, validation=str(place / "labels") if labelled else None)
    (trainer,) = seen
    labelled_prefixes, held_out = trainer.material.labelled, trainer.material.validation
    last, examples = bool(labelled_prefixes), labelled_prefixes or held_out
    if goal.pairs:
        assert done.best.constant == math.log(2)
        return
    which = goal.validated
    tried = [trainer._measure(examples, last=last, value=c / 20)[which] for c in range(-60, 60)]
    assert min(tried) - 2e-3 < done.best.constant <= min(tried) + 1e-6


# --- counts --------------------------------------------------------------------------------------


def sums(done: Trained, what: str, read: int) -> dict[str, int]:
    """What was left out of what was read; the rest is what was learnt from."""
    (tally,) = [t for t in done.material.counts if t.what == what]
    assert tally.read == tally.kept + sum(tally.left_out.values()) == read
    assert min(tally.left_out.values(), default=1) > 0
    card = verify(done.folder).data["counts"]
    assert tally.as_dict() in card
    return dict(tally.left_out)


def learnt(done: Trained) -> int:
    return sum(len(e.rows) for e in (*done.material.train, *done.material.validation))


def test_counts_of_responses_add_up_to_what_was_read(place: Path):
    groups = list(read_groups(place / "rollouts"))
    first, second = groups[0].responses[:2]
    scored = [replace(first, rewards={}), replace(second, tokens=second.tokens * 90)]
    groups[0] = replace(groups[0], responses=(*scored, *groups[0].responses[2:]))
    write_groups(place / "some", groups)
    halves = [Group(g.prompt, g.responses, g.topic, g.responses[0].tokens[:2]) for g in groups[4:6]]
    write_groups(place / "labels", [*halves, replace(halves[0], prefix=())])
    done = train(
        world.config(place, data=[str(place / "some")], validation=str(place / "labels"), epochs=1)
    )
    lost = sums(done, "responses", 12 * 8)
    assert lost == {
        "of topics that the labels are of": 16,
        "without the reward": 1,
        "longer than 128 tokens with the prompt": 1,
    }
    assert learnt(done) == 96 - 18
    assert sums(done, "labels", 3) == {"without a prefix": 1}


@pytest.mark.parametrize("prefixes", ["all", 0.25])
def test_counts_of_pairs_add_up_to_what_was_read(place: Path, prefixes: Any):
    """Pairs of people: a setting is no count, and the reasons are the cleaning's."""
    words = [f"w{30 + i}" for i in range(40)]
    rows = [{"prompt": f"{w} ", "chosen": f"{w} w5", "rejected": "w6 w7"} for w in words]
    rows += [rows[0], {"prompt": "w9 ", "chosen": "w5", "rejected": "w5"},
             {"prompt": "w9 ", "chosen": "w5 " * 600, "rejected": "w7"}]  # fmt: skip
    (place / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = train(
        world.config(
            place, "partial-bradley-terry", data=[str(place / "pairs.jsonl")], learn=None,
            settings={"prefixes": prefixes}, epochs=1,
        )
    )  # fmt: skip
    lost = sums(done, "pairs", 43)
    undrawn = lost.pop("of which no prefix was drawn", 0)
    # the tiny base has a context of 128
    assert lost == {"identical": 1, "longer than 128 tokens": 1, "repeated": 1}
    assert (undrawn > 0) == (prefixes != "all")
    assert learnt(done) == 2 * (40 - undrawn)


def test_counts_of_groups_and_of_their_pairs_add_up(place: Path):
    groups = list(read_groups(place / "rollouts"))
    alike = tuple(replace(r, rewards={"even": 1.0}) for r in groups[0].responses)
    groups[0] = replace(groups[0], responses=alike)
    write_groups(place / "some", groups)
    done = train(world.config(place, "bradley-terry", data=[str(place / "some")], epochs=1))
    assert sums(done, "groups", 12) == {"tied": 1}
    assert sums(done, "pairs", learnt(done) // 2) == {}
