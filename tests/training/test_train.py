"""From groups to a guide that decodes, for every objective, through the public functions."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

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
    UnknownNameError,
    UsageError,
)
from trimtab.guides.checkpoint import verify
from trimtab.training.config import make_config, read_config
from trimtab.training.objectives import OBJECTIVES
from trimtab.training.store import read_groups, write_groups
from trimtab.training.train import train
from trimtab.types import Group


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


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_gives_a_guide_that_decodes(place: Path, name: str):
    layers = {"layers": None} if name == "genarm" else {}
    done = train(world.config(place, name, epochs=1, prefixes="2", evaluations=1, **layers))
    card = verify(done.folder)
    assert card.objective["name"] == name
    assert card.adapter
    lm = base(place)
    guide = tt.load_guide(done.folder, lm=lm)
    method = tt.vas(beta=2.0, k=5)
    out = tt.decode(lm, guide, method, toys.prompts(3, 4), n=2, max_new_tokens=4)
    assert len(out) == 4
    assert any(step.score != 0 for completion in out for step in completion.steps)


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
    settings = {"epochs": 1, "lora_rank": 0, "clip": 1e9}
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
    done = train(world.config(place, reward="even + 0.1*short"))
    known = verify(done.folder).reward
    values = [
        r.rewards["even"] + 0.1 * r.rewards["short"]
        for g in read_groups(place / "rollouts")
        for r in g.responses
    ]
    assert min(values) - 1e-6 <= known["least"] <= known["most"] <= max(values) + 1e-6


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
        train(world.config(place, reward="odd"))
    with pytest.raises(UsageError, match="must be named"):
        train(world.config(place, reward=None))
    with pytest.raises(DataError, match="no odd among even, short"):
        train(world.config(place, reward="even + odd"))
    with pytest.raises(UsageError, match="data must be folders of groups"):
        train(world.config(place, data=[str(place / "nowhere")]))


def test_a_run_of_other_settings_is_not_taken_up(place: Path):
    train(world.config(place))
    shutil.rmtree(place / "guide")
    with pytest.raises(DataError, match="must be of the same run; got epochs 2 .now 3."):
        train(world.config(place, epochs=3))


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
        ({"settings": {"lamda": 1}}, "must be its own"),
        ({"lr": []}, "lr must be above 0"),
        ({"batch_size": 10, "accumulation": 3}, "accumulation must divide"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"epoch": 2}, "did you mean epochs"),
        ({"data": []}, "data must be given"),
    ],
)
def test_settings_that_cannot_be_meant(place: Path, values: dict, error: str):
    with pytest.raises(UsageError, match=error):
        train(world.config(place, **values))


def test_a_config_is_read_from_yaml_and_flags_win(tmp_path: Path):
    path = tmp_path / "train.yaml"
    path.write_text("objective: fudge\ndata: [a, b]\nout: c\nlr: 1e-4\nprefixes: 3\n")
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
