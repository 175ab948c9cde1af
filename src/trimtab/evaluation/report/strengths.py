"""One method along its strength, and whether it came to optimise the reward instead of the goal.

A reward that guides is a stand-in for what is wanted; a judge that no method saw is another. Where
the reward rises with the strength and the judge's score falls, what is gained is the guide's error
(Gao et al. 2023).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from trimtab.evaluation.comparison import Test, wilcoxon
from trimtab.evaluation.report.reading import Entry, Sheet, Texts

ALPHA = 0.05

Verdict: TypeAlias = Literal["over-optimised", "too strong", "not seen", "no peak", "unknown"]


@dataclass(frozen=True)
class Curve:
    """The rows of one method and guide, by rising strength; two or more.

    Attributes:
        name: the method without its strength.
        entries: its rows.
    """

    name: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Peak:
    """What the judge says along a curve.

    Attributes:
        curve: which.
        at: where the judge's score is highest.
        verdict: "over-optimised" where the judge's score falls after `at` while the reward rises,
            "too strong" where it falls and the reward does not rise, "not seen" where neither is
            beyond noise, "no peak" where the strongest is best, "unknown" without scores.
        judge: of the strongest against `at`, p adjusted; None where they are one.
        reward: likewise.
    """

    curve: Curve
    at: Entry
    verdict: Verdict
    judge: Test | None = None
    reward: Test | None = None

    @property
    def last(self) -> Entry:
        """The strongest."""
        return self.curve.entries[-1]


def curves(sheet: Sheet) -> list[Curve]:
    """Every method that ran at two strengths or more."""
    families: dict[str, list[Entry]] = {}
    for entry in sheet.entries:
        if entry.guided and entry.beta > 0:
            families.setdefault(entry.family, []).append(entry)
    return [
        Curve(name, tuple(sorted(entries, key=lambda e: e.beta)))
        for name, entries in families.items()
        if len({e.beta for e in entries}) > 1
    ]


def find_peak(curve: Curve, sheet: Sheet, texts: Texts) -> Peak | None:
    """Where the judge's score peaks, and what lies beyond it; None without a judge.

    The strongest is compared with the peak, prompt by prompt. The peak was picked by looking at
    all strengths, so p-values are multiplied by the number of others that it could have been.
    """
    judged = [e for e in curve.entries if e.number("judge") is not None]
    if "judge" not in sheet.roles or not judged:
        return None
    peak = max(judged, key=lambda e: (e.number("judge") or 0.0, -e.beta))
    last = curve.entries[-1]
    if peak is last:
        return Peak(curve, peak, "no peak")
    looks = len(curve.entries) - 1
    judge = _against(peak, last, sheet, "judge", texts, looks)
    reward = _against(peak, last, sheet, "reward", texts, looks)
    if judge is None or reward is None:
        return Peak(curve, peak, "unknown")
    falls = judge.difference < 0 and judge.p < ALPHA
    rises = reward.difference > 0 and reward.p < ALPHA
    verdict: Verdict = "not seen" if not falls else "over-optimised" if rises else "too strong"
    return Peak(curve, peak, verdict, judge, reward)


def _against(
    peak: Entry, last: Entry, sheet: Sheet, role: str, texts: Texts, looks: int
) -> Test | None:
    """The strongest against the peak on the prompts that both have scores of, p times `looks`."""
    a, b = texts.by_prompt(last, sheet, role), texts.by_prompt(peak, sheet, role)
    both = [prompt for prompt in a if prompt in b]
    if len(both) < 2:
        return None
    test = wilcoxon({p: a[p] for p in both}, {p: b[p] for p in both})
    return replace(test, p=min(1.0, test.p * looks))
