"""Whether a guide's card and its data fit the base that it is to steer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from typing import Any, Literal, TypeAlias

from trimtab.assets import locate
from trimtab.cache.networks import text_config
from trimtab.decoding.forced import forced
from trimtab.errors import (
    AssetError,
    DataError,
    IncompatibleError,
    PromptError,
    TrimtabError,
    UsageError,
)
from trimtab.guides import Manifest
from trimtab.models.transformers import Codec, TransformersLM
from trimtab.protocols import Guide
from trimtab.runs.identity import identify
from trimtab.training.data import base_temperature
from trimtab.training.run import DO, no_better
from trimtab.types import Group, Prompt

Level: TypeAlias = Literal["ok", "warning", "error"]

LINES = 6  # of a template's difference that are shown
MANY = 200  # prompts of the data that are looked at


@dataclass(frozen=True)
class Finding:
    """One line of an audit.

    Attributes:
        level: "ok"; "warning", where figures may mislead; "error", where the guide cannot be used.
        about: what was looked at.
        message: what was found.
        do: the way out; "" where nothing is to be done.
    """

    level: Level
    about: str
    message: str
    do: str = ""

    def __str__(self) -> str:
        """One line that can be searched for."""
        line = f"{self.level.upper()}: {self.about}: {self.message}"
        return f"{line}; {self.do}" if self.do else line


# --- the card against the base -------------------------------------------------------------------


def audit_card(card: Manifest, lm: TransformersLM) -> list[Finding]:
    """Everything that a card says of its base, held against this one."""
    return [
        tokenizer(card, lm),
        template(card.template, lm.tokenizer.chat_template),
        base(card, lm),
        *revision(card, lm),
        network(card, lm),
        *policy(card, lm),
        *validation(card),
    ]


def tokenizer(card: Manifest, lm: TransformersLM) -> Finding:
    """Whether ids mean the same tokens."""
    mine, theirs = card.vocab, lm.vocab
    if not mine.same(theirs):
        message = f"{mine.fingerprint or mine.size} against the base's "
        message += f"{theirs.fingerprint or theirs.size}: ids mean other tokens"
        do = f"use the base that it was trained for, {card.base}"
        return Finding("error", "tokenizer", message, do)
    if mine.fingerprint is None or theirs.fingerprint is None:
        message = f"{mine.size} ids on both sides; no fingerprint to compare"
        return Finding("warning", "tokenizer", message, "save the guide with vocab=lm.vocab")
    return Finding("ok", "tokenizer", f"fingerprint {mine.fingerprint}, as the base's")


def template(mine: str | None, theirs: Any) -> Finding:
    """Whether a conversation becomes the same text; the lines that differ where it does not."""
    theirs = theirs or None
    if mine == theirs:
        return Finding("ok", "template", "as the base's" if mine else "none, as the base's")
    if mine is None or theirs is None:
        which = ("none", "one") if mine is None else ("one", "none")
        message = f"the guide was trained with {which[0]} and the base has {which[1]}"
    else:
        lines = [
            line if len(line) <= 72 else line[:69] + "..."
            for line in unified_diff(mine.splitlines(), str(theirs).splitlines(), n=0, lineterm="")
            if not line.startswith(("---", "+++", "@@"))
        ]
        more = f"; {len(lines) - LINES} more lines" if len(lines) > LINES else ""
        message = f"differs (- guide, + base): {'; '.join(lines[:LINES])}{more}"
    do = "use the tokenizer that the guide was trained with"
    return Finding("warning", "template", message, do)


def base(card: Manifest, lm: TransformersLM) -> Finding:
    """Whether it is the base that the card names, by weights where the rollouts say them."""
    known = [a["model"] for a in sources(card) if a.get("model", {}).get("weights")]
    mine = identify(lm)
    same_dtype = {a.get("dtype") for a in sources(card)} == {str(lm.model.dtype)[6:]}
    if known and same_dtype:
        if all(model["weights"] == mine.weights for model in known):
            return Finding("ok", "base", f"{mine.name}: the weights that wrote the rollouts")
        theirs = known[0].get("name", "the base")
        message = f"{mine.name} has other weights than {theirs}, which wrote the rollouts"
        return Finding("warning", "base", message, "a value is of one policy: use that base")
    if card.base is None:
        return Finding("warning", "base", "the card names none", "save the guide with base=...")
    here = lm.model.name_or_path or ""
    if _located(card.base) == _located(here):
        return Finding("ok", "base", f"{card.base}, by its name")
    message = f"the card names {card.base}; this is {here or mine.name}"
    return Finding("warning", "base", message, "pass --model with the base that is meant")


def _located(name: str) -> str:
    """A model's folder or Hub id, whichever way it was written."""
    try:
        name = locate(name)
        return str(Path(name).resolve()) if name and Path(name).exists() else name
    except (AssetError, UsageError, OSError):  # not on this machine; longer than any path
        return name


def revision(card: Manifest, lm: TransformersLM) -> list[Finding]:
    """Whether the base is of the revision that the card names, where both are known."""
    mine = getattr(lm.model.config, "_commit_hash", None)
    if card.revision is None:
        return []
    if mine is not None and mine.startswith(card.revision):
        return [Finding("ok", "revision", card.revision)]
    other = "the base does not say its own" if mine is None else f"the base is of {mine}"
    message = f"the card names {card.revision}; {other}"
    return [Finding("warning", "revision", message, "open the base at that revision")]


def network(card: Manifest, lm: TransformersLM) -> Finding:
    """Whether a guide that stands on the base's layers fits them."""
    if card.storage == "full":
        message = f"a backbone of its own: {card.model_type}, {card.layers} layers"
        return Finding("ok", "network", message)
    config = text_config(lm.model)
    mine, theirs = (card.model_type, card.hidden), (config.model_type, config.hidden_size)
    if mine != theirs or card.layers > config.num_hidden_layers:
        message = f"stands on {mine[0]} of width {mine[1]}, {card.layers} layers; the base is "
        message += f"{theirs[0]} of width {theirs[1]}, {config.num_hidden_layers} layers"
        do = f"use the base it was trained on, {card.base}"
        return Finding("error", "network", message, do)
    message = f"{card.layers} of {config.num_hidden_layers} layers of the base, {card.model_type}"
    return Finding("ok", "network", message)


def policy(card: Manifest, lm: TransformersLM) -> list[Finding]:
    """Whether pi_ref is the policy whose rollouts were learnt from."""
    try:
        trained = base_temperature(sources(card))
    except DataError as error:
        return [Finding("warning", "base_temperature", error.got, error.do)]
    nuclei = {a.get("model", {}).get("base_top_p") for a in sources(card)} - {None}
    pairs = [] if trained is None else [("base_temperature", trained, lm.base_temperature)]
    pairs += [("base_top_p", p, lm.base_top_p) for p in nuclei if p != 1 or lm.base_top_p != 1]
    findings = []
    for about, theirs, mine in pairs:
        if theirs == mine:
            findings.append(Finding("ok", about, f"{mine:g}, as of the rollouts"))
        else:
            message = f"the rollouts are of {theirs:g}; pi_ref here is of {mine:g}"
            do = f"decode with --{about.replace('_', '-')} {theirs:g}"
            findings.append(Finding("warning", about, message, do))
    return findings


def validation(card: Manifest) -> list[Finding]:
    """Whether training left the guide better than a constant, where the card says both."""
    figures: Mapping[str, float] = card.objective.get("validation", {})
    if not {"error", "constant"} <= figures.keys():
        return []
    error, constant = figures["error"], figures["constant"]
    if message := no_better(error, constant):
        return [Finding("warning", "validation", message, DO)]
    message = f"error {error:.4g} in training, below a constant's {constant:.4g}"
    return [Finding("ok", "validation", message)]


def sources(card: Manifest) -> list[Mapping[str, Any]]:
    """What made the rollouts that a guide was trained on; empty for files of preferences."""
    return [about for about in card.data.get("sources") or () if isinstance(about, Mapping)]


# --- the data against the base -------------------------------------------------------------------


def audit_data(
    guide: Guide[Any] | None,
    lm: TransformersLM,
    prompts: Sequence[Prompt],
    groups: Sequence[Group],
) -> list[Finding]:
    """What the base reads and how responses end: templates of the data, BOS, EOS."""
    findings = [*encoding(prompts, lm), *bos(prompts, lm)]
    if guide is None:
        return findings
    try:
        return [*findings, *eos(guide, lm, prompts, groups)]
    except IncompatibleError as error:
        return [*findings, Finding("error", "EOS", error.got, error.do)]


def encoding(prompts: Sequence[Prompt], lm: TransformersLM) -> list[Finding]:
    """Whether the data's prompts have the ids that this base gives them when it decodes."""
    known = [p for p in prompts[:MANY] if p.messages or p.text]
    if not known:
        return []
    other = [p for p in known if _ids(p, lm.codec) != p.ids]
    if not other:
        return [Finding("ok", "prompts", f"{len(known)} of the data, encoded as for decoding")]
    message = f"{len(other)} of {len(known)} of the data have other ids than this base gives them"
    do = "decode with the template that the guide was trained with, or collect anew"
    for kind in ("none", "auto"):
        codec = Codec(lm.tokenizer, kind)
        if kind != lm.codec.template and all(_ids(p, codec) == p.ids for p in other):
            do = f"they are those of --template {kind}: pass that, and decode with it"
    return [Finding("warning", "prompts", message, do)]


def _ids(prompt: Prompt, codec: Codec) -> tuple[int, ...] | None:
    """What a codec makes of a prompt; None where it refuses it."""
    single = prompt.messages is not None and len(prompt.messages) == 1
    text = prompt.text or ""
    try:
        plain = codec.template == "none" and single
        return codec.encode(text if plain else prompt.messages or text).ids
    except PromptError:
        return None


def bos(prompts: Sequence[Prompt], lm: TransformersLM) -> list[Finding]:
    """Whether prompts begin with one BOS, where the tokenizer has one and writes it."""
    token = lm.tokenizer.bos_token_id
    if token is None:
        return [Finding("ok", "BOS", "the tokenizer has none")]
    writes = token in lm.tokenizer.encode("", add_special_tokens=True)
    findings = []
    kinds = {"of the data": prompts[:MANY], "as encoded now": [lm.encode("Hello")]}
    for kind, several in kinds.items():
        twice = sum(p.ids[:2] == (token, token) for p in several)
        none = sum(p.ids[:1] != (token,) for p in several)
        of = f"of {len(several)} prompts {kind}"
        if twice:
            do = "leave BOS out of the text or of the template: one of them adds it already"
            findings.append(Finding("warning", "BOS", f"{twice} {of} begin with BOS twice", do))
        elif none and writes:
            message = f"{none} {of} lack the BOS that the tokenizer writes"
            do = "have the template begin with bos_token, if the base was trained with it"
            findings.append(Finding("warning", "BOS", message, do))
    fine = "once, at the beginning" if writes else "never twice; the tokenizer adds none itself"
    return findings or [Finding("ok", "BOS", fine)]


def eos(
    guide: Guide[Any], lm: TransformersLM, prompts: Sequence[Prompt], groups: Sequence[Group]
) -> list[Finding]:
    """Whether the guide scores EOS candidates, and whether it can have learnt to."""
    ids = sorted(lm.eos_ids)
    if not ids:
        do = "set eos_token_id in the base's config"
        return [Finding("warning", "EOS", "the base has none: only length ends a response", do)]
    findings = [_eos_scores(guide, lm, (prompts or [lm.encode("Hello")])[0], ids)]
    responses = [r for group in groups for r in group.responses if r.tokens]
    if responses:
        ended = sum(r.tokens[-1] in lm.eos_ids for r in responses)
        message = f"ends {ended} of {len(responses)} responses of the data"
        do = "a guide of such data never saw a finished response: collect with a larger "
        do += "--max-new-tokens"
        found = Finding("warning", "EOS", message, do)
        findings.append(Finding("ok", "EOS", message) if ended else found)
    return findings


def _eos_scores(
    guide: Guide[Any], lm: TransformersLM, prompt: Prompt, ids: Sequence[int]
) -> Finding:
    """The score of each EOS as the very next token."""
    size = guide.vocab.size if guide.vocab is not None else None
    if size is not None and ids[-1] >= size:
        message = f"id {next(i for i in ids if i >= size)} is beyond the guide's {size} ids"
        return Finding("error", "EOS", message, "use the tokenizer that it was trained with")
    try:
        scores = guide.score(guide.prefill([prompt]), forced([ids], lm))[0].tolist()
    except IncompatibleError:
        raise
    except TrimtabError as error:
        return Finding("error", "EOS", f"cannot be scored: {error}", "mend the guide")
    shown = ", ".join(f"{x:.3g} at id {i}" for i, x in zip(ids, scores, strict=True))
    message = f"score after a prompt: {shown}"
    if all(map(math.isfinite, scores)):
        return Finding("ok", "EOS", message)
    return Finding("error", "EOS", message, "mend or retrain the guide")
