"""Opening a reader: can this network be read so? Every config is tried once, on a twin.

A network that misreads a mask, a position or its cache gives wrong scores without any error. What
it does with them is decided by its class and its config, not by its weights. So before a reader is
opened, a twin of the network (its class and config, a few narrow layers, every length scaled down)
has to show that what is read in pieces, beside others and by branches is what a plain forward of
each whole text says: past its sliding window, in each type of its layers, up to the longest row
that it may have. That takes a fraction of a second, and the network's own weights are not touched.

Legend: B rows, K candidates, L tokens of a candidate, D size of the network's output.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeGuard

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig, PreTrainedModel

from trimtab.cache.networks import text_config
from trimtab.cache.reader import Attention, CachedReader, ExpandedReader, TreeReader, as_it_is
from trimtab.errors import IncompatibleError, TrimtabError, check_word
from trimtab.locks import Lock
from trimtab.types import Candidates

KINDS: dict[str, type[CachedReader]] = {"tree": TreeReader, "expanded": ExpandedReader}

TOLERANCE = 1e-3
"""Largest relative error (norm of the difference over the norm) of a twin, in float32; what is read
right differs by 1e-6, what is read wrong by 1e-2 or more."""

Refusal: TypeAlias = dict[str, str]
"""The words of an `IncompatibleError`."""

_trying = Lock()
_verdicts: dict[tuple[str, ...], Refusal | None] = {}
"""By network and way of reading; None where nothing was found wrong."""


def open_reader(
    net: PreTrainedModel,
    output: Callable[[Any], Tensor],
    *,
    attention: Attention = "tree",
    finish: Callable[[Tensor], Tensor] = as_it_is,
    **arguments: Any,
) -> CachedReader:
    """A reader over `net`, whose arguments are those of `CachedReader`, once its twin was tried.

    Raises:
        IncompatibleError: the network cannot be read in this way.
    """
    check_word("attention", attention, Attention)
    if wrong := refusal(net, attention):
        raise IncompatibleError(**wrong)
    return KINDS[attention](net, output, finish=finish, **arguments)


def reads_trees(net: PreTrainedModel) -> bool:
    """Whether a network reads branches of one prefix as it reads them alone."""
    return refusal(net, "tree") is None


def refusal(net: PreTrainedModel, attention: str) -> Refusal | None:
    """What is wrong with reading networks of this class and config so; tried once."""
    config: PreTrainedConfig = net.config
    implementation = str(text_config(config)._attn_implementation)
    if attention == "tree" and implementation not in ("sdpa", "eager"):
        got = f'attn_implementation={implementation!r}, where a tree needs "sdpa" or "eager"'
        return _not_so(config, attention, got)
    key = (
        f"{type(net).__module__}.{type(net).__qualname__}",
        config.to_json_string(use_diff=False),
        implementation,
        attention,
    )
    with _trying:  # a twin's weights are drawn from torch's own generator, set aside meanwhile
        if key not in _verdicts:
            _verdicts[key] = _try(type(net), config, attention)
        return _verdicts[key]


def _try(kind: type[PreTrainedModel], config: PreTrainedConfig, attention: str) -> Refusal | None:
    if beside := _kept_beside(kind, config):
        return _never(config, f" with {beside}")
    try:
        twin = make_twin(kind, config)
    except Exception as failure:  # whatever a class says of a small config
        return _not_so(config, attention, f"no small twin to try it on ({_one_line(failure)})")
    if twin.config.is_encoder_decoder:
        return _never(config, ", an encoder and a decoder")
    try:
        with torch.autocast("cpu", enabled=False), torch.inference_mode():
            if _looks_ahead(twin):
                why = " that sees the next token (an encoder, or is_decoder=False)"
                return _never(config, why)
            error = _relative_error(twin, KINDS[attention](twin, _output))
    except TrimtabError as failure:
        return _not_so(config, attention, failure.got)
    except Exception as failure:  # whatever a forward stumbles over
        return _not_so(config, attention, f"a forward that fails ({_one_line(failure)})")
    if error <= TOLERANCE:
        return None
    return _not_so(config, attention, f"outputs that differ by {error:.1%} from plain forwards")


def _never(config: PreTrainedConfig, what: str) -> Refusal:
    return {
        "must": "a reader needs a decoder-only network whose layers keep keys and values in "
        "transformers' cache",
        "got": f"{config.model_type}{what}",
        "do": "use an attention-only decoder, or a guide of your own that re-encodes",
    }


def _not_so(config: PreTrainedConfig, attention: str, got: str) -> Refusal:
    other = {"tree": "expanded", "expanded": "tree"}[attention]
    return {
        "must": f'attention="{attention}" must read a network as plain forwards do; '
        f"{config.model_type} does not",
        "got": got,
        "do": f'pass attention="{other}", or another network (docs/families.md lists them)',
    }


def _one_line(failure: Exception) -> str:
    return " ".join(f"{type(failure).__name__}: {failure}".split())[:200]


_GROWING = {"DynamicLayer", "DynamicSlidingWindowLayer", "DummyLayer"}
"""transformers' layers that keep all keys and values, their window's, or read another's."""


def _kept_beside(kind: Any, config: PreTrainedConfig) -> str:
    """What a network keeps of a text beside keys and values that only grow; empty if nothing."""
    if getattr(kind, "_is_stateful", False):
        return "a recurrent state"
    try:
        layers = DynamicCache(config=config).layers
    except Exception as failure:  # whatever a config without layers says
        return f"no cache ({_one_line(failure)})"
    odd = {type(layer).__name__ for layer in layers} - _GROWING
    return f"layers of {', '.join(sorted(odd))}" if odd else ""


# --- the trial -----------------------------------------------------------------------------------


def _output(out: Any) -> Tensor:
    """What a network with an output layer says, and what one without."""
    output: Tensor = out.logits if "logits" in out else out.last_hidden_state
    return output


def _looks_ahead(net: PreTrainedModel) -> bool:
    """Whether what it says of a token depends on the next one, in which two texts differ."""
    one, other = _output(net(input_ids=torch.tensor([[9, 10], [9, 11]]), use_cache=False))[:, 0]
    return bool((one - other).norm() > TOLERANCE * one.norm())


def _relative_error(net: PreTrainedModel, reader: CachedReader) -> float:
    """How far what a reader says is from a plain forward of each text alone, at worst.

    Rows of unequal lengths are read side by side, branched, extended by a candidate and by
    unequally many tokens, forked and branched again, up to `LENGTH` tokens.
    """
    generator = torch.Generator().manual_seed(0)
    errors: list[float] = []

    def draw(*shape: int) -> Tensor:
        return torch.randint(8, VOCABULARY - 8, shape, generator=generator)

    def compare(texts: Sequence[list[int]], got: Float[Tensor, "N D"]) -> None:
        for text, row in zip(texts, got, strict=True):
            want = _output(net(input_ids=torch.tensor([text]), use_cache=False))[0, -1].float()
            errors.append(float((row.float() - want).norm() / want.norm()))

    def branch(state: Any, texts: Sequence[list[int]], tokens: Int[Tensor, "B K L"]) -> None:
        lengths = torch.full(tokens.shape[:2], tokens.shape[2])
        candidates = Candidates(tokens, torch.zeros(lengths.shape), lengths, lengths < 0)
        longer = [t + new for t, many in zip(texts, tokens.tolist(), strict=True) for new in many]
        compare(longer, reader.branch(state, candidates).flatten(0, 1))

    def extended(
        state: Any, texts: Sequence[list[int]], tokens: Int[Tensor, "B L"], counts: list[int]
    ) -> tuple[Any, list[list[int]]]:
        new = zip(texts, tokens.tolist(), counts, strict=True)
        longer = [text + ids[:n] for text, ids, n in new]
        return reader.extend(state, tokens, torch.tensor(counts)), longer

    texts = [draw(n).tolist() for n in (5, 19, LENGTH - 8)]
    state = reader.prefill(texts)
    compare(texts, state.last)
    tokens = draw(3, 2, 1)
    branch(state, texts, tokens)
    state, texts = extended(state, texts, tokens[:, 1], [1, 1, 1])
    state, texts = extended(state, texts, draw(3, 4), [4, 1, 3])
    compare(texts, state.last)
    state = reader.select(state, torch.tensor([2, 0, 0]))
    state, texts = extended(state, [texts[i] for i in (2, 0, 0)], draw(3, 1), [1, 1, 1])
    compare(texts, state.last)
    branch(state, texts, draw(3, 2, 2))
    return max(errors) if all(error == error for error in errors) else float("nan")


# --- the twin ------------------------------------------------------------------------------------

HEADS, HEAD, HIDDEN, VOCABULARY = 4, 16, 64, 96

LENGTH = 44
"""Most tokens that a trial reads; where a reading must end at a length, the twin's ends here."""

LARGEST = 8_000_000
"""Most weights of a twin: widths that are not known here are not built at their size."""

DEEPEST = 16

_MOST: tuple[tuple[str, int], ...] = (
    # lengths, which a trial reads past
    (r"sliding_window(_size)?|attention_chunk_size|(keep_|attention_)?window_size", 8),
    (r"local_attention|index_topk|rel_extent|log_scaling_n_floor", 8),
    (r"index_block_size|index_topk_blocks", 2),
    # counts
    (r"(num|n|moe_num)_(local_|routed_)?experts|zero_expert_num", 4),
    (r"num_experts_per_tok(en)?|(moe_)?(top_?k|k)(_experts)?", 2),
    (r"n_group|num_expert_group", 2),
    (r"topk_group|first_k_dense_replace|num_dense_layers", 1),
)
"""What a number of a config is at most in a twin, by its name; the first that matches counts."""

_SIZES: tuple[tuple[str, int], ...] = (
    (r"max_(source_|target_)?position(_embedding)?s|n_positions|n_ctx|max_seq_len", 64),
    (r"floor_scale", LENGTH + 1),
    (r"((num|n)_)?(\w+_)?heads|n_head|num_(\w+_)?query_groups", HEADS),
    (r"(unpadded_)?vocab_size(_per_layer_input)?", VOCABULARY),
    (r"\w+_rank|hidden_size_per_layer_input|query_pre_attn_scalar", HEAD),
    (r"qk_head_dim|swa_head_dim", 2 * HEAD),
    (r"rotary_dim", HEAD // 2),
    (r"(\w+_)?(head_dim|head_size|d_head|dim_head|kv_channels|d_kv)", HEAD),
    (r"d_model|n_embd|(\w+_)?(embed|emb|embedding)_dim|word_embed_proj_dim|dim", HIDDEN),
    (r"(\w+_)?(hidden|embedding|intermediate)_size(_\w+)?", HIDDEN),
    (r"(\w+_)?(ffn_dim|inner|dff|dim_ff|conv_channels)", HIDDEN),
)
"""What a number is in a twin unless it is zero, so that all of them fit each other."""

_DEPTHS = re.compile(r"num_hidden_layers|(n|num|depth|(num_)?(en|de)coder)_layers?|depth")
_NUMBERS = re.compile(r"moe_layers|full_attn_idxs|mlp_only_layers|cross_attention_layers|.*_ids")
"""Lists of layers by number; any other list as long as the network is deep says one of each."""


def make_twin(kind: type[PreTrainedModel], config: PreTrainedConfig) -> PreTrainedModel:
    """A twin of a network of this class and config, in float32 on the CPU."""
    with _apart():
        given = _shrunk(config.to_dict())
        given.pop("quantization_config", None)
        small = type(config).from_dict(given, attn_implementation=config._attn_implementation)
        with torch.device("meta"):
            size = sum(weights.numel() for weights in kind(small).parameters())
        if size > LARGEST:
            raise ValueError(f"it would have {size} weights")
        with torch.device("cpu"):
            twin: PreTrainedModel = kind(small).float().eval()
        for weights in twin.parameters():
            if weights.dim() > 1:  # large enough that every token and position tells
                torch.nn.init.normal_(weights, std=1.5 * weights.shape[-1] ** -0.5)
    return twin.requires_grad_(False)


@contextmanager
def _apart() -> Iterator[None]:
    """Random draws, warnings and remarks of transformers that nobody outside notices."""
    log = logging.getLogger("transformers")
    level = log.level
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        torch.manual_seed(0)
        warnings.simplefilter("ignore")
        log.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            log.setLevel(level)


def _shrunk(given: Mapping[str, Any]) -> dict[str, Any]:
    """A config, or a part of one, as a twin has it."""
    deep = next((v for n, v in given.items() if _DEPTHS.fullmatch(n) and _number(v)), 0)
    kept = _layers(given, deep)
    return {name: _entry(given, name, value, deep, kept) for name, value in given.items()}


def _entry(given: Mapping[str, Any], name: str, value: Any, deep: int, kept: Sequence[int]) -> Any:
    if isinstance(value, dict):
        return _part(name, value, kept)
    if _number(value):
        return _small(given, name, value, deep, len(kept))
    if not isinstance(value, list):
        return value
    if name == "attention_types":  # [[pattern, how often]] of gpt_neo
        return [[pattern, 1] for pattern, _ in value[:1]]
    if _NUMBERS.fullmatch(name):
        return [kept.index(i) for i in value if i in kept]
    return [_sized(name, value[i]) for i in kept] if deep and len(value) == deep else value


def _part(name: str, value: Mapping[Any, Any], kept: Sequence[int]) -> Any:
    if name in ("id2label", "label2id"):
        return value
    if name in ("rope_parameters", "rope_scaling"):
        return _rope(value)
    if name == "per_layer_config":
        return {
            kept.index(int(i)): {n: _sized(n, v) for n, v in own.items()}
            for i, own in value.items()
            if int(i) in kept
        }
    return _shrunk(value)


def _small(given: Mapping[str, Any], name: str, value: int, deep: int, kept: int) -> int:
    if _DEPTHS.fullmatch(name):
        return kept if value == deep else min(value, 2)
    if name == "num_kv_shared_layers":
        return kept // 2 if value else 0
    if name == "original_max_position_embeddings":
        return _switch(given.get("rope_parameters") or {})
    if "key_value_heads" in name:  # heads that share keys keep sharing them
        queries: Any = given.get(name.replace("key_value", "attention"))
        return min(value, 2) if _number(queries) and value < queries else HEADS
    size: int = _sized(name, value)
    return size


def _sized(name: str, value: Any) -> Any:
    if not _number(value):
        return value
    if re.fullmatch(r"\w+_token_(id|index)|\w+_index", name):
        return min(value, VOCABULARY - 1)
    if value <= 0:
        return value
    for names, most in _MOST:
        if re.fullmatch(names, name):
            return min(value, most)
    return next((size for names, size in _SIZES if re.fullmatch(names, name)), value)


def _number(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _switch(rope: Mapping[str, Any]) -> int:
    """Where the rotary frequencies change: a reading ends there, or goes past it."""
    return LENGTH if rope.get("rope_type", rope.get("type")) == "longrope" else 16


def _rope(rope: Mapping[str, Any]) -> dict[str, Any]:
    half = int(HEAD * (rope.get("partial_rotary_factor") or 1.0)) // 2
    small: dict[str, Any] = {}
    for name, value in rope.items():
        if isinstance(value, dict):
            small[name] = _rope(value)
        elif name == "original_max_position_embeddings":
            small[name] = _switch(rope)
        elif name in ("short_factor", "long_factor"):
            small[name] = [value[i * len(value) // half] for i in range(half)]
        elif name == "mrope_section":
            n = len(value)
            small[name] = [half * (i + 1) // n - half * i // n for i in range(n)]
        else:
            small[name] = _sized(name, value)
    return small


def _layers(given: Mapping[str, Any], deep: int) -> list[int]:
    """The first layers, as many as show every kind; one of each, where those would be many."""
    by_layer = [
        value
        for name, value in given.items()
        if isinstance(value, list) and len(value) == deep and not _NUMBERS.fullmatch(name)
        and all(isinstance(entry, str | bool) or entry in (0, 1) for entry in value)
    ]  # fmt: skip
    own = {int(i): str(own) for i, own in (given.get("per_layer_config") or {}).items()}
    kinds = [(*(str(value[i]) for value in by_layer), own.get(i)) for i in range(deep)]
    first = sorted({kind: i for i, kind in reversed(list(enumerate(kinds)))}.values())
    count = max([2, *(i + 1 for i in first[-1:])])
    if given.get("num_kv_shared_layers"):
        count *= 2  # the second half reads the first half's keys and values
    return list(range(min(count, deep))) if count <= DEEPEST else first
