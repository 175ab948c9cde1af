"""One tokenizer, embeddings padded to different numbers of rows: what is no token is never said."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from transformers import GenerationConfig

import trimtab as tt
from tests import toys
from tests.guides.test_reward import classifier
from trimtab.errors import IncompatibleError
from trimtab.guides import ScalarHead, VocabularyHead
from trimtab.integrations.transformers import GuidedLogitsProcessor
from trimtab.models.transformers import Codec
from trimtab.types import Vocab

TOKENS = 60
BASE, SMALLER, LARGER = 72, 61, 90
PROMPTS = toys.prompts(4, 9, vocabulary=TOKENS)


def vocab(size: int) -> Vocab:
    return Vocab(size, Codec(toys.tokenizer(TOKENS)).fingerprint)


def base(rows: int = BASE, **options: Any) -> tt.TransformersLM:
    return tt.TransformersLM(toys.causal_lm(vocabulary=rows), toys.tokenizer(TOKENS), **options)


def head(kind: Any, *shape: int) -> Any:
    torch.manual_seed(5)
    made = kind(*shape)
    torch.nn.init.normal_(made.linear.weight, std=0.3)
    return made


def value(rows: int) -> tt.ValueGuide:
    net = toys.backbone(vocabulary=rows)
    return tt.ValueGuide(net, head(ScalarHead, 32), vocab=vocab(rows))


def vocabulary(rows: int) -> tt.VocabularyGuide:
    net = toys.backbone(vocabulary=rows)
    return tt.VocabularyGuide(net, head(VocabularyHead, 32, rows), vocab=vocab(rows))


def causal(rows: int) -> tt.VocabularyGuide:
    net = toys.causal_lm("gpt2", vocabulary=rows, seed=3)
    return tt.VocabularyGuide.from_causal_lm(net, vocab=vocab(rows))


def reward(rows: int) -> tt.RewardGuide:
    guide = tt.RewardGuide(classifier("llama", vocabulary=rows), toys.tokenizer(TOKENS), base())
    assert guide.way == "shared"
    return guide


KINDS = {"value": value, "vocabulary": vocabulary, "causal": causal, "reward": reward}
METHODS = {
    "vas": tt.vas(beta=1.0, k=20),
    "vas-greedy": tt.vas(beta=1.0, k=3, temperature=0),
    "args": tt.args(k=30),
    "genarm": tt.genarm(beta=1.0),
}


@pytest.mark.parametrize("rows", [SMALLER, LARGER])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_guide_of_other_padding_steers_and_padding_is_never_said(
    kind: str, rows: int, method: tt.Method
) -> None:
    done = tt.decode(base(), KINDS[kind](rows), method, PROMPTS, n=3, max_new_tokens=12)
    said = {token for c in done for token in c.tokens}
    assert max(said) < TOKENS


def test_pi_ref_is_the_models_law_over_the_tokens() -> None:
    lm = base()
    assert lm.vocab == Vocab(TOKENS, vocab(0).fingerprint, rows=BASE)
    law = lm.prefill(PROMPTS[:1]).last
    with torch.inference_mode():
        logits = toys.causal_lm(vocabulary=BASE)(torch.tensor([PROMPTS[0].ids])).logits[:, -1]
    torch.testing.assert_close(law, logits[:, :TOKENS].log_softmax(-1), atol=1e-5, rtol=1e-5)


def test_an_end_that_the_tokenizer_does_not_know_can_still_be_said() -> None:
    net = toys.causal_lm(vocabulary=BASE, seed=8)
    net.generation_config.eos_token_id = [toys.EOS, TOKENS + 4]
    assert tt.TransformersLM(net, toys.tokenizer(TOKENS)).vocab.size == TOKENS + 5


def test_padding_changes_no_score() -> None:
    """A guide over the same weights with more rows gives the same tokens and scores."""
    small, large = toys.backbone(vocabulary=SMALLER), toys.backbone(vocabulary=LARGER)
    with torch.no_grad():
        state = small.state_dict()
        state["embed_tokens.weight"] = torch.cat(
            [state["embed_tokens.weight"], cast("Any", large).embed_tokens.weight[SMALLER:]]
        )
    large = type(large)(large.config).eval()
    large.load_state_dict(state)
    guides = [
        tt.ValueGuide(net, head(ScalarHead, 32), vocab=vocab(rows))
        for net, rows in ((small, SMALLER), (large, LARGER))
    ]
    one, two = (
        tt.decode(base(), guide, METHODS["args"], PROMPTS, max_new_tokens=6) for guide in guides
    )
    assert one == two


def test_a_guide_that_lacks_tokens_is_refused_when_it_is_opened_or_asked() -> None:
    net = toys.backbone(vocabulary=50)
    with pytest.raises(IncompatibleError, match="each of the 60 token ids.*llama with 50 rows"):
        tt.ValueGuide(net, ScalarHead(32), vocab=base().vocab)
    short = tt.ValueGuide(net, ScalarHead(32), vocab=vocab(50))
    with pytest.raises(IncompatibleError, match="must read the base's token ids"):
        tt.decode(base(), short, tt.args(), PROMPTS)
    narrow = tt.VocabularyGuide(
        toys.backbone(vocabulary=BASE), VocabularyHead(32, 50), vocab=base().vocab
    )
    with pytest.raises(IncompatibleError, match="a head with 50 outputs"):
        tt.decode(base(), narrow, tt.args(), PROMPTS)


def test_a_reward_model_that_lacks_tokens_reads_text() -> None:
    model = classifier("llama", vocabulary=50)
    guide = tt.RewardGuide(model, toys.tokenizer(50), base())
    assert guide.way == "retokenised"


def test_a_guide_on_the_bases_own_network_needs_no_vocabulary() -> None:
    lm = base()
    guide = tt.ValueGuide(toys.causal_lm(vocabulary=BASE).base_model, head(ScalarHead, 32))
    (done,) = tt.decode(lm, guide, tt.args(k=TOKENS), PROMPTS[:1], max_new_tokens=12)
    assert max(done.tokens) < TOKENS


def test_a_sum_reads_what_all_its_parts_read() -> None:
    mix = tt.WeightedSum([(1.0, value(LARGER)), (1.0, causal(SMALLER))])
    assert mix.vocab == vocab(SMALLER)
    done = tt.decode(base(), mix, METHODS["vas"], PROMPTS, max_new_tokens=8)
    assert max(token for c in done for token in c.tokens) < TOKENS


# --- inside `generate` ---------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [SMALLER, LARGER])
@pytest.mark.parametrize("kind", [value, vocabulary, causal])
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_generate_says_only_what_the_guide_reads(kind: Any, rows: int, method: tt.Method) -> None:
    net, ids = toys.causal_lm(vocabulary=BASE), torch.tensor([PROMPTS[1].ids])
    processor = GuidedLogitsProcessor(kind(rows), method, eos_token_id=toys.EOS)
    options = GenerationConfig(
        max_new_tokens=12, eos_token_id=toys.EOS, pad_token_id=toys.EOS,
        **processor.generate_options,
    )  # fmt: skip
    out = net.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=options,
        logits_processor=[processor],
    )  # fmt: skip
    assert int(out.max()) < min(rows, BASE)
    processor.reset()
    with torch.inference_mode():
        law = processor(ids, net(ids).logits[:, -1])
    torch.testing.assert_close(law.exp().sum(-1), torch.ones(1))
    assert bool(torch.isneginf(law[:, rows:]).all())


def test_generate_refuses_a_guide_of_another_vocabulary() -> None:
    ids = torch.tensor([PROMPTS[0].ids])
    processor = GuidedLogitsProcessor(value(SMALLER), tt.args())
    with pytest.raises(IncompatibleError, match="5000 outputs for a guide that reads 61 ids"):
        processor(ids, torch.zeros(1, 5000))
