"""What the base reads and how responses end: templates of the data, BOS, EOS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from trimtab.decoding.forced import forced
from trimtab.errors import IncompatibleError, PromptError, TrimtabError
from trimtab.models.text import Codec
from trimtab.models.transformers import TransformersLM
from trimtab.protocols import Guide
from trimtab.training.inspection.findings import Finding
from trimtab.types import Group, Prompt

MANY = 200
"""Prompts that are looked at."""


def encoding(prompts: Sequence[Prompt], lm: TransformersLM) -> list[Finding]:
    """Whether the data's prompts have the ids that this base gives them when it decodes."""
    known = [p for p in prompts[:MANY] if p.messages or p.text]
    if not known:
        return []
    other = [p for p in known if _ids(p, lm.codec) != p.ids]
    if not other:
        return [Finding("ok", "prompts", f"{len(known)} of the data, encoded as for decoding")]
    said = f"{len(other)} of {len(known)} of the data have other ids than this base gives them"
    for kind in ("none", "auto"):
        codec = Codec(lm.tokenizer, kind)
        if kind != lm.codec.template and all(_ids(p, codec) == p.ids for p in other):
            do = f"they are those of --template {kind}: pass that, and decode with it"
            return [Finding("warning", "prompts", said, do)]
    do = "decode with the template that the guide was trained with, or collect anew"
    return [Finding("warning", "prompts", said, do)]


def _ids(prompt: Prompt, codec: Codec) -> tuple[int, ...] | None:
    """What a codec makes of a prompt; None where it refuses it."""
    single = prompt.messages is not None and len(prompt.messages) == 1
    text = prompt.text or ""
    asked = text if codec.template == "none" and single else prompt.messages or text
    try:
        return codec.encode(asked).ids
    except PromptError:
        return None


def bos(prompts: Sequence[Prompt], lm: TransformersLM) -> list[Finding]:
    """Whether prompts begin with one BOS, where the tokenizer has one and writes it."""
    token = lm.tokenizer.bos_token_id
    if token is None:
        return [Finding("ok", "BOS", "the tokenizer has none")]
    writes = token in lm.tokenizer.encode("", add_special_tokens=True)
    kinds = {"prompts of the data": list(prompts[:MANY]), "prompts as encoded now": [_now(lm)]}
    found = []
    for name, of in kinds.items():
        twice = sum(p.ids[:2] == (token, token) for p in of)
        none = sum(p.ids[:1] != (token,) for p in of)
        if twice:
            said = f"{twice} of {len(of)} {name} begin with BOS twice"
            do = "leave BOS out of the text or of the template: one of them adds it already"
            found.append(Finding("warning", "BOS", said, do))
        elif none and writes:
            said = f"{none} of {len(of)} {name} lack the BOS that the tokenizer writes"
            do = "have the template begin with bos_token, if the base was trained with it"
            found.append(Finding("warning", "BOS", said, do))
    said = "once, at the beginning" if writes else "never twice; the tokenizer adds none itself"
    return found or [Finding("ok", "BOS", said)]


def _now(lm: TransformersLM) -> Prompt:
    return lm.encode("Hello")


def eos(
    guide: Guide[Any], lm: TransformersLM, prompts: Sequence[Prompt], groups: Sequence[Group]
) -> list[Finding]:
    """Whether the guide scores EOS candidates, and whether it can have learnt to."""
    ids = sorted(lm.eos_ids)
    if not ids:
        do = "set eos_token_id in the base's config"
        return [Finding("warning", "EOS", "the base has none: only length ends a response", do)]
    found = [_eos_scores(guide, lm, (prompts or [_now(lm)])[0], ids)]
    responses = [r for group in groups for r in group.responses if r.tokens]
    if not responses:
        return found
    ended = sum(r.tokens[-1] in lm.eos_ids for r in responses)
    said = f"ends {ended} of {len(responses)} responses of the data"
    if ended:
        return [*found, Finding("ok", "EOS", said)]
    do = "a guide of such data never saw a finished response: collect with a larger "
    return [*found, Finding("warning", "EOS", said, do + "--max-new-tokens")]


def _eos_scores(
    guide: Guide[Any], lm: TransformersLM, prompt: Prompt, ids: Sequence[int]
) -> Finding:
    """The score of each EOS as the very next token."""
    size = guide.vocab.size if guide.vocab is not None else None
    beyond = [i for i in ids if size is not None and i >= size]
    if beyond:
        said = f"id {beyond[0]} is beyond the guide's {size} ids"
        return Finding("error", "EOS", said, "use the tokenizer that it was trained with")
    try:
        scores = guide.score(guide.prefill([prompt]), forced([ids], lm))[0].tolist()
    except IncompatibleError:
        raise
    except TrimtabError as error:
        return Finding("error", "EOS", f"cannot be scored: {error}", "mend the guide")
    said = ", ".join(f"{x:.3g} at id {i}" for i, x in zip(ids, scores, strict=True))
    if all(map(math.isfinite, scores)):
        return Finding("ok", "EOS", f"score after a prompt: {said}")
    return Finding("error", "EOS", f"score after a prompt: {said}", "mend or retrain the guide")
