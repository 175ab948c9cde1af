"""What objectives converge to, against enumeration. Largest errors are 0.02 and mostly far less."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.exact import training_world as world
from trimtab.errors import UsageError
from trimtab.training.objectives import (
    ILQL,
    BradleyTerry,
    DuelingQ,
    FaRMA,
    Fudge,
    GenARM,
    Objective,
    PartialBradleyTerry,
    QLearning,
    Rad,
    TDLambda,
    ValueAdvantage,
)
from trimtab.training.objectives.values import lambda_returns

BOUND = 0.02


# --- returns -------------------------------------------------------------------------------------


def forward_view(values: list[float], reward: float, lambda_: float) -> list[float]:
    """Sutton and Barto, Eq. 12.3: every n-step return, weighted by (1 - lambda) lambda^(n - 1)."""
    last = len(values) - 1
    found = []
    for t in range(last):
        steps = last - t  # the n-step return of n = steps and more is the reward itself
        total = lambda_ ** (steps - 1) * reward
        for n in range(1, steps):
            total += (1 - lambda_) * lambda_ ** (n - 1) * values[t + n]
        found.append(total)
    return [*found, reward]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(st.floats(-3, 3), min_size=2, max_size=9), st.floats(-3, 3)),
        min_size=1,
        max_size=4,
    ),
    st.floats(0, 1),
)
def test_lambda_returns_are_the_forward_view(rows, lambda_):
    size = max(len(values) for values, _ in rows)
    padded = torch.tensor([v + [math.nan] * (size - len(v)) for v, _ in rows], dtype=torch.float64)
    lengths = torch.tensor([len(v) - 1 for v, _ in rows])
    rewards = torch.tensor([r for _, r in rows], dtype=torch.float64)
    found = lambda_returns(padded, rewards, lengths, lambda_)
    for i, (values, reward) in enumerate(rows):
        want = forward_view(values, reward, lambda_)
        assert found[i, : len(want)].tolist() == pytest.approx(want, abs=1e-6)


def test_lambda_outside_its_range_is_refused():
    with pytest.raises(UsageError, match="lambda_ must be in"):
        lambda_returns(torch.zeros(1, 3), torch.zeros(1), torch.tensor([2]), 1.5)


# --- values --------------------------------------------------------------------------------------


def largest_error(table: world.Table, of=world.reward) -> float:
    assert table.values is not None
    return max(abs(table.values[i].item() - world.value(p, of)) for p, i in table.place.items())


@pytest.mark.parametrize("lambda_", [0.0, 0.5, 0.95, 1.0])
def test_td_lambda_converges_to_the_value_of_pi_ref(lambda_):
    """CD-Q, TD(lambda) and Monte Carlo; every state, the prompt and finished responses too."""
    found = world.learn(TDLambda(lambda_), world.Table(), world.batch(world.rollouts()))
    assert largest_error(found) < BOUND


def label(response: world.Prefix) -> float:
    return float(world.reward(response) > 0)


def test_fudge_converges_to_the_log_odds_of_the_class():
    found = world.learn(Fudge(), world.Table(), world.batch(world.rollouts(), label), lr=0.1)
    assert found.values is not None
    found.values = torch.sigmoid(found.values)
    assert largest_error(found, label) < BOUND


def test_soft_labels_give_the_law_of_the_tilted_policy():
    """At beta = 1 the guide log E[y | s] steers to pi_ref(y) y / E[y], exactly."""

    def soft(response: world.Prefix) -> float:
        return math.exp((world.reward(response) - 1) / 0.5)

    found = world.learn(Fudge(), world.Table(), world.batch(world.rollouts(), soft), lr=0.1)
    assert found.values is not None
    score = torch.nn.functional.logsigmoid(found.values)
    worst = 0.0
    total = world.value((), soft)
    for response, p in world.responses():
        steered = 1.0
        for t in range(len(response)):
            children = [(*response[:t], v) for v in range(world.SIZE)]
            weights = [
                world.law(response[:t])[v] * score[found.place[c]].exp().item()
                for v, c in enumerate(children)
            ]
            steered *= weights[response[t]] / sum(weights)
        worst = max(worst, abs(steered - p * soft(response) / total))
    assert worst < BOUND


def test_rad_converges_to_its_weighted_mean():
    """A response of T tokens gives each of its prefixes weight 1 / (1 + ... + T)."""
    found = world.learn(Rad(), world.Table(), world.batch(world.rollouts()))
    assert found.values is not None
    for prefix, i in found.place.items():
        if not prefix:
            continue  # a prefix of no token has no weight
        rows = [(r, p / sum(range(1, len(r) + 1))) for r, p in world.responses(prefix)]
        want = sum(w * world.reward(r) for r, w in rows) / sum(w for _, w in rows)
        assert found.values[i].item() == pytest.approx(want, abs=BOUND)


# --- heads over the vocabulary -------------------------------------------------------------------


def largest_q_error(scores: torch.Tensor, place: dict[world.Prefix, int]) -> float:
    return max(
        abs(scores[i, v].item() - world.value((*prefix, v)))
        for prefix, i in place.items()
        if not world.finished(prefix)
        for v in range(world.SIZE)
    )


@pytest.mark.parametrize("lambda_", [0.0, 0.95, 1.0])
@pytest.mark.parametrize("bootstrap", ["sampled", "exact"])
def test_q_learning_converges_to_the_value_of_every_token(lambda_, bootstrap):
    goal = QLearning(lambda_, bootstrap)
    found = world.learn(goal, world.Table(values=False, scores=True), world.batch(world.rollouts()))
    assert found.scores is not None
    assert largest_q_error(found.scores, found.place) < BOUND


@pytest.mark.parametrize("goal", [DuelingQ(), DuelingQ(0.0, "exact"), ValueAdvantage(0.95)])
def test_dueling_heads_converge_to_the_value_of_every_token(goal: Objective):
    table = world.Table(scores=True)
    found = world.learn(goal, table, world.batch(world.rollouts()), dueling=True)
    assert found.values is not None
    assert found.scores is not None
    whole = found.values[:, None] + found.scores
    assert largest_q_error(whole, found.place) < BOUND
    if isinstance(goal, ValueAdvantage):
        assert largest_error(found) < BOUND


@pytest.mark.slow
def test_ilql_with_the_mean_for_an_expectile_is_the_value_of_pi_ref():
    goal = ILQL(tau=0.5, conservatism=0.0)
    data = world.batch(world.rollouts())
    found = world.learn(goal, world.Table(scores=True), data, steps=3000)
    assert found.scores is not None
    assert largest_q_error(found.scores, found.place) < BOUND


def test_ilql_with_a_high_expectile_is_above_the_mean():
    data = world.batch(world.rollouts())
    found = world.learn(ILQL(tau=0.9, conservatism=0.0), world.Table(scores=True), data)
    assert found.values is not None
    assert found.values[found.place[()]].item() > world.value(()) + 0.05


# --- preferences ---------------------------------------------------------------------------------

# Responses of two tokens from two, without EOS: 1 x and 2 x. Whether the first is preferred depends
# on the second token alone, more often for 1 than for 2, so a prefix of one token has a preference
# that only its continuations decide.
LABELS = {
    ((1, 1), (2, 1)): 3,
    ((2, 1), (1, 1)): 1,
    ((1, 1), (2, 2)): 4,
    ((2, 2), (1, 1)): 1,
    ((1, 2), (2, 1)): 2,
    ((2, 1), (1, 2)): 2,
    ((1, 2), (2, 2)): 3,
    ((2, 2), (1, 2)): 2,
}


def preference_data():
    rows = [pair for pair, n in LABELS.items() for _ in range(n)]
    return world.batch(world.interleaved(rows), lambda _: 0.0)


def enumerated(first: world.Prefix, second: world.Prefix) -> float:
    """P(y1 is preferred to y2 | y1 begins with first, y2 with second), under the data."""
    n = len(first)
    seen = [((better[:n], worse[:n]), count) for (better, worse), count in LABELS.items()]
    won = sum(count for pair, count in seen if pair == (first, second))
    lost = sum(count for pair, count in seen if pair == (second, first))
    return won / (won + lost)


def test_partial_bradley_terry_converges_to_the_preference_of_prefixes():
    """PARGS, Lemma 2."""
    found = world.learn(PartialBradleyTerry(), world.Table(), preference_data())
    assert found.values is not None
    gap = found.values[found.place[(1,)]] - found.values[found.place[(2,)]]
    assert torch.sigmoid(gap).item() == pytest.approx(enumerated((1,), (2,)), abs=BOUND)


def test_full_bradley_terry_leaves_prefixes_as_they_were():
    """PARGS, Theorem 1: any values of prefixes have the same loss, so none is learnt."""
    torch.manual_seed(3)
    table = world.Table()
    assert table.values is not None
    with torch.no_grad():
        table.values.normal_()
    before = table.values.detach().clone()
    found = world.learn(BradleyTerry(), table, preference_data())
    assert found.values is not None
    ones, twos = found.place[(1,)], found.place[(2,)]
    assert found.values[ones] == before[ones]
    assert found.values[twos] == before[twos]
    gap = torch.sigmoid(found.values[ones] - found.values[twos]).item()
    assert abs(gap - enumerated((1,), (2,))) > 5 * BOUND
    whole = found.values[found.place[(1, 1)]] - found.values[found.place[(2, 1)]]
    assert torch.sigmoid(whole).item() == pytest.approx(enumerated((1, 1), (2, 1)), abs=0.1)


@pytest.mark.parametrize(("padding", "counted"), [("repeat", 3), ("cut", 2)])
def test_the_padding_of_the_shorter_response_is_as_said(padding, counted):
    """Beyond its end the finished response's own score stands, or nothing does."""
    index, batch = world.batch([(1, 2, 1), (2, 0)], lambda _: 0.0)
    table = world.Table()
    assert table.values is not None
    with torch.no_grad():
        table.values[table.place[(1, 2, 1)]] = 5.0
        table.values[table.place[(2, 0)]] = 1.0
    loss, _ = PartialBradleyTerry(padding)(table(index), batch)
    zero, final = math.log(2), math.log(1 + math.exp(-4.0))
    second = math.log(1 + math.exp(1.0))  # (1, 2) says 0 and the finished (2, 0) says 1
    want = [zero, second, final][:counted]
    assert loss.item() == pytest.approx(sum(want) / counted, abs=1e-5)


def test_prefixes_that_were_not_drawn_are_not_trained_on():
    index, batch = world.batch([(1, 2, 1), (2, 2, 2)], lambda _: 0.0)
    marks = torch.tensor([[False, False, True, False]])
    table = world.Table()
    drawn = type(batch)(batch.tokens, batch.lengths, batch.rewards, prefixes=marks)
    PartialBradleyTerry()(table(index), drawn)[0].backward()
    assert table.values is not None
    assert table.values.grad is not None
    touched = {p for p, i in table.place.items() if table.values.grad[i] != 0}
    assert touched == {(1, 2), (2, 2)}


@pytest.mark.slow
def test_farma_makes_a_prefix_worth_its_best_continuation():
    found = world.learn(
        FaRMA(), world.Table(values=False, scores=True), preference_data(), steps=3000
    )
    assert found.scores is not None
    for first in (1, 2):
        after = found.scores[found.place[(first,)]]
        assert found.scores[found.place[()], first].item() == pytest.approx(
            after.max().item(), abs=BOUND
        )


def test_genarm_sums_to_the_preferred_response():
    found = world.learn(
        GenARM(scale=1.0), world.Table(values=False, scores=True), preference_data()
    )
    assert found.scores is not None
    total = {
        pair: found.scores[found.place[()], pair[0]] + found.scores[found.place[pair[:1]], pair[1]]
        for pair in [(1, 1), (2, 1), (1, 2), (2, 2)]
    }
    gap = torch.sigmoid(total[(1, 1)] - total[(2, 1)]).item()
    assert gap == pytest.approx(enumerated((1, 1), (2, 1)), abs=0.1)
