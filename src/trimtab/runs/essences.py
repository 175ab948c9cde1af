"""What of our own things, and of transformers', decides what they do, for their fingerprints.

Left out are caches, counters and names, where a thing was loaded from, and the base's `decode`:
what belongs to the base is in the base's own identity.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import singledispatch
from types import MethodType
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from trimtab.guides import RewardGuide, TextGuide, ValueGuide, VocabularyGuide, WeightedSum
from trimtab.guides.reward import Retokenised
from trimtab.models.classifier import ChatTemplate, PairScorer
from trimtab.models.proposals import TableLM
from trimtab.models.transformers import Codec, TransformersLM
from trimtab.protocols import LanguageModel
from trimtab.rewards import Sum
from trimtab.rewards.classifier import Classifier
from trimtab.rewards.server import Server
from trimtab.rewards.similarity import SentenceEncoder
from trimtab.runs.identity import identify, plain_config, weights_fingerprint


@singledispatch
def essence(thing: object) -> object:
    """What of an object decides what it does; others of its parts are counters and caches.

    Register a function for a class of which not everything does; NotImplemented is everything.
    """
    return NotImplemented


@essence.register(TableLM)
@essence.register(TransformersLM)
def _model(lm: LanguageModel[Any]) -> object:
    return identify(lm).identity()


@essence.register
def _network(net: PreTrainedModel) -> object:
    return [plain_config(net.config), weights_fingerprint(net)]


@essence.register
def _config(config: PreTrainedConfig) -> object:
    return plain_config(config)


@essence.register
def _tokenizer(tokenizer: PreTrainedTokenizerBase) -> object:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        how: object = tokenizer.get_vocab()
    else:  # padding and truncation are as its last call left them
        how = {**json.loads(backend.to_str()), "padding": None, "truncation": None}
    return [how, tokenizer.chat_template, dict(tokenizer.special_tokens_map)]


@essence.register
def _codec(codec: Codec) -> object:
    return [codec.tokenizer, codec.template]


# --- rewards -------------------------------------------------------------------------------------


@essence.register
def _sum(total: Sum) -> object:
    return [[weight for weight, _ in total.terms], total.rewards]


@essence.register
def _server(reward: Server) -> object:
    return reward.fingerprint  # not its secrets


@essence.register
def _classifier(reward: Classifier) -> object:
    return reward.read  # its folder may hold other weights tomorrow


@essence.register
def _encoder(encoder: SentenceEncoder) -> object:
    return [weights_fingerprint(encoder.model), repr(encoder.model)]  # pooling, lengths


# --- guides --------------------------------------------------------------------------------------


def _theirs(decode: Callable[..., str]) -> object:
    """A function that decodes ids; None for the base's own."""
    own = isinstance(decode, MethodType) and isinstance(decode.__self__, LanguageModel)
    return None if own else decode


@essence.register
def _text(guide: TextGuide) -> object:
    prompt = guide._prompt  # its own one decodes as it does
    usual = isinstance(prompt, MethodType) and prompt.__self__ is guide
    return [guide.function, guide.batch_size, None if usual else prompt, _theirs(guide.decode)]


@essence.register(ValueGuide)
@essence.register(VocabularyGuide)
def _reading(guide: ValueGuide | VocabularyGuide) -> object:
    return [guide.backbone, guide.head]


@essence.register
def _weighted(guide: WeightedSum) -> object:
    return [guide.weights, guide.guides]


@essence.register
def _reward(guide: RewardGuide) -> object:
    return [guide.way, guide.chat_template, guide.inner]


@essence.register
def _retokenised(guide: Retokenised) -> object:
    return [guide.net, guide.head, guide.chat_template]


@essence.register
def _pairs(scorer: PairScorer) -> object:
    return [scorer.model, scorer.label, scorer.tokenizer]


@essence.register
def _chat_template(chat_template: ChatTemplate) -> object:
    return [chat_template.tokenizer, chat_template.template, _theirs(chat_template.decode)]
