"""One decode of anything by anything, drawn by hypothesis, and held to recomputation."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from hypothesis import strategies as st

import trimtab as tt
from tests import toys
from tests.fuzz.oracle import Oracle
from tests.fuzz.worlds import KINDS, SHAPES, SINGLE_PRECISION, SIZE, Ids, causal, prompt, weighted
from trimtab.cache import reader
from trimtab.types import TopK

Spelled = tuple[str, dict[str, Any]]
"""A method's name and parameters."""


@dataclass(frozen=True)
class Case:
    """Everything that decides a decode."""

    family: str
    attention: Literal["tree", "expanded"]
    double: bool
    temperature: float
    top_p: float
    guide: str
    guide_family: str
    guide_attention: Literal["tree", "expanded"]
    spelled: Spelled
    beta: tuple[float, ...]
    prompts: tuple[Ids, ...]
    n: int
    max_new_tokens: int
    stop: tuple[str, ...]
    stop_at_eos: bool
    lookahead: int
    seed: int
    pieces: int

    @cached_property
    def method(self) -> tt.Method:
        """The library's."""
        name, parameters = self.spelled
        return tt.method(name, **parameters)

    @property
    def tolerance(self) -> float:
        """Of figures: log pi_ref is float32 whatever the network is."""
        exact = self.double and not {self.family, self.guide_family} & SINGLE_PRECISION
        return 2e-5 if exact else 3e-3


FAMILIES = sorted(SHAPES)
SINGLE = (
    "args",
    "args-stochastic",
    "pargs",
    "pargs-greedy",
    "vas",
    "vas",
    "vas",
    "cd",
    "fudge",
    "rad",
    "genarm",
)


BLOCKS = ("best-of-n", "cd-blockwise")


@st.composite
def methods(draw: Any, tokens_only: bool) -> Spelled:
    """Any method, with parts that matter at this size; spelled, for hypothesis makes no objects
    of ours: the type checks of these take random looks."""
    names = [*SINGLE, "greedy", "sampling"]
    name = draw(st.sampled_from(names if tokens_only else [*names, *BLOCKS]))
    k = draw(st.sampled_from([1, 2, 5, 20, SIZE]))
    temperature = draw(st.sampled_from([0.0, 0.5, 1.0, 1.7]))
    if name == "sampling":
        return name, {
            "temperature": draw(st.sampled_from([0.5, 1.0, 1.7])),
            "top_k": draw(st.sampled_from([None, 1, 4])),
            "top_p": draw(st.sampled_from([1.0, 0.8])),
        }
    if name == "vas":
        tail = draw(st.sampled_from(["mean", "mean", "drop"]))
        plain = tail == "mean" and temperature > 0  # what a tail at the mean score can take
        return name, {"k": k, "tail": tail, "temperature": 1.0 if plain else temperature}
    if name == "best-of-n":
        return name, {"n": draw(st.integers(1, 3))}
    if name == "cd-blockwise":
        return name, {"n": draw(st.integers(1, 3)), "length": draw(st.integers(1, 4))}
    if name == "genarm":
        return name, {"temperature": temperature}
    if name == "greedy":
        return name, {}
    if name in ("args", "pargs-greedy"):
        return name, {"k": k}
    return name, {"k": k, "temperature": temperature}


@st.composite
def cases(draw: Any) -> Case:
    """Families, readers, guides, methods, ragged prompts, strengths, stops and seeds, crossed."""
    guide = draw(st.sampled_from(sorted(KINDS)))
    lengths = draw(
        st.lists(st.one_of(st.integers(1, 12), st.integers(13, 34)), min_size=1, max_size=4)
    )
    token = st.integers(3, SIZE - 1)
    prompts = [tuple(draw(st.lists(token, min_size=n, max_size=n))) for n in lengths]
    if draw(st.booleans()) and len(prompts) > 1:
        prompts[-1] = prompts[0]  # a prompt twice is two samples of it
    rows = len(prompts)
    spelled = draw(methods(guide in ("vocabulary", "clamp")))
    strength = st.sampled_from([2.0, 0.0, 0.5, -2.0, 8.0, 30.0])
    stops = draw(st.lists(st.integers(3, SIZE - 1), max_size=3))
    return Case(
        family=draw(st.sampled_from(FAMILIES)),
        attention=draw(st.sampled_from(["tree", "tree", "expanded"])),
        double=draw(st.booleans()),
        temperature=draw(st.sampled_from([1.0, 0.3, 0.07])),
        top_p=draw(st.sampled_from([1.0, 0.9])),
        guide=guide,
        guide_family=draw(st.sampled_from(FAMILIES)),
        guide_attention=draw(st.sampled_from(["tree", "tree", "expanded"])),
        spelled=spelled,
        beta=tuple(draw(st.lists(strength, min_size=rows, max_size=rows))),
        prompts=tuple(prompts),
        n=draw(st.integers(1, 3)),
        max_new_tokens=draw(st.sampled_from([6, 3, 9, 1])),
        stop=tuple(draw(st.sampled_from([f"w{t}", f"w{t} "])) for t in stops),
        stop_at_eos=draw(st.booleans()) or spelled[0] in BLOCKS,
        lookahead=draw(st.integers(0, 2)),
        seed=draw(st.integers(0, 2**31)),
        pieces=draw(st.sampled_from([1024, 1024, 7])),
    )


@contextlib.contextmanager
def in_pieces(size: int) -> Iterator[None]:
    """Long readings go in pieces of so many tokens, many candidates in pieces of so many rows."""
    before = reader.CHUNK, reader.COPIES
    reader.CHUNK, reader.COPIES = size, size
    try:
        yield
    finally:
        reader.CHUNK, reader.COPIES = before


def base(case: Case) -> tt.TransformersLM:
    """The base policy."""
    return tt.TransformersLM(
        causal(case.family, 0, case.double),
        toys.tokenizer(SIZE),
        base_temperature=case.temperature,
        base_top_p=case.top_p,
        attention=case.attention,
    )


def room(case: Case, lm: tt.TransformersLM) -> int:
    """Longest prompts that leave the base and the guide their context for all new tokens."""
    guide = base(replace(case, family=case.guide_family))
    contexts = [c for c in (lm.context, guide.context) if c is not None]
    return min(contexts) - case.max_new_tokens


def run(case: Case) -> int:
    """Decode, and hold every row to recomputation; the number of tokens that were held.

    Raises:
        DisagreementError: a row is not what it must have been.
    """
    lm = base(case)
    prompts = [ids[-room(case, lm) :] for ids in case.prompts]
    scored = KINDS[case.guide](case.guide_family, case.guide_attention, case.double)
    guide = scored.guide or weighted(
        case.guide_family, case.guide_attention, case.double, len(case.prompts)
    )
    with in_pieces(case.pieces):
        done = tt.decode(
            lm,
            guide,
            case.method,
            [prompt(ids) for ids in prompts],
            max_new_tokens=case.max_new_tokens,
            n=case.n,
            beta=case.beta,
            seed=case.seed,
            stop=case.stop,
            stop_at_eos=case.stop_at_eos,
            lookahead=case.lookahead,
        )
    assert len(done) == len(case.prompts) * case.n
    for row, completion in enumerate(done):
        which, sample = divmod(row, case.n)
        sample += case.n * prompts[:which].count(prompts[which])
        oracle = Oracle(
            case.family, lm, scored, case.method, case.beta[which], case.seed, case.tolerance
        )
        if isinstance(case.method.proposal, TopK):
            oracle.check_tail(prompts[which], case.method.proposal.k)
        oracle.check(completion, which, sample, case.max_new_tokens, case.stop, case.stop_at_eos)
    return sum(len(completion.tokens) for completion in done)
