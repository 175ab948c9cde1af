from __future__ import annotations

from typing import Any

import pytest
import torch

import trimtab as tt
from tests import toys
from trimtab.errors import GuideError, IncompatibleError, UsageError
from trimtab.types import Candidates, Vocab


def candidates(rows: int, k: int = 4, seed: int = 0) -> Candidates:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.stack([torch.randperm(90, generator=generator)[:k] + 3 for _ in range(rows)])[
        ..., None
    ]
    return Candidates(
        tokens,
        torch.full((rows, k), -1.0),
        torch.ones(rows, k, dtype=torch.int64),
        torch.zeros(rows, k, dtype=torch.bool),
    )


def scores(guide: Any, prompts: list[tt.Prompt], cand: Candidates) -> torch.Tensor:
    return guide.score(guide.prefill(prompts), cand)


def test_a_sum_is_the_sum() -> None:
    a, b = toys.value_guide(), toys.vocabulary_guide()
    mix = tt.WeightedSum([(2.0, a), (-0.5, b)])
    prompts, cand = toys.prompts(3, 5), candidates(2)
    want = 2 * scores(a, prompts, cand) - 0.5 * scores(b, prompts, cand)
    torch.testing.assert_close(scores(mix, prompts, cand), want)
    assert mix.name == "2 value + -0.5 vocabulary"


def test_rows_at_weight_zero_are_not_read() -> None:
    a, b = toys.value_guide(), toys.vocabulary_guide()
    mix = tt.WeightedSum([([0.0, 1.0, 0.0], a), (torch.tensor([[1.0], [2.0], [0.0]]), b), (0, a)])
    prompts, cand = toys.prompts(3, 5, 4), candidates(3)
    state = mix.prefill(prompts)
    assert (a.cost.prefill, b.cost.prefill) == (5, 8)
    got = mix.score(state, cand)
    assert a.cost.scored == 4
    want = torch.zeros(3, 4)
    want[1] = scores(toys.value_guide(), prompts, cand)[1]
    want[:2] += torch.tensor([[1.0], [2.0]]) * scores(toys.vocabulary_guide(), prompts, cand)[:2]
    torch.testing.assert_close(got, want)


def test_weights_follow_their_rows() -> None:
    a, b = toys.TableGuide(1), toys.TableGuide(2)
    weights = [0.0, 1.0, 2.0], [3.0, 0.0, 0.0]
    mix = tt.WeightedSum([(weights[0], a), (weights[1], b)])
    prompts = toys.prompts(3, 3, 3)
    state = mix.select(mix.prefill(prompts), torch.tensor([2, 0, 0, 1]))
    tokens = torch.tensor([[4], [5], [6], [7]])
    state = mix.extend(state, tokens, torch.ones(4, dtype=torch.int64))
    state = mix.join([state, mix.prefill(prompts)])
    state = mix.select(state, torch.tensor([6, 3, 1]))
    cand = candidates(3)
    got = mix.score(state, cand)
    texts = [prompts[2].ids, (*prompts[1].ids, 7), (*prompts[0].ids, 5)]
    for row, (text, i) in enumerate(zip(texts, (2, 1, 0), strict=True)):
        for k in range(4):
            ids = (*text, int(cand.tokens[row, k, 0]))
            want = weights[0][i] * a.value(ids) + weights[1][i] * b.value(ids)
            assert float(got[row, k]) == pytest.approx(want, abs=1e-5)


def test_a_part_may_lose_all_its_rows() -> None:
    a = toys.value_guide()
    mix = tt.WeightedSum([([1.0, 0.0], a)])
    state = mix.select(mix.prefill(toys.prompts(3, 4)), torch.tensor([1]))
    state = mix.extend(state, torch.tensor([[5]]), torch.tensor([1]))
    assert not mix.score(mix.join([state, state]), candidates(2)).any()
    assert a.cost.scored == 0


def test_decoding_a_mix_row_by_row() -> None:
    lm, prompts = toys.language_model(), toys.prompts(3, 7, 5)
    a, b = toys.value_guide(), toys.vocabulary_guide()
    pure = {
        w: tt.decode(
            lm,
            tt.WeightedSum([(w[0], a), (w[1], b)]),
            tt.vas(3.0, k=5),
            [prompt],
            max_new_tokens=8,
            n=2,
            stop_at_eos=False,
        )
        for w, prompt in zip([(1.0, 0.0), (0.0, 1.0), (2.0, -1.0)], prompts, strict=True)
    }
    mix = tt.WeightedSum([([1.0, 0.0, 2.0], a), ([0.0, 1.0, -1.0], b)])
    before = a.cost.scored
    got = tt.decode(lm, mix, tt.vas(3.0, k=5), prompts, max_new_tokens=8, n=2, stop_at_eos=False)
    assert [c.tokens for c in got] == [c.tokens for cs in pure.values() for c in cs]
    assert a.cost.scored - before == 4 * 8 * 5  # four of the six rows, k tokens each
    assert mix.cost.decoding == a.cost.decoding + b.cost.decoding


def test_guide_tokens_of_a_sum_are_counted() -> None:
    mix = tt.WeightedSum([(1.0, toys.value_guide()), (1.0, toys.vocabulary_guide())])
    done = tt.decode(
        toys.language_model(),
        mix,
        tt.args(1.0, k=6),
        toys.prompts(4),
        max_new_tokens=5,
        stop_at_eos=False,
    )[0]
    # k for the value function each turn; one for the other guide, for each turn but the first
    assert done.guide_tokens == 5 * 6 + 4


def test_the_same_guide_twice_costs_once_in_the_sum() -> None:
    a = toys.value_guide()
    mix = tt.WeightedSum([(1.0, a), (1.0, tt.Clamp(a, 0.0, 1.0))])
    scores(mix, toys.prompts(3), candidates(1))
    assert mix.cost.scored == a.cost.scored == 8


def test_vocab() -> None:
    a = toys.value_guide(vocab=Vocab(97, "x"))
    assert tt.WeightedSum([(1.0, toys.TableGuide())]).vocab is None
    assert tt.WeightedSum([(1.0, toys.value_guide()), (1.0, a)]).vocab == Vocab(97, "x")
    with pytest.raises(IncompatibleError, match="same token ids; got 'value' with"):
        tt.WeightedSum([(1.0, a), (1.0, toys.value_guide(vocab=Vocab(97, "y")))])


def test_bad_weights() -> None:
    a = toys.TableGuide()
    with pytest.raises(UsageError, match="must have parts"):
        tt.WeightedSum([])
    with pytest.raises(UsageError, match="weight of 'table' must be finite; got nan"):
        tt.WeightedSum([(float("nan"), a)])
    with pytest.raises(UsageError, match=r"one per prompt \(2\); got 3 numbers"):
        tt.WeightedSum([([1.0, 2.0, 3.0], a)]).prefill(toys.prompts(2, 2))


class Narrow(toys.TableGuide):
    def score(self, state: Any, candidates: Candidates) -> torch.Tensor:
        return torch.zeros(len(state), 1)


def test_a_part_of_the_wrong_shape_is_named() -> None:
    mix = tt.WeightedSum([(1.0, toys.TableGuide()), (1.0, Narrow(name="narrow"))])
    with pytest.raises(GuideError, match="'narrow' must return scores of shape"):
        scores(mix, toys.prompts(3), candidates(1))


def test_transforms() -> None:
    prompts, cand = toys.prompts(3, 5), candidates(2)
    plain = scores(toys.TableGuide(), prompts, cand)
    guide = toys.TableGuide()
    torch.testing.assert_close(scores(tt.LogSigmoid(guide), prompts, cand), plain.sigmoid().log())
    assert torch.equal(scores(tt.Clamp(guide, -0.1, 0.2), prompts, cand), plain.clamp(-0.1, 0.2))
    centred = scores(tt.Center(guide), prompts, cand)
    torch.testing.assert_close(centred, plain - plain.mean(1, keepdim=True))
    assert tt.Clamp(guide).name == "table"
    assert tt.Clamp(guide).cost is guide.cost
    with pytest.raises(UsageError, match="low and high must be numbers, low below high"):
        tt.Clamp(guide, 1.0, 0.0)


class Infinite(toys.TableGuide):
    def score(self, state: Any, candidates: Candidates) -> torch.Tensor:
        return torch.full(candidates.shape[:2], torch.inf)


@pytest.mark.parametrize("wrap", [tt.LogSigmoid, tt.Clamp, tt.Center])
def test_transforms_hide_no_fault(wrap: Any) -> None:
    assert not scores(wrap(Infinite()), toys.prompts(3), candidates(1)).isfinite().any()


def test_centring_leaves_the_law_with_a_tail_alone() -> None:
    lm, prompts = toys.language_model(), toys.prompts(3, 5)
    plain = tt.decode(lm, toys.value_guide(), tt.vas(2.0, k=5), prompts, max_new_tokens=6)
    centred = tt.decode(
        lm, tt.Center(toys.value_guide()), tt.vas(2.0, k=5), prompts, max_new_tokens=6
    )
    assert [c.tokens for c in plain] == [c.tokens for c in centred]
    for a, b in zip(plain, centred, strict=True):
        assert a.kl == pytest.approx(b.kl, abs=1e-4)
