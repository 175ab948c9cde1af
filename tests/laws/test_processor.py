"""The same Method objects inside transformers' `generate`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import GenerationConfig
from transformers.generation.streamers import BaseStreamer

import trimtab as tt
from tests import toys
from trimtab.decoding.step import outcomes
from trimtab.errors import GuideError, IncompatibleError, UsageError
from trimtab.integrations.transformers import GuidedLogitsProcessor
from trimtab.rng import Rng

PROMPTS = toys.prompts(4, 11, 7)
GREEDY = {
    "args": tt.args(beta=3.0, k=6),
    "vas": tt.vas(beta=3.0, k=6, temperature=0),
    "pargs-greedy": tt.pargs_greedy(beta=2.0),
    "genarm": tt.genarm(temperature=0),
}
SAMPLED = {
    "vas": tt.vas(beta=2.0, k=5),
    "vas-drop": tt.vas(beta=2.0, k=5, tail="drop"),
    "args-stochastic": tt.args_stochastic(beta=2.0, k=5),
    "genarm": tt.genarm(beta=2.0),
}


def padded(prompts: list[tt.Prompt]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids padded on the left with EOS, and their mask."""
    width = max(len(p.ids) for p in prompts)
    ids = torch.full((len(prompts), width), toys.EOS)
    mask = torch.zeros_like(ids)
    for i, p in enumerate(prompts):
        ids[i, width - len(p.ids) :] = torch.tensor(p.ids)
        mask[i, width - len(p.ids) :] = 1
    return ids, mask


def generate(
    processor: GuidedLogitsProcessor,
    prompts: list[tt.Prompt],
    family: str = "llama",
    **options: Any,
) -> list[tuple[int, ...]]:
    """The new tokens of each row, cut after EOS."""
    ids, mask = padded(prompts)
    settings = {"max_new_tokens": 8, "eos_token_id": toys.EOS, "pad_token_id": toys.EOS}
    settings |= processor.generate_options | options
    streamer = settings.pop("streamer", None)
    out = toys.causal_lm(family).generate(
        input_ids=ids,
        attention_mask=mask,
        generation_config=GenerationConfig(**settings),
        logits_processor=[processor],
        streamer=streamer,
    )
    return [until_eos(row) for row in out[:, ids.shape[1] :].tolist()]


def until_eos(row: list[int]) -> tuple[int, ...]:
    return tuple(row[: row.index(toys.EOS) + 1] if toys.EOS in row else row)


def ours(method: tt.Method, family: str = "llama", **options: Any) -> list[tuple[int, ...]]:
    lm, guide = toys.language_model(family), toys.value_guide("gpt2")
    done = tt.decode(lm, guide, method, PROMPTS, max_new_tokens=8, **options)
    return [c.tokens for c in done]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("method", GREEDY.values(), ids=GREEDY)
def test_greedy_gives_the_tokens_of_our_loop(method: tt.Method, family: str) -> None:
    _, mask = padded(PROMPTS)
    guide = toys.value_guide("gpt2")
    processor = GuidedLogitsProcessor(guide, method, attention_mask=mask, eos_token_id=toys.EOS)
    assert generate(processor, PROMPTS, family) == ours(method, family)


@pytest.mark.parametrize("told", ["mask", "pad", "prompts"])
def test_padding_may_be_told_in_three_ways(told: str) -> None:
    _, mask = padded(PROMPTS)
    ways: dict[str, dict[str, Any]] = {
        "mask": {"attention_mask": mask},
        "pad": {"pad_token_id": toys.EOS},
        "prompts": {"prompts": PROMPTS},
    }
    method = GREEDY["args"]
    processor = GuidedLogitsProcessor(toys.value_guide("gpt2"), method, **ways[told])
    assert generate(processor, PROMPTS) == ours(method)


def test_rows_that_have_ended_disturb_nobody() -> None:
    """EOS is the likeliest reward here, so rows end early, at different steps."""
    guide = toys.TableGuide(seed=4, spread=3.0)
    method = tt.args(beta=2.0, k=60)
    lm = toys.language_model()
    want = [c.tokens for c in tt.decode(lm, guide, method, PROMPTS, max_new_tokens=30)]
    for eos in (toys.EOS, None):  # None: the guide goes on reading the padding
        processor = GuidedLogitsProcessor(guide, method, pad_token_id=toys.EOS, eos_token_id=eos)
        assert generate(processor, PROMPTS, max_new_tokens=30) == want
    assert any(row[-1] == toys.EOS and len(row) < 30 for row in want)


def test_one_processor_serves_several_calls() -> None:
    method = GREEDY["args"]
    processor = GuidedLogitsProcessor(toys.value_guide("gpt2"), method, pad_token_id=toys.EOS)
    want = ours(method)
    assert generate(processor, PROMPTS) == want
    assert generate(processor, PROMPTS[::-1]) == want[::-1]
    assert generate(processor, PROMPTS[1:], max_new_tokens=1) == [row[:1] for row in want[1:]]
    longer = [tt.Prompt(p.ids + row[:1]) for p, row in zip(PROMPTS, want, strict=True)]
    assert generate(processor, longer, max_new_tokens=7) == [row[1:] for row in want]
    processor.reset()
    assert generate(processor, PROMPTS) == want


def test_strength_per_prompt() -> None:
    betas = [0.0, 5.0, 1.0]
    method = GREEDY["args"]
    processor = GuidedLogitsProcessor(
        toys.value_guide("gpt2"), method, pad_token_id=toys.EOS, beta=betas
    )
    assert generate(processor, PROMPTS) == ours(method, beta=betas)
    twice = generate(processor, PROMPTS, num_return_sequences=2, do_sample=True, top_k=1)
    assert twice[::2] == twice[1::2] == ours(method, beta=betas)


@pytest.mark.parametrize("method", SAMPLED.values(), ids=SAMPLED)
def test_each_step_has_the_law_of_our_loop(method: tt.Method) -> None:
    """The processor's own output, at the method's temperature, against rule and select."""
    lm, guide = toys.language_model(), toys.value_guide("gpt2")
    processor = GuidedLogitsProcessor(toys.value_guide("gpt2"), method)
    prompts = toys.prompts(6, 6, 6)
    ids = torch.tensor([p.ids for p in prompts])
    base, aux = lm.prefill(prompts), guide.prefill(prompts)
    for _ in range(3):
        scores = torch.stack([toys.causal_lm()(row[None]).logits[0, -1] for row in ids]).detach()
        temperature = processor.generate_options["temperature"]
        got = (processor(ids, scores) / temperature).softmax(-1)
        want = full_law(lm, base, guide, aux, method)
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-4)
        token = want.argmax(-1)
        ids = torch.cat([ids, token[:, None]], dim=1)
        one = torch.ones_like(token)
        base, aux = lm.extend(base, token[:, None], one), guide.extend(aux, token[:, None], one)


def full_law(lm: Any, base: Any, guide: Any, aux: Any, method: tt.Method) -> torch.Tensor:
    """pi over the whole vocabulary, from the loop's own parts."""
    candidates = lm.propose(base, method.proposal, Rng(0, *torch.zeros(2, 3).long()))
    reference, scores = outcomes(candidates, guide.score(aux, candidates), False)
    law = method.sampler.logprobs(method.rule(reference, scores, method.beta)).exp()
    at = candidates.tokens[:, :, 0]
    full = torch.zeros_like(base.last).scatter(1, at, law[:, : at.shape[1]])
    if candidates.tail is not None:
        rest = base.last.exp().scatter(1, at, 0.0)
        full = full + law[:, -1:] * rest / rest.sum(-1, keepdim=True)
    return full


class Collected(BaseStreamer):
    """A streamer that keeps what it is given."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.ended = False

    def put(self, value: torch.Tensor) -> None:
        self.tokens += value.flatten().tolist()

    def end(self) -> None:
        self.ended = True


def test_a_streamer_gets_the_same_tokens() -> None:
    streamer = Collected()
    processor = GuidedLogitsProcessor(toys.value_guide("gpt2"), GREEDY["vas"])
    tokens = generate(processor, PROMPTS[:1], streamer=streamer)
    assert streamer.ended
    assert tuple(streamer.tokens[len(PROMPTS[0].ids) :]) == tokens[0]


def test_sampling_several_sequences() -> None:
    torch.manual_seed(0)
    processor = GuidedLogitsProcessor(
        toys.value_guide("gpt2"), SAMPLED["vas"], pad_token_id=toys.EOS, eos_token_id=toys.EOS
    )
    rows = generate(processor, PROMPTS, num_return_sequences=3)
    assert len(rows) == 9
    assert len(set(rows)) > 3


def test_beams_that_fork_and_swap_keep_their_own_prefix() -> None:
    """Beam search reorders rows: cached scores must be those of rows read anew each step."""
    method = tt.args(beta=2.0, k=8)
    kept = GuidedLogitsProcessor(toys.value_guide("gpt2"), method, pad_token_id=toys.EOS)

    class Forgetful(GuidedLogitsProcessor):
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            self.reset()
            return super().__call__(input_ids, scores)

    anew = Forgetful(toys.value_guide("gpt2"), method, pad_token_id=toys.EOS)
    assert generate(kept, PROMPTS, num_beams=3) == generate(anew, PROMPTS, num_beams=3)
    prompts = sum(len(p.ids) for p in PROMPTS) * 3
    assert kept.guide.cost.prefill == prompts, "no row was read anew"


class Nan:
    """A guide that fails for one row at its second step."""

    vocab, name = None, "nan"

    def __init__(self) -> None:
        self.inner, self.calls = toys.TableGuide(), 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def score(self, state: Any, candidates: Any) -> torch.Tensor:
        self.calls += 1
        scores = self.inner.score(state, candidates)
        return scores.index_fill(0, torch.tensor([1]), torch.nan) if self.calls == 2 else scores


def test_a_score_that_is_no_number() -> None:
    method = tt.args(beta=2.0, k=5)
    strict = GuidedLogitsProcessor(Nan(), method, pad_token_id=toys.EOS)
    with pytest.raises(GuideError, match="'nan' must return finite.*row 1, position 1"):
        generate(strict, PROMPTS)
    lenient = GuidedLogitsProcessor(
        Nan(), method, pad_token_id=toys.EOS, eos_token_id=toys.EOS, on_guide_error="base"
    )
    lm = toys.language_model()
    done = tt.decode(lm, Nan(), method, PROMPTS, max_new_tokens=8, on_guide_error="base")
    assert generate(lenient, PROMPTS) == [c.tokens for c in done]


def test_what_cannot_be_meant() -> None:
    guide = toys.value_guide("gpt2")
    with pytest.raises(IncompatibleError, match="one token at a time"):
        GuidedLogitsProcessor(guide, tt.best_of_n())
    with pytest.raises(UsageError, match="prompt 0 must be what `generate` reads"):
        generate(GuidedLogitsProcessor(guide, tt.args(), prompts=PROMPTS[::-1]), PROMPTS)
    with pytest.raises(UsageError, match="prompts must be one per prompt"):
        generate(GuidedLogitsProcessor(guide, tt.args(), prompts=PROMPTS[:2]), PROMPTS)
    narrow = GuidedLogitsProcessor(guide, tt.args(), attention_mask=torch.ones(3, 4).long())
    with pytest.raises(UsageError, match="as wide as the rows"):
        generate(narrow, PROMPTS)
