"""What the figures say, in plain words, and no more than they say."""

from __future__ import annotations

from collections.abc import Sequence

from trimtab.evaluation.report.budget import rival
from trimtab.evaluation.report.curves import ALPHA, Peak
from trimtab.evaluation.report.reading import Entry, Results, Sheet

NONE = "\N{EN DASH}"
"""A figure that does not exist."""


def number(value: float | None, form: str = ".3f") -> str:
    """A figure; a dash where it does not exist, and no minus before a zero."""
    if value is None:
        return NONE
    text = format(value, form)
    return text.lstrip("+-") if float(text.rstrip("%")) == 0 else text


def with_error(entry: Entry, column: str, form: str = ".3f") -> str:
    """A mean and its standard error."""
    value, se = entry.number(column), entry.number(f"{column}_se")
    return number(value, form) + (f" ± {number(se, form)}" if se is not None else "")


def p_value(p: float | None) -> str:
    """A p-value with two digits; below a thousandth only that."""
    return NONE if p is None else "< 0.001" if p < 0.001 else f"{p:.2g}"


def equals(p: float) -> str:
    """A p-value inside a sentence."""
    said = p_value(p)
    return said if said.startswith("<") else f"= {said}"


# --- the summary ---------------------------------------------------------------------------------


def summary(results: Results, peaks: Sequence[Peak]) -> list[str]:
    """What to know when nothing else is read."""
    sheet = results.head
    best = _best(sheet)
    said = [_asked(sheet)]
    if best is None:
        return [*said, "Only one method has a reward, so there is nothing to compare."]
    said += [_gain(best, sheet), *_judge(best, sheet), *_price(best, sheet)]
    return said + [verdict(peak) for peak in peaks if peak.verdict == "over-optimised"]


def _asked(sheet: Sheet) -> str:
    a, row = sheet.about, sheet.entries[0].row
    judge = f", and judged by {a['judge']}, which steered nothing" if "judge" in a else ""
    methods = len(sheet.entries)
    return (
        f"{a['model']} answered {row['prompts']} prompts of {a['task']} (split {a['split']}) by "
        f"{methods} method{'s' * (methods > 1)}. Answers are rewarded by {a['reward']}{judge}."
    )


def _best(sheet: Sheet) -> Entry | None:
    """The most reward among those that are compared."""
    compared = [e for e in sheet.entries if e.number("reward_gain") is not None]
    return max(compared, key=lambda e: e.number("reward") or 0.0, default=None)


def _gain(best: Entry, sheet: Sheet) -> str:
    base = sheet.baseline
    found = (
        f"{best.name} has the most reward among the others: {with_error(best, 'reward')}, against "
        f"{with_error(base, 'reward')} of {base.name}"
    )
    return f"{found}. The difference is {_difference(best, 'reward')}, {_noise(best, 'reward')}."


def _difference(entry: Entry, role: str) -> str:
    low, high = entry.number(f"{role}_low"), entry.number(f"{role}_high")
    gain = number(entry.number(f"{role}_gain"), "+.3f")
    return f"{gain} (95% interval {number(low, '+.3f')} to {number(high, '+.3f')})"


def real(entry: Entry, role: str) -> bool:
    """Whether a difference to the baseline survives Holm's correction."""
    p = entry.number(f"{role}_holm")
    return p is not None and p < ALPHA


def _noise(entry: Entry, role: str) -> str:
    p = entry.number(f"{role}_holm")
    side = "beyond" if real(entry, role) else "not beyond"
    return f"{side} noise" + (f" (Wilcoxon with Holm's correction: p {equals(p)})" if p else "")


def _judge(best: Entry, sheet: Sheet) -> list[str]:
    gain = best.number("judge_gain")
    if "judge" not in sheet.roles or gain is None:
        return ["No judge scored these texts, so the reward's gain is unconfirmed."]
    if not real(best, "judge"):
        opening = "The judge does not confirm it"
    else:
        opening = "The judge agrees" if gain > 0 else "The judge disagrees"
    return [f"{opening}: {_difference(best, 'judge')}, {_noise(best, 'judge')}."]


def _price(best: Entry, sheet: Sheet) -> list[str]:
    flops, kl = best.number("flops"), best.number("kl")
    free = best.guided and best.cell["guide_shape"] is None
    apart = " (its guide, a function, is not counted)" if free else ""
    facts = [f"costs {flops:.2f} times the operations of the base{apart}"] if flops else []
    facts += [f"its answers are {kl:.1f} nats from the base's"] if kl is not None else []
    said = [f"It {', and '.join(facts)}."] if flops else []
    said = said or [f"{fact[0].upper()}{fact[1:]}." for fact in facts]
    other = rival(best, sheet)
    if other is None:
        return said
    reaches = f"reaches as much with n = {other.reaches}"
    if other.reaches is None:
        reaches = f"does not reach as much with n up to {other.most}"
    return [*said, f"Best-of-n by the reward {reaches}."]


# --- along the strength --------------------------------------------------------------------------


def verdict(peak: Peak) -> str:
    """One sentence on over-optimisation."""
    at, last, name = f"{peak.at.beta:g}", f"{peak.last.beta:g}", peak.curve.name
    if peak.verdict == "no peak":
        return (
            f"{name}: no over-optimisation was seen up to beta {last}, the strongest that was "
            "tried; the judge's score is highest there."
        )
    if peak.judge is None or peak.reward is None:
        return f"{name}: too few prompts have both scores to tell whether it over-optimises."
    tested = (
        f"(from beta {at} to {last}: reward {peak.reward.difference:+.3f}, "
        f"p {equals(peak.reward.p)}; judge {peak.judge.difference:+.3f}, p {equals(peak.judge.p)})"
    )
    if peak.verdict == "over-optimised":
        return (
            f"{name}: the reward keeps rising after beta {at} while the judge's score falls: "
            f"beyond it the method optimises the guide, not the goal {tested}."
        )
    if peak.verdict == "too strong":
        return (
            f"{name}: the judge's score falls after beta {at}, and the reward does not rise "
            f"beyond noise: stronger is only worse {tested}."
        )
    return (
        f"{name}: no over-optimisation was seen beyond noise; the judge's score is highest at "
        f"beta {at} {tested}."
    )
