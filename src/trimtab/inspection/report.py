"""What was found of a guide: its facts, tables of text, Markdown, JSON, a page and a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from trimtab.errors import UsageError
from trimtab.evaluation.presentation import (
    COLOURS,
    GREY,
    LINE,
    MARKERS,
    NONE,
    Drawing,
    TextTable,
    draw,
    number,
    p_value,
    render,
    rounded,
    with_error,
)
from trimtab.files import write_atomic
from trimtab.guides import Manifest, RewardGuide
from trimtab.inspection.audit import Finding, Level
from trimtab.inspection.fit import TEST, Accuracy, Figure, Fit
from trimtab.inspection.scores import FIRST, SHARES
from trimtab.protocols import Guide
from trimtab.training.examples import KeptCounts

Facts: TypeAlias = tuple[tuple[str, str], ...]

FITS = "± standard error by the bootstrap over prompts. Spearman: rank correlation."
EXACT = " R2: 1 - MSE / variance of the labels."
CEILING = " Ceiling: the R2 that the true value would reach against labels that are means of a few."
PAIRS = (
    "Each response is cut at that share of its own tokens; ties count half. ± standard error over "
    f"prompts; p: {TEST}."
)
BINS = "Tenths by what the guide predicts; ± standard error over prompts."
CAPTION = "Calibration, and how good the guide is along the response; bars: one standard error."
HEIGHT = 3.9
"""Of each half of the picture, in inches."""


@dataclass(frozen=True)
class Inspection:
    """What is known of a guide.

    Attributes:
        name: the guide's.
        facts: what its card says, most telling first.
        findings: the audit, and what the figures say.
        compared: what its scores were compared with, in words; "" where nothing was.
        reward: which; "" of pairs of people only.
        values: fit at each point of plain responses.
        prompt: R2 that knowing the prompt alone gives a perfect value; None where unknown.
        labels: fit on labelled prefixes: all, and quarters by length.
        pairs: accuracy at each point.
    """

    name: str
    facts: Facts
    findings: tuple[Finding, ...]
    compared: str = ""
    reward: str = ""
    values: tuple[Fit, ...] = ()
    prompt: Figure | None = None
    labels: tuple[Fit, ...] = ()
    pairs: tuple[Accuracy, ...] = ()

    @property
    def worst(self) -> Level:
        """The worst finding: "ok", "warning" or "error"."""
        levels: tuple[Level, ...] = ("ok", "warning", "error")
        return max((finding.level for finding in self.findings), key=levels.index, default="ok")

    @property
    def measured(self) -> bool:
        """Whether there are figures."""
        return bool(self.values or self.labels or self.pairs)

    @property
    def warnings(self) -> list[Finding]:
        """Findings that are not in order."""
        return [finding for finding in self.findings if finding.level != "ok"]

    def tables(self) -> list[TextTable]:
        """Facts, audit and figures as people read them."""
        of = f"{self.reward or 'preference'}: {self.compared}"
        prompt = (
            f" A perfect value of the prompt alone would reach R2 {_shown(self.prompt)}; at 100% "
            "everything is known."
        )
        every = [
            TextTable("Guide", ("", ""), self.facts),
            _audit(self.findings),
            _fits(f"Labelled prefixes, {of}", self.labels, CEILING),
            _fits(f"Along responses, {of}", self.values, prompt if self.prompt else ""),
            _calibration(self),
            _accuracies(self.pairs),
        ]
        return [table for table in every if table.rows]

    def picture(self) -> Drawing:
        """Calibration above, and below how good the guide is along the response.

        Raises:
            UsageError: nothing was measured, or matplotlib is not installed.
        """
        panels = [panel for panel in (_calibrated(self), _along(self)) if panel.curves]
        if not panels:
            raise UsageError(
                "a picture needs something measured",
                got="no --data, --validation or --pairs",
                do="add one of them",
            )

        def paint(figure: Any) -> None:
            for i, panel in enumerate(panels, start=1):
                axes = figure.add_subplot(len(panels), 1, i)
                panel.paint(axes)
                if i > 1:  # the first one's legend stands below them all
                    axes.legend(frameon=False, fontsize=9)

        curves = [curve for panel in panels for curve in panel.curves.items()]
        points = [
            f"{name}: " + ", ".join(f"{_shown(y)} at {x:.3g}" for x, y in curve)
            for name, curve in curves
        ]
        height = HEIGHT * len(panels)
        return draw("inspect", self.name, CAPTION, "; ".join(points), paint, height=height)

    def to_markdown(self) -> str:
        """The whole report; a line of its own for each warning, so that it can be searched for."""
        return render("inspection.md.j2", inspection=self).rstrip() + "\n"

    def to_html(self) -> str:
        """The whole report as a page that needs nothing else.

        Raises:
            UsageError: matplotlib is not installed.
        """
        drawing = self.picture() if self.measured else None
        return render("inspection.html.j2", inspection=self, drawing=drawing)

    def to_json(self) -> str:
        """The whole report with six significant digits; null where a figure does not exist."""
        whole = {**asdict(self), "facts": dict(self.facts), "worst": self.worst}
        plain = json.loads(
            json.dumps(whole),
            parse_float=lambda digits: rounded(float(digits)),
            parse_constant=lambda _: None,  # NaN, infinity
        )
        return json.dumps(plain, indent=1, ensure_ascii=False) + "\n"

    def _repr_html_(self) -> str:
        return "".join(table._repr_html_() for table in self.tables())

    def write(self, folder: str | Path) -> list[Path]:
        """Write `inspect.md`, `.html`, `.json` and, of something measured, `.png`.

        Raises:
            UsageError: matplotlib is not installed.
            OutputError: a file cannot be written.
        """
        drawing = self.picture() if self.measured else None
        files: dict[str, str | bytes] = {
            "inspect.md": self.to_markdown(),
            "inspect.html": render("inspection.html.j2", inspection=self, drawing=drawing),
            "inspect.json": self.to_json(),
        }
        if drawing is not None:
            files["inspect.png"] = drawing.png
        return [write_atomic(Path(folder) / name, content) for name, content in files.items()]


# --- tables --------------------------------------------------------------------------------------


def _shown(figure: Figure | None) -> str:
    return NONE if figure is None else with_error(figure.value, figure.se)


def _audit(findings: Sequence[Finding]) -> TextTable:
    """A row for each finding; without the last column where nothing is to be done."""
    rows = [
        (f.level.upper() if f.level != "ok" else "ok", f.about, f.message, f.do) for f in findings
    ]
    head = ("", "of", "found", "what to do")
    width = len(head) if any(f.do for f in findings) else len(head) - 1
    return TextTable("Audit", head[:width], tuple(row[:width] for row in rows))


def _fits(caption: str, fits: Sequence[Fit], note: str) -> TextTable:
    columns = {"mse": "MSE", "r2": "R2", "ceiling": "ceiling", "spearman": "Spearman"}
    columns = {k: head for k, head in columns.items() if any(getattr(fit, k) for fit in fits)}
    rows = [
        (fit.where, f"{fit.n}", f"{fit.prompts}", *(_shown(getattr(fit, k)) for k in columns))
        for fit in fits
    ]
    head = ("prefixes", "n", "prompts", *columns.values())
    return TextTable(caption, head, tuple(rows), FITS + (EXACT + note if "mse" in columns else ""))


def _calibration(inspection: Inspection) -> TextTable:
    """On labels, else half-way through responses."""
    of, fits = "labelled prefixes", inspection.labels[:1]
    if not fits:
        of = "half-way through responses"
        fits = tuple(fit for fit in inspection.values if fit.where == "50%")
    bins = [each for fit in fits for each in fit.bins]
    rows = tuple((number(each.predicted), f"{each.n}", _shown(each.label)) for each in bins)
    return TextTable(f"Calibration, {of}", ("predicted", "n", "mean label"), rows, BINS)


def _accuracies(pairs: Sequence[Accuracy]) -> TextTable:
    rows = tuple(
        (a.where, f"{a.n}", f"{a.prompts}", _shown(a.accuracy), f"{a.ties}", p_value(a.p))
        for a in pairs
    )
    head = ("of the response", "n", "prompts", "accuracy", "ties", "p")
    return TextTable("Pairs", head, rows, PAIRS)


# --- the picture ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Panel:
    """Curves by name, with bars of one standard error, and a line that they are held against."""

    curves: Mapping[str, Sequence[tuple[float, Figure]]]
    x: str
    y: str
    line: str = ""
    ends: tuple[tuple[float, float], tuple[float, float]] = ((0, 1), (0, 1))

    def paint(self, axes: Any) -> None:
        """On axes of matplotlib."""
        styles = zip(self.curves.items(), COLOURS, MARKERS, strict=False)
        for (name, curve), colour, marker in styles:
            xs, ys, errors = zip(*((x, y.value, y.se or 0.0) for x, y in curve), strict=True)
            style = LINE | {"color": colour, "marker": marker, "label": name}
            axes.errorbar(xs, ys, yerr=errors, **style)
        if self.line:
            axes.plot(*self.ends, ls="--", lw=1.2, color=GREY, label=self.line)
        axes.set_xlabel(self.x)
        axes.set_ylabel(self.y)


def _calibrated(inspection: Inspection) -> _Panel:
    """Mean label against prediction, with the line of a guide that is right on average."""
    tenths = {"labelled prefixes": inspection.labels[0].bins} if inspection.labels else {}
    shown = ("25%", "50%", "100%")
    tenths |= {f"at {fit.where}": fit.bins for fit in inspection.values if fit.where in shown}
    curves = {name: [(b.predicted, b.label) for b in bins] for name, bins in tenths.items()}
    label = f"mean {inspection.reward or 'label'}"
    if not any(fit.mse for fit in (*inspection.labels, *inspection.values)):
        return _Panel(curves, "score", label)
    seen = [x for curve in curves.values() for point, y in curve for x in (point, y.value)]
    ends = (min(seen), max(seen))
    return _Panel(curves, "predicted", label, "calibrated", (ends, ends))


def _along(inspection: Inspection) -> _Panel:
    """Accuracy on pairs and rank correlation, by the share of the response that was read."""
    shares = {FIRST: 0.0, **SHARES}
    pairs = [(shares[a.where], a.accuracy) for a in inspection.pairs]
    ranks = [(shares[f.where], f.spearman) for f in inspection.values if f.spearman]
    both = {"accuracy on pairs": pairs, "Spearman with the reward": ranks}
    curves = {name: curve for name, curve in both.items() if curve}
    label = ", ".join(name.split(maxsplit=1)[0] for name in curves)
    line = "chance (accuracy)" if pairs else ""
    return _Panel(curves, "share of the response that was read", label, line, ((0, 1), (0.5, 0.5)))


# --- facts ---------------------------------------------------------------------------------------

_READS = {
    "shared": "the base's ids",
    "retokenised": "text, in its own tokens",
    "pairs": "text, as pairs of prompt and response",
}


def facts_of(card: Manifest | None, guide: Guide[Any] | None) -> Facts:
    """Names and values, the most telling first; without a card, what the model itself says."""
    if card is not None:
        facts = _of_card(card)
    elif isinstance(guide, RewardGuide):
        model_type = guide.model.config.model_type
        facts = {
            "guide": f"{guide.name}, a reward model of transformers ({model_type})",
            "reads": _READS[guide.way],
            "unit of the score": "the model's own output",
        }
    else:
        facts = {} if guide is None else {"guide": f"{guide.name}, {type(guide).__name__}"}
    return tuple((name, text) for name, text in facts.items() if text)


def _of_card(card: Manifest) -> dict[str, str]:
    transforms = "".join(f", through {transform['kind']}" for transform in card.transforms)
    settings = ", ".join(f"{k}={v}" for k, v in card.objective.get("settings", {}).items())
    return {
        "guide": f"{card.name}, {card.kind} ({card.head['kind']} head){transforms}",
        "objective": card.objective.get("name", "") + (f" ({settings})" if settings else ""),
        "learning rate": _rate(card.objective),
        "validation": _validation(card.objective.get("validation", {})),
        "data": _data(card.data),
        "reward": _reward(card.reward),
        "unit of the score": _unit(card),
        "base": " ".join(filter(None, [card.base, card.revision])),
        "network": f"{card.model_type}, {card.layers} layers "
        + ("stored with it" if card.storage == "full" else "on the base's layers")
        + (", by an adapter" if card.adapter else ""),
        "trimtab": card.version or "",
    }


def _rate(objective: Mapping[str, Any]) -> str:
    if "lr" not in objective:
        return ""
    training = objective.get("training", {})
    tried = ", ".join(f"{lr:g}" for lr in training.get("lr", ()))
    rate = f"{objective['lr']:g}" + (f", the best of {tried}" if "," in tried else "")
    if {"epochs", "batch_size"} <= training.keys():
        rate += f"; epochs {training['epochs']}, batch size {training['batch_size']}"
    return rate


def _validation(figures: Mapping[str, Any]) -> str:
    names = {"error": "error", "constant": "a constant's", "loss": "loss", "accuracy": "accuracy"}
    return ", ".join(f"{name} {figures[key]:.4g}" for key, name in names.items() if key in figures)


def _data(data: Mapping[str, Any]) -> str:
    counts = [f"{data[k]} {k}" for k in ("groups", "responses", "pairs") if k in data]
    tallies = [KeptCounts(c["what"], c["kept"], c["left_out"]) for c in data.get("counts") or ()]
    lost = ", ".join(str(tally) for tally in tallies if tally.left_out)
    return ", ".join(counts) + (f"; learnt from and validated on {lost}" if lost else "")


def _reward(reward: Mapping[str, Any]) -> str:
    if not {"name", "n", "mean", "std", "within", "least", "most"} <= reward.keys():
        return ""
    return (
        "{name}: mean {mean:.4g}, std {std:.4g} ({within:.4g} within prompts), "
        "{least:.4g} to {most:.4g}, {n} responses"
    ).format(**reward)


def _unit(card: Manifest) -> str:
    kinds = [transform["kind"] for transform in card.transforms]
    if "log_sigmoid" in kinds:
        return "log-probability of the class"
    if "clamp" in kinds:
        return "share of the way from the lowest reward to the highest"
    pairs = "mean" not in card.reward
    units = {
        "std": "standard deviation" + (" of its own scores" if pairs else " of the reward"),
        "reward": "log-odds of being preferred" if pairs else "the reward's own",
    }
    return units.get(card.reward.get("unit", ""), "")
