"""Methods: a name for a choice of proposal, rule, sampler and strength. None has a loop of its own.

A **rule** makes logits of log pi_ref and scores, a **sampler** makes log pi of the logits and
chooses. How the *guide* was trained is the other axis: ARGS and PARGS decode alike and differ in
their reward models, as do VAS and FUDGE's descendants.

Legend: B rows, N outcomes (the candidates, and the tail where it is one).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trimtab.errors import UnknownNameError, UsageError, check_keywords, check_number, check_whole
from trimtab.protocols import Rule, Sampler
from trimtab.rng import Rng, draw
from trimtab.types import Outside, Proposal, Samples, TopK, Vocabulary

# --- rules: pure, one formula each ---------------------------------------------------------------


def tilt(
    logprobs: Float[Tensor, "B N"],
    scores: Float[Tensor, "B N"],
    beta: float | Float[Tensor, "B 1"],
) -> Float[Tensor, "B N"]:
    """log pi(v | s) = log pi_ref(v | s) + beta * score(s + v) + const.

    The closed-form solution of KL-regularised reward maximisation, with 1/beta the weight of the
    KL term. Written as w r in ARGS (Eq. 1 of its code), lambda log P(a) in FUDGE, beta V in VAS
    (Eq. 5), beta r_partial in PARGS, alpha log p_arm in GenARM. RAD adds beta rho to raw logits,
    which differ from log-probabilities by a constant per row: the same law. At beta = 0 it is the
    base itself, the very tensor.
    """
    if not isinstance(beta, Tensor) and beta == 0:
        return logprobs
    return logprobs + beta * scores


def score_only(
    logprobs: Float[Tensor, "B N"],
    scores: Float[Tensor, "B N"],
    beta: float | Float[Tensor, "B 1"],
) -> Float[Tensor, "B N"]:
    """logit(v) = score(s + v): for candidates that were drawn from pi_ref already.

    Best-of-n and blockwise CD choose among samples, so pi_ref has had its say. A candidate at
    -inf stays there, and beta has no part in an argmax over scores.
    """
    return torch.where(torch.isneginf(logprobs), logprobs, scores)


# --- samplers: temperature and nucleus act here, after the rule ----------------------------------
#
# With a temperature T after the rule the effective strength is beta / T, as in transformers and
# vLLM, whose processors run before their temperature. A temperature that shapes pi_ref itself
# belongs to the model (`base_temperature`).


def nucleus(logprobs: Float[Tensor, "B N"], top_p: float) -> Float[Tensor, "B N"]:
    """Keep the smallest set of likeliest outcomes whose mass reaches top_p; -inf elsewhere.

    Holtzman et al. 2020. The likeliest outcome always stays. Not renormalised.
    """
    ordered, order = logprobs.sort(dim=-1, descending=True)
    weights = ordered.softmax(dim=-1)
    before = weights.cumsum(dim=-1) - weights
    cut = torch.zeros_like(logprobs, dtype=torch.bool).scatter(-1, order, before >= top_p)
    return logprobs.masked_fill(cut, -torch.inf)


@dataclass(frozen=True)
class Greedy:
    """argmax over the outcomes (the first of equals)."""

    @property
    def greedy(self) -> bool:
        """True: the tail, where there is one, competes by its best token."""
        return True

    @property
    def plain(self) -> bool:
        """False: a point mass is not softmax(logits)."""
        return False

    def logprobs(self, logits: Float[Tensor, "B N"]) -> Float[Tensor, "B N"]:
        """A point mass: 0 at the argmax, -inf elsewhere; NaN there if that is no finite number."""
        best = logits.max(dim=-1, keepdim=True)
        nothing = torch.full_like(logits, -torch.inf)
        return nothing.scatter(-1, best.indices, best.values - best.values)

    def choose(self, logprobs: Float[Tensor, "B N"], rng: Rng) -> Int[Tensor, "B"]:
        """Index of the argmax."""
        return logprobs.argmax(dim=-1)


@dataclass(frozen=True)
class Stochastic:
    """One draw from softmax(logits / temperature), cut to top_k, then to the nucleus top_p.

    Attributes:
        temperature: > 0.
        top_k: keep this many likeliest outcomes; None keeps all.
        top_p: in (0, 1]; 1 keeps all.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not check_number("a sampling temperature", self.temperature) > 0:
            raise UsageError(
                "a sampling temperature must be above 0",
                got=f"{self.temperature}",
                do="decode greedily for temperature 0: Greedy()",
            )
        if not 0 < self.top_p <= 1:
            raise UsageError("top_p must be in (0, 1]", got=f"{self.top_p}", do="use 1 for all")
        if self.top_k is not None:
            check_whole("top_k", self.top_k, 1)

    @property
    def greedy(self) -> bool:
        """False: the tail, where there is one, competes by its mass."""
        return False

    @property
    def plain(self) -> bool:
        """Whether it draws from softmax(logits) itself."""
        return self.temperature == 1.0 and self.top_k is None and self.top_p == 1.0

    def logprobs(self, logits: Float[Tensor, "B N"]) -> Float[Tensor, "B N"]:
        """log softmax of what temperature, top_k and top_p leave."""
        if self.temperature != 1:  # a pass over the vocabulary
            logits = logits / self.temperature
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            kept = logits.topk(self.top_k, dim=-1)
            logits = torch.full_like(logits, -torch.inf).scatter(-1, kept.indices, kept.values)
        if self.top_p < 1:
            logits = nucleus(logits, self.top_p)
        return logits.log_softmax(dim=-1)

    def choose(self, logprobs: Float[Tensor, "B N"], rng: Rng) -> Int[Tensor, "B"]:
        """Index of one draw."""
        return draw(logprobs, rng.uniform())


# --- a method and its parts ----------------------------------------------------------------------


@dataclass(frozen=True)
class Method:
    """A decoding method: log pi = sampler(rule(log pi_ref, scores, beta)) over a proposal.

    Attributes:
        name: what tables call it.
        proposal: which continuations are candidates.
        rule: how scores tilt them.
        sampler: how one is chosen; temperature and nucleus are here.
        beta: default strength, in nats of log-odds per unit of score; `decode(beta=...)`
            overrides it, per row if wished.
        guided: whether it needs a guide at all.
    """

    name: str
    proposal: Proposal
    rule: Rule
    sampler: Sampler
    beta: float = 0.0
    guided: bool = True

    def __post_init__(self) -> None:
        given: object = self.beta
        strength = check_number("beta", given)
        if not isinstance(given, int | float):  # numpy's, or a tensor's
            object.__setattr__(self, "beta", strength)
        if self._mean_tail and not (self.sampler.greedy or self.sampler.plain):
            raise UsageError(
                "a tail at the mean score is one outcome for its whole mass, so temperature and "
                "nucleus cannot act inside it after the rule",
                got=", ".join(f"{name} {value}" for name, value in vars(self.sampler).items()),
                do="shape pi_ref instead: base_temperature=T with beta / T is the same law",
            )

    @property
    def lossless(self) -> bool:
        """Whether it is pi_ref itself where the rule changes nothing: none dropped or reshaped."""
        return self.sampler.plain and (self._mean_tail or isinstance(self.proposal, Vocabulary))

    @property
    def _mean_tail(self) -> bool:
        return isinstance(self.proposal, TopK) and self.proposal.tail == "mean"


def chooser(temperature: float) -> Sampler:
    """`Greedy` at temperature 0, else `Stochastic(temperature)`."""
    return Greedy() if temperature == 0 else Stochastic(temperature)


# --- all methods ---------------------------------------------------------------------------------


def greedy() -> Method:
    """The base's likeliest token: argmax log p.

    >>> greedy().proposal, greedy().guided
    (TopK(k=1, tail='drop'), False)
    """
    return Method("greedy", TopK(1), tilt, Greedy(), guided=False)


def sampling(temperature: float = 1.0, top_k: int | None = None, top_p: float = 1.0) -> Method:
    """The base policy itself: one draw from p, with the usual temperature, top_k and top_p.

    >>> sampling(temperature=0.7, top_p=0.9).sampler
    Stochastic(temperature=0.7, top_k=None, top_p=0.9)
    """
    return Method(
        "sampling", Vocabulary(), tilt, Stochastic(temperature, top_k, top_p), guided=False
    )


def args(beta: float = 1.5, k: int = 10) -> Method:
    """ARGS-greedy (Khanov et al. 2024): argmax over the top k of log p + w r, with w = beta.

    Published: k = 10, w = 1.0 or 1.5. The paper's summary writes (1 - w) log p + w r; the authors'
    code, and this, is log p + w r.

    >>> import trimtab as tt
    >>> lm = tt.TableLM()
    >>> guide = tt.TextGuide(lambda samples, texts: [x.count("d") for x in texts], lm.decode)
    >>> tt.decode(lm, guide, args(beta=9.0, k=4), ["ab"], max_new_tokens=4)[0].text
    'dadd'
    """
    return Method("args", TopK(k), tilt, Greedy(), beta)


def args_stochastic(beta: float = 1.5, k: int = 10, temperature: float = 0.7) -> Method:
    """ARGS-stochastic: one draw from softmax((log p + w r) / T) over the top k; T = 0.7.

    >>> args_stochastic(temperature=0.5).sampler
    Stochastic(temperature=0.5, top_k=None, top_p=1.0)
    """
    return Method("args-stochastic", TopK(k), tilt, chooser(temperature), beta)


def pargs(beta: float = 1.5, k: int = 10, temperature: float = 1.0) -> Method:
    """PARGS (Rashid et al. 2024): a draw from softmax(log p + beta r_partial) over the top k.

    The reward model is trained on partial sequences (Eq. 4). Published: k = 10, beta 1.5 (TL;DR),
    2 (HH), 1 (UltraFeedback).

    >>> pargs(beta=2.0).proposal, pargs().sampler
    (TopK(k=10, tail='drop'), Stochastic(temperature=1.0, top_k=None, top_p=1.0))
    """
    return Method("pargs", TopK(k), tilt, chooser(temperature), beta)


def pargs_greedy(beta: float = 1.5, k: int = 10) -> Method:
    """PARGS-G: argmax over the top k of log p + beta r_partial.

    >>> pargs_greedy(k=5).proposal, pargs_greedy().sampler
    (TopK(k=5, tail='drop'), Greedy())
    """
    return Method("pargs-greedy", TopK(k), tilt, Greedy(), beta)


def vas(beta: float = 1.0, k: int = 20, tail: Outside = "mean", temperature: float = 1.0) -> Method:
    """Value Augmented Sampling (Han et al. 2024, Eq. 5).

    pi(v) ~ p(v) exp(beta V(s v)) on the top k, and p(v) exp(beta mean_k V) elsewhere. Published:
    k = 20, beta swept. The authors' code runs before the temperature, so its strength is beta / T.
    `tail="drop"` is the paper's ablation. `temperature=0` is greedy.

    >>> vas(beta=4.0).proposal, vas(temperature=0).sampler
    (TopK(k=20, tail='mean'), Greedy())
    """
    return Method("vas", TopK(k, tail), tilt, chooser(temperature), beta)


def cd(beta: float = 1.0, k: int = 20, temperature: float = 1.0) -> Method:
    """Tokenwise controlled decoding (Mudgal et al. 2023): p exp(lambda V) over the top k.

    >>> cd(beta=2.0, k=40).proposal
    TopK(k=40, tail='drop')
    """
    return Method("cd", TopK(k), tilt, chooser(temperature), beta)


def cd_blockwise(n: int = 8, length: int = 16) -> Method:
    """Blockwise controlled decoding: draw n blocks of `length` tokens, keep the best by V.

    >>> cd_blockwise(n=4, length=8).proposal
    Samples(n=4, length=8)
    """
    return Method("cd-blockwise", Samples(n, length), score_only, Greedy())


def fudge(beta: float = 1.0, k: int = 200, temperature: float = 1.0) -> Method:
    """FUDGE (Yang and Klein 2021): log p + lambda log P(attribute | s v) over the top 200.

    The guide is a classifier on prefixes inside `LogSigmoid`.

    >>> fudge().proposal, fudge().beta
    (TopK(k=200, tail='drop'), 1.0)
    """
    return Method("fudge", TopK(k), tilt, chooser(temperature), beta)


def rad(beta: float = 50.0, k: int = 20, temperature: float = 1.0) -> Method:
    """RAD (Deng and Raffel 2023): z + beta rho over the top k; beta 10 to 300.

    The guide is a prefix reward inside `Clamp(guide, 0, 1)`.

    >>> rad(beta=30.0).beta
    30.0
    """
    return Method("rad", TopK(k), tilt, chooser(temperature), beta)


def genarm(beta: float = 1.0, temperature: float = 1.0) -> Method:
    """GenARM (Xu et al. 2024): log p + alpha log p_arm over the whole vocabulary.

    The guide is a causal LM as a `VocabularyGuide`. The authors' library divides by 1 + alpha,
    which they undo with T = 1 / (1 + alpha).

    >>> genarm().proposal
    Vocabulary()
    """
    return Method("genarm", Vocabulary(), tilt, chooser(temperature), beta)


def best_of_n(n: int = 8) -> Method:
    """Best-of-n: draw n whole responses from p and keep the one with the highest score.

    >>> best_of_n(n=16).proposal  # whole responses
    Samples(n=16, length=None)
    """
    return Method("best-of-n", Samples(n), score_only, Greedy())


METHODS: dict[str, Callable[..., Method]] = {
    make.__name__.replace("_", "-"): make
    for make in (
        greedy, sampling, args, args_stochastic, pargs, pargs_greedy, vas, cd, cd_blockwise, fudge,
        rad, genarm, best_of_n,
    )
}  # fmt: skip
"""Every method by the name that the command line uses."""


def method(name: str, **parameters: object) -> Method:
    """A method by name, e.g. `method("vas", beta=2.0, k=10)`.

    Raises:
        UnknownNameError: no such method, or no such parameter of it; near names are offered.
    """
    if name not in METHODS:
        raise UnknownNameError("a method", name, METHODS)
    check_keywords(name, parameters, inspect.signature(METHODS[name]).parameters)
    return METHODS[name](**parameters)
