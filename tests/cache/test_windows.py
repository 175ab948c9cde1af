"""Windows, chunks and layer types are the architecture's own, wherever its config keeps them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

import trimtab as tt
from tests import toys
from tests.cache.nets import apart, net, plain, text
from trimtab.errors import UsageError
from trimtab.guides import ScalarHead
from trimtab.training.examples import Example, Row, collate, to_batch, to_network, token_scores
from trimtab.training.network import make_network
from trimtab.types import Candidates

MULTIMODAL = ["gemma3", "gemma4"]
OTHERS = ["gemma3n_text", "gemma4_text", "llama4"]
STRAY: list[tuple[str, dict[str, Any]]] = [
    ("llama", {"sliding_window": 8}),
    ("qwen2", {"sliding_window": 8, "use_sliding_window": False}),
    ("qwen2", {"sliding_window": 8, "use_sliding_window": True, "max_window_layers": 1}),
    ("qwen3", {"sliding_window": 8, "use_sliding_window": True, "max_window_layers": 0}),
    ("mistral", {"sliding_window": 8}),
    ("mistral", {"sliding_window": None}),
    ("smollm3", {"sliding_window": 8, "use_sliding_window": False}),
]


@pytest.mark.parametrize("attention", ["tree", "expanded"])
@pytest.mark.parametrize("family", MULTIMODAL + OTHERS)
def test_laws_are_those_of_plain_forwards_before_and_past_the_window(
    family: str, attention: Any
) -> None:
    model = net(family)
    lm = tt.TransformersLM(model, toys.tokenizer(), template="none", attention=attention)
    prompts = [text(n) for n in (10, 40, 100)]
    state = lm.prefill(prompts)
    ids = [list(p.ids) for p in prompts]
    for _ in range(2):
        for row, law in zip(ids, state.last, strict=True):
            assert apart(law, plain(model, row)) < 1e-5
        new = state.last.argmax(-1)
        state = lm.extend(state, new[:, None], torch.ones(3, dtype=torch.int64))
        ids = [[*row, token] for row, token in zip(ids, new.tolist(), strict=True)]


@pytest.mark.parametrize("attention", ["tree", "expanded"])
@pytest.mark.parametrize(("family", "window"), STRAY, ids=str)
def test_a_window_counts_only_where_the_architecture_uses_one(
    family: str, window: dict[str, Any], attention: Any
) -> None:
    model = net(family, **window)
    lm = tt.TransformersLM(model, toys.tokenizer(), template="none", attention=attention)
    prompt = text(40)
    assert apart(lm.prefill([prompt]).last[0], plain(model, prompt.ids)) < 1e-5


def scores_of(guide: tt.ValueGuide) -> torch.Tensor:
    """Two candidates after a short and a long prompt."""
    tokens = torch.tensor([[[9], [10]], [[11], [12]]])
    one = torch.ones(2, 2, dtype=torch.int64)
    state = guide.prefill([text(12), text(80)])
    return guide.score(state, Candidates(tokens, torch.zeros(2, 2), one, one < 0))


def value_guide(model: PreTrainedModel, layers: int | None) -> tt.ValueGuide:
    torch.manual_seed(3)
    head = ScalarHead(32)
    torch.nn.init.normal_(head.linear.weight, std=0.3)
    return tt.ValueGuide(model.base_model, head, layers=layers)


@pytest.mark.parametrize("layers", [None, 2])
@pytest.mark.parametrize("family", MULTIMODAL)
def test_a_value_guide_on_a_multimodal_model_reads_its_text_decoder(
    family: str, layers: int | None
) -> None:
    model = net(family)
    got = scores_of(guide := value_guide(model, layers))
    assert guide.vocab.size == 97
    inner: Any = model.base_model.language_model
    if layers:
        inner.layers = inner.layers[:layers]
        inner.config.num_hidden_layers = layers
    for row, (prompt, tokens) in enumerate([(text(12), (9, 10)), (text(80), (11, 12))]):
        for k, token in enumerate(tokens):
            with torch.inference_mode():
                out = inner(input_ids=torch.tensor([[*prompt.ids, token]]), use_cache=False)
                want = guide.head(out.last_hidden_state[0, -1])
            torch.testing.assert_close(got[row, k], want, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("storage", ["full", "base"])
@pytest.mark.parametrize("family", MULTIMODAL)
def test_a_guide_on_a_multimodal_model_is_saved_and_loaded(
    family: str, storage: Any, tmp_path: Path
) -> None:
    model = net(family)
    lm = tt.TransformersLM(model, toys.tokenizer(), template="none")
    guide = value_guide(model, 2)
    tt.save_guide(guide, tmp_path / "guide", storage=storage)
    loaded = tt.load_guide(tmp_path / "guide", lm=lm)
    torch.testing.assert_close(scores_of(loaded), scores_of(guide))


def test_a_cut_that_its_config_cannot_say_is_refused() -> None:
    """Gemma 4 ends with full attention whatever its config says: saved, it would be another."""
    with pytest.raises(UsageError, match="must end with a layer of full_attention.*one of 2, 4"):
        value_guide(net("gemma4"), 3)
    with pytest.raises(UsageError, match="embeds each token for all of its 4 layers"):
        value_guide(net("gemma3n_text"), 2)


@pytest.mark.parametrize("lora_rank", [0, 2])
@pytest.mark.parametrize("family", [*MULTIMODAL, "llama4", "gpt_oss"])
def test_training_shares_prompts_past_the_window(family: str, lora_rank: int) -> None:
    few = {"num_local_experts": 4, "sliding_window": 32} if family == "gpt_oss" else {}
    made = make_network(
        net(family, **few), "scalar", layers=None, lora_rank=lora_rank, lora_alpha=1
    ).eval()
    assert made.shares
    torch.nn.init.normal_(made.head.linear.weight, std=0.3)
    rows = (Row(text(20, 2).ids, 1.0), Row(text(9, 3).ids, 0.5))
    examples = [Example(text(60).ids, rows), Example(text(5).ids, rows)]
    said = []
    for shared in (True, False):
        tensors = collate(examples, shared=shared)
        said.append(token_scores(made(**to_network(tensors)), to_batch(tensors)))
    for row, n in enumerate(collate(examples)["lengths"].tolist()):
        torch.testing.assert_close(said[0][row, :n], said[1][row, :n], rtol=1e-4, atol=1e-4)
    said[0].sum().backward()
    assert any(w.grad is not None and bool(w.grad.any()) for w in made.parameters())
