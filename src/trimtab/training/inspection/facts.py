"""What a card says of a guide, as lines: how it was trained, on what, and its unit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trimtab.guides import Manifest, RewardGuide
from trimtab.protocols import Guide
from trimtab.training.examples import KeptCounts

Facts = tuple[tuple[str, str], ...]


def facts_of(card: Manifest | None, guide: Guide[Any] | None) -> Facts:
    """Names and values, the most telling first; without a card, what the model itself says."""
    if card is None:
        return _of_model(guide)
    said = [
        ("guide", f"{card.name}, {card.kind} ({card.head['kind']} head){_transforms(card)}"),
        ("objective", _objective(card.objective)),
        ("learning rate", _rate(card.objective)),
        ("validation", _numbers(card.objective.get("validation", {}))),
        ("data", _data(card.data)),
        ("reward", _reward(card.reward)),
        ("unit of the score", _unit(card)),
        ("base", " ".join(filter(None, [card.base, card.revision]))),
        ("network", _network(card)),
        ("trimtab", card.version),
    ]
    return tuple((name, text) for name, text in said if text)


def _of_model(guide: Guide[Any] | None) -> Facts:
    if not isinstance(guide, RewardGuide):
        return ()
    config = guide.model.config
    return (
        ("guide", f"{guide.name}, a reward model of transformers ({config.model_type})"),
        ("reads", {"shared": "the base's ids", "retokenised": "text, in its own tokens",
                   "pairs": "text, as pairs of prompt and response"}[guide.way]),
        ("unit of the score", "the model's own output"),
    )  # fmt: skip


def _transforms(card: Manifest) -> str:
    return "".join(f", through {t['kind']}" for t in card.transforms)


def _objective(objective: Mapping[str, Any]) -> str:
    settings = objective.get("settings", {})
    inside = ", ".join(f"{k}={v}" for k, v in settings.items())
    return f"{objective.get('name', '')}" + (f" ({inside})" if inside else "")


def _rate(objective: Mapping[str, Any]) -> str:
    training = objective.get("training", {})
    if "lr" not in objective:
        return ""
    tried = ", ".join(f"{lr:g}" for lr in training.get("lr", ()))
    said = f"{objective['lr']:g}" + (f", the best of {tried}" if "," in tried else "")
    if not {"epochs", "batch_size"} <= training.keys():
        return said
    return f"{said}; epochs {training['epochs']}, batch size {training['batch_size']}"


def _numbers(found: Mapping[str, Any]) -> str:
    numbers = {k: v for k, v in found.items() if isinstance(v, int | float)}
    names = {"error": "error", "constant": "a constant's", "loss": "loss", "accuracy": "accuracy"}
    return ", ".join(f"{said} {numbers[k]:.4g}" for k, said in names.items() if k in numbers)


def _data(data: Mapping[str, Any]) -> str:
    counts = [f"{data[k]} {k}" for k in ("groups", "responses", "pairs") if k in data]
    tallies = [KeptCounts(c["what"], c["kept"], c["left_out"]) for c in data.get("counts") or ()]
    lost = [str(tally) for tally in tallies if tally.left_out]
    return ", ".join(counts) + (f"; learnt from and validated on {', '.join(lost)}" if lost else "")


def _reward(reward: Mapping[str, Any]) -> str:
    if not {"name", "n", "mean", "std", "within", "least", "most"} <= reward.keys():
        return ""
    return (
        f"{reward['name']}: mean {reward['mean']:.4g}, std {reward['std']:.4g} "
        f"({reward['within']:.4g} within prompts), {reward['least']:.4g} to {reward['most']:.4g}, "
        f"{reward['n']} responses"
    )


def _unit(card: Manifest) -> str:
    if any(t["kind"] == "log_sigmoid" for t in card.transforms):
        return "log-probability of the class"
    if any(t["kind"] == "clamp" for t in card.transforms):
        return "share of the way from the lowest reward to the highest"
    pairs = "mean" not in card.reward
    unit = {
        "std": "standard deviation" + (" of its own scores" if pairs else " of the reward"),
        "reward": "log-odds of being preferred" if pairs else "the reward's own",
    }
    return unit.get(card.reward.get("unit", ""), "")


def _network(card: Manifest) -> str:
    where = "stored with it" if card.storage == "full" else "on the base's layers"
    adapter = ", by an adapter" if card.adapter else ""
    return f"{card.model_type}, {card.layers} layers {where}{adapter}"
