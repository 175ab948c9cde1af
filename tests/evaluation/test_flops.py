"""Costs: the papers' figures, a real network counted by torch, and bills of real decodes."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import trimtab as tt
from tests import toys
from trimtab.evaluation.flops import Shape, best_of_n, forward, guided, kaplan, spent

LLAMA_7B, GPT2_LARGE, DEBERTA_LARGE = (
    kaplan(*dims) for dims in ((32, 4096), (36, 1280), (24, 1024))
)


def test_kaplan_by_hand() -> None:
    assert kaplan(2, 8) == 2 * 12 * 2 * 64
    assert kaplan(2, 8, n_ctx=10) == 2 * 12 * 2 * 64 + 2 * 2 * 10 * 8


def test_the_overheads_that_pargs_reports() -> None:
    assert round(guided(LLAMA_7B, DEBERTA_LARGE, k=10).overhead, 2) == 0.47
    assert round(guided(GPT2_LARGE, DEBERTA_LARGE, k=10).overhead, 1) == 4.3
    assert best_of_n(LLAMA_7B, 0.0, 10).overhead == pytest.approx(9.0)


@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral", "gemma3_text", "gpt_neox"])
def test_a_real_network_costs_what_torch_counts(family: str) -> None:
    net = toys.causal_lm(family)
    length = 40
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH), torch.inference_mode():  # kernels that it can count
        net(torch.full((1, length), 5), use_cache=False)
    # torch multiplies every query with every key; the formula charges what each layer lets see.
    shape = Shape.of(net)
    full = forward(shape, 0) + 4.0 * shape.query_width * shape.n_layer * length
    counted = counter.get_total_flops() / length
    assert counted == pytest.approx(full, rel=0.04)  # torch leaves out norms and biases


def test_windows_and_grouped_queries() -> None:
    everywhere, mixed = Shape.of(toys.causal_lm("mistral")), Shape.of(toys.causal_lm("gemma3_text"))
    assert everywhere.windows == (6, 6, 6, 6)
    assert set(mixed.windows) <= {6, None}
    assert forward(everywhere, 100) == forward(everywhere, 6)
    shape = Shape.of(toys.causal_lm("llama"))
    assert shape.query_width == 4 * 8, "keys are grouped, queries are not"
    assert forward(shape, 10) - forward(shape, 0) == 4 * 32 * 4 * 10


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
