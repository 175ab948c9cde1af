"""The trial sees what it vouches for, costs little and touches no weights."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
    PreTrainedModel,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.llama import modeling_llama

from tests import toys
from tests.cache.nets import longrope, net, shape
from trimtab.cache import networks, reader, slots, trial
from trimtab.cache.networks import Context, QueryLayout
from trimtab.cache.trial import open_reader, reads_trees
from trimtab.errors import IncompatibleError
from trimtab.testing.fixture import Fixture, some_prompts


@pytest.fixture
def afresh(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No verdict is known."""
    monkeypatch.setattr(trial, "_verdicts", {})
    return monkeypatch


def logits(out: Any) -> Tensor:
    return out.logits


def llama(kind: type[PreTrainedModel] = LlamaForCausalLM) -> PreTrainedModel:
    return kind(shape("llama", attn_implementation="sdpa"))


# --- networks that do not read as they should -----------------------------------------------------


class MisplacesTokens(LlamaForCausalLM):
    """Counts positions from zero in every forward."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        kwargs["position_ids"] = torch.arange(kwargs["input_ids"].shape[1])[None]
        return super().forward(*args, **kwargs)


class SeesTheLongestRow(LlamaForCausalLM):
    """Its law depends on the longest row of a forward, as undeclared rotary switches do."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        places = kwargs.get("position_ids")
        longest = kwargs["input_ids"].shape[1] if places is None else int(places.max()) + 1
        out = super().forward(*args, **kwargs)
        out.logits = out.logits * (2.0 if longest > 16 else 1.0)
        return out


class Changes(LlamaForCausalLM):
    """Says something else every time."""

    calls = 0

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        out = super().forward(*args, **kwargs)
        self.calls += 1
        out.logits = out.logits + torch.arange(out.logits.shape[-1]) * self.calls
        return out


class IsNotANumber(LlamaForCausalLM):
    """Says nothing."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        out = super().forward(*args, **kwargs)
        out.logits = out.logits * torch.nan
        return out


@pytest.mark.parametrize("attention", ["tree", "expanded"])
@pytest.mark.parametrize("broken", [MisplacesTokens, SeesTheLongestRow, Changes, IsNotANumber])
def test_a_network_that_reads_otherwise_in_pieces_is_refused(broken: Any, attention: Any) -> None:
    with pytest.raises(IncompatibleError, match="llama does not; got outputs that differ by"):
        open_reader(llama(broken), logits, attention=attention)


def test_a_network_that_hears_no_mask_is_refused(afresh: pytest.MonkeyPatch) -> None:
    ask = modeling_llama.create_causal_mask
    afresh.setattr(
        modeling_llama, "create_causal_mask", lambda *a, **k: ask(*a, **k) * 0 if k else None
    )
    with pytest.raises(IncompatibleError, match="outputs that differ by|a forward that fails"):
        open_reader(llama(), logits)


def test_a_network_that_asks_for_no_mask_is_refused(afresh: pytest.MonkeyPatch) -> None:
    afresh.setattr(modeling_llama, "create_causal_mask", lambda *a, **k: None)
    with pytest.raises(IncompatibleError, match="masks of its own making.*expanded"):
        open_reader(llama(), logits)


# --- readers that do not read as they should ------------------------------------------------------


def _no_window(visible: Any, query: Tensor, key: Tensor) -> Tensor:
    return torch.ones_like(query[..., None] - key, dtype=torch.bool)


def _by_place(lanes: QueryLayout) -> Tensor:
    return lanes.at.masked_fill(~lanes.real, 0)


def _everything(lanes: QueryLayout, width: int, visible: Any) -> Tensor:
    return torch.ones(*lanes.at.shape, width, dtype=torch.bool)[:, None]


FAULTS: dict[str, tuple[str, Any]] = {
    "a window is lost": (
        "mistral",
        lambda p: p.setattr(networks, "within", _no_window),
    ),
    "a chunk is lost": ("llama4", lambda p: p.setattr(networks, "within", _no_window)),
    "a position is wrong": (
        "llama",
        lambda p: p.setattr(QueryLayout, "position", property(_by_place)),
    ),
    "branches see each other": (
        "llama",
        lambda p: p.setattr(QueryLayout, "see", _everything),
    ),
    "a chosen candidate is not kept": (
        "llama",
        lambda p: p.setattr(slots.SlotStore, "move", lambda *_: None),
    ),
    "a fork shares its origin's tokens": (
        "llama",
        lambda p: p.setattr(slots.SlotStore, "copy", lambda *_: None),
    ),
    "a rotary switch is passed": (
        "phi3",
        lambda p: (
            p.setattr("trimtab.cache.reader.context_of", lambda _: Context(None)),
            p.setattr(trial, "_switch", lambda _: 24),
        ),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_ours_is_seen(fault: str, afresh: pytest.MonkeyPatch) -> None:
    family, inject = FAULTS[fault]
    few = {"sliding_window": 32} if family == "mistral" else {}
    model = longrope() if family == "phi3" else net(family, **few)
    assert reads_trees(model)
    trial._verdicts.clear()
    inject(afresh)
    assert not reads_trees(model)


@pytest.mark.parametrize("window", [8, 512, 4096, None])
def test_windows_of_any_length_are_tried(window: int | None) -> None:
    """Not the window's length is tried but what the network does past one."""
    assert reads_trees(net("mistral", sliding_window=window))


# --- what it costs -------------------------------------------------------------------------------


def test_opening_touches_no_weights_and_tries_a_config_once(afresh: pytest.MonkeyPatch) -> None:
    with torch.device("meta"):  # as large as it is, it has no numbers
        large = LlamaForCausalLM(LlamaConfig(num_hidden_layers=2, attn_implementation="sdpa"))
    made = []
    make = trial.make_twin
    afresh.setattr(trial, "make_twin", lambda *a: (made.append(a), make(*a))[1])
    before = torch.get_rng_state()
    for _ in range(3):
        open_reader(large, logits)
    assert len(made) == 1
    assert torch.equal(before, torch.get_rng_state())
    open_reader(llama(), logits)
    assert len(made) == 2, "another config is another trial"


def test_a_trial_takes_a_fraction_of_a_second(afresh: pytest.MonkeyPatch) -> None:
    model = llama()
    start = time.process_time()
    open_reader(model, logits)
    assert time.process_time() - start < 2.0  # about .1 on an idle core


# --- published shapes ----------------------------------------------------------------------------

PUBLISHED: dict[str, tuple[str, dict[str, Any]]] = {
    "Phi-4-mini": (
        "phi3",
        {
            "hidden_size": 3072,
            "num_attention_heads": 24,
            "num_key_value_heads": 8,
            "num_hidden_layers": 32,
            "vocab_size": 200064,
            "max_position_embeddings": 131072,
            "original_max_position_embeddings": 4096,
            "sliding_window": 262144,
            "partial_rotary_factor": 0.75,
            "pad_token_id": 199999,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "partial_rotary_factor": 0.75,
                "short_factor": [1.0] * 48,
                "long_factor": [1.0 + i for i in range(48)],
                "original_max_position_embeddings": 4096,
            },
        },
    ),
    "Llama-3.2-1B": (
        "llama",
        {
            "hidden_size": 2048,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 64,
            "max_position_embeddings": 131072,
            "eos_token_id": [128001, 128008, 128009],
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 500000.0,
                "factor": 32.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
        },
    ),
    "gemma-3-4b-it": (
        "gemma3_text",
        {
            "hidden_size": 2560,
            "num_hidden_layers": 34,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "sliding_window": 1024,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            },
        },
    ),
    "Qwen2.5-VL": (
        "qwen2_5_vl",
        {
            "text_config": {
                "hidden_size": 2048,
                "num_attention_heads": 16,
                "num_key_value_heads": 2,
                "num_hidden_layers": 36,
                "rope_parameters": {
                    "rope_type": "default",
                    "rope_theta": 1e6,
                    "mrope_section": [16, 24, 24],
                },
            }
        },
    ),
    "gemma-4-E2B": (
        "gemma4_text",
        {"num_hidden_layers": 35, "num_kv_shared_layers": 20, "use_double_wide_mlp": True},
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.filterwarnings("ignore")  # what transformers says of such configs
def test_published_configs_pass_at_their_size(name: str) -> None:
    family, given = PUBLISHED[name]
    config = CONFIG_MAPPING[family](**given)
    auto = AutoModelForImageTextToText if family == "qwen2_5_vl" else AutoModelForCausalLM
    kind: Any = auto._model_mapping[type(config)]
    config._attn_implementation = "sdpa"
    model = kind.__new__(kind)
    model.__dict__["config"] = config
    for attention in ("tree", "expanded"):
        assert trial.refusal(model, attention) is None
    if name == "Phi-4-mini":
        assert networks.context_of(config).tokens == 4096


# --- who is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("family", toys.ODD_SHAPES)
def test_a_family_that_misreads_trees_is_refused(family: str) -> None:
    with pytest.raises(IncompatibleError, match=f'{family} does not.*pass attention="expanded"'):
        toys.value_guide(family)
    assert "expanded" in repr(toys.value_guide(family, attention="expanded"))


def test_flash_attention_is_refused() -> None:
    flash = llama(LlamaModel)
    flash.config._attn_implementation = "flash_attention_2"
    with pytest.raises(IncompatibleError, match='"sdpa" or "eager"'):
        open_reader(flash, logits)


@pytest.mark.parametrize("attention", ["tree", "expanded"])
@pytest.mark.parametrize("family", ["mamba", "recurrent_gemma"])
def test_recurrent_networks_are_refused(family: str, attention: Any) -> None:
    few = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
    made = AutoModel.from_config(CONFIG_MAPPING[family](**few, vocab_size=97, pad_token_id=0))
    with pytest.raises(IncompatibleError, match=f"{family} with a recurrent state"):
        open_reader(made, logits, attention=attention)


def test_expanded_reading_costs_one_token_more() -> None:
    guide = toys.value_guide("bloom", attention="expanded")
    fixture = Fixture(some_prompts(toys.VOCABULARY), toys.VOCABULARY)
    state = guide.prefill(fixture.prompts)
    assert guide.cost.prefill == sum(len(p.ids) for p in fixture.prompts)
    for step in range(4):
        candidates = fixture.candidates(seed=step)
        guide.score(state, candidates)
        state = guide.extend(state, candidates.tokens[:, 1], torch.ones(3, dtype=torch.int64))
    assert (guide.cost.scored, guide.cost.extended, guide.cost.recomputed) == (4 * 3 * 5, 4 * 3, 0)


def test_many_candidates_are_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    fixture = Fixture(some_prompts(toys.VOCABULARY), toys.VOCABULARY)
    guide = toys.value_guide("mpt", attention="expanded")
    state, candidates = guide.prefill(fixture.prompts), fixture.candidates(seed=1)
    whole = guide.score(state, candidates)
    monkeypatch.setattr(reader, "COPIES", 6)
    torch.testing.assert_close(guide.score(state, candidates), whole, atol=1e-5, rtol=1e-5)
