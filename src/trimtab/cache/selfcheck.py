"""Can this network be read so? Every config is tried once, on a twin of the network.

A network that misreads a mask, a position or its cache gives wrong scores without any error. So
before a reader is opened, the network's twin (`trimtab.cache.twin`) has to show that what is read
in pieces, beside others and by branches is what a plain forward of each whole text says: past its
sliding window, in each type of its layers, up to the longest row that it may have. Nothing is
taken on trust, and a network's own weights are not touched.

Legend: B rows, K candidates, D size of the network's output.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig, PreTrainedModel

from trimtab.cache.configs import text_config
from trimtab.cache.masks import Visible, answering, within
from trimtab.cache.twin import LENGTH, VOCABULARY, make_twin
from trimtab.errors import IncompatibleError, TrimtabError
from trimtab.locks import Lock
from trimtab.types import Candidates

TOLERANCE = 1e-3
"""Largest relative error (norm of the difference over the norm) of a twin, in float32; what is read
right differs by 1e-6, what is read wrong by 1e-2 or more."""


Fresh: TypeAlias = Callable[[PreTrainedModel, Callable[[Any], Tensor]], Any]
"""Opens a `CachedReader` of a network, by what to take from its output."""

_trying = Lock()
_verdicts: dict[tuple[str, ...], str] = {}
"""What was found wrong, by network and way of reading; empty where nothing was."""


def check(net: PreTrainedModel, attention: str, fresh: Fresh) -> None:
    """Raise `IncompatibleError` unless networks of this class and config can be read so.

    Args:
        net: the network; only its class and config are looked at.
        attention: the way of reading.
        fresh: a reader of it.
    """
    if reason := kept_beside(net, net.config):
        raise refused(net, reason)
    if reason := found_wrong(net, attention, fresh):
        raise refused(net, reason, attention)


def found_wrong(net: PreTrainedModel, attention: str, fresh: Fresh) -> str:
    """What a trial of the network's twin found wrong; empty where nothing is. Tried once."""
    config: PreTrainedConfig = net.config
    implementation = text_config(config)._attn_implementation
    if attention == "tree" and implementation not in ("sdpa", "eager"):
        return f'attn_implementation={implementation!r}, where a tree needs "sdpa" or "eager"'
    key = (
        f"{type(net).__module__}.{type(net).__qualname__}",
        config.to_json_string(use_diff=False),
        str(implementation),
        attention,
    )
    with _trying:  # a twin's weights are drawn from torch's own generator, set aside meanwhile
        if key not in _verdicts:
            _verdicts[key] = try_twin(type(net), config, fresh)
        return _verdicts[key]


def try_twin(kind: type[PreTrainedModel], config: PreTrainedConfig, fresh: Fresh) -> str:
    """What is wrong with reading a twin of such a network so; empty where nothing is."""
    try:
        twin = make_twin(kind, config)
    except Exception as failure:  # whatever a class says of a small config
        return f"no small twin to try it on ({_one_line(failure)})"
    try:
        with torch.autocast("cpu", enabled=False):
            error = relative_error(twin, fresh(twin, _output))
    except TrimtabError as failure:
        return failure.got
    except Exception as failure:  # whatever a forward stumbles over
        return f"a forward that fails ({_one_line(failure)})"
    return "" if error <= TOLERANCE else f"outputs that differ by {error:.1%} from plain forwards"


def _output(out: Any) -> Tensor:
    """What a network with an output layer says, and what one without."""
    output: Tensor = out.logits if "logits" in out else out.last_hidden_state
    return output


def _one_line(failure: Exception) -> str:
    """An exception in one line."""
    return " ".join(f"{type(failure).__name__}: {failure}".split())[:200]


@torch.inference_mode()
def relative_error(net: PreTrainedModel, reader: Any) -> float:
    """How far what a reader says is from a plain forward of each text alone, at worst.

    Rows of unequal lengths are read side by side, branched, extended by a candidate and by
    unequally many tokens, forked and branched again, up to `LENGTH` tokens.
    """
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randint(8, VOCABULARY - 8, shape, generator=generator)

    errors: list[float] = []

    def compare(texts: Sequence[list[int]], got: Float[Tensor, "N D"]) -> None:
        """Texts of one length."""
        ids = torch.tensor(texts)
        want = _output(net(input_ids=ids, use_cache=False))[:, -1].float()
        worst = ((got.float() - want).norm(dim=-1) / want.norm(dim=-1)).max()
        errors.append(float(worst))

    def compare_all(texts: Sequence[list[int]], got: Float[Tensor, "B D"]) -> None:
        for text, row in zip(texts, got, strict=True):
            compare([text], row[None])

    def branch(state: Any, texts: Sequence[list[int]], tokens: Int[Tensor, "B K L"]) -> None:
        ones = torch.full(tokens.shape[:2], tokens.shape[2])
        got = reader.branch(state, Candidates(tokens, torch.zeros(ones.shape), ones, ones < 0))
        for text, each, row in zip(texts, tokens.tolist(), got, strict=True):
            compare([text + one for one in each], row)

    one = torch.ones(3, dtype=torch.int64)
    texts = [draw(n).tolist() for n in (5, 19, LENGTH - 8)]
    state = reader.prefill(texts)
    compare_all(texts, state.last)
    tokens = draw(3, 2, 1)
    branch(state, texts, tokens)
    state = reader.extend(state, tokens[:, 1], one)
    texts = [text + new for text, new in zip(texts, tokens[:, 1].tolist(), strict=True)]
    more, lengths = draw(3, 4), torch.tensor([4, 1, 3])
    state = reader.extend(state, more, lengths)
    texts = [t + m[:n] for t, m, n in zip(texts, more.tolist(), lengths.tolist(), strict=True)]
    compare_all(texts, state.last)
    state = reader.select(state, torch.tensor([2, 0, 0]))
    more = draw(3, 1)
    state = reader.extend(state, more, one)
    texts = [texts[i] + m for i, m in zip((2, 0, 0), more.tolist(), strict=True)]
    compare_all(texts, state.last)
    branch(state, texts, draw(3, 2, 2))
    return max(errors) if all(e == e for e in errors) else float("nan")


def kept_beside(kind: Any, config: PreTrainedConfig) -> str:
    """What a network keeps of a text beside keys and values that only grow; empty if nothing."""
    if getattr(kind, "_is_stateful", False):
        return "a recurrent state"
    try:
        layers = DynamicCache(config=config).layers
    except Exception as failure:  # whatever a config without layers says
        return f"no cache ({_one_line(failure)})"
    odd = {type(layer).__name__ for layer in layers} - _GROWING
    return f"layers of {', '.join(sorted(odd))}" if odd else ""


_GROWING = {"DynamicLayer", "DynamicSlidingWindowLayer", "DummyLayer"}
"""transformers' layers that keep all keys and values, their window's, or read another's."""


def refused(net: PreTrainedModel, got: str, attention: str = "") -> IncompatibleError:
    """The error of a network that cannot be read, or not in this way."""
    family = net.config.model_type
    if not attention:
        return IncompatibleError(
            "a reader needs a decoder whose layers keep keys and values in transformers' cache",
            got=f"{family} with {got}",
            do="use an attention-only decoder, or a guide of your own that re-encodes",
        )
    other = {"tree": "expanded", "expanded": "tree"}[attention]
    return IncompatibleError(
        f'attention="{attention}" must read a network as plain forwards do; {family} does not',
        got=got,
        do=f'pass attention="{other}", or another network (docs/families.md lists them)',
    )


def layer_windows(net: PreTrainedModel) -> list[int | None]:
    """For each layer the most tokens that one token sees, itself included; None where all.

    Where the config does not tell by layer, the network's twin is asked for its mask: a config may
    carry a window that its architecture never looks at.
    """
    config = text_config(net)
    window: int | None = getattr(config, "sliding_window", None)
    layers: int = config.num_hidden_layers
    kinds = getattr(config, "layer_types", None)
    if window is None or (kinds is None and not _twin_has_window(net)):
        return [None] * layers
    kinds = kinds or ["sliding_attention"] * layers
    return [window if kind == "sliding_attention" else None for kind in kinds]


def _twin_has_window(net: PreTrainedModel) -> bool:
    """Whether the twin lets its last token see the first of `LENGTH`, past every window."""
    twin = make_twin(type(net), net.config)
    hidden: list[bool] = []

    def see(visible: Visible) -> Tensor:
        position = torch.arange(LENGTH)[None]
        mask = within(visible, position, position[:, None])
        hidden.append(not bool(mask[0, -1, 0]))
        return mask[:, None]

    with torch.inference_mode(), answering(see, twin.dtype):
        twin(input_ids=torch.full((1, LENGTH), 8), use_cache=False)
    return any(hidden)
