"""Who may read by a tree mask: the families called verified are, and the others are refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModel, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from tests import toys
from trimtab.cache import expanded, selfcheck
from trimtab.cache.reader import open_reader
from trimtab.errors import IncompatibleError
from trimtab.testing.bench import Bench, some_prompts

_LLAMA = toys.SHAPES["llama"]
_PLAIN = {k: v for k, v in _LLAMA.items() if k not in ("num_key_value_heads", "head_dim")}
_OPT = {"hidden_size": 32, "ffn_dim": 48, "word_embed_proj_dim": 32, "max_position_embeddings": 64}
SPECIAL: dict[str, dict[str, Any]] = {
    "gpt2": toys.SHAPES["gpt2"],
    "gpt_bigcode": toys.SHAPES["gpt2"],
    "gemma2": {**_LLAMA, "attn_implementation": "eager"},
    "gpt_oss": {**_LLAMA, "num_local_experts": 4, "attn_implementation": "eager"},
    "mixtral": {**_LLAMA, "num_local_experts": 4},
    "opt": {**_OPT, "num_hidden_layers": 4, "num_attention_heads": 4},
    "qwen2_moe": {
        **_LLAMA,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
        "num_experts": 4,
    },
}
WINDOWED = {
    "cohere2", "exaone4", "gemma2", "gemma3_text", "gpt_oss", "ministral", "mistral", "mixtral",
    "olmo3", "phi3", "starcoder2",
}  # fmt: skip
WITHOUT_HEAD_DIM = {"gpt_neox", "olmo", "olmo2", "olmo3", "phi", "phi3", "starcoder2", "smollm3"}


def net(family: str, **changes: Any) -> PreTrainedModel:
    """A tiny random network of a family, with a window shorter than the trial's prefix."""
    shape = SPECIAL.get(family, _PLAIN if family in WITHOUT_HEAD_DIM else _LLAMA)
    shape = {"attn_implementation": "sdpa", **shape, "vocab_size": 97, "pad_token_id": 0} | changes
    if family in WINDOWED:
        shape["sliding_window"] = 6
    torch.manual_seed(0)
    made = AutoModel.from_config(CONFIG_MAPPING[family](**shape)).float().eval()
    for weights in made.parameters():
        if weights.dim() > 1:
            weights.data.mul_(4.0)
    return made


def hidden(out: Any) -> torch.Tensor:
    return out.last_hidden_state


@pytest.mark.parametrize("family", sorted(selfcheck.VERIFIED))
def test_verified_families_pass_the_trial(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selfcheck, "VERIFIED", frozenset())
    monkeypatch.setitem(selfcheck.TOLERANCE, torch.float32, 1e-5)
    assert open_reader(net(family), hidden).attention == "tree"


@pytest.mark.parametrize("family", toys.ODD_SHAPES)
def test_a_family_that_misreads_trees_is_refused(family: str) -> None:
    with pytest.raises(IncompatibleError, match='does not.*pass attention="expanded"'):
        toys.value_guide(family)
    assert "expanded" in repr(toys.value_guide(family, attention="expanded"))


@pytest.mark.parametrize("family", toys.ODD_SHAPES)
def test_the_trial_sees_what_the_list_says(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selfcheck, "UNFIT", {})
    with pytest.raises(IncompatibleError, match="does not"):
        toys.value_guide(family)


def test_an_unknown_family_whose_mask_is_ignored_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(selfcheck, "VERIFIED", frozenset())
    deaf = net("llama")
    forward = deaf.forward
    monkeypatch.setattr(deaf, "forward", lambda **kw: forward(**{**kw, "attention_mask": None}))
    with pytest.raises(IncompatibleError, match="outputs that differ by"):
        open_reader(deaf, hidden)


def test_a_window_too_long_to_try_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selfcheck, "VERIFIED", frozenset())
    long = net("llama")
    long.config.sliding_window = 4096
    with pytest.raises(IncompatibleError, match="4096 tokens, too long to try"):
        open_reader(long, hidden)
    del long.config.sliding_window


def test_flash_attention_is_refused() -> None:
    flash = net("llama")
    flash.config._attn_implementation = "flash_attention_2"
    with pytest.raises(IncompatibleError, match='attn_implementation="sdpa"'):
        open_reader(flash, hidden)


@pytest.mark.parametrize("attention", ["tree", "expanded"])
@pytest.mark.parametrize("family", ["mamba", "recurrent_gemma"])
def test_recurrent_networks_are_refused(family: str, attention: Any) -> None:
    shape = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
    made = AutoModel.from_config(CONFIG_MAPPING[family](**shape, vocab_size=97, pad_token_id=0))
    with pytest.raises(IncompatibleError):
        open_reader(made, hidden, attention=attention)


def test_expanded_reading_costs_one_token_more() -> None:
    guide = toys.value_guide("bloom", attention="expanded")
    bench = Bench(some_prompts(toys.VOCABULARY), toys.VOCABULARY)
    state = guide.prefill(bench.prompts)
    assert guide.cost.prefill == sum(len(p.ids) for p in bench.prompts)
    for step in range(4):
        candidates = bench.candidates(3, seed=step)
        guide.score(state, candidates)
        state = guide.extend(state, candidates.tokens[:, 1], bench.lengths(3))
    assert (guide.cost.scored, guide.cost.extended, guide.cost.recomputed) == (4 * 3 * 5, 4 * 3, 0)


def test_many_candidates_are_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(some_prompts(toys.VOCABULARY), toys.VOCABULARY)
    guide = toys.value_guide("mpt", attention="expanded")
    state, candidates = guide.prefill(bench.prompts), bench.candidates(3, seed=1)
    whole = guide.score(state, candidates)
    monkeypatch.setattr(expanded, "COPIES", 6)
    torch.testing.assert_close(guide.score(state, candidates), whole, atol=1e-5, rtol=1e-5)
