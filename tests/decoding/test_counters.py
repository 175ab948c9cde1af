"""Tokens read, memory held, waits for the device: counted, and independent of length, k and |V|."""

from __future__ import annotations

from collections import Counter
from dataclasses import astuple
from typing import Any, cast

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import trimtab as tt
from tests import toys
from tests.steps import unwatched
from trimtab.types import Completion, Cost

K = 7


def read(before: Cost, after: Cost) -> Cost:
    """What was read in between."""
    return Cost(*(b - a for a, b in zip(astuple(before), astuple(after), strict=True)))


def measured(
    guide: Any, method: tt.Method, *, prompt: int = 9, new: int = 12, n: int = 1, **options: Any
) -> tuple[list[Completion], Cost, Cost]:
    """Completions that never end early, and what base and guide read for them."""
    lm = toys.language_model()
    base, aux = Cost(*astuple(lm.cost)), Cost(*astuple(guide.cost))
    done = tt.decode(
        lm,
        guide,
        method,
        toys.prompts(prompt, prompt + 3),
        max_new_tokens=new,
        n=n,
        stop_at_eos=False,
        **options,
    )
    return done, read(base, lm.cost), read(aux, guide.cost)


def emitted(done: list[Completion]) -> int:
    return sum(len(response.tokens) for response in done)


LENGTHS = pytest.mark.parametrize(("prompt", "new"), [(5, 8), (5, 32), (60, 8), (60, 32)])


# --- tokens --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "family", "prompt", "new"),
    [
        (tt.pargs(k=K), "llama", 5, 8),
        (tt.pargs(k=K), "llama", 5, 32),
        (tt.pargs(k=K), "llama", 60, 8),
        (tt.pargs(k=K), "llama", 60, 32),
        (tt.args(k=K), "gpt2", 60, 16),
        (tt.vas(k=K, tail="drop"), "mistral", 60, 16),
    ],
)
def test_a_value_guide_reads_k_tokens_per_emitted_token(
    method: tt.Method, family: str, prompt: int, new: int
) -> None:
    done, _, guide = measured(toys.value_guide(family), method, prompt=prompt, new=new, n=2)
    assert guide.scored == K * emitted(done)
    assert (guide.extended, guide.recomputed) == (0, 0)
    assert guide.prefill == prompt + prompt + 3
    assert sum(r.guide_tokens for r in done) == pytest.approx(K * emitted(done))


@LENGTHS
def test_a_tail_at_the_mean_costs_one_more_for_each_token_drawn_from_it(
    prompt: int, new: int
) -> None:
    k = 2
    done, _, guide = measured(
        toys.value_guide(), tt.vas(beta=0.1, k=k), prompt=prompt, new=new, n=4, alternatives=k
    )
    # The last token of a response is never read, wherever it came from.
    drawn = sum(
        step.tokens[0] not in {a.token for a in step.alternatives}
        for response in done
        for step in response.steps[:-1]
    )
    assert drawn > 0
    assert guide.scored == k * emitted(done)
    assert (guide.extended, guide.recomputed) == (drawn, 0)


@LENGTHS
@pytest.mark.parametrize("method", [tt.genarm(), tt.vas(k=K)], ids=["genarm", "vas"])
def test_a_vocabulary_guide_reads_one_token_per_emitted_token(
    method: tt.Method, prompt: int, new: int
) -> None:
    done, _, guide = measured(toys.vocabulary_guide(), method, prompt=prompt, new=new, n=2)
    # One each, but for the last of a response, which nobody reads.
    assert guide.extended == emitted(done) - len(done)
    assert (guide.scored, guide.recomputed) == (0, 0)


@LENGTHS
@pytest.mark.parametrize("method", [tt.greedy(), tt.vas(k=K)], ids=["greedy", "vas"])
def test_the_base_reads_one_token_per_emitted_token(
    method: tt.Method, prompt: int, new: int
) -> None:
    done, base, _ = measured(toys.value_guide(), method, prompt=prompt, new=new, n=2)
    assert base.extended == emitted(done) - len(done)
    assert (base.scored, base.recomputed) == (0, 0)
    assert base.prefill == prompt + prompt + 3
    assert sum(r.base_tokens for r in done) == pytest.approx(base.extended)


def test_methods_without_a_guide_leave_it_alone() -> None:
    _, _, guide = measured(toys.value_guide(), tt.sampling())
    assert guide == Cost()


def test_one_forward_per_turn_for_all_rows() -> None:
    turns = 12
    for n in (1, 4):
        _, base, guide = measured(toys.value_guide(), tt.pargs(k=K), new=turns, n=n)
        assert base.forwards == 1 + (turns - 1)  # the prompts; the last token is never read
        assert guide.forwards == 1 + turns  # the prompts; the candidates of each turn


def test_shares_of_a_step_are_what_was_read_for_it() -> None:
    done, _, _ = measured(toys.value_guide(), tt.pargs(k=K), n=2)
    for response in done:
        assert [step.guide_tokens for step in response.steps] == [K] * len(response.steps)
        assert [step.base_tokens for step in response.steps] == [0] + [1] * (
            len(response.steps) - 1
        )


# --- memory --------------------------------------------------------------------------------------


def bytes_held(k: int, new: int = 20) -> tuple[int, int]:
    """Bytes of a guide's cache after a decode, and bytes of one position of it in all layers."""
    guide = toys.value_guide()
    measured(guide, tt.pargs(k=k), prompt=40, new=new, n=2)
    store = cast("Any", guide.reader).store
    return store.bytes, store.bytes // (store.slots * store.length)


def test_memory_does_not_grow_with_k_beyond_its_scratch_positions() -> None:
    (few, position), (many, same) = bytes_held(k=2), bytes_held(k=40)
    assert position == same
    rows = 4
    # Each row has k positions of scratch behind its prefix, and storage doubles at most.
    assert many <= 2 * (few + rows * 40 * position)
    assert many < 3 * few, "twenty times the candidates"


def test_memory_is_bounded_by_twice_what_is_read() -> None:
    held, position = bytes_held(k=K)
    rows, length = 4, 43 + 20 + K + 1
    assert held <= 2 * rows * 2 * length * position


def test_caches_of_ended_calls_are_used_again() -> None:
    guide = toys.value_guide()
    sizes = []
    for _ in range(3):
        measured(guide, tt.pargs(k=K), n=2)
        sizes.append(cast("Any", guide.reader).store.bytes)
    assert len(set(sizes)) == 1


# --- waits for the device ------------------------------------------------------------------------

WAITS = {
    "aten._local_scalar_dense.default",  # .item(), float(), int(), bool()
    "aten.item.default",  # the same in inference mode
    "aten.is_nonzero.default",
    "aten.nonzero.default",
    "aten.equal.default",
}
"""Operations that bring a number to the host, and so would wait for an accelerator."""


class CountWaits(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if str(func) in WAITS:
            self.seen[str(func)] += 1
        return func(*args, **(kwargs or {}))


def waits_per_turn(k: int = 4, *, prompt: int = 9, vocabulary: int = toys.VOCABULARY) -> int:
    """What one more turn of one row adds."""
    lm = toys.language_model(vocabulary=vocabulary)
    guide = toys.value_guide(vocabulary=vocabulary)
    totals = []
    for new in (4, 14):
        with unwatched(), CountWaits() as mode:
            tt.decode(
                lm,
                guide,
                tt.pargs(k=k),
                toys.prompts(prompt, vocabulary=vocabulary),
                max_new_tokens=new,
                stop_at_eos=False,
                lookahead=1,
            )
        totals.append(mode.seen.total())
    more, rest = divmod(totals[1] - totals[0], 10)
    assert rest == 0, "the same in every turn"
    return more


def test_a_turn_asks_for_nothing_but_its_ledger() -> None:
    # The ledger is read from the host's copy of a step that has arrived (`InFlight`), a column at a
    # time, without asking. Two questions cost nothing on the CPU and are not asked of an
    # accelerator: how many tokens the base was given, and whether the token was among those that
    # the guide had read.
    assert waits_per_turn() == 2


@pytest.mark.parametrize("change", [{"prompt": 60}, {"vocabulary": 40}, {"k": 30}], ids=str)
def test_waits_do_not_grow_with(change: dict[str, int]) -> None:
    assert waits_per_turn(**change) == waits_per_turn()


# --- passes over the vocabulary ------------------------------------------------------------------

SIZE, ROWS = 9001, 16


class CountLarge(TorchDispatchMode):
    """Counts operations that fill at least one number for each token of the vocabulary and row."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {x.untyped_storage().data_ptr() for x in args if isinstance(x, torch.Tensor)}
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.numel() >= ROWS * SIZE:
            kept = out.untyped_storage()  # a view's is its source's; an expanded row's is small
            self.seen += kept.nbytes() >= ROWS * SIZE and kept.data_ptr() not in given
        return out


def passes_per_turn(method: tt.Method, **base: float) -> int:
    """Vocabulary-sized results of one more turn."""
    lm = toys.language_model(vocabulary=SIZE, **base)
    seen = []
    for new in (3, 4):
        with unwatched(), CountLarge() as mode:
            prompts = toys.prompts(*[6] * ROWS, vocabulary=SIZE)
            tt.decode(lm, None, method, prompts, max_new_tokens=new, stop_at_eos=False)
        seen.append(mode.seen)
    return seen[1] - seen[0]


def test_plain_sampling_passes_over_the_vocabulary_thrice() -> None:
    # Logits, log pi_ref, and the weights to draw by. Nothing for a guide, a rule or a divergence.
    assert passes_per_turn(tt.sampling()) == 3
    assert passes_per_turn(tt.sampling(), base_temperature=0.7) == 4


def test_a_temperature_adds_its_law_and_its_divergence() -> None:
    law, divergence = 2, 5
    assert passes_per_turn(tt.sampling(0.7)) == 3 + law + divergence
