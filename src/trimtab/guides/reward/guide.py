"""Any sequence-classification reward model of transformers as a guide on prefixes.

Legend: B rows, K candidates, L tokens of a candidate, R some rows.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias, final

from jaxtyping import Float, Int
from torch import Tensor
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from trimtab.cache.configs import text_config
from trimtab.cache.reader import Attention
from trimtab.errors import IncompatibleError, check_keywords, check_word
from trimtab.guides.cached import ValueGuide
from trimtab.guides.reward.chat_template import ChatTemplate, Template
from trimtab.guides.reward.heads import Label, RewardHead, body, causal_head
from trimtab.guides.reward.pairs import PairScorer
from trimtab.guides.reward.retokenised import Retokenised
from trimtab.guides.text import TextGuide
from trimtab.models.loading import check_loading, default_device, from_pretrained, load_tokenizer
from trimtab.models.text import Codec
from trimtab.protocols import Guide, LanguageModel
from trimtab.types import Candidates, Cost, Prompt, Vocab

Way: TypeAlias = Literal["shared", "retokenised", "pairs"]
"""How a reward model reads.

"shared": a decoder that reads the base's ids, cached, k tokens per emitted token. "retokenised": a
decoder with another tokenizer, cached over the longest common token prefix. "pairs": an encoder,
which reads every pair of prompt and response anew, B * K rows in one batch.
"""


@final
class RewardGuide:
    """score(s + v) = the reward model's output on prompt and response so far.

    The score stands at the last token by its index, never at "the last that is not padding": the
    candidate itself may be the pad token. A finished response is scored as the model reads it: with
    the EOS that was emitted ("shared"), its turn closed by the model's own template or EOS
    ("retokenised"), or as it stands ("pairs").

    Args:
        model: with a classification head; only called.
        tokenizer: the reward model's own.
        lm: the base: its vocabulary decides how the model reads, its `decode` turns ids to text.
        label: index or name of the output that is the reward, where there are several. Labels that
            exclude each other give log-odds, others their raw output.
        template: what stands before the response: "auto" is the reward model's chat template,
            where it has one; else, and with "none", the base's own ids ("shared") or the user's
            text. A function makes it from the `Prompt`.
        way: how it reads; None chooses, by comparing vocabularies.
        attention: of "shared"; "expanded" for architectures that take no explicit mask.
        batch_size: of "pairs": most rows in one forward; None is no limit.
        name: what errors and tables call it.

    Raises:
        UsageError: several labels and none named, or no such label.
        IncompatibleError: a way of reading that the model does not have.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        lm: LanguageModel[Any],
        *,
        label: int | str | None = None,
        template: Template = "auto",
        way: Way | None = None,
        attention: Attention = "tree",
        batch_size: int | None = None,
        name: str = "reward",
    ) -> None:
        check_word("attention", attention, Attention)
        if way is not None:
            check_word("way", way, Way)
        self.model, self.name = model.eval(), name
        self.way: Way = way or choose_way(model, tokenizer, lm.vocab)
        self.vocab = lm.vocab if self.way == "shared" else None
        self._chat_template = ChatTemplate(tokenizer, template, lm.decode)
        meant = Label.of(model.config, label)
        self._inner: Guide[Any]
        if self.way == "pairs":
            scorer = _pair_scorer(model, tokenizer, meant)
            self._inner = TextGuide(
                scorer,
                lm.decode,
                name=name,
                batch_size=batch_size,
                parallel=True,
                prompt=self._chat_template.opening,
            )
            self._meter: Guide[Any] | PairScorer = scorer
            return
        head = RewardHead(_head(model, self.way), meant)
        if self.way == "shared":
            self._inner = ValueGuide(
                body(model), head, vocab=lm.vocab, attention=attention, name=name
            )
        else:
            self._inner = Retokenised(body(model), head, self._chat_template, lm.decode)
        self._meter = self._inner

    @classmethod
    def load(
        cls,
        name_or_path: str,
        lm: LanguageModel[Any],
        *,
        loading: dict[str, Any] | None = None,
        **options: Any,
    ) -> RewardGuide:
        """A reward model from a folder or the Hub, with its tokenizer, on an accelerator if any.

        Args:
            name_or_path: folder or Hub id; with #LABEL for one of several labels.
            lm: the base.
            loading: passed to `from_pretrained` (dtype, device_map, quantization_config, ...).
            **options: the other arguments of `RewardGuide`.

        Raises:
            FetchError: it could not be had.
            IncompatibleError: a checkpoint whose weights lack the classification head.
        """
        check_keywords("RewardGuide.load", options, (*OPTIONS, "loading"))
        loading = loading or {}
        check_loading(loading)
        name_or_path, _, label = name_or_path.partition("#")
        if label:
            options["label"] = label
        model, info = from_pretrained(
            AutoModelForSequenceClassification,
            name_or_path,
            "reward model",
            output_loading_info=True,
            **loading,
        )
        if missing := sorted(info["missing_keys"]):
            raise IncompatibleError(
                "a reward model must bring the weights of its classification head",
                got=f"{name_or_path!r} without {', '.join(missing)}",
                do="pass a model that was trained as a classifier",
            )
        if not loading.keys() & {"device_map", "quantization_config"}:
            model = model.to(default_device())
        options.setdefault("name", name_or_path.rstrip("/").rsplit("/", 1)[-1])
        return cls(model, load_tokenizer(name_or_path), lm, **options)

    @property
    def context(self) -> int | None:
        """Most of the base's tokens that it reads; None where it reads tokens of its own."""
        return self._inner.context if isinstance(self._inner, ValueGuide) else None

    @property
    def cost(self) -> Cost:
        """Tokens of the reward model read so far."""
        return self._meter.cost

    def prefill(self, prompts: Sequence[Prompt]) -> Any:
        """Read whole prompts, in the reward model's own template."""
        if self.way == "shared" and self._chat_template.own:
            ids = self._chat_template.encode(
                [self._chat_template.opening(prompt) for prompt in prompts]
            )
            own = zip(prompts, ids, strict=True)
            prompts = [replace(prompt, ids=tuple(row)) for prompt, row in own]
        return self._inner.prefill(prompts)

    def extend(self, state: Any, tokens: Int[Tensor, "B L"], lengths: Int[Tensor, "B"]) -> Any:
        """Append tokens."""
        return self._inner.extend(state, tokens, lengths)

    def select(self, state: Any, rows: Int[Tensor, "R"]) -> Any:
        """Drop, reorder or fork rows."""
        return self._inner.select(state, rows)

    def join(self, states: Sequence[Any]) -> Any:
        """Rows of several states side by side."""
        return self._inner.join(states)

    def score(self, state: Any, candidates: Candidates) -> Float[Tensor, "B K"]:
        """The reward of each prefix with each candidate."""
        return self._inner.score(state, candidates)

    def __repr__(self) -> str:
        """Model and how it reads."""
        return f"RewardGuide({self.name!r}, {self.model.config.model_type}, way={self.way!r})"


OPTIONS = tuple(inspect.signature(RewardGuide).parameters)[3:]
"""The keywords of `RewardGuide`."""


def choose_way(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, vocab: Vocab) -> Way:
    """How a reward model can read what a base with `vocab` writes."""
    if causal_head(model) is None:
        return "pairs"
    size = text_config(model).vocab_size
    return "shared" if Vocab(size, Codec(tokenizer).fingerprint).reads(vocab) else "retokenised"


def _head(model: PreTrainedModel, way: Way) -> Any:
    """The head of a decoder.

    Raises:
        IncompatibleError: the model is an encoder.
    """
    head = causal_head(model)
    if head is None:
        raise IncompatibleError(
            f"way={way!r} needs a decoder with a classification head",
            got=type(model).__name__,
            do='pass way="pairs"',
        )
    return head


def _pair_scorer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, label: Label
) -> PairScorer:
    if causal_head(model) is not None:
        raise IncompatibleError(
            'way="pairs" needs an encoder: a decoder pools at the last token that is not padding',
            got=type(model).__name__,
            do='pass way="retokenised"',
        )
    return PairScorer(model, tokenizer, label)
