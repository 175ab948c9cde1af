"""What is trained: a copy of the base's first layers, in full or by LoRA, with a head on top.

Legend: B prompts, L tokens of a prompt and its branches, R responses, S states of the longest,
T its tokens, D hidden size, V vocabulary.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from trimtab.cache.networks import Visible, answering, text_config, text_decoder, within
from trimtab.cache.trial import reads_trees
from trimtab.guides import (
    AdvantageHead,
    DuelingHead,
    Identity,
    LogProbabilityHead,
    ScalarHead,
    ValueGuide,
    VocabularyGuide,
    VocabularyHead,
)
from trimtab.guides.cached import truncated
from trimtab.models.transformers import TransformersLM
from trimtab.protocols import Guide
from trimtab.training.examples import (
    Example,
    Outputs,
    Tensors,
    collate,
    next_scores,
    to_batch,
    to_network,
    token_scores,
)
from trimtab.training.objectives import Head, Objective
from trimtab.training.objectives.preferences import at_end

_LOGITS = (LogProbabilityHead, Identity)
"""Heads that read a causal LM's own outputs."""


class GuideNetwork(nn.Module):
    """A backbone and a head; says what the head makes of every state of a response.

    The backbone is a decoder, or a `peft` wrapping of one; a causal LM where the head needs its
    outputs. Its `state_dict` holds what is trained and nothing else: a checkpoint of a LoRA run is
    small.
    """

    _keys_to_ignore_on_save = None  # transformers' Trainer asks for it

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        inner: Any = self.adapter.get_base_model() if self.adapter else backbone
        # A network that misreads a tree mask reads each response alone.
        self.shares = reads_trees(inner)
        """Whether several responses may share the reading of their prompt."""
        sdpa = text_config(inner)._attn_implementation == "sdpa"
        self._dtype = None if sdpa else torch.float32

    @property
    def adapter(self) -> Any:
        """The `peft` wrapping of the backbone; None where its own layers are trained."""
        from peft import PeftModel

        return self.backbone if isinstance(self.backbone, PeftModel) else None

    def forward(
        self,
        ids: Int[Tensor, "B L"],
        chain: Int[Tensor, "B L"],
        position: Int[Tensor, "B L"],
        sequence: Int[Tensor, "R"],
        place: Int[Tensor, "R S"],
    ) -> Outputs:
        """What the head says of every state of every response; arguments are those of `collate`."""
        with self._masks(chain, position):
            out = self.backbone(
                input_ids=ids,
                attention_mask=(chain >= 0).long(),
                position_ids=position,
                use_cache=False,
            )
        states = out.logits if isinstance(self.head, _LOGITS) else out.last_hidden_state
        return read(self.head, states[sequence[:, None], place])

    def _masks(self, chain: Int[Tensor, "B L"], position: Int[Tensor, "B L"]) -> Any:
        """Who sees whom; as usual where every prompt has one response."""
        if int(chain.max()) <= 1:
            return nullcontext()
        assert self.shares, "a network that does not share reads one response a row"
        return answering(partial(branches, chain, position), self._dtype)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The trained tensors."""
        prefix = kwargs.get("prefix", "")
        trained = {prefix + name for name, p in self.named_parameters() if p.requires_grad}
        whole: dict[str, Any] = super().state_dict(*args, **kwargs)
        return {name: value for name, value in whole.items() if name in trained}

    def load_state_dict(self, state_dict: Mapping[str, Any], *_: Any, **__: Any) -> Any:
        """Put trained tensors back; what is frozen stays, and is not missed."""
        keys = super().load_state_dict(state_dict, strict=False)
        return type(keys)([], keys.unexpected_keys)


def branches(
    chain: Int[Tensor, "B L"], position: Int[Tensor, "B L"], visible: Visible
) -> Bool[Tensor, "B 1 L L"]:
    """True where a token attends: to its own branch and to the prompt, up to itself.

    `visible` is what the architecture lets a token see of its own text.
    """
    place = torch.arange(chain.shape[1], device=chain.device)
    before = place <= place[:, None]
    own = (chain[:, None, :] == chain[:, :, None]) | (chain == 0)[:, None, :]
    return (before & own & within(visible, position, position[:, None, :]))[:, None]


# --- heads ---------------------------------------------------------------------------------------


def read(head: nn.Module, hidden: Float[Tensor, "R S D"]) -> Outputs:
    """A head's values and scores apart, as objectives want them."""
    if isinstance(head, ScalarHead):
        return Outputs(values=head(hidden))
    if isinstance(head, DuelingHead):
        value = head.value(hidden)
        return Outputs(values=value, scores=value[..., None] + head.advantage(hidden))
    if isinstance(head, AdvantageHead):
        return Outputs(values=head.value(hidden), scores=head.q(hidden))
    return Outputs(scores=head(hidden))


def make_head(kind: Head, hidden: int, vocabulary: int, start: float = 0.0) -> nn.Module:
    """An untrained head: all its scores are `start`, zero, or a causal LM's own."""
    if kind == "scalar":
        return ScalarHead(hidden, start)
    if kind == "causal":
        return LogProbabilityHead()
    heads = {"vocabulary": VocabularyHead, "dueling": DuelingHead, "advantage": AdvantageHead}
    return heads[kind](hidden, vocabulary)


@torch.no_grad()
def rescale(head: nn.Module, size: float, shift: float) -> None:
    """Has a linear head say `size * score + shift`, in place; a causal LM's outputs stay."""
    if isinstance(head, ScalarHead | VocabularyHead):
        head.linear.weight.mul_(size)
        head.linear.bias.mul_(size).add_(shift)
    elif isinstance(head, DuelingHead):
        rescale(head.value, size, shift)
        rescale(head.advantage, size, 0.0)
    elif isinstance(head, AdvantageHead):
        rescale(head.value, size, shift)
        rescale(head.q, size, shift)


# --- from the base to a network ------------------------------------------------------------------


def make_network(
    base: PreTrainedModel,
    kind: Head,
    *,
    layers: int | None,
    lora_rank: int,
    lora_alpha: int,
    start: float = 0.0,
    seed: int = 0,
) -> GuideNetwork:
    """A network whose backbone is a float32 copy of the base's first layers, or of all.

    A `lora_rank` of 0 trains the layers themselves; the embeddings stay as they are. `start` is
    what a scalar head says of everything before it has learnt.
    """
    body = base if kind == "causal" else text_decoder(base)
    backbone: Any = copy.deepcopy(truncated(body, layers)).float()
    hidden, vocabulary = text_config(base).hidden_size, text_config(base).vocab_size
    head = make_head(kind, hidden, vocabulary, start).to(base.device)
    if lora_rank:
        backbone = adapted(backbone, lora_rank, lora_alpha, seed)
    else:
        backbone.requires_grad_(True)
        backbone.get_input_embeddings().requires_grad_(False)
    return GuideNetwork(backbone, head)


def adapted(backbone: PreTrainedModel, rank: int, alpha: int, seed: int) -> Any:
    """A backbone with a LoRA adapter on all its linear maps."""
    from peft import LoraConfig, get_peft_model

    routers = [  # of some mixtures of experts; they are built like linear maps and return more
        name
        for name, module in backbone.named_modules()
        if isinstance(module, nn.Linear) and type(module).forward is not nn.Linear.forward
    ]
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=0.0,
        target_modules="all-linear",
        exclude_modules=routers or None,
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        torch.manual_seed(seed)
        # peft asks transformers for an attribute under its former name
        warnings.filterwarnings(
            "ignore", message=".*is_gradient_checkpointing", category=FutureWarning
        )
        return get_peft_model(backbone, config)


Reference: TypeAlias = Callable[[Tensors], Float[Tensor, "R S V"]]
"""log pi_ref of every next token after every state of a batch."""


def reference(base: PreTrainedModel, temperature: float | None) -> Reference:
    """log pi_ref by the base itself, at the rollouts' temperature."""
    network = GuideNetwork(base, Identity())

    @torch.no_grad()
    def logprobs(tensors: Tensors) -> Float[Tensor, "R S V"]:
        scores = next_scores(network(**to_network(tensors)))
        return (scores / (temperature or 1.0)).log_softmax(-1)

    return logprobs


# --- from a network to a guide -------------------------------------------------------------------


def to_guide(
    network: GuideNetwork, objective: Objective, lm: TransformersLM, name: str, dtype: torch.dtype
) -> Guide[Any]:
    """The guide that a trained network is, whose trained weights are rounded to a precision."""
    with torch.no_grad():
        for weights in network.parameters():
            if weights.requires_grad:
                weights.copy_(weights.to(dtype))
    guide = make_guide(network, objective, lm, name)
    if network.adapter is not None:  # merged by now: what is left of it goes to the disk
        for parameter, weights in network.adapter.named_parameters():
            if "lora_" in parameter:
                weights.data = weights.data.to(dtype)
    return guide


def make_guide(
    network: GuideNetwork, objective: Objective, lm: TransformersLM, name: str
) -> Guide[Any]:
    """The guide that a network is as it stands; the adapter is merged into a copy of the layers."""
    backbone: Any = network.backbone
    if network.adapter is not None:
        backbone = copy.deepcopy(backbone).merge_and_unload()
    kind = ValueGuide if objective.head == "scalar" else VocabularyGuide
    guide: Guide[Any] = kind(backbone, network.head, vocab=lm.vocab, name=name)
    return objective.wrap(guide)


@torch.no_grad()
def final_spread(network: GuideNetwork, examples: Sequence[Example]) -> float:
    """Standard deviation of the scores of finished responses."""
    network.eval()
    device = next(network.parameters()).device
    scores = []
    for start in range(0, len(examples), 8):
        tensors = collate(examples[start : start + 8], shared=network.shares)
        tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
        each = token_scores(network(**to_network(tensors)), to_batch(tensors))
        scores.append(at_end(each, tensors["lengths"] - 1))
    every = torch.cat(scores).double()
    return float(every.std()) if len(every) > 1 else 0.0
