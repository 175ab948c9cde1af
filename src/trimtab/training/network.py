"""What is trained: a copy of the base's first layers, in full or by LoRA, with a head on top.

Legend: B prompts, L tokens of a prompt and its branches, R responses, S states of the longest,
T its tokens, D hidden size, V vocabulary.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from safetensors.torch import load_file, save
from torch import Tensor, nn
from transformers import PreTrainedModel

from trimtab.cache.networks import Visible, answering, text_config, text_decoder, within
from trimtab.cache.trial import reads_trees
from trimtab.errors import TrainingError, UsageError, check_word
from trimtab.files import write_atomic
from trimtab.guides import (
    AdvantageHead,
    DuelingHead,
    EmbeddingHead,
    Identity,
    LogProbabilityHead,
    ScalarHead,
    StateGuide,
    ValueGuide,
    VocabularyGuide,
    VocabularyHead,
)
from trimtab.guides.cached import truncated
from trimtab.guides.states import token_embeddings
from trimtab.models.transformers import TransformersLM
from trimtab.protocols import Guide
from trimtab.training.config import Reads
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

WIDTH = 1024
"""Of the hidden layer of a head on the base's states, where nothing else is said."""

PART = 64
"""Examples whose states are kept in one file."""

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
        return read(self.head, self.states(ids, chain, position, sequence, place))

    def states(
        self,
        ids: Int[Tensor, "B L"],
        chain: Int[Tensor, "B L"],
        position: Int[Tensor, "B L"],
        sequence: Int[Tensor, "R"],
        place: Int[Tensor, "R S"],
        layer: int | None = None,
    ) -> Float[Tensor, "R S D"]:
        """The backbone's output at every state; after so many layers, where `layer` says so."""
        with self._masks(chain, position):
            out = self.backbone(
                input_ids=ids,
                attention_mask=(chain >= 0).long(),
                position_ids=position,
                use_cache=False,
                output_hidden_states=layer is not None,
            )
        states = out.logits if isinstance(self.head, _LOGITS) else out.last_hidden_state
        states = states if layer is None else out.hidden_states[layer]
        at_places: Tensor = states[sequence[:, None], place]
        return at_places

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


class StateNetwork(GuideNetwork):
    """A head on the base's own states, which were computed once (`with_states`).

    The base is no part of it: nothing of it is trained, moved or saved.
    """

    head: EmbeddingHead

    def __init__(self, base: PreTrainedModel, head: EmbeddingHead, layer: int) -> None:
        nn.Module.__init__(self)
        self.head, self.layer, self.shares = head, layer, True
        self.base = (base,)  # in a tuple, where torch does not look for modules

    @property
    def adapter(self) -> None:
        """There is none."""
        return None

    def forward(self, states: Float[Tensor, "R S D"]) -> Outputs:  # type: ignore[override]
        """What the head says of every state of every response."""
        return read(self.head, states)


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
    if isinstance(head, EmbeddingHead):
        value, query = head.parts(hidden)
        return Outputs(values=value, query=query, embeddings=head.embeddings)
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


def make_embedding_head(
    kind: Head, base: PreTrainedModel, width: int, start: float, seed: int
) -> EmbeddingHead:
    """An untrained head that speaks through the base's embeddings: all its scores are `start`."""
    check_word("kind", kind, Head)
    if kind in ("scalar", "causal"):
        raise UsageError(
            "a head that speaks through embeddings scores next tokens",
            got=f"an objective of a {kind} head",
            do="use value-advantage, dueling-q, q or ilql",
        )
    embeddings = token_embeddings(base)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = EmbeddingHead(text_config(base).hidden_size, embeddings.shape[1], width)
    nn.init.constant_(head.value.bias, start)
    return head.through(embeddings).to(base.device)


@torch.no_grad()
def rescale(head: nn.Module, size: float, shift: float) -> None:
    """Has a linear head say `size * score + shift`, in place; a causal LM's outputs stay."""
    if isinstance(head, ScalarHead | VocabularyHead):
        head.linear.weight.mul_(size)
        head.linear.bias.mul_(size).add_(shift)
    elif isinstance(head, DuelingHead):
        rescale(head.value, size, shift)
        rescale(head.advantage, size, 0.0)
    elif isinstance(head, EmbeddingHead):
        for linear in (head.value, head.query):
            linear.weight.mul_(size)
            linear.bias.mul_(size)
        head.value.bias.add_(shift)
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
    width: int = 0,
    reads: Reads = "layers",
) -> GuideNetwork:
    """A network whose backbone is a float32 copy of the base's first layers, or of all.

    A `lora_rank` of 0 trains the layers themselves; the embeddings stay as they are. `start` is
    what a scalar head says of everything before it has learnt. A `width` makes an `EmbeddingHead`;
    one that reads the base's states has no backbone.
    """
    check_word("reads", reads, Reads)
    config = text_config(base)
    if reads == "states":
        speaking = make_embedding_head(kind, base, width or WIDTH, start, seed)
        return StateNetwork(base, speaking, layers or config.num_hidden_layers)
    head = (
        make_embedding_head(kind, base, width, start, seed)
        if width
        else make_head(kind, config.hidden_size, config.vocab_size, start).to(base.device)
    )
    body = base if kind == "causal" else text_decoder(base)
    backbone: Any = copy.deepcopy(truncated(body, layers)).float()
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


@torch.no_grad()
def with_states(
    examples: Sequence[Example], base: PreTrainedModel, layer: int, folder: Path, *, bf16: bool
) -> tuple[Example, ...]:
    """The examples with the base's states of every row, computed once and kept in half precision.

    They lie in the folder, some examples to a file, under a name that says what they are of: a job
    that was stopped goes on where it was, and another learning rate finds them there.
    """
    network = GuideNetwork(text_decoder(base), nn.Identity())
    last = layer == text_config(base).num_hidden_layers
    found: list[Example] = []
    for start in range(0, len(examples), PART):
        part = examples[start : start + PART]
        name = sha256(f"{base.name_or_path} {layer} {bf16} {part!r}".encode()).hexdigest()[:16]
        path = folder / f"{name}.safetensors"
        if not path.is_file():
            rows: dict[str, Tensor] = {}
            for i, example in enumerate(part):
                inputs = collate([example], shared=network.shares)
                inputs = {key: tensor.to(base.device) for key, tensor in inputs.items()}
                with torch.autocast(base.device.type, torch.bfloat16, enabled=bf16):
                    states = network.states(**to_network(inputs), layer=None if last else layer)
                for j, row in enumerate(example.rows):
                    kept = states[j, : len(row.tokens) + 1]
                    rows[f"{i}.{j}"] = kept.to("cpu", torch.float16).contiguous()
            if not all(bool(torch.isfinite(states).all()) for states in rows.values()):
                raise TrainingError(
                    "the base's states must be finite in half precision",
                    got=f"larger ones, or NaN, after layer {layer}",
                    do="take another layer, or the last, which has passed a norm",
                )
            folder.mkdir(parents=True, exist_ok=True)
            write_atomic(path, save(rows))
        stored = load_file(path)
        for i, example in enumerate(part):
            states_of = tuple(stored[f"{i}.{j}"] for j in range(len(example.rows)))
            found.append(replace(example, states=states_of))
    return tuple(found)


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
    if isinstance(network, StateNetwork):
        (base,) = network.base
        free = StateGuide(base, network.head, layer=network.layer, vocab=lm.vocab, name=name)
        return objective.wrap(free)
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
