"""Calls at the same time equal the same calls one after the other: tokens, text, ledger, costs."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch

import trimtab as tt
from tests import toys
from tests.guides.test_reward import pair_tokenizer
from tests.laws.many_threads import (
    SOME,
    at_once,
    calls_of,
    head,
    hold_threads_to,
    slots_are_free,
    small,
)
from tests.laws.things import GUIDES, MODELS, reward_guide
from trimtab.guides import ScalarHead

# --- many ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_64_threads_with_10_calls_each_on_one_model_and_guide() -> None:
    command = [sys.executable, "-W", "error", "-m", "tests.laws.many_threads"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "all equal, all slots free\n", done.stderr


def test_costs_of_calls_at_the_same_time_sum_to_the_readers_own() -> None:
    lm = tt.TransformersLM(small(0), toys.tokenizer())
    guide = tt.ValueGuide(small(1).base_model, head())
    (call,) = calls_of(lm, guide, SOME[:1], max_new_tokens=5, n=2, stop_at_eos=False)
    done = [c for many in at_once(8, lambda _: call()) for c in many]
    assert sum(c.base_tokens for c in done) == pytest.approx(lm.cost.decoding)
    assert sum(c.guide_tokens for c in done) == pytest.approx(guide.cost.decoding)


def test_a_guide_on_the_bases_own_layers_and_two_guides_on_one_network() -> None:
    net = small(0)
    lm = tt.TransformersLM(net, toys.tokenizer())
    one, two = (tt.ValueGuide(net.base_model, head(seed)) for seed in (0, 1))
    whole = tt.VocabularyGuide.from_causal_lm(net)
    calls = [c for g in (one, two, whole) for c in calls_of(lm, g, SOME[:2], max_new_tokens=4)]
    hold_threads_to(calls, threads=6, each=4)
    slots_are_free(lm, one, two, whole)


# --- every kind ----------------------------------------------------------------------------------

KINDS = [
    "value-llama", "value-mistral", "value-llama-2-layers", "value-llama-expanded",
    "vocabulary", "vocabulary-causal", "text", "reward-shared", "reward-retokenised",
    "reward-own-template", "reward-pairs", "sum", "sum-of-both-kinds", "clamp",
]  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_guide(name: str) -> None:
    guide = GUIDES[name]()
    calls = calls_of(toys.language_model(), guide, SOME[:2], max_new_tokens=3)
    hold_threads_to(calls, threads=3, each=2)


@pytest.mark.parametrize(
    "name", ["table", "llama", "gemma3_text", "gpt2-nucleus", "llama-expanded", "bloom-expanded"]
)
def test_every_kind_of_model(name: str) -> None:
    lm = MODELS[name]()
    methods = (tt.vas(beta=2.0, k=3), tt.cd_blockwise(n=2, length=2))
    guide = toys.TableGuide() if name == "table" else toys.value_guide("gpt2")
    hold_threads_to(calls_of(lm, guide, methods, max_new_tokens=4), threads=3, each=2)


def test_a_sum_whose_parts_share_a_reader() -> None:
    part, other = toys.value_guide(), toys.value_guide("gpt2")
    mix = tt.WeightedSum([(1.0, part), (0.5, other), (-0.3, tt.Clamp(part))])
    hold_threads_to(calls_of(toys.language_model(), mix, SOME[:2], max_new_tokens=3), 3, 2)
    (call,) = calls_of(toys.language_model(), mix, SOME[1:2], max_new_tokens=3)
    before = mix.cost.decoding
    assert sum(c.guide_tokens for c in call()) == mix.cost.decoding - before


# --- what each kind shares -----------------------------------------------------------------------


def test_pairs_that_are_cut_and_pairs_that_are_not() -> None:
    """An encoder's tokenizer is told call by call where to cut."""
    guide = reward_guide("bert", pair_tokenizer())
    scorer: Any = guide.scorer
    scorer.limit = 12
    cases = [(["w5 " * 30], ["w6 w7"]), (["w5"], ["w6 w7"]), (["w8 w9 " * 9], ["w3"])]
    want = [scorer(*case) for case in cases]
    got = at_once(6, lambda i: [scorer(*cases[(i + r) % 3]) for r in range(40)])
    for i, scores in enumerate(got):
        assert scores == [want[(i + r) % 3] for r in range(40)]


class Unsafe:
    """A function that counts how many are inside it."""

    def __init__(self) -> None:
        self.inside, self.most = 0, 0
        self.both = threading.Event()

    def __call__(self, prompts: list[str], texts: list[str]) -> list[float]:
        self.inside += 1
        self.most = max(self.most, self.inside)
        if self.inside == 2:
            self.both.set()
        self.both.wait(0.05)
        self.inside -= 1
        return [float(len(text)) for text in texts]


@pytest.mark.parametrize(("parallel", "most"), [(False, 1), (True, 2)])
def test_a_function_is_called_by_one_at_a_time_unless_it_is_said_to_bear_more(
    parallel: bool, most: int
) -> None:
    lm, function = tt.TableLM(), Unsafe()
    guides = [tt.TextGuide(function, lm.decode, parallel=parallel) for _ in range(2)]
    at_once(2, lambda i: tt.decode(lm, guides[i], tt.args(k=2), ["a"], max_new_tokens=3))
    assert function.most == most


def test_somebody_elses_forward_on_the_same_network_stays_as_it_was() -> None:
    """Two threads: ours reads trees, the other calls the network itself."""
    net = toys.causal_lm()
    lm, ids = toys.language_model(), torch.tensor([toys.prompts(40)[0].ids])
    with torch.inference_mode():
        want = net(ids).logits
    stop, wrong = threading.Event(), []

    def other() -> None:
        with torch.inference_mode():
            while not stop.is_set():
                wrong.append(not torch.equal(net(ids).logits, want))

    thread = threading.Thread(target=other)
    thread.start()
    guide = tt.ValueGuide(net.base_model, ScalarHead(32))
    for _ in range(5):
        tt.decode(lm, guide, tt.args(k=8), toys.prompts(30, 20), max_new_tokens=4)
    stop.set()
    thread.join()
    assert wrong
    assert not any(wrong)
    assert net.config._attn_implementation == "sdpa"


# --- one thread ----------------------------------------------------------------------------------


def in_turns(streams: Sequence[Iterator[tt.Step]]) -> list[list[tt.Step]]:
    """The steps of several streams, drawn one by one in turn."""
    steps: list[list[tt.Step]] = [[] for _ in streams]
    left = dict(enumerate(streams))
    while left:
        for i in list(left):
            step = next(left[i], None)
            if step is None:
                del left[i]
            else:
                steps[i].append(step)
    return steps


def streams(lm: Any, guide: Any) -> list[Iterator[tt.Step]]:
    return [
        tt.decode_steps(lm, guide, method, toys.prompts(5 + i, 8), seed=i, max_new_tokens=5)
        for i, method in enumerate(SOME)
    ]


def test_interleaved_streams_of_one_thread_keep_their_own_costs() -> None:
    lm, guide = toys.language_model(), toys.value_guide()
    assert in_turns(streams(lm, guide)) == [list(s) for s in streams(lm, guide)]


def test_a_stream_may_go_on_in_another_thread() -> None:
    lm, guide = toys.language_model(), toys.value_guide()
    want = [list(s) for s in streams(lm, guide)]

    def hopping(stream: Iterator[tt.Step]) -> list[tt.Step]:
        steps = []
        while (step := at_once(1, lambda _: next(stream, None))[0]) is not None:
            steps.append(step)
        return steps

    assert [hopping(s) for s in streams(lm, guide)] == want


def test_slots_come_back_from_streams_that_are_dropped_and_from_calls_that_fail() -> None:
    lm, guide = toys.language_model(), toys.value_guide()
    for stream in streams(lm, guide):
        next(stream)
    del stream
    slots_are_free(lm, guide)

    def failing(prompts: list[str], texts: list[str]) -> list[float]:
        raise ValueError("no")

    both = tt.WeightedSum([(1.0, guide), (1.0, tt.TextGuide(failing, lm.decode))])
    with pytest.raises(tt.TrimtabError):
        tt.decode(lm, both, tt.args(), toys.prompts(5, 6), max_new_tokens=4)
    slots_are_free(lm, guide)


def test_guides_can_be_copied() -> None:
    """A copy has locks and slots of its own."""
    lm, guide = toys.language_model(), toys.value_guide()
    (call,) = calls_of(lm, guide, SOME[:1], max_new_tokens=3)
    (again,) = calls_of(copy.deepcopy(lm), copy.deepcopy(guide), SOME[:1], max_new_tokens=3)
    assert call() == again()
    assert pickle.loads(pickle.dumps(lm.codec)).decode([5, 6]) == "w5 w6"  # noqa: S301
