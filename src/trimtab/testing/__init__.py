"""The laws that the decode loop relies on, for guides, models, rules and methods of your own.

    from trimtab.testing import check_guide, check_method, check_model, check_rule

    check_guide(my_guide, vocab_size=50257)
    check_model(my_model)
    check_rule(my_rule, tilts=True)
    check_method(my_method)

The first law that is broken raises a `LawError`: which law, what must hold, what was got.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trimtab.decoding.methods import Method
from trimtab.errors import UsageError
from trimtab.protocols import Guide, LanguageModel, Rule
from trimtab.testing.fixture import CPU, Fixture, run_laws, some_prompts
from trimtab.testing.methods import (
    LAWS_OF_METHODS,
    LAWS_OF_RULES,
    LAWS_OF_TILTING_METHODS,
    LAWS_OF_TILTS,
    MethodLaw,
    Outcomes,
    RuleLaw,
)
from trimtab.testing.models import LAWS_OF_MODELS, ModelLaw
from trimtab.testing.readers import LAWS_OF_GUIDES, GuideLaw
from trimtab.types import Prompt, PromptLike

__all__ = [
    "LAWS_OF_GUIDES",
    "LAWS_OF_METHODS",
    "LAWS_OF_MODELS",
    "LAWS_OF_RULES",
    "LAWS_OF_TILTING_METHODS",
    "LAWS_OF_TILTS",
    "check_guide",
    "check_method",
    "check_model",
    "check_rule",
]


def check_guide(
    guide: Guide[Any],
    prompts: Sequence[PromptLike] | None = None,
    *,
    lm: LanguageModel[Any] | None = None,
    vocab_size: int | None = None,
    eos_ids: frozenset[int] = frozenset(),
    tolerance: float = 1e-4,
    steps: int = 4,
    rereads: bool = False,
    seam: bool = False,
    laws: Sequence[GuideLaw] = LAWS_OF_GUIDES,
) -> None:
    """Hold a guide to every law that the decode loop relies on.

    Args:
        guide: yours.
        prompts: three or more of different lengths; None makes some of random ids.
        lm: the base it guides: encodes prompts, and says the vocabulary, EOS and device.
        vocab_size: number of token ids, where neither `lm` nor `guide.vocab` says it.
        eos_ids: tokens that end a response, where there is no `lm`.
        tolerance: largest difference, relative above 1; 1e-4 fits float32.
        steps: turns that a law takes.
        rereads: True for guides that read prefixes again by design (encoders).
        seam: True for guides that tell a response from its prompt (templates, texts); guides
            without a vocabulary are taken to.
        laws: which laws.

    Raises:
        LawError: the first law that is broken.
        UsageError: too little is known to try the guide.
    """
    vocab = lm.vocab if lm else guide.vocab
    size = vocab_size or (vocab.size if vocab else None)
    if size is None:
        raise UsageError(
            f"the number of token ids must be known to try guide {guide.name!r}",
            got="a guide that reads text, and no model",
            do="pass vocab_size=... or lm=...",
        )
    fixture = Fixture(
        some_prompts(size) if prompts is None else _encoded(prompts, lm),
        size,
        lm.eos_ids if lm else eos_ids,
        lm.device if lm else CPU,
        steps=steps,
        tolerance=tolerance,
        rereads=rereads,
        seam=seam or guide.vocab is None,
    )
    run_laws(f"guide {guide.name!r}", laws, guide, fixture)


def _encoded(prompts: Sequence[PromptLike], lm: LanguageModel[Any] | None) -> tuple[Prompt, ...]:
    encoded = [p if isinstance(p, Prompt) else lm.encode(p) if lm else None for p in prompts]
    known = tuple(prompt for prompt in encoded if prompt is not None)
    if len(known) < max(3, len(prompts)):
        raise UsageError(
            "three or more prompts must be given, encoded or beside the model that encodes them",
            got=f"{len(known)} such prompts",
            do="pass more prompts, or lm=...",
        )
    return known


def check_model(
    lm: LanguageModel[Any],
    prompts: Sequence[Prompt] | None = None,
    *,
    tolerance: float = 1e-4,
    steps: int = 4,
    rereads: bool = False,
    laws: Sequence[ModelLaw] = LAWS_OF_MODELS,
) -> None:
    """Hold a base model to every law that the decode loop relies on.

    A proposal that the model refuses with `IncompatibleError` is not tried.

    Args:
        lm: yours.
        prompts: three or more encoded prompts of different lengths; None makes random ones.
        tolerance: largest difference, relative above 1; 1e-4 fits float32.
        steps: turns that a law takes.
        rereads: True for models that read prefixes again by design.
        laws: which laws.

    Raises:
        LawError: the first law that is broken.
    """
    fixture = Fixture(
        tuple(prompts or some_prompts(lm.vocab.size)),
        lm.vocab.size,
        lm.eos_ids,
        lm.device,
        k=min(5, lm.vocab.size),
        steps=steps,
        tolerance=tolerance,
        rereads=rereads,
    )
    run_laws(f"model {type(lm).__name__}", laws, lm, fixture)


def check_rule(
    rule: Rule,
    *,
    tilts: bool = False,
    tolerance: float = 1e-5,
    laws: Sequence[RuleLaw] = LAWS_OF_RULES,
) -> None:
    """Hold a rule to every law that the decode loop relies on.

    Args:
        rule: yours: `(logprobs, scores, beta) -> logits`.
        tilts: True for a rule that tilts pi_ref by beta times a score, as `tilt` does: beta = 0 is
            the base, a constant that is added to all scores changes nothing, and a better score
            makes no outcome less likely. `score_only`, which chooses among draws, does not.
        tolerance: largest difference, relative above 1; 1e-5 fits float32.
        laws: which laws.

    Raises:
        LawError: the first law that is broken.

    >>> from trimtab.decoding.methods import tilt
    >>> check_rule(tilt, tilts=True)
    """
    name = getattr(rule, "__name__", repr(rule))
    every = (*laws, *LAWS_OF_TILTS) if tilts else laws
    run_laws(f"rule {name!r}", every, rule, Outcomes(tolerance))


def check_method(
    method: Method,
    *,
    tilts: bool = False,
    tolerance: float = 1e-5,
    laws: Sequence[MethodLaw] = LAWS_OF_METHODS,
) -> None:
    """Hold a method to every law that the decode loop and its users rely on.

    Its rule as by `check_rule`; its sampler, whose distributions must be normalised, whose choices
    must follow them and whose flags must be true; and the steps that it makes of a small base and
    guide.

    Args:
        method: yours.
        tilts: as for `check_rule`; of a method that drops and reshapes nothing also that at
            beta = 0 each step is the base's own.
        tolerance: largest difference, relative above 1; 1e-5 fits float32.
        laws: which laws, beside those of its rule.

    Raises:
        LawError: the first law that is broken.

    >>> import trimtab as tt
    >>> check_method(tt.vas(beta=2.0), tilts=True)
    """
    check_rule(method.rule, tilts=tilts, tolerance=tolerance)
    every = (*laws, *LAWS_OF_TILTING_METHODS) if tilts else laws
    run_laws(f"method {method.name!r}", every, method, Outcomes(tolerance))
