"""Calls that cannot be meant, and guides that fail: what must hold, what was got, what to do."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import AutoModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

import trimtab as tt
from tests import toys
from trimtab.errors import (
    GuideError,
    IncompatibleError,
    ModelError,
    PromptError,
    UnknownNameError,
    UsageError,
)
from trimtab.guides import ScalarHead
from trimtab.types import Candidates, Completion, Prompt, Samples, TopK


def decode(
    method: tt.Method | None = None, guide: Any = None, lm: Any = None, **options: Any
) -> list[Completion]:
    return tt.decode(
        lm or tt.TableLM(5, context=20),
        guide or toys.TableGuide(),
        method or tt.cd(k=3),
        options.pop("prompts", ["ab", "c"]),
        **{"max_new_tokens": 4, **options},
    )


# --- calls ---------------------------------------------------------------------------------------

BAD_CALLS: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "unknown method": (lambda: tt.method("vass"), UnknownNameError, "did you mean vas"),
    "one text for a list of them": (lambda: decode(prompts="ab"), UsageError, "list of prompts"),
    "one conversation": (
        lambda: decode(prompts=[{"role": "user", "content": "a"}]),
        UsageError,
        "[messages]",
    ),
    "a stop string that every text contains": (
        lambda: decode(stop=[""]),
        UsageError,
        "stop strings must be texts of at least one character; got ''",
    ),
    "an empty stop string": (lambda: decode(stop=""), UsageError, "got ''"),
    "unknown method, nothing near": (lambda: tt.method("zzz"), UnknownNameError, "known: args,"),
    "unknown parameter": (
        lambda: tt.method("args", bta=1),
        UnknownNameError,
        "an option of args must be a known name; got 'bta'; did you mean beta?",
    ),
    "parameter of a method with none": (
        lambda: tt.method("greedy", k=1),
        UnknownNameError,
        "there are none",
    ),
    "unknown option": (
        lambda: decode(max_new_token=3),
        UnknownNameError,
        "did you mean max_new_tokens?",
    ),
    "no candidates": (lambda: tt.args(k=0), UsageError, "k must be at least 1"),
    "no samples": (lambda: tt.best_of_n(0), UsageError, "n must be at least 1"),
    "no block": (lambda: tt.cd_blockwise(2, 0), UsageError, "length must be at least 1"),
    "negative temperature": (lambda: tt.pargs(temperature=-0.1), UsageError, "above 0"),
    "sampling at temperature 0": (lambda: tt.sampling(0.0), UsageError, "greedily"),
    "top_p of 0": (lambda: tt.sampling(top_p=0.0), UsageError, "top_p must be in"),
    "top_p above 1": (lambda: tt.sampling(top_p=1.5), UsageError, "top_p must be in"),
    "top_k of 0": (lambda: tt.sampling(top_k=0), UsageError, "top_k must be at least 1"),
    "mean tail with a temperature": (
        lambda: tt.vas(temperature=0.7),
        UsageError,
        "base_temperature=T with beta / T is the same law",
    ),
    "more candidates than tokens": (
        lambda: decode(tt.cd(k=6)),
        UsageError,
        "k must be at most the vocabulary's 5 tokens; got k = 6; lower k",
    ),
    "no guide": (
        lambda: tt.decode(tt.TableLM(5), None, tt.vas(k=3), ["a"]),
        UsageError,
        "'vas' needs a guide",
    ),
    "another vocabulary": (
        lambda: decode(guide=toys.value_guide()),
        IncompatibleError,
        "wrap it as a TextGuide",
    ),
    "blocks past EOS": (
        lambda: decode(tt.best_of_n(2), stop_at_eos=False),
        IncompatibleError,
        "sampled blocks end at EOS",
    ),
    "blocks without room": (
        lambda: decode(tt.best_of_n(2), prompts=["ab", "c" * 18]),
        PromptError,
        "pass max_new_tokens=2",
    ),
    "blocks for a guide of single tokens": (
        lambda: decode(
            tt.cd_blockwise(2, 3),
            toys.vocabulary_guide(),
            toys.language_model(),
            prompts=toys.prompts(4),
        ),
        IncompatibleError,
        "scores single tokens",
    ),
    "empty prompt": (lambda: decode(prompts=["a", ""]), PromptError, "prompt 1 must not be empty"),
    "empty text": (
        lambda: decode(lm=toys.language_model(), guide=toys.value_guide(), prompts=[""]),
        PromptError,
        "must not be empty",
    ),
    "messages without a template": (
        lambda: decode(lm=toys.language_model(), prompts=[[{"role": "user", "content": "w3"}]]),
        PromptError,
        "chat template",
    ),
    "prompt as long as the context": (
        lambda: decode(prompts=["a", "b" * 20]),
        PromptError,
        "prompt 1 must be shorter than the model's context of 20 tokens; got 20 tokens",
    ),
    "no responses": (lambda: decode(n=0), UsageError, "n must be at least 1"),
    "no tokens": (lambda: decode(max_new_tokens=0), UsageError, "max_new_tokens must be"),
    "strengths for other prompts": (
        lambda: decode(beta=[1.0, 2.0, 3.0]),
        UsageError,
        "one per prompt (2); got 3 numbers",
    ),
    "a strength that is no number": (lambda: decode(beta=math.nan), UsageError, "finite"),
    "an infinite strength": (lambda: decode(beta=[1.0, math.inf]), UsageError, "finite"),
    "a base without temperature": (
        lambda: toys.language_model(base_temperature=0.0),
        UsageError,
        "base_temperature must be above 0 and finite",
    ),
    "a base without mass": (lambda: toys.language_model(base_top_p=0.0), UsageError, "base_top_p"),
    "an unknown way of reading": (
        lambda: toys.value_guide(attention="treee"),
        Exception,
        "tree",
    ),
}


@pytest.mark.parametrize("what", BAD_CALLS)
def test_calls_that_cannot_be_meant(what: str) -> None:
    call, kind, says = BAD_CALLS[what]
    with pytest.raises(kind) as caught:
        call()
    assert says in str(caught.value)


def test_nothing_is_read_before_a_call_is_checked() -> None:
    lm, guide = tt.TableLM(5), toys.TableGuide()
    with pytest.raises(UsageError):
        decode(tt.cd(k=9), guide, lm)
    assert lm.cost.prefill == guide.cost.prefill == 0


def test_proposals_check_themselves() -> None:
    for wrong in (lambda: TopK(0), lambda: Samples(0), lambda: Samples(2, 0)):
        with pytest.raises(UsageError):
            wrong()


# --- guides that fail ----------------------------------------------------------------------------


class Faulty(toys.TableGuide):
    """A guide that gives one bad score: at one prefix length of one prompt."""

    def __init__(self, bad: float, prompt: tuple[int, ...], position: int) -> None:
        super().__init__(name="faulty")
        self.bad, self.prompt, self.position = bad, prompt, position

    def score(self, state: Any, candidates: Candidates) -> torch.Tensor:
        scores = super().score(state, candidates)
        for i, row in enumerate(state):
            mine = row[: len(self.prompt)] == self.prompt
            if mine and len(row) == len(self.prompt) + self.position:
                scores[i, -1] = self.bad
        return scores


PROMPTS = [Prompt((1, 2)), Prompt((3, 4)), Prompt((2, 2))]


def around_a_fault(bad: float, position: int, method: tt.Method, **options: Any) -> Any:
    guide = Faulty(bad, PROMPTS[1].ids, position)
    return decode(method, guide, prompts=PROMPTS, stop_at_eos=False, max_new_tokens=6, **options)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("lookahead", [0, 1])
def test_a_failing_guide_is_named_with_row_and_position(bad: float, lookahead: int) -> None:
    with pytest.raises(GuideError) as caught:
        around_a_fault(bad, 3, tt.cd(k=3), n=2, lookahead=lookahead)
    assert "guide 'faulty'" in str(caught.value)
    assert "row 2 (prompt 1), position 3" in str(caught.value)
    assert 'on_guide_error="base"' in str(caught.value)


def test_errors_of_a_part_of_many_prompts_count_from_its_first() -> None:
    with pytest.raises(GuideError, match=r"row 22 \(prompt 11\), position 3"):
        around_a_fault(math.nan, 3, tt.cd(k=3), n=2, first_prompt=10)
    with pytest.raises(PromptError, match="prompt 8 must not be empty"):
        decode(tt.greedy(), prompts=[PROMPTS[0], Prompt(())], first_prompt=7)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("method", [tt.cd(beta=3.0, k=3), tt.vas(beta=3.0, k=3), tt.args(k=3)])
def test_other_rows_survive_a_failing_guide(bad: float, method: tt.Method) -> None:
    done = around_a_fault(bad, 3, method, on_guide_error="base")
    alone = decode(
        method,
        prompts=[PROMPTS[0], PROMPTS[2]],
        stop_at_eos=False,
        max_new_tokens=6,
    )
    for one, other in zip([done[0], done[2]], alone, strict=True):
        assert (one.tokens, one.text) == (other.tokens, other.text)
        assert one.logprob == pytest.approx(other.logprob)
        assert one.kl == pytest.approx(other.kl)


def test_the_base_chooses_where_the_guide_failed() -> None:
    done = around_a_fault(math.nan, 0, tt.args(beta=1e6, k=3), on_guide_error="base")
    free = decode(tt.greedy(), prompts=PROMPTS, stop_at_eos=False, max_new_tokens=6)
    assert done[1].tokens[0] == free[1].tokens[0]
    assert [step.failed for step in done[1].steps] == [True] + [False] * 5
    assert done[1].steps[0].score == 0.0
    assert not any(step.failed for i in (0, 2) for step in done[i].steps)


def test_the_guide_goes_on_after_a_failure() -> None:
    method = tt.cd(beta=3.0, k=3)
    done = around_a_fault(math.nan, 2, method, on_guide_error="base")[1]
    whole = decode(method, prompts=PROMPTS, stop_at_eos=False, max_new_tokens=6)[1]
    assert done.tokens[:2] == whole.tokens[:2]
    assert all(step.score != 0.0 for step in done.steps[3:])


class Misshapen(toys.TableGuide):
    def score(self, state: Any, candidates: Candidates) -> torch.Tensor:
        return super().score(state, candidates)[:, :-1]


def test_a_guide_must_score_every_candidate() -> None:
    with pytest.raises(GuideError, match=r"shape \[B, K\] = \[2, 3\]; got \[2, 2\]"):
        decode(guide=Misshapen())


# --- bases that fail -----------------------------------------------------------------------------


def broken_base(position: int) -> tt.TableLM:
    """A base whose logits are NaN for every prefix of two and so many tokens."""
    lm = tt.TableLM(5, context=20)
    right = lm.next_logprobs

    def law(prefix: Any) -> torch.Tensor:
        law = right(prefix)
        ill = tuple(prefix[:2]) == PROMPTS[1].ids and len(prefix) == 2 + position
        return torch.full_like(law, torch.nan) if ill else law

    lm.next_logprobs = law  # type: ignore[method-assign]
    return lm


EVERY = [
    tt.greedy(),
    tt.sampling(),
    tt.sampling(0.7, top_k=3, top_p=0.9),
    tt.args(k=3),
    tt.cd(k=3),
    tt.vas(k=3),
    tt.vas(k=3, temperature=0),
    tt.genarm(),
    tt.cd_blockwise(2, 1),
]


@pytest.mark.parametrize("lookahead", [0, 1])
@pytest.mark.parametrize("position", [0, 3])
@pytest.mark.parametrize("method", EVERY, ids=lambda method: f"{method.name}-{method.sampler}")
def test_a_base_that_fails_is_named_with_row_and_position(
    method: tt.Method, position: int, lookahead: int
) -> None:
    block = isinstance(method.proposal, Samples)
    options = {"max_new_tokens": 6, "stop_at_eos": block, "lookahead": lookahead, "n": 2}
    lm = broken_base(position)
    if block:
        lm.eos_ids = frozenset()
    with pytest.raises(ModelError) as caught:
        decode(method, lm=lm, prompts=PROMPTS, **options)
    assert "the base TableLM" in str(caught.value)
    assert f"row 2 (prompt 1), position {position}" in str(caught.value)


@pytest.mark.parametrize("method", EVERY, ids=lambda method: f"{method.name}-{method.sampler}")
def test_a_transformer_with_nan_in_its_weights_is_named(method: tt.Method) -> None:
    net = copy.deepcopy(toys.causal_lm(vocabulary=400))
    net.lm_head.weight.data[5] = torch.nan
    lm = tt.TransformersLM(net, toys.tokenizer(400))
    with pytest.raises(ModelError, match=r"TransformersLM\(llama.*row 0 \(prompt 0\), position 0"):
        decode(method, lm=lm, prompts=toys.prompts(4))


# --- strengths that overflow ---------------------------------------------------------------------


class Huge(toys.TableGuide):
    """Scores as large as float32 holds."""

    def score(self, state: Any, candidates: Candidates) -> torch.Tensor:
        return (super().score(state, candidates).float().clamp(-1, 1)) * 3e38


@pytest.mark.parametrize("method", [tt.cd(k=3), tt.args(k=3), tt.vas(k=3), tt.genarm()])
@pytest.mark.parametrize("beta", [10.0, -10.0, [1.0, 10.0]], ids=str)
def test_scores_that_overflow_with_their_strength_are_named(method: tt.Method, beta: Any) -> None:
    with pytest.raises(GuideError) as caught:
        decode(method, guide=Huge(), beta=beta)
    assert "must not overflow; got beta = " in str(caught.value)
    assert "and a score of size 3e+38" in str(caught.value) or "e+38 at row" in str(caught.value)
    assert "lower beta" in str(caught.value)


def test_where_scores_overflow_the_base_may_choose() -> None:
    done = decode(tt.args(k=3), guide=Huge(), beta=[1.0, 10.0], on_guide_error="base")
    assert [any(step.failed for step in c.steps) for c in done] == [False, True]


# --- contexts ------------------------------------------------------------------------------------


def short(name: str = "value", tokens: int = 24) -> tt.ValueGuide:
    """A guide that reads fewer tokens than the toys' bases."""
    net = AutoModel.from_config(
        CONFIG_MAPPING["llama"](
            **{**toys.SHAPES["llama"], "max_position_embeddings": tokens},
            vocab_size=toys.VOCABULARY,
        )
    )
    return tt.ValueGuide(net.eval(), ScalarHead(32), name=name)


SHORT = {
    "plain": short,
    "clamped": lambda: tt.Clamp(short()),
    "in a sum": lambda: tt.WeightedSum([(1.0, toys.value_guide()), (0.5, short())]),
}


@pytest.mark.parametrize("guide", SHORT.values(), ids=SHORT)
def test_responses_end_where_the_guide_can_read_no_more(
    guide: Any, caplog: pytest.LogCaptureFixture
) -> None:
    lm, prompts = toys.language_model(), toys.prompts(8, 3)
    made = guide()
    done = decode(tt.vas(k=8), made, lm, prompts=prompts, max_new_tokens=40, stop_at_eos=False)
    assert [(len(c.tokens), c.finish) for c in done] == [(16, "length"), (21, "length")]
    assert f"responses end at the context of guide {made.name!r} of 24 tokens" in caplog.text


def test_a_guide_without_a_bound_shortens_nothing() -> None:
    lm, prompts = toys.language_model(), toys.prompts(8)
    for guide in (toys.TableGuide(), toys.value_guide()):
        done = decode(tt.cd(k=3), guide, lm, prompts=prompts, max_new_tokens=30, stop_at_eos=False)
        assert len(done[0].tokens) == 30


def test_a_prompt_that_the_guide_cannot_read_is_refused_before_the_first_token() -> None:
    lm, guide = toys.language_model(), short()
    for method in (tt.cd(k=3), tt.best_of_n(2)):
        with pytest.raises(PromptError) as caught:
            decode(method, guide, lm, prompts=toys.prompts(4, 24))
        want = "shorter than the context of guide 'value' of 24 tokens (the model's: 128)"
        assert want in str(caught.value)
    assert lm.cost.prefill == guide.cost.prefill == 0
    (done,) = decode(tt.greedy(), guide, lm, prompts=toys.prompts(24))
    assert done.tokens, "a method that asks no guide is not bound by one"


def test_blocks_need_room_in_the_guide_too() -> None:
    lm = toys.language_model()
    with pytest.raises(PromptError, match="pass max_new_tokens=14"):
        decode(tt.best_of_n(2), short(), lm, prompts=toys.prompts(10), max_new_tokens=20)
