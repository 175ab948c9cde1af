"""What went wrong in a step, and whose fault it is: said on the host, once its numbers are there.

Nothing is asked of the device for it: a model, guide or rule that fails leaves its mark in the
ledger of the step (see `BatchStep`), which comes over anyhow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trimtab.decoding.methods import Method
from trimtab.decoding.step import StepRow
from trimtab.errors import GuideError, LawError, ModelError
from trimtab.protocols import LanguageModel


@dataclass(frozen=True)
class Faults:
    """Who took part in a call, and so may be to blame.

    Attributes:
        lm: the base.
        guide: the guide's name.
        method: the method.
        betas: strength of each row.
        lenient: whether a guide that fails leaves the choice to the base.
    """

    lm: LanguageModel[Any]
    guide: str
    method: Method
    betas: Sequence[float]
    lenient: bool

    def check(self, row: int, prompt: int, position: int, entry: StepRow) -> None:
        """Raise unless the numbers of a row's step are numbers.

        Raises:
            ModelError: log pi_ref is not finite: the base's logits were NaN or inf.
            GuideError: the guide's scores were not finite, or too large for their strength.
            LawError: rule or sampler made no distribution of finite numbers.
        """
        where = f"at row {row} (prompt {prompt}), position {position}"
        if math.isnan(entry.ref_logprob):
            raise ModelError(
                f"the base {self.lm!r} must give finite logits",
                got=f"NaN or inf {where}",
                do="mend its weights, or load it in another dtype",
            )
        if entry.fault and not self.lenient:
            self._guide(self.betas[row], where, entry.fault)
        if not math.isfinite(entry.logprob) or not math.isfinite(entry.ref_logprob):
            rule = getattr(self.method.rule, "__name__", repr(self.method.rule))
            raise LawError(
                f"rule {rule!r} and {self.method.sampler} of method {self.method.name!r} must make "
                "a law of finite numbers, with no chance for what the base gives none",
                got=f"log pi {entry.logprob} of a choice of log pi_ref {entry.ref_logprob} {where}",
                do="try them with trimtab.testing.check_rule and check_method",
            )

    def _guide(self, beta: float, where: str, score: float) -> None:
        do = 'mend the guide, or pass on_guide_error="base" to let the base choose there'
        if math.isfinite(score):
            raise GuideError(
                f"beta times the scores of guide {self.guide!r} must not overflow",
                got=f"beta = {beta:g} and a score of size {score:g} {where}",
                do=f"lower beta; or {do}",
            )
        raise GuideError(
            f"guide {self.guide!r} must return finite scores", got=f"NaN or inf {where}", do=do
        )
