"""What the figures say, in plain words, and no more than they say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from trimtab.evaluation.report.reading import Entry, Results, Sheet, Texts
from trimtab.evaluation.report.strengths import ALPHA, Peak
from trimtab.evaluation.text import number, p_value

Tone: TypeAlias = Literal["good", "bad", "open", "plain"]


@dataclass(frozen=True)
class Fact:
    """A question that everybody asks first, and what the figures answer.

    Attributes:
        question: of a few words.
        answer: the figure.
        words: what it rests on.
        tone: whether it is good news, bad, undecided, or none of these.
    """

    question: str
    answer: str
    words: str
    tone: Tone = "plain"


def opening(sheet: Sheet) -> str:
    """What was asked of whom, and how it was scored."""
    a, row = sheet.about, sheet.entries[0].row
    judge = f", and judged by {a['judge']}, which steered nothing" if "judge" in a else ""
    methods = len(sheet.entries)
    return (
        f"{a['model']} answered {row['prompts']} prompts of {sheet.place} by "
        f"{methods} method{'s' * (methods > 1)}. Answers are rewarded by {a['reward']}{judge}."
    )


def warnings(results: Results, peaks: Sequence[Peak]) -> list[str]:
    """What may not be read out of the facts."""
    found = [verdict(peak) for peak in peaks if peak.verdict == "over-optimised"]
    if results.head.best is None:
        found.append("Only one method has a reward, so there is nothing to compare.")
    return found


def facts(sheet: Sheet, texts: Texts) -> list[Fact]:
    """Gain, judge, cut answers and cost of the method with the most reward; none without one."""
    best = sheet.best
    if best is None:
        return []
    return [_gain(best, sheet), _judge(best, sheet), _cut(best, sheet), _cost(best, sheet, texts)]


def _gain(best: Entry, sheet: Sheet) -> Fact:
    base, reward = sheet.baseline, sheet.about["reward"]
    words = (
        f"{best.name} has a mean {reward} reward of {best.mean('reward')}, "
        f"{base.name} {base.mean('reward')}. {_difference(best, 'reward')}"
    )
    gain = best.mean("reward_gain", "+.3f")
    return Fact("What is the gain?", gain, words, _tone(best, "reward"))


def _difference(entry: Entry, role: str) -> str:
    """Interval, prompts and test of a difference to the baseline."""
    low, high = (number(entry.number(f"{role}_{end}"), "+.3f") for end in ("low", "high"))
    p = entry.number(f"{role}_holm")
    side = "not beyond" if _tone(entry, role) == "open" else "beyond"
    test = f" (Wilcoxon with Holm's correction: p {_equals(p)})" if p is not None else ""
    return f"95% interval {low} to {high}, {entry.row['prompts']} prompts: {side} noise{test}."


def _tone(entry: Entry, role: str) -> Tone:
    """Whether a difference to the baseline survives Holm's correction, and which way it goes."""
    gain, p = entry.number(f"{role}_gain"), entry.number(f"{role}_holm")
    if gain is None or p is None or p >= ALPHA:
        return "open"
    return "good" if gain > 0 else "bad"


def _equals(p: float) -> str:
    text = p_value(p)
    return text if text.startswith("<") else f"= {text}"


def _judge(best: Entry, sheet: Sheet) -> Fact:
    question, tone = "Does another judge agree?", _tone(best, "judge")
    if "judge" not in sheet.roles or best.number("judge_gain") is None:
        words = "No judge scored these texts, so the reward's gain is unconfirmed."
        return Fact(question, "not asked", words, tone)
    answer = {"good": "yes", "bad": "no"}.get(tone, "not confirmed")
    words = f"{sheet.about['judge']}, which steered nothing: {best.mean('judge_gain', '+.3f')}. "
    return Fact(question, answer, words + _difference(best, "judge"), tone)


def _cut(best: Entry, sheet: Sheet) -> Fact:
    cut, of_base = best.number("length_cut") or 0.0, sheet.baseline.number("length_cut") or 0.0
    words = (
        f"of the answers reached the budget of {sheet.about['max_new_tokens']} tokens; "
        f"of {sheet.baseline.name}'s {of_base:.0%}. They have {best.mean('length', '.1f')} tokens, "
        f"against {sheet.baseline.mean('length', '.1f')}."
    )
    return Fact("Are texts cut?", f"{cut:.0%}", words, "plain" if cut < 0.5 else "open")


def _cost(best: Entry, sheet: Sheet, texts: Texts) -> Fact:
    paid, kl = sheet.cost(best), best.number("kl")
    unit = "operations of" if sheet.counted else "tokens read by"
    free = best.guided and best.condition.guide_shape is None
    parts = [f"the {unit} the base alone" + (" (its guide, a function, is not counted)" * free)]
    if (time := texts.relative_time(best, sheet)) is not None:
        parts.append(f"{time:.1f} times the wall time of {sheet.baseline.name}")
    if best.number("guide_tokens"):
        parts.append(f"{best.number('guide_tokens'):.1f} guide tokens per token")
    parts += [f"{kl:.1f} nats away from the base"] if kl is not None else []
    words = f"{', '.join(parts)}."
    if (other := sheet.best_of_n(best)) is not None:
        reach = f"does not reach as much with n up to {other.most}"
        if other.reaches is not None:
            reach = f"reaches as much with n = {other.reaches}, {other.reaches} times the base"
        words += f" Best-of-n by the reward {reach}."
    return Fact("What does it cost?", f"{number(paid, '.1f')}\N{MULTIPLICATION SIGN}", words)


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
        f"p {_equals(peak.reward.p)}; judge {peak.judge.difference:+.3f}, "
        f"p {_equals(peak.judge.p)})"
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


def silence(sheet: Sheet, swept: bool) -> str:
    """Why nothing can be said about over-optimisation."""
    if "judge" not in sheet.roles:
        return "Without a judge, nothing tells whether the reward's gain is the goal's."
    missing = "no score of the judge" if swept else "no method ran at two strengths or more"
    return f"Nothing can be said on over-optimisation: {missing}."
