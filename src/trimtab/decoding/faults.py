"""Whose fault it is when a step's numbers are no numbers: said on the host, once they are there."""

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
class StepCheck:
    """Holds every row of a step to being numbers, and says whose fault it is where it is not.

    Nothing is asked of the device for it: a model, guide or rule that fails leaves its mark in the
    step's ledger (see `BatchStep`), which comes to the host anyhow.

    Attributes:
        lm: the base.
        guide: the guide's name.
        method: the method.
        betas: strength of each prompt.
        n: rows of each prompt.
        lenient: whether a guide that fails leaves the choice to the base.
        first_prompt: the number of the first prompt in errors.
    """

    lm: LanguageModel[Any]
    guide: str
    method: Method
    betas: Sequence[float]
    n: int
    lenient: bool
    first_prompt: int = 0

    def __call__(self, row: int, position: int, numbers: StepRow) -> None:
        """Raise unless the numbers of a row's step are finite.

        Raises:
            ModelError: log pi_ref is not finite: the base's logits were NaN or inf.
            GuideError: the guide's scores were not finite, or too large for their strength.
            LawError: rule or sampler made no distribution of finite numbers.
        """
        beta = self.betas[row // self.n]
        row += self.first_prompt * self.n
        where = f"at row {row} (prompt {row // self.n}), position {position}"
        if math.isnan(numbers.ref_logprob):
            raise ModelError(
                f"the base {self.lm!r} must give finite logits",
                got=f"NaN or inf {where}",
                do="mend its weights, or load it in another dtype",
            )
        if numbers.fault and not self.lenient:
            raise self._guide_error(beta, where, numbers.fault)
        if not math.isfinite(numbers.logprob) or not math.isfinite(numbers.ref_logprob):
            rule = getattr(self.method.rule, "__name__", repr(self.method.rule))
            raise LawError(
                f"rule {rule!r} and {self.method.sampler} of method {self.method.name!r} must make "
                "a law of finite numbers, with no chance for what the base gives none",
                got=f"log pi {numbers.logprob} of a choice of log pi_ref {numbers.ref_logprob} "
                f"{where}",
                do="try them with trimtab.testing.check_rule and check_method",
            )

    def _guide_error(self, beta: float, where: str, score: float) -> GuideError:
        do = 'mend the guide, or pass on_guide_error="base" to let the base choose there'
        if math.isfinite(score):
            return GuideError(
                f"beta times the scores of guide {self.guide!r} must not overflow",
                got=f"beta = {beta:g} and a score of size {score:g} {where}",
                do=f"lower beta; or {do}",
            )
        return GuideError(
            f"guide {self.guide!r} must return finite scores", got=f"NaN or inf {where}", do=do
        )
