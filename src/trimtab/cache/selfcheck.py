"""Can this network be read so: does it keep keys and values, does it obey a tree mask?

Families that were held to full recomputation are known; others are tried once. A network that
ignores or misreads an explicit mask gives wrong scores without any error, so an unknown one has to
show that it reads candidates behind a shared prefix as it reads them alone.

Legend: B rows, K candidates, D size of the network's output.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from trimtab.errors import IncompatibleError
from trimtab.types import Candidates

VERIFIED = frozenset(
    name
    for line in (
        "arcee cohere cohere2 ernie4_5 exaone4 gemma gemma2 gemma3_text glm glm4 gpt2 gpt_bigcode",
        "gpt_neox gpt_oss granite helium llama ministral mistral mixtral olmo olmo2 olmo3 opt phi",
        "phi3 qwen2 qwen2_moe qwen3 seed_oss smollm3 starcoder2",
    )
    for name in line.split()
)
"""Model types held to full recomputation with prefixes longer than their windows."""

UNFIT = {
    "bloom": "alibi positions that count stored places",
    "gpt_neo": "a local window that an explicit mask replaces",
    "mpt": "alibi positions that count stored places",
}
"""Model types known to misread a tree mask, some of them too slightly for a trial to see."""

PREFIX, BRANCHES = 12, 3
LONGEST_WINDOW = 512
"""Longest sliding window that a trial reads past."""

TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Largest relative error (norm of the difference over the norm) by the network's dtype."""


@runtime_checkable
class Branching(Protocol):
    """What is tried of a reader."""

    def prefill(self, ids: list[list[int]]) -> Any:
        """Read whole prompts."""
        ...

    def branch(self, state: Any, candidates: Candidates) -> Float[Tensor, "B K D"]:
        """The output at each candidate."""
        ...


def check_tree(
    net: PreTrainedModel, output: Callable[[Any], Tensor], fresh: Callable[[], Branching]
) -> None:
    """Raise `IncompatibleError` unless the network is known, or is seen, to obey tree masks.

    Args:
        net: the network.
        output: what to take from its output, `[B, Q, D]`.
        fresh: a reader of its own for the trial.
    """
    if net.config.model_type in VERIFIED:
        return
    if net.config.model_type in UNFIT:
        raise _refused(net, UNFIT[net.config.model_type])
    window = getattr(net.config, "sliding_window", None) or 0
    if window > LONGEST_WINDOW:
        raise _refused(net, f"a sliding window of {window} tokens, too long to try")
    try:
        error = _relative_error(net, output, fresh(), window + PREFIX)
    except IncompatibleError:
        raise
    except Exception as failure:  # whatever a forward that cannot take the mask stumbles over
        raise _refused(net, f"{type(failure).__name__} ({failure})") from failure
    if not error <= TOLERANCE.get(net.dtype, 5e-2):
        raise _refused(net, f"outputs that differ by {error:.1%} from reading without a tree")


@torch.inference_mode()
def _relative_error(
    net: PreTrainedModel, output: Callable[[Any], Tensor], reader: Branching, length: int
) -> float:
    """How far candidates read over a shared prefix are from the same read alone."""
    generator = torch.Generator().manual_seed(0)
    size = net.config.get_text_config().vocab_size
    ids = torch.randint(size, (length,), generator=generator).tolist()
    tokens = torch.randint(size, (1, BRANCHES, 1), generator=generator).to(net.device)
    ones = torch.ones_like(tokens[:, :, 0])
    candidates = Candidates(tokens, torch.zeros_like(ones, dtype=torch.float32), ones, ones < 0)
    got = reader.branch(reader.prefill([ids]), candidates)[0].float()
    alone = torch.tensor([[*ids, token] for token in tokens.flatten().tolist()], device=net.device)
    want = output(net(input_ids=alone, use_cache=False))[:, -1].float()
    return float((got - want).norm() / want.norm())


def _refused(net: PreTrainedModel, got: str) -> IncompatibleError:
    return IncompatibleError(
        f"tree attention needs a network that obeys a 4-D mask; {net.config.model_type} does not",
        got=got,
        do='pass attention="expanded"',
    )


def check_cache(net: PreTrainedModel) -> None:
    """Raise `IncompatibleError` unless every layer keeps plain keys and values."""
    if getattr(net, "_is_stateful", False):
        raise unsuitable(net, "a recurrent state")
    kinds = {type(layer) for layer in DynamicCache(config=net.config).layers}
    odd = kinds - {DynamicLayer, DynamicSlidingWindowLayer}
    if odd:
        raise unsuitable(net, f"layers of {', '.join(sorted(kind.__name__ for kind in odd))}")


def unsuitable(net: PreTrainedModel, got: str) -> IncompatibleError:
    """The error of a network that no reader can read."""
    return IncompatibleError(
        "a reader needs a decoder whose layers keep keys and values in transformers' cache",
        got=f"{net.config.model_type} with {got}",
        do="use an attention-only decoder, or a guide of your own that re-encodes",
    )
