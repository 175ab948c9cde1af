"""Costs: the papers' figures, a real network counted by torch, and bills of real decodes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

import trimtab as tt
from tests import toys
from trimtab.evaluation.cost import Flops, Shape, forward, kaplan, spent

LLAMA_7B, GPT2_LARGE, DEBERTA_LARGE = (
    kaplan(*dims) for dims in ((32, 4096), (36, 1280), (24, 1024))
)


def test_kaplan_by_hand() -> None:
    assert kaplan(2, 8) == 2 * 12 * 2 * 64
    assert kaplan(2, 8, n_ctx=10) == 2 * 12 * 2 * 64 + 2 * 2 * 10 * 8


def test_the_overheads_that_pargs_reports() -> None:
    assert round(Flops(LLAMA_7B, 10 * DEBERTA_LARGE, LLAMA_7B).overhead, 2) == 0.47
    assert round(Flops(GPT2_LARGE, 10 * DEBERTA_LARGE, GPT2_LARGE).overhead, 1) == 4.3
    assert Flops(10 * LLAMA_7B, 0.0, LLAMA_7B).overhead == pytest.approx(9.0)


@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral", "gemma3_text", "gpt_neox"])
def test_a_real_network_costs_what_torch_counts(family: str) -> None:
    net = toys.causal_lm(family)
    length = 40
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH), torch.inference_mode():  # kernels that it can count
        net(torch.full((1, length), 5), use_cache=False)
    # torch multiplies every query with every key; the formula charges what each layer lets see.
    shape = Shape.of(net)
    full = forward(shape, 0) + 4.0 * sum(shape.query_widths) * length
    counted = counter.get_total_flops() / length
    assert counted == pytest.approx(full, rel=0.04)  # torch leaves out norms and biases


def test_windows_and_grouped_queries() -> None:
    everywhere, mixed = Shape.of(toys.causal_lm("mistral")), Shape.of(toys.causal_lm("gemma3_text"))
    assert everywhere.windows == (6, 6, 6, 6)
    assert set(mixed.windows) <= {6, None}
    assert forward(everywhere, 100) == forward(everywhere, 6)
    shape = Shape.of(toys.causal_lm("llama"))
    assert shape.query_widths == (4 * 8,) * 4, "keys are grouped, queries are not"
    assert forward(shape, 10) - forward(shape, 0) == 4 * 32 * 4 * 10


def test_a_window_that_the_family_does_not_know_counts_nothing() -> None:
    net = copy.deepcopy(toys.causal_lm("llama"))
    net.config.sliding_window = 6
    assert Shape.of(net).windows == (None,) * 4


def test_lookup_tables_are_free_and_heads_are_not() -> None:
    net, headless = toys.causal_lm("gpt2"), toys.backbone("gpt2")  # tied embeddings
    blocks = Shape.of(headless).weights
    assert Shape.of(net).weights == blocks + 32 * toys.VOCABULARY
    assert blocks < headless.num_parameters() - 32 * toys.VOCABULARY
    head = torch.nn.Linear(32, 1, bias=False)
    assert Shape.of(headless, head).weights == blocks + 32


def test_the_bill_of_a_decode_is_what_its_counters_saw() -> None:
    lm, prompts = toys.language_model(), toys.prompts(5, 7)
    plain = tt.decode(lm, None, tt.sampling(), prompts, max_new_tokens=6)
    assert spent(plain, base=10.0).overhead == pytest.approx(0.0)
    wide = tt.decode(lm, toys.causal_guide(), tt.genarm(), prompts, max_new_tokens=6)
    assert spent(wide, base=10.0, guide=5.0).overhead == pytest.approx(0.5)
    scalar = tt.decode(lm, toys.value_guide(), tt.args(k=4), prompts, max_new_tokens=6)
    bill = spent(scalar, base=10.0, guide=1.0)
    read = sum(len(c.tokens) for c in scalar)
    assert (bill.base, bill.guide) == (10.0 * (read - 2), 4.0 * read)
    assert bill.total == bill.base + bill.guide


# --- mixtures of experts -------------------------------------------------------------------------

EIGHT = {"num_experts": 8, "num_local_experts": 8, "n_routed_experts": 8, "moe_num_experts": 8}
TWO = {"num_experts_per_tok": 2, "moe_topk": 2, "moe_k": 2, "top_k_experts": 2}
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "moe_intermediate_size": 24,
    "shared_expert_intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 64,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "q_lora_rank": None,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "n_shared_experts": 1,
    "num_shared_experts": 1,
    "is_moe": True,
    "enable_moe_block": True,
    "pad_token_id": 0,
    "eos_token_id": 0,
    "bos_token_id": None,
}


def mixture(family: str, **changes: Any) -> PreTrainedModel:
    """A tiny mixture of eight experts, of which a token meets two; unlike sizes are told apart."""
    kind = CONFIG_MAPPING[family]
    known = {name for c in kind.__mro__ for name in getattr(c, "__annotations__", {})}
    known |= kind.attribute_map.keys() | {"pad_token_id", "eos_token_id", "bos_token_id"}
    wanted = SIZES | EIGHT | TWO | changes
    config = kind(**{name: value for name, value in wanted.items() if name in known})
    how = {"attn_implementation": "eager", "experts_implementation": "eager"}
    return AutoModelForCausalLM.from_config(config, **how).float().eval()


@pytest.mark.parametrize(
    "family",
    [
        *("mixtral", "qwen2_moe", "qwen3_moe", "gpt_oss", "olmoe", "granitemoe", "phimoe"),
        *("granitemoeshared", "jetmoe", "ernie4_5_moe", "dots1", "glm4_moe", "hunyuan_v1_moe"),
        *("aria_text", "minimax_m2", "afmoe", "flex_olmo", "doge", "solar_open"),
    ],
)
def test_a_mixture_costs_what_torch_counts_for_one_token(family: str) -> None:
    net = mixture(family, **({"head_dim": 8} if family == "hunyuan_v1_moe" else {}))
    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode():
        net(torch.tensor([[5]]), use_cache=False)
    assert counter.get_total_flops() == pytest.approx(forward(Shape.of(net), 1), rel=0.04)
    assert Shape.of(net).weights < sum(w.numel() for w in net.parameters()) - 64 * 32


def by_hand(net: PreTrainedModel, experts: int, count: int, k: int) -> int:
    """All weights but the lookup table, with k experts for all of them."""
    every = sum(w.numel() for w in net.parameters())
    every -= 0 if net.config.get_text_config().tie_word_embeddings else 64 * 32
    return every - experts + experts * k // count


@pytest.mark.parametrize(
    ("family", "layers", "expert"),
    [
        ("mixtral", 2, 3 * 32 * 48),
        ("qwen3_moe", 2, 3 * 32 * 24),
        ("gpt_oss", 2, 3 * 32 * 48 + 2 * 48 + 32),  # with biases
        ("deepseek_v3", 1, 3 * 32 * 24),  # the first layer is dense; one expert is shared by all
        ("llama4_text", 2, 3 * 32 * 48),
        ("gemma4_text", 2, 3 * 32 * 24),
    ],
)
@pytest.mark.parametrize("k", [1, 3])
def test_experts_by_hand(family: str, layers: int, expert: int, k: int) -> None:
    more = dict.fromkeys(TWO, k)
    if family == "gemma4_text":
        more |= {"hidden_size_per_layer_input": 0}
    net = mixture(family, **more)
    shape = Shape.of(net)
    assert shape.weights == by_hand(net, layers * 8 * expert, 8, k)
    assert forward(shape, 10) > forward(shape, 0)


def test_a_list_of_experts_counts_as_a_stack_does() -> None:
    class Sparse(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.top_k = 2
            self.gate = nn.Linear(32, 8, bias=False)
            self.experts = nn.ModuleList(nn.Linear(32, 32) for _ in range(8))
            self.shared_experts = nn.Linear(32, 32, bias=False)

    net = copy.deepcopy(toys.causal_lm())
    plain = Shape.of(net).weights
    net.model.layers[1].mlp.sparse = Sparse()
    more = 8 * 32 + 2 * 32 * 32 + 8 * 32 + 32 * 32  # router, two experts, biases, the shared one
    assert Shape.of(net).weights == plain + more


def test_where_nothing_says_how_many_are_met_all_count_and_it_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    net = copy.deepcopy(toys.causal_lm())
    plain = Shape.of(net).weights
    net.model.layers[1].mlp.experts = nn.ModuleList(nn.Linear(4, 4, bias=False) for _ in range(3))
    assert Shape.of(net).weights == plain + 3 * 16
    assert "no word of how many experts a token meets in model.layers.1.mlp.experts" in caplog.text


def test_towers_for_images_read_no_text() -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    text: dict[str, Any] = {
        **sizes,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
    }
    text |= {"vocab_size": 64, "pad_token_id": 0, "eos_token_id": 0, "bos_token_id": None}
    vision = {**sizes, "num_attention_heads": 4, "image_size": 28, "patch_size": 14}
    kinds = [CONFIG_MAPPING[name] for name in ("gemma3", "gemma3_text")]
    both = AutoModelForImageTextToText.from_config(kinds[0](text_config=text, vision_config=vision))
    alone = AutoModelForCausalLM.from_config(kinds[1](**text))
    assert sum(w.numel() for w in both.parameters()) > sum(w.numel() for w in alone.parameters())
    assert Shape.of(both) == Shape.of(alone)
    assert Shape.of(both.model.language_model).weights + 64 * 32 == Shape.of(alone).weights
