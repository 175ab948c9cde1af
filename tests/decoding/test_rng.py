"""Random numbers by address: uniform along every axis of the address, and the same for ever.

Each statistical test has a fixed seed and fails by chance for less than one seed in 1e9.
"""

from __future__ import annotations

import pytest
import torch
from scipy.stats import chi2, kstest, norm

from trimtab.rng import BLOCK, DRAW, SPAN, TAIL, Rng, draw, row_key

FALSE_ALARM = 1e-9
N = 20_000


def rng(seed: int = 0, keys: torch.Tensor | None = None, position: int = 0) -> Rng:
    keys = torch.arange(N) if keys is None else keys
    return Rng(seed, keys, torch.full_like(keys, position))


def prompt_keys(n: int) -> torch.Tensor:
    return torch.tensor([row_key((5, 6, 7), sample) for sample in range(n)])


def along(axis: str) -> torch.Tensor:
    """Draws whose addresses differ along one axis only."""
    if axis == "keys in a row":
        return rng().uniform()
    if axis == "keys of prompts":
        return rng(keys=prompt_keys(5000)).uniform()
    one = torch.tensor([row_key((1, 2), 0)])
    if axis == "positions":
        return Rng(3, one.repeat(N), torch.arange(N)).uniform()
    if axis == "seeds":
        return torch.cat([rng(seed, one).uniform() for seed in range(2000)])
    if axis == "forks":
        return rng(keys=one).fork(N).uniform(BLOCK)
    return torch.cat([rng(5, one).uniform(stream) for stream in range(2000)])


AXES = ["keys in a row", "keys of prompts", "positions", "seeds", "forks", "streams"]


@pytest.mark.parametrize("axis", AXES)
def test_uniform(axis: str) -> None:
    assert kstest(along(axis).numpy(), "uniform").pvalue > FALSE_ALARM


@pytest.mark.parametrize("axis", AXES)
def test_neighbours_are_independent(axis: str) -> None:
    # Pairs of neighbouring addresses fall evenly on a grid of 8 x 8.
    values = along(axis)
    cells = (values[:-1:2] * 8).long() * 8 + (values[1::2] * 8).long()
    counts = torch.bincount(cells, minlength=64).double()
    expected = len(cells) / 64
    statistic = float(((counts - expected) ** 2 / expected).sum())
    assert chi2.sf(statistic, 63) > FALSE_ALARM


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (rng(0).uniform(DRAW), rng(0).uniform(TAIL)),
        (rng(0).uniform(DRAW), rng(0).uniform(BLOCK)),
        (rng(0).uniform(), rng(1).uniform()),
        (rng(0).uniform(), rng(0, position=1).uniform()),
        (rng(0).uniform(), rng(0).fork(1).uniform()),
        (rng(0).fork(2).uniform(BLOCK)[::2], rng(0).fork(2).uniform(BLOCK)[1::2]),
    ],
    ids=["draw and tail", "draw and block", "seeds", "positions", "fork 0 and its row", "forks"],
)
def test_streams_do_not_resemble_each_other(one: torch.Tensor, other: torch.Tensor) -> None:
    correlation = float(torch.corrcoef(torch.stack([one, other]))[0, 1])
    # Under independence the correlation of N pairs is close to normal with deviation N^-1/2.
    assert 2 * norm.sf(abs(correlation) * N**0.5) > FALSE_ALARM


def test_values_lie_in_the_half_open_unit_interval() -> None:
    values = rng(9, torch.arange(-50_000, 50_000)).uniform()
    assert values.dtype == torch.float64
    assert float(values.min()) >= 0
    assert float(values.max()) < 1


def test_every_bit_is_used() -> None:
    lattice = rng().uniform() * 2**52
    assert torch.equal(lattice, lattice.floor())
    for bit in range(52):
        share = ((lattice.long() >> bit) & 1).double().mean()
        assert 0.45 < float(share) < 0.55, f"bit {bit}"


PINNED_KEY = 5513788184227225494
PINNED: dict[int, list[float]] = {
    DRAW: [0.5981411216370971, 0.8404517653365557, 0.09987726871066194, 0.4135026118956642],
    TAIL: [0.5204681034261629, 0.4587254583700344, 0.7953322743168594, 0.43973842386487716],
    BLOCK: [0.8243431367865168, 0.554150527755777, 0.6187562127252215, 0.7039998767791102],
}


def test_pinned_values() -> None:
    # Texts of a seed must not change between versions or machines.
    keys = torch.tensor([0, 1, -1, row_key((1, 2, 3), 0)])
    at = Rng(42, keys, torch.tensor([0, 1, 2, 3]))
    assert row_key((1, 2, 3), 0) == PINNED_KEY
    for stream, expected in PINNED.items():
        assert at.uniform(stream).tolist() == expected


def test_huge_and_negative_seeds_are_seeds() -> None:
    values = {float(rng(seed, torch.tensor([4])).uniform()) for seed in (-1, 1, 2**63, 2**64 + 5)}
    assert len(values) == 4


def test_keys_tell_prompts_and_samples_apart() -> None:
    addresses = [((1, 2), 0), ((1, 2), 1), ((12,), 0), ((1,), 20), ((2, 1), 0), ((), 0)]
    assert len({row_key(ids, sample) for ids, sample in addresses}) == len(addresses)


def test_advance_counts_tokens() -> None:
    start = rng(1, torch.arange(3))
    moved = start.advance(torch.tensor([1, 2, 0]))
    assert torch.equal(moved.positions, torch.tensor([1, 2, 0]))
    assert torch.equal(start.positions, torch.zeros(3, dtype=torch.int64))
    assert torch.equal(start.advance(2).advance(3).uniform(), start.advance(5).uniform())


def test_selected_rows_keep_their_numbers() -> None:
    rows = torch.tensor([4, 1, 1])
    everyone = rng(1, torch.arange(6)).advance(torch.arange(6))
    assert torch.equal(everyone.select(rows).uniform(), everyone.uniform()[rows])


def test_forks_lie_beside_each_other() -> None:
    both = rng(1, torch.arange(2)).fork(3)
    alone = [rng(1, torch.tensor([key])).fork(3).uniform() for key in range(2)]
    assert torch.equal(both.uniform(), torch.cat(alone))
    assert len(set(both.uniform().tolist())) == 6


# --- draws ---------------------------------------------------------------------------------------


def test_draw_inverts_the_cumulative_distribution() -> None:
    logprobs = torch.tensor([0.5, 0.25, 0.25]).log().repeat(6, 1)
    uniform = torch.tensor([0.0, 0.4999, 0.5001, 0.7499, 0.7501, 1 - 2**-52], dtype=torch.float64)
    assert draw(logprobs, uniform).tolist() == [0, 0, 1, 1, 2, 2]


def test_impossible_outcomes_are_never_drawn() -> None:
    logprobs = torch.tensor([-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]).repeat(3, 1)
    uniform = torch.tensor([0.0, 0.5, 1 - 2**-52], dtype=torch.float64)
    assert draw(logprobs, uniform).tolist() == [1, 3, 3]


def test_the_last_token_of_a_large_vocabulary_can_be_drawn() -> None:
    size = 150_000
    logprobs = torch.zeros(1, size)
    last = torch.tensor([1 - 2**-52], dtype=torch.float64)
    assert draw(logprobs, last).item() == size - 1


# --- draws from many outcomes, in two steps ------------------------------------------------------

SIZES = [SPAN - 1, SPAN, SPAN + 1, 2 * SPAN, 5 * SPAN + 17]


def peaked(rows: int, size: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Laws of which a few outcomes hold most, and some of the others are impossible."""
    generator = torch.Generator().manual_seed(size)
    logits = 3 * torch.randn(rows, size, generator=generator)
    logits[torch.rand(rows, size, generator=generator) < 0.1] = -torch.inf
    return logits.to(dtype).log_softmax(dim=-1)


@pytest.mark.parametrize("size", SIZES)
def test_two_steps_are_one_inversion(size: int) -> None:
    law = peaked(1, size, torch.float64)
    total = law.exp().cumsum(dim=-1)
    possible = (~torch.isneginf(law[0])).nonzero()[:, 0]
    middle = (total - law.exp() / 2)[0, possible]
    assert torch.equal(draw(law.expand(len(middle), -1), middle), possible)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("size", SIZES)
def test_draws_follow_the_law(size: int, dtype: torch.dtype) -> None:
    law = peaked(1, size, dtype)
    drawn = draw(law.expand(N, -1), rng(7).uniform())
    chance = law[0].double().softmax(dim=-1)
    assert float(chance[drawn].min()) > 0, "an impossible outcome"
    order = chance.argsort(descending=True)
    # Cells of at least ten expected draws: the likeliest outcomes each, the others together.
    each = order[: int((chance[order] * N >= 10).sum())]
    expected = torch.cat([chance[each], 1 - chance[each].sum()[None]]) * N
    counts = torch.bincount(drawn, minlength=size)[each].double()
    counts = torch.cat([counts, N - counts.sum()[None]])
    statistic = float(((counts - expected) ** 2 / expected).sum())
    assert chi2.sf(statistic, len(each)) > FALSE_ALARM


@pytest.mark.parametrize("size", SIZES)
def test_a_row_draws_alone_what_it_draws_among_others(size: int) -> None:
    laws, uniform = peaked(40, size), rng(3, torch.arange(40)).uniform()
    alone = [draw(laws[[i]], uniform[[i]]) for i in range(40)]
    assert torch.equal(draw(laws, uniform), torch.cat(alone))


@pytest.mark.parametrize("size", SIZES)
def test_rare_outcomes_keep_their_chance(size: int) -> None:
    # One in a hundred million, at both ends of what holds the rest: float32 sums would lose it.
    p = torch.full((1, size), 1e-8, dtype=torch.float64)
    p[0, size // 2] = 1 - 1e-8 * (size - 1)
    law = p.log().float().expand(2, -1)
    edges = torch.tensor([0.5e-8, 1 - 0.5e-8], dtype=torch.float64)
    assert draw(law, edges).tolist() == [0, size - 1]


def test_nothing_past_the_end_is_drawn() -> None:
    size = 3 * SPAN + 1
    law = torch.full((2, size), -torch.inf)
    law[0, 0] = law[1, size - 1] = 0.0
    for value in (0.0, 0.5, 1 - 2**-52):
        uniform = torch.full((2,), value, dtype=torch.float64)
        assert draw(law, uniform).tolist() == [0, size - 1]
