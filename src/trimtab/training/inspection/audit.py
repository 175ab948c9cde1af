"""A guide's card against the base that it is to steer: tokenizer, template, network, policy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import unified_diff
from pathlib import Path
from typing import Any

from trimtab.assets import locate
from trimtab.cache.configs import text_config
from trimtab.errors import AssetError, DataError, UsageError
from trimtab.guides import Manifest
from trimtab.models.transformers import TransformersLM
from trimtab.runs.identity import identify
from trimtab.training.data import base_temperature
from trimtab.training.fit import DO, no_better
from trimtab.training.inspection.findings import Finding

SHOWN = 6
"""Lines of a template's difference."""


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
        said = f"{mine.fingerprint or mine.size} against the base's "
        said += f"{theirs.fingerprint or theirs.size}: ids mean other tokens"
        return Finding(
            "error", "tokenizer", said, f"use the base that it was trained for, {card.base}"
        )
    if mine.fingerprint is None or theirs.fingerprint is None:
        said = f"{mine.size} ids on both sides; no fingerprint to compare"
        return Finding("warning", "tokenizer", said, "save the guide with vocab=lm.vocab")
    return Finding("ok", "tokenizer", f"fingerprint {mine.fingerprint}, as the base's")


def template(mine: str | None, theirs: Any) -> Finding:
    """Whether a conversation becomes the same text; the lines that differ where it does not."""
    about, do = "template", "use the tokenizer that the guide was trained with"
    theirs = theirs or None
    if mine == theirs:
        return Finding("ok", about, "as the base's" if mine else "none, as the base's")
    if mine is None or theirs is None:
        which = ("none", "one") if mine is None else ("one", "none")
        said = f"the guide was trained with {which[0]} and the base has {which[1]}"
        return Finding("warning", about, said, do)
    lines = [
        line
        for line in unified_diff(mine.splitlines(), str(theirs).splitlines(), n=0, lineterm="")
        if not line.startswith(("---", "+++", "@@"))
    ]
    cut = [line if len(line) <= 72 else line[:69] + "..." for line in lines[:SHOWN]]
    more = f"; {len(lines) - SHOWN} more lines" if len(lines) > SHOWN else ""
    shown = "; ".join(cut)
    return Finding("warning", about, f"differs (- guide, + base): {shown}{more}", do)


def base(card: Manifest, lm: TransformersLM) -> Finding:
    """Whether it is the base that the card names, by weights where the rollouts say them."""
    known = [a["model"] for a in sources(card) if a.get("model", {}).get("weights")]
    mine = identify(lm)
    same_dtype = {a.get("dtype") for a in sources(card)} == {str(lm.model.dtype)[6:]}
    if known and same_dtype and all(k["weights"] == mine.weights for k in known):
        return Finding("ok", "base", f"{mine.name}: the weights that wrote the rollouts")
    if known and same_dtype:
        theirs = known[0].get("name", "the base")
        said = f"{mine.name} has other weights than {theirs}, which wrote the rollouts"
        return Finding("warning", "base", said, "a value is of one policy: use that base")
    if card.base is None:
        return Finding("warning", "base", "the card names none", "save the guide with base=...")
    if _place(card.base) == _place(lm.model.name_or_path or ""):
        return Finding("ok", "base", f"{card.base}, by its name")
    said = f"the card names {card.base}; this is {lm.model.name_or_path or mine.name}"
    return Finding("warning", "base", said, "pass --model with the base that is meant")


def revision(card: Manifest, lm: TransformersLM) -> list[Finding]:
    """Whether the base is of the revision that the card names, where both are known."""
    found = getattr(lm.model.config, "_commit_hash", None)
    if card.revision is None:
        return []
    if found is None:
        said = f"the card names {card.revision}; the base does not say its own"
        return [Finding("warning", "revision", said, "open the base at that revision")]
    if found.startswith(card.revision):
        return [Finding("ok", "revision", card.revision)]
    said = f"the card names {card.revision}; the base is of {found}"
    return [Finding("warning", "revision", said, "open the base at that revision")]


def network(card: Manifest, lm: TransformersLM) -> Finding:
    """Whether a guide that stands on the base's layers fits them."""
    config = text_config(lm.model)
    mine = (card.model_type, card.hidden)
    theirs = (config.model_type, config.hidden_size)
    layers = f"{card.layers} of {config.num_hidden_layers} layers"
    if card.storage == "full":
        said = f"a backbone of its own: {card.model_type}, {card.layers} layers"
        return Finding("ok", "network", said)
    if mine != theirs or card.layers > config.num_hidden_layers:
        said = f"stands on {mine[0]} of width {mine[1]}, {card.layers} layers; the base is "
        said += f"{theirs[0]} of width {theirs[1]}, {config.num_hidden_layers} layers"
        return Finding("error", "network", said, f"use the base it was trained on, {card.base}")
    return Finding("ok", "network", f"{layers} of the base, {card.model_type}")


def policy(card: Manifest, lm: TransformersLM) -> list[Finding]:
    """Whether pi_ref is the policy whose rollouts were learnt from."""
    try:
        trained = base_temperature(sources(card))
    except DataError as error:
        return [Finding("warning", "base_temperature", error.got, error.do)]
    nuclei = {a.get("model", {}).get("base_top_p") for a in sources(card)} - {None}
    found = []
    pairs = [("base_temperature", trained, lm.base_temperature)]
    pairs += [("base_top_p", p, lm.base_top_p) for p in nuclei if p != 1 or lm.base_top_p != 1]
    for about, theirs, mine in pairs:
        if theirs is None:
            continue
        if theirs == mine:
            found.append(Finding("ok", about, f"{mine:g}, as of the rollouts"))
        else:
            said = f"the rollouts are of {theirs:g}; pi_ref here is of {mine:g}"
            do = f"decode with --{about.replace('_', '-')} {theirs:g}"
            found.append(Finding("warning", about, said, do))
    return found


def validation(card: Manifest) -> list[Finding]:
    """Whether training left the guide better than a constant, where the card says both."""
    found: Mapping[str, Any] = card.objective.get("validation", {})
    if not {"error", "constant"} <= found.keys():
        return []
    said = no_better(found["error"], found["constant"])
    if said:
        return [Finding("warning", "validation", said, DO)]
    said = f"error {found['error']:.4g} in training, below a constant's {found['constant']:.4g}"
    return [Finding("ok", "validation", said)]


def sources(card: Manifest) -> Sequence[Mapping[str, Any]]:
    """What made the rollouts that a guide was trained on; empty for files of preferences."""
    found: Iterable[Any] = card.data.get("sources") or ()
    return [about for about in found if isinstance(about, Mapping)]


def _place(name: str) -> str:
    """A model's folder or Hub id, whichever way it was written."""
    try:
        name = locate(name)
    except (AssetError, UsageError):  # not on this machine
        return name
    try:
        return str(Path(name).resolve()) if name and Path(name).exists() else name
    except OSError:  # longer than any path
        return name
