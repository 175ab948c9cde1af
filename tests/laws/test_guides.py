"""Every guide by every law; and broken guides, to see that the laws see."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests import toys
from tests.laws.things import GUIDES, text_guide
from trimtab.errors import LawError, UsageError
from trimtab.testing import LAWS_OF_GUIDES, check_guide
from trimtab.types import Candidates

EOS = frozenset({toys.EOS})


@pytest.mark.parametrize("law", LAWS_OF_GUIDES, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", GUIDES)
def test_law(name: str, law: Any) -> None:
    seam = name == "sum-of-both-kinds"
    check_guide(GUIDES[name](), vocab_size=toys.VOCABULARY, eos_ids=EOS, seam=seam, laws=[law])


def test_prompts_may_be_texts_beside_a_model() -> None:
    lm = toys.language_model()
    check_guide(toys.value_guide(), ["w5 w6", "w7", "w8 w9 w10"], lm=lm)


def test_too_little_to_try_a_guide() -> None:
    with pytest.raises(UsageError, match="number of token ids must be known"):
        check_guide(text_guide())
    with pytest.raises(UsageError, match="three or more prompts"):
        check_guide(text_guide(), ["w5"] * 3, vocab_size=9)


class Shell:
    """A good guide in a shell; each subclass breaks one thing."""

    name, vocab = "broken", None

    def __init__(self) -> None:
        self.inner = toys.value_guide()
        self.vocab = self.inner.vocab

    @property
    def cost(self) -> Any:
        return self.inner.cost

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class IgnoresPosition(Shell):
    """Reads every new token as if it stood right after the prompt's first token."""

    def extend(self, state: Any, tokens: Any, lengths: Any) -> Any:
        state.scored = None
        with torch.inference_mode():
            before, state.lengths = state.lengths, state.lengths.clamp(max=1)
            after = self.inner.extend(state, tokens, lengths)
            after.lengths = before + lengths
        return after


class RemembersScores(Shell):
    """score adds a count of its calls."""

    calls = 0.0

    def score(self, state: Any, candidates: Candidates) -> Any:
        self.calls += 0.01
        return self.inner.score(state, candidates) + self.calls


class MixesRows(Shell):
    """score subtracts the batch's mean."""

    def score(self, state: Any, candidates: Candidates) -> Any:
        scores = self.inner.score(state, candidates)
        return scores - scores.mean()


class ForgetsTheOrder(Shell):
    """select leaves the rows where they were."""

    def select(self, state: Any, rows: torch.Tensor) -> Any:
        return self.inner.select(state, torch.arange(len(rows)))


class SharesForks(toys.TableGuide):
    """Forked rows are one list, which extend writes into."""

    def __init__(self) -> None:
        super().__init__()
        self.vocab = toys.value_guide().vocab  # type: ignore[assignment]

    def prefill(self, prompts: Any) -> Any:
        return [list(prompt.ids) for prompt in prompts]

    def extend(self, state: Any, tokens: Any, lengths: Any) -> Any:
        for row, new, n in zip(state, tokens.tolist(), lengths.tolist(), strict=True):
            row.extend(new[:n])
        return state

    def score(self, state: Any, candidates: Candidates) -> Any:
        return super().score([tuple(row) for row in state], candidates)


class JoinsBackwards(Shell):
    """join turns the states round."""

    def join(self, states: Any) -> Any:
        return self.inner.join(states[::-1])


class TellsByPlace(Shell):
    """A candidate's score depends on its place."""

    def score(self, state: Any, candidates: Candidates) -> Any:
        return self.inner.score(state, candidates) + torch.arange(candidates.shape[1]) * 0.01


class ReadsPadding(Shell):
    """extend reads what stands behind a row's tokens."""

    def extend(self, state: Any, tokens: Any, lengths: Any) -> Any:
        return self.inner.extend(state, tokens, torch.full_like(lengths, tokens.shape[1]))


class ReadsOneAtLeast(Shell):
    """extend gives every row a token."""

    def extend(self, state: Any, tokens: Any, lengths: Any) -> Any:
        return self.inner.extend(state, tokens, lengths.clamp(min=1))


class ScoresTheFirstToken(Shell):
    """Candidates of several tokens are scored by their first."""

    def score(self, state: Any, candidates: Candidates) -> Any:
        first = Candidates(candidates.tokens[:, :, :1], candidates.logprobs,
                           torch.ones_like(candidates.lengths), candidates.ends)  # fmt: skip
        return self.inner.score(state, first)


class SaysNaN(Shell):
    """One score is no number."""

    def score(self, state: Any, candidates: Candidates) -> Any:
        return self.inner.score(state, candidates).index_fill(1, torch.tensor([0]), torch.nan)


class Rereads(Shell):
    """Counts recomputed tokens."""

    def score(self, state: Any, candidates: Candidates) -> Any:
        self.cost.add(recomputed=1)
        return self.inner.score(state, candidates)


@pytest.mark.parametrize(
    ("broken", "law"),
    [
        (IgnoresPosition, "cached reading|score leaves the state"),
        (RemembersScores, "score leaves the state as it was"),
        (MixesRows, "a batch equals each row alone|ragged extensions"),
        (ForgetsTheOrder, "select moves rows"),
        (SharesForks, "forks are independent"),
        (JoinsBackwards, "joined rows equal each alone"),
        (TellsByPlace, "scores follow permuted candidates"),
        (ReadsPadding, "ragged extensions read only their tokens"),
        (ReadsOneAtLeast, "rows that gain nothing"),
        (ScoresTheFirstToken, "long candidates"),
        (SaysNaN, "scores are one finite number"),
        (Rereads, "costs grow"),
    ],
    ids=lambda x: x.__name__ if isinstance(x, type) else "",
)
def test_the_laws_catch(broken: type[Any], law: str) -> None:
    with pytest.raises(LawError, match=law):
        check_guide(broken())
