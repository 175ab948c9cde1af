"""Heads on the base's own states: what is computed once is what decoding sees; they steer."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

import trimtab as tt
from tests import toys
from tests.training import train_world as world
from trimtab.errors import TrainingError, UsageError
from trimtab.guides import EmbeddingHead, StateGuide, VocabularyGuide
from trimtab.protocols import OffersStates
from trimtab.rng import Rng
from trimtab.runs import write_groups
from trimtab.training.examples import Example, Row
from trimtab.training.network import with_states
from trimtab.training.run import train
from trimtab.types import TopK

RNG = Rng(0, torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64))

pytestmark = pytest.mark.filterwarnings("ignore::trimtab.errors.TrimtabWarning")


def on_states(folder: Path, objective: str = "value-advantage", **changes: Any) -> Any:
    plain = {"reads": "states", "layers": None, "width": 32, "epochs": 6, "head_lr": 3e-3}
    return world.config(folder, objective, **{**plain, **changes})


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("states")
    world.save_base(folder / "base")
    write_groups(folder / "rollouts", world.rollouts(folder / "base", prompts=16, n=40))
    return folder


@pytest.mark.parametrize("layer", [2, 4])
def test_states_are_those_that_decoding_offers(tmp_path: Path, layer: int) -> None:
    """Rows of one example share their prompt's reading; each state is that of its own prefix."""
    lm = toys.language_model()
    prompt, rows = (5, 6, 7), (Row((8, 9, 10), 0.0), Row((11, 12), 0.0))
    [example] = with_states([Example(prompt, rows)], lm.model, layer, tmp_path, bf16=False)
    [again] = with_states([Example(prompt, rows)], lm.model, layer, tmp_path, bf16=False)
    assert isinstance(lm, OffersStates)
    offering: Any = lm.offering(frozenset({layer}))
    for row, states, kept in zip(rows, example.states or (), again.states or (), strict=True):
        assert torch.equal(states, kept)
        for t in range(len(row.tokens) + 1):
            read = offering.prefill([tt.types.Prompt(prompt + row.tokens[:t])])
            seen = offering.propose(read, TopK(3), RNG).states[layer][0]
            torch.testing.assert_close(states[t].float(), seen, atol=2e-3, rtol=2e-3)


def test_states_that_half_precision_cannot_hold_are_said(tmp_path: Path) -> None:
    net: Any = copy.deepcopy(toys.causal_lm())
    net.model.norm.weight.data.mul_(1e6)
    example = Example((5, 6, 7), (Row((8, 9), 0.0),))
    with pytest.raises(TrainingError, match="finite in half precision; got larger ones"):
        with_states([example], net, 4, tmp_path, bf16=False)
    assert not list(tmp_path.iterdir())


def test_a_head_on_states_learns_and_steers_for_nothing(ready: Path) -> None:
    done = train(on_states(ready))
    assert done.best.error < done.best.constant
    lm = tt.TransformersLM(str(ready / "base"), dtype="float32", device="cpu")
    guide = tt.load_guide(done.folder, lm=lm)
    assert isinstance(guide, StateGuide)
    assert sum(path.stat().st_size for path in done.folder.iterdir()) < 50_000
    asked = toys.prompts(*[3] * 6, seed=11)

    def mean(beta: float) -> float:
        out = tt.decode(lm, guide, tt.vas(beta=beta, k=10), asked, n=20, max_new_tokens=6)
        assert sum(c.guide_tokens for c in out) == 0
        return sum(world.reward(c.tokens) for c in out) / len(out)

    assert mean(20.0) > mean(0.0) + 0.03


@pytest.mark.parametrize("objective", ["q", "dueling-q", "ilql"])
def test_other_objectives_speak_through_embeddings_too(ready: Path, objective: str) -> None:
    free = train(on_states(ready, objective, out=str(ready / f"free-{objective}"), epochs=1))
    assert free.best.error > 0
    own = world.config(ready, objective, width=16, out=str(ready / f"own-{objective}"), epochs=1)
    lm = tt.TransformersLM(str(ready / "base"), dtype="float32", device="cpu")
    guide = tt.load_guide(train(own).folder, lm=lm)
    assert isinstance(guide, VocabularyGuide)
    assert isinstance(guide.head, EmbeddingHead)
    assert tt.decode(lm, guide, tt.vas(k=5), ["w5"], max_new_tokens=3)


def test_a_value_has_no_place_on_states(ready: Path) -> None:
    with pytest.raises(UsageError, match="scores next tokens; got an objective of a scalar head"):
        train(on_states(ready, "td-lambda", out=str(ready / "value")))
