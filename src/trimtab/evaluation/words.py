"""What the figures say, in plain words and in tables of text, and no more than they say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from trimtab.evaluation.presentation import NONE, TextTable, number, p_value
from trimtab.evaluation.results import Entry, Results, Sheet
from trimtab.evaluation.statistics import Test, wilcoxon
from trimtab.runs.batches import title

ALPHA = 0.05

# --- what everybody asks first -------------------------------------------------------------------

Tone: TypeAlias = Literal["good", "bad", "open", "plain"]


@dataclass(frozen=True)
class Fact:
    """A question that everybody asks first, and what the figures answer."""

    question: str
    answer: str  # the figure
    words: str  # what it rests on
    tone: Tone = "plain"  # good news, bad, undecided, or none of these


def opening(sheet: Sheet) -> str:
    """What was asked of whom, and how it was scored."""
    a, row = sheet.about, sheet.entries[0].row
    judge = f", and judged by {a['judge']}, which steered nothing" if "judge" in a else ""
    methods = len(sheet.entries)
    return (
        f"{a['model']} answered {row['prompts']} prompts of {sheet.place} by "
        f"{methods} method{'s' * (methods > 1)}. Answers are rewarded by {a['reward']}{judge}."
    )


def facts(sheet: Sheet) -> list[Fact]:
    """Gain, judge, cut answers and cost of the method with the most reward; none without one."""
    best = sheet.best
    if best is None:
        return []
    return [_gain(best, sheet), _judge(best, sheet), _cut(best, sheet), _cost(best, sheet)]


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


def _cost(best: Entry, sheet: Sheet) -> Fact:
    paid, kl = sheet.cost(best), best.number("kl")
    unit = "operations of" if sheet.counted else "tokens read by"
    free = best.guide is not None and best.condition.guide_shape is None
    parts = [f"the {unit} the base alone" + (" (its guide, a function, is not counted)" * free)]
    if (time := sheet.time(best)) is not None:
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
#
# A reward that guides is a stand-in for what is wanted; a judge that no method saw is another.
# Where the reward rises with the strength and the judge's score falls, what is gained is the
# guide's error (Gao et al. 2023).

Verdict: TypeAlias = Literal["over-optimised", "too strong", "not seen", "no peak", "unknown"]


@dataclass(frozen=True)
class Curve:
    """The rows of one method and guide, by rising strength; two or more."""

    name: str  # the method without its strength
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Peak:
    """What the judge says along a curve."""

    curve: Curve
    at: Entry  # where the judge's score is highest
    verdict: Verdict  # "not seen": neither change is beyond noise; "unknown": too few scores
    judge: Test | None = None  # of the strongest against `at`, p adjusted; None where they are one
    reward: Test | None = None

    @property
    def last(self) -> Entry:
        """The strongest."""
        return self.curve.entries[-1]


def curves(sheet: Sheet) -> list[Curve]:
    """Every method that ran at two strengths or more."""
    families: dict[str, list[Entry]] = {}
    for entry in sheet.entries:
        if entry.guide is not None and entry.beta > 0:
            families.setdefault(entry.family, []).append(entry)
    return [
        Curve(name, tuple(sorted(entries, key=lambda e: e.beta)))
        for name, entries in families.items()
        if len({e.beta for e in entries}) > 1
    ]


def find_peak(curve: Curve, sheet: Sheet) -> Peak | None:
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
    judge, reward = (_against(peak, last, role, looks) for role in ("judge", "reward"))
    if judge is None or reward is None:
        return Peak(curve, peak, "unknown")
    falls = judge.difference < 0 and judge.p < ALPHA
    rises = reward.difference > 0 and reward.p < ALPHA
    verdict: Verdict = "not seen" if not falls else "over-optimised" if rises else "too strong"
    return Peak(curve, peak, verdict, judge, reward)


def _against(peak: Entry, last: Entry, role: str, looks: int) -> Test | None:
    """The strongest against the peak on the prompts that both have scores of, p times `looks`."""
    a, b = last.measured.by_prompt(role), peak.measured.by_prompt(role)
    both = [prompt for prompt in a if prompt in b]
    if len(both) < 2:
        return None
    test = wilcoxon({p: a[p] for p in both}, {p: b[p] for p in both})
    return replace(test, p=min(1.0, test.p * looks))


def verdict(peak: Peak) -> str:
    """One sentence on over-optimisation."""
    at, last = f"{peak.at.beta:g}", f"{peak.last.beta:g}"
    if peak.judge is None or peak.reward is None:
        says = "too few prompts have both scores to tell whether it over-optimises."
        if peak.verdict == "no peak":
            says = (
                f"no over-optimisation was seen up to beta {last}, the strongest that was tried; "
                "the judge's score is highest there."
            )
        return f"{peak.curve.name}: {says}"
    says = {
        "over-optimised": (
            f"the reward keeps rising after beta {at} while the judge's score falls: beyond it the "
            "method optimises the guide, not the goal"
        ),
        "too strong": (
            f"the judge's score falls after beta {at}, and the reward does not rise beyond noise: "
            "stronger is only worse"
        ),
    }.get(
        peak.verdict,
        f"no over-optimisation was seen beyond noise; the judge's score is highest at beta {at}",
    )
    changes = "; ".join(
        f"{role} {test.difference:+.3f}, p {_equals(test.p)}"
        for role, test in (("reward", peak.reward), ("judge", peak.judge))
    )
    return f"{peak.curve.name}: {says} (from beta {at} to {last}: {changes})."


def silence(sheet: Sheet, swept: bool) -> str:
    """Why nothing can be said about over-optimisation."""
    if "judge" not in sheet.roles:
        return "Without a judge, nothing tells whether the reward's gain is the goal's."
    missing = "no score of the judge" if swept else "no method ran at two strengths or more"
    return f"Nothing can be said on over-optimisation: {missing}."


# --- tables of text ------------------------------------------------------------------------------

Shown: TypeAlias = "tuple[str, Callable[[Entry], str]]"
"""The heading of a column, and what a row shows in it."""

METHODS = {
    "KL": "KL: exact divergence from the base in nats; of best-of-n, estimated from samples.",
    "diversity": "Diversity: product over n = 2..4 of the share of n-grams that are unique.",
    "ended": "Ended, cut, stopped: by the model, by the token budget, by a stop string.",
    "FLOPs": "FLOPs: in multiples of the base alone, prompts left out.",
    "failed": "Failed: texts without a score, left out of the means.",
    "n": "n: responses to each of {} prompts; methods that always say the same give one.",
}
COSTS = {
    "FLOPs": METHODS["FLOPs"],
    "base": "Reads: tokens per emitted token; a response's last token is never read.",
    "time": "Time: wall time per token over that of {}, as it ran here.",
    "best-of-n by the reward, within": (
        "Best-of-n by the reward is computed from the base's own samples, for n = 1, 2, 4, ...: "
        "its mean reward with the largest n that costs no more, and the least n whose mean reward "
        "is as high."
    ),
}


def _table(
    caption: str,
    columns: list[Shown],
    entries: Sequence[Entry],
    note: str,
    notes: Mapping[str, str],
) -> TextTable:
    """One row per entry; columns that are empty throughout are left out, and so are their notes."""
    filled = [c for c in columns if any(c[1](e) not in (NONE, "") for e in entries)]
    head = ("method", *(name for name, _ in filled))
    rows = tuple((e.name, *(show(e) for _, show in filled)) for e in entries)
    known = [text for name, text in notes.items() if any(h.startswith(name) for h in head)]
    return TextTable(caption, head, rows, " ".join([note, *known]).strip())


def _figure(column: str, form: str = ".3f") -> Callable[[Entry], str]:
    """A figure, with its standard error where it has one."""
    return lambda entry: entry.mean(column, form)


def _asked(sheet: Sheet) -> list[Shown]:
    return [(heading, _figure(name, form)) for name, heading, form in sheet.asked]


def methods(sheet: Sheet) -> TextTable:
    """Every method's figures."""
    a, prompts = sheet.about, sheet.entries[0].row["prompts"]
    columns: list[Shown] = [
        (f"reward ({a['reward']})", _figure("reward")),
        (f"judge ({a.get('judge')})", _figure("judge")),
        ("KL / response", _figure("kl", ".2f")),
        ("KL / token", _figure("kl_token")),
        ("diversity", lambda e: number(e.number("diversity"), ".2f")),
        *(column for column in _asked(sheet) if column[0] != "diversity"),
        ("tokens", _figure("length", ".1f")),
        ("ended", _figure("eos", ".0%")),
        ("cut", _figure("length_cut", ".0%")),
        ("stopped", lambda e: number(e.number("stop"), ".0%") if e.number("stop") else NONE),
        ("FLOPs", _figure("flops", ".2f")),
        ("n", _figure("n", ".0f")),
        ("failed", lambda e: str(e.row["failed"] or NONE)),
    ]
    notes = METHODS | {"n": METHODS["n"].format(prompts)}
    first = "Mean ± standard error, clustered by prompt."
    return _table(f"Methods on {sheet.place}", columns, sheet.entries, first, notes)


def differences(sheet: Sheet) -> TextTable:
    """Every method against the baseline."""
    columns = [column for role in sheet.roles for column in _compared(role)]
    others = [e for e in sheet.entries if e.number("reward_gain") is not None]
    note = (
        "Paired by prompt. Interval: 95%, bootstrap over prompts (BCa). p: Wilcoxon's signed-rank "
        f"test, two-sided. Holm: adjusted for the {len(others)} comparisons."
    )
    return _table(f"Against {sheet.baseline.name}, prompt by prompt", columns, others, note, {})


def _compared(role: str) -> list[Shown]:
    def interval(entry: Entry) -> str:
        low, high = entry.number(f"{role}_low"), entry.number(f"{role}_high")
        return NONE if low is None else f"{number(low, '+.3f')} to {number(high, '+.3f')}"

    return [
        (role, _figure(f"{role}_gain", "+.3f")),
        (f"{role}: interval", interval),
        (f"{role}: p", lambda entry: p_value(entry.number(f"{role}_p"))),
        (f"{role}: Holm", lambda entry: p_value(entry.number(f"{role}_holm"))),
    ]


def costs(sheet: Sheet) -> TextTable:
    """What every method costs, and what best-of-n would have reached for it."""

    def within(entry: Entry) -> str:
        other = sheet.best_of_n(entry)
        row = other.within if other else None
        return f"n = {row.row['n']}: {row.mean('reward')}" if row else NONE

    def reaches(entry: Entry) -> str:
        other = sheet.best_of_n(entry)
        if other is None:
            return NONE
        return f"n = {other.reaches}" if other.reaches else f"none up to {other.most}"

    columns: list[Shown] = [
        ("FLOPs", _figure("flops", ".2f")),
        ("base reads", _figure("base_tokens", ".2f")),
        ("guide reads", _figure("guide_tokens", ".2f")),
        ("time", lambda e: number(sheet.time(e), ".2f")),
        ("reward", _figure("reward")),
        ("best-of-n by the reward, within its cost", within),
        ("best-of-n by the reward, as good", reaches),
    ]
    notes = COSTS | {"time": COSTS["time"].format(sheet.baseline.name)}
    return _table("Cost, and best-of-n by the reward for it", columns, sheet.entries, "", notes)


def best_of(sheet: Sheet) -> TextTable | None:
    """Best-of-n from the base's own samples."""
    if not sheet.best_of:
        return None
    columns: list[Shown] = [
        ("reward", _figure("reward")),
        ("judge", _figure("judge")),
        *_asked(sheet),
        ("KL / response", _figure("kl", ".2f")),
    ]
    samples = int(sheet.best_of[0].number("samples") or 0)
    good = samples // 4  # see `best_of_n_kl`
    trust = f"good up to n = {good}" if good > 1 else "rough with so few samples"
    note = (
        f"From all subsets of the {samples} samples of each prompt. The KL is estimated from the "
        f"same samples, and is {trust}."
    )
    return _table("Best-of-n by the reward", columns, sheet.best_of, note, {})


def steered(sheet: Sheet) -> TextTable | None:
    """Best-of-n of the steered policies' own samples."""
    if not sheet.steered:
        return None
    columns: list[Shown] = [
        ("reward", _figure("reward")),
        ("judge", _figure("judge")),
        *_asked(sheet),
        ("KL / response", _figure("kl", ".2f")),
        ("FLOPs", _figure("flops", ".2f")),
    ]
    note = (
        "From all subsets of the samples of each prompt. KL: how much further from the base than "
        "the base's law the kept responses are, and what the choice among n adds."
    )
    return _table("Best-of-n by the reward, of steered responses", columns, sheet.steered, note, {})


def choices(results: Results) -> TextTable | None:
    """Which strengths a sweep chose."""
    if results.sweep is None:
        return None
    rows = tuple(
        (
            f"{c['method']}{' by ' + c['guide'] if c['guide'] else ''}",
            title(c["label"], c["guide"], named=False) if c["label"] else "none",
            c["why"],
        )
        for c in results.sweep["choices"]
    )
    note = (
        f"Chosen on split {results.sweep['choose_on']}, scored on split "
        f"{results.sweep['score_on']}, whose prompts had no say."
    )
    return TextTable("Each method's best strength", ("method", "chosen", "why"), rows, note)
