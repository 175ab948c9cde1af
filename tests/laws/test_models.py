"""Every model by every law; and broken models, to see that the laws see."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

import trimtab as tt
from tests import toys
from tests.laws.things import MODELS
from trimtab.errors import LawError
from trimtab.testing import LAWS_OF_MODELS, check_model


@pytest.mark.parametrize("law", LAWS_OF_MODELS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", MODELS)
def test_law(name: str, law: Any) -> None:
    check_model(MODELS[name](), laws=[law])


class Tempers(tt.TableLM):
    """Log-probabilities that do not sum to one."""

    def propose(self, state: Any, proposal: Any, rng: Any) -> Any:
        found = super().propose(state, proposal, rng)
        return dataclasses.replace(found, logprobs=found.logprobs * 0.9)


class Unsorted(tt.TableLM):
    """The top k in id order."""

    def propose(self, state: Any, proposal: Any, rng: Any) -> Any:
        found = super().propose(state, proposal, rng)
        if not isinstance(proposal, tt.TopK):
            return found
        order = found.tokens[:, :, 0].argsort(dim=-1)
        return dataclasses.replace(
            found,
            tokens=found.tokens.gather(1, order[..., None]),
            logprobs=found.logprobs.gather(1, order),
            ends=found.ends.gather(1, order),
        )


class DrawsInside(tt.TableLM):
    """The tail's draw may be a candidate."""

    def draw_tail(self, state: Any, candidates: Any, rng: Any) -> Any:
        return candidates.tokens[:, 0, 0], candidates.logprobs[:, 0]


class OneStream(tt.TableLM):
    """Blocks that depend on the batch."""

    def propose(self, state: Any, proposal: Any, rng: Any) -> Any:
        if isinstance(proposal, tt.Samples):
            rng = dataclasses.replace(rng, keys=rng.keys + len(rng.keys))
        return super().propose(state, proposal, rng)


class WrongSum(tt.TableLM):
    """Blocks whose log-probability is their last token's."""

    def propose(self, state: Any, proposal: Any, rng: Any) -> Any:
        found = super().propose(state, proposal, rng)
        if isinstance(proposal, tt.Samples):
            found = dataclasses.replace(found, logprobs=found.logprobs / 2)
        return found


class Forgets(tt.TableLM):
    """Reads no more than its prompt."""

    def extend(self, state: Any, tokens: Any, lengths: Any) -> Any:
        return state


class Swaps(tt.TableLM):
    """select mixes up rows."""

    def select(self, state: Any, rows: torch.Tensor) -> Any:
        return super().select(state, rows.flip(0))


class ReadsOneAtLeast(tt.TableLM):
    """extend gives every row a token."""

    def extend(self, state: Any, tokens: Any, lengths: Any) -> Any:
        return super().extend(state, tokens, lengths.clamp(min=1))


class EosOutside(tt.TableLM):
    """An EOS that is no token."""

    def __init__(self) -> None:
        super().__init__()
        self.eos_ids = frozenset({0, 99})


@pytest.mark.parametrize(
    ("broken", "law"),
    [
        (Tempers, "laws are normalised"),
        (Unsorted, "top k are the likeliest"),
        (DrawsInside, "tail is drawn outside"),
        (OneStream, "samples do not depend"),
        (WrongSum, "samples follow the law"),
        (Forgets, "cached reading"),
        (Swaps, "select moves rows"),
        (ReadsOneAtLeast, "rows that gain nothing"),
        (EosOutside, "eos ids are tokens"),
    ],
    ids=lambda x: x.__name__ if isinstance(x, type) else "",
)
def test_the_laws_catch(broken: type[tt.TableLM], law: str) -> None:
    with pytest.raises(LawError, match=law):
        check_model(broken())


def test_a_wrong_position_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = toys.language_model("gpt2")
    forward = lm.model.forward

    def restarted(**arguments: Any) -> Any:
        if arguments["input_ids"].shape[1] == 1 and "position_ids" in arguments:
            arguments["position_ids"] = arguments["position_ids"] * 0
        return forward(**arguments)

    monkeypatch.setattr(lm.model, "forward", restarted)
    with pytest.raises(LawError, match="cached reading|batch"):
        check_model(lm)
