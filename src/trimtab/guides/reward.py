"""Any sequence-classification reward model of transformers as a guide on prefixes.

Legend: B rows, K candidates, L tokens of a candidate, R some rows.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from trimtab.cache.networks import text_config
from trimtab.cache.reader import Attention, CachedReader
from trimtab.cache.slots import CachedRows
from trimtab.cache.trial import open_reader
from trimtab.errors import IncompatibleError, check_keywords, check_word
from trimtab.guides.cached import ValueGuide
from trimtab.guides.text import ResponseReader, Row, TextGuide
from trimtab.guides.transforms import Delegate, Noted, NotingDelegate
from trimtab.models.classifier import (
    ChatTemplate,
    Label,
    PairScorer,
    RewardTemplate,
    body,
    causal_head,
    load_classifier,
)
from trimtab.models.loading import load_tokenizer
from trimtab.models.transformers import Codec
from trimtab.protocols import Guide, LanguageModel
from trimtab.types import Candidates, Cost, Prompt, Vocab, pad_ids

Way: TypeAlias = Literal["shared", "retokenised", "pairs"]
"""How a reward model reads.

"shared": a decoder that reads the base's ids, cached, k tokens per emitted token. "retokenised": a
decoder with another tokenizer, cached over the longest common token prefix. "pairs": an encoder,
which reads every pair of prompt and response anew, B * K rows in one batch.
"""


@final
class RewardGuide(Delegate):
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

    >>> from tokenizers import Tokenizer, models
    >>> from transformers import LlamaConfig, LlamaForSequenceClassification, TokenizersBackend
    >>> import trimtab as tt
    >>> letters = models.WordLevel({"a": 0, "b": 1, "c": 2}, unk_token="a")
    >>> model = LlamaForSequenceClassification(
    ...     LlamaConfig(vocab_size=3, hidden_size=8, num_attention_heads=1, num_labels=1)
    ... )
    >>> tokenizer = TokenizersBackend(tokenizer_object=Tokenizer(letters))
    >>> tt.RewardGuide(model, tokenizer, tt.TableLM(5), name="tiny")
    RewardGuide('tiny', llama, way='retokenised')
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        lm: LanguageModel[Any],
        *,
        label: int | str | None = None,
        template: RewardTemplate = "auto",
        way: Way | None = None,
        attention: Attention = "tree",
        batch_size: int | None = None,
        name: str = "reward",
    ) -> None:
        check_word("attention", attention, Attention)
        if way is not None:
            check_word("way", way, Way)
        self.model, self.name = model.eval(), name
        self.way: Way = way or _choose_way(model, tokenizer, lm.vocab)
        self.vocab = lm.vocab if self.way == "shared" else None
        self.chat_template = ChatTemplate(tokenizer, template, lm.decode)
        self.scorer: PairScorer | None = None
        self._inner: Guide[Any]
        chosen, score = Label.of(model.config, label), _head_of(model, self.way)
        if score is None:
            self.scorer = PairScorer(model, tokenizer, chosen)
            self._inner = TextGuide(
                self.scorer,
                lm.decode,
                name=name,
                batch_size=batch_size,
                parallel=True,
                prompt=self.chat_template.opening,
            )
            return
        net, head = body(model), RewardHead(score, chosen)
        if self.way == "shared":
            self._inner = ValueGuide(net, head, vocab=lm.vocab, attention=attention, name=name)
        else:
            self._inner = Retokenised(net, head, self.chat_template, lm.decode)

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
        name_or_path, _, label = name_or_path.partition("#")
        if label:
            options["label"] = label
        model = load_classifier(name_or_path, loading)
        options.setdefault("name", name_or_path.rstrip("/").rsplit("/", 1)[-1])
        return cls(model, load_tokenizer(name_or_path), lm, **options)

    @property
    def inner(self) -> Guide[Any]:
        """The guide that reads in this way."""
        return self._inner

    @property
    def context(self) -> int | None:
        """Most of the base's tokens that it reads; None where it reads tokens of its own."""
        return self._inner.context if isinstance(self._inner, ValueGuide) else None

    @property
    def cost(self) -> Cost:
        """Tokens of the reward model read so far."""
        return self._inner.cost if self.scorer is None else self.scorer.cost

    def prefill(self, prompts: Sequence[Prompt]) -> Any:
        """Read whole prompts, in the reward model's own template."""
        if self.way == "shared" and self.chat_template.own:
            rows = self.chat_template.encode([self.chat_template.opening(p) for p in prompts])
            prompts = [replace(p, ids=tuple(ids)) for p, ids in zip(prompts, rows, strict=True)]
        return self._inner.prefill(prompts)

    def score(self, state: Any, candidates: Candidates) -> Float[Tensor, "B K"]:
        """The reward of each prefix with each candidate."""
        return self._inner.score(state, candidates)

    def __repr__(self) -> str:
        """Model and how it reads."""
        return f"RewardGuide({self.name!r}, {self.model.config.model_type}, way={self.way!r})"


OPTIONS = tuple(inspect.signature(RewardGuide).parameters)[3:]


class RewardHead(nn.Module):
    """A decoder's own classification head: hidden states to one label's score."""

    def __init__(self, score: nn.Linear, label: Label) -> None:
        super().__init__()
        self.score, self.label = score, label

    def forward(self, hidden: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows"]:
        """One score per state, in float32."""
        scores: Tensor = self.label(self.score(hidden))
        return scores


def _choose_way(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, vocab: Vocab) -> Way:
    """How a reward model can read what a base with `vocab` writes."""
    if causal_head(model) is None:
        return "pairs"
    size = text_config(model).vocab_size
    return "shared" if Vocab(size, Codec(tokenizer).fingerprint).reads(vocab) else "retokenised"


def _head_of(model: PreTrainedModel, way: Way) -> nn.Linear | None:
    """A decoder's head; None of an encoder. An error where the model cannot read in this way."""
    head = causal_head(model)
    if way == "pairs" and head is not None:
        raise IncompatibleError(
            'way="pairs" needs an encoder: a decoder pools at the last token that is not padding',
            got=type(model).__name__,
            do='pass way="retokenised"',
        )
    if way != "pairs" and head is None:
        raise IncompatibleError(
            f"way={way!r} needs a decoder with a classification head",
            got=type(model).__name__,
            do='pass way="pairs"',
        )
    return head


# --- a decoder with another tokenizer ------------------------------------------------------------

Ids: TypeAlias = list[int]


@dataclass(frozen=True)
class ReadRow(Row):
    """A row, and what the reward model has read of it.

    That and the cache only save work: whatever they hold, the scores are those of the row.
    """

    read: Ids = field(default_factory=list)


@final
class Retokenised(ResponseReader, NotingDelegate):
    """Scores prefix + candidate by retokenising the whole text.

    Merges may reach back across the end of the prefix, so tokens are never appended blindly. Each
    step reads once what the K texts have in common and was not read yet, and K times only what
    differs (one to a few tokens); the longest common token prefix with what was read is kept.
    """

    name, vocab = "retokenised", None

    def __init__(
        self,
        model: PreTrainedModel,
        head: nn.Module,
        chat_template: ChatTemplate,
        decode: Callable[[Sequence[int]], str],
    ) -> None:
        self.net, self.head, self.chat_template, self.decode = model, head, chat_template, decode
        self.reader = open_reader(model, lambda out: out.last_hidden_state)

    @property
    def inner(self) -> CachedReader:
        """The cached reader."""
        return self.reader

    def prefill(self, prompts: Sequence[Prompt]) -> Noted:
        """Read whole prompts, in the reward model's template."""
        openings = [self.chat_template.opening(prompt) for prompt in prompts]
        ids = self.chat_template.encode(openings)
        texts = zip(prompts, openings, ids, strict=True)
        rows = [ReadRow(prompt, opening, read=read) for prompt, opening, read in texts]
        return Noted(self.reader.prefill(ids), rows)

    def extend(self, state: Noted, tokens: Int[Tensor, "B L"], lengths: Int[Tensor, "B"]) -> Noted:
        """Append tokens; they are read with the next candidates, which decide how they tokenise."""
        return Noted(state.state, self.longer(state.notes, tokens, lengths))

    @torch.inference_mode()
    def score(self, state: Noted, candidates: Candidates) -> Float[Tensor, "B K"]:
        """The reward of each text at its last token."""
        b, k, _ = candidates.shape
        flat = self.chat_template.encode(self._whole_texts(state, candidates))
        ids = [flat[i * k : (i + 1) * k] for i in range(b)]
        # One token of each text is left to branch on: its output is the score.
        shared = [common([*many, min(many, key=len)[:-1]]) for many in ids]
        self._read(state, shared)
        rest = [one[len(s) :] for many, s in zip(ids, shared, strict=True) for one in many]
        tokens, lengths = pad_ids(rest, device=self.net.device)
        branches = replace(
            candidates, tokens=tokens.view(b, k, -1), lengths=lengths.view(b, k), tail=None
        )
        scores: Tensor = self.head(self.reader.branch(state.state, branches))
        return scores.to(candidates.logprobs.device)

    def _whole_texts(self, state: Noted, candidates: Candidates) -> list[str]:
        """The text of every candidate; a finished response is closed by the template."""
        responses = self.texts(state.notes, candidates)
        return [
            self.chat_template.closed(row.prompt, response) if end else row.opening + response
            for row, many, ends in zip(
                state.notes, responses, candidates.ends.tolist(), strict=True
            )
            for response, end in zip(many, ends, strict=True)
        ]

    def _read(self, state: Noted, wanted: list[Ids]) -> None:
        """Make `wanted` what has been read of each row: back up where it differs, then read on."""
        kept = [len(common([row.read, ids])) for row, ids in zip(state.notes, wanted, strict=True)]
        state.state = shortened(state.state, kept)
        new = [ids[n:] for ids, n in zip(wanted, kept, strict=True)]
        if any(new):
            state.state = self.reader.extend(state.state, *pad_ids(new, device=self.net.device))
            state.state = shortened(state.state, [len(ids) for ids in wanted])
        state.notes = [replace(row, read=ids) for row, ids in zip(state.notes, wanted, strict=True)]


def shortened(state: CachedRows, lengths: Sequence[int]) -> CachedRows:
    """The first `lengths[b]` tokens of each row; what stands behind will be overwritten."""
    on = torch.tensor(lengths, device=state.lengths.device)
    return replace(state, lengths=on, bounds=list(lengths), scored=None)


def common(rows: Sequence[Ids]) -> Ids:
    """The longest common token prefix."""
    first, last = min(rows), max(rows)  # whatever these two share, all between them share
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), None)
    return first[:same]
