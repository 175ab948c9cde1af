"""A world small enough to enumerate, and the law of each method in it, written from the papers.

Nothing here uses the library's arithmetic: plain floats and `math`, one formula each. A `World`
holds p(v | s) and the score of every prefix; a step law maps a prefix to {token: probability};
`sequence_law` multiplies step laws out over all responses.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, TypeVar

import torch

import trimtab as tt
from tests import toys
from trimtab.types import Prompt

EOS = 0
Ids = tuple[int, ...]
Law = dict[Ids, float]
T = TypeVar("T")
StepLaw = Callable[["World", Ids], dict[int, float]]


@dataclass(frozen=True)
class World:
    """A base policy and a scorer whose every value is known, beside the real objects.

    Attributes:
        lm: the real base model.
        guide: the real guide.
        p: p(. | prefix), computed apart from the library's caches.
        score: the guide's score of a whole prefix, likewise.
        prompt: what every response follows.
        horizon: most tokens of a response.
    """

    lm: Any
    guide: Any
    p: Callable[[Ids], tuple[float, ...]]
    score: Callable[[Ids], float]
    prompt: Ids
    horizon: int

    @property
    def size(self) -> int:
        return int(self.lm.vocab.size)

    def open_prefixes(self) -> list[Ids]:
        """Every unfinished response shorter than the horizon."""
        letters = [v for v in range(self.size) if v != EOS]
        return [ids for n in range(self.horizon) for ids in itertools.product(letters, repeat=n)]


# --- worlds --------------------------------------------------------------------------------------


class MemoTableGuide(toys.TableGuide):
    """`TableGuide` that looks each prefix up once, for the tests that draw thousands of rows."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.known: dict[Ids, float] = {}

    def value(self, ids: Sequence[int]) -> float:
        key = tuple(ids)
        if key not in self.known:
            self.known[key] = super().value(key)
        return self.known[key]


def table_world(size: int = 5, horizon: int = 4, seed: int = 0, spread: float = 1.0) -> World:
    lm = tt.TableLM(size, seed=seed, spread=spread)
    guide = MemoTableGuide(seed=seed + 1)
    return World(
        lm,
        guide,
        lambda ids: tuple(lm.next_logprobs(ids).exp().tolist()),
        guide.value,
        prompt=(1, 2),
        horizon=horizon,
    )


def transformer_world(kind: str, family: str = "llama", size: int = 6, horizon: int = 4) -> World:
    """A tiny real transformer and guide in float64, so that 1e-6 asks about laws, not rounding.

    p and the scores come from plain forwards of whole prefixes, without a cache.

    Args:
        kind: of the guide: "value", "vocabulary" or "causal".
        family: transformers' model type.
        size: |V|.
        horizon: most tokens of a response.
    """
    prompt = (3, 4, 2)
    net = copy.deepcopy(toys.causal_lm(family, size)).double()
    lm = tt.TransformersLM(net, toys.tokenizer(size))
    guide = _double_guide(kind, family, size)
    prefixes = _by_length(prompt, size, horizon)
    laws = {
        ids: tuple(row)
        for ids, row in _outputs(net, prefixes, lambda out: out.logits.softmax(-1)).items()
    }
    scores = _scores(kind, guide, prefixes)
    return World(lm, guide, laws.__getitem__, scores.__getitem__, prompt, horizon)


def _double_guide(kind: str, family: str, size: int) -> Any:
    small = {
        "value": toys.value_guide,
        "vocabulary": toys.vocabulary_guide,
        "causal": toys.causal_guide,
    }[kind](family, size)
    net, head = copy.deepcopy(small.backbone).double(), copy.deepcopy(small.head).double()
    return (tt.ValueGuide if kind == "value" else tt.VocabularyGuide)(net, head)


def _by_length(prompt: Ids, size: int, horizon: int) -> list[list[Ids]]:
    """Every prefix up to the horizon, grouped by length so that no batch needs padding."""
    return [
        [prompt + ids for ids in itertools.product(range(size), repeat=n)]
        for n in range(horizon + 1)
    ]


@torch.no_grad()
def _outputs(
    net: Any, prefixes: list[list[Ids]], output: Callable[[Any], torch.Tensor]
) -> dict[Ids, list[float]]:
    """The output at each prefix's last token."""
    known: dict[Any, Any] = {}
    for same_length in prefixes:
        last = output(net(input_ids=torch.tensor(same_length), use_cache=False))[:, -1]
        known |= dict(zip(same_length, last.tolist(), strict=True))
    return known


def _scores(kind: str, guide: Any, prefixes: list[list[Ids]]) -> dict[Ids, float]:
    head = guide.head
    if kind == "value":
        linear = head.linear
        outputs = _outputs(guide.backbone, prefixes, lambda out: linear(out.last_hidden_state))
        return {ids: row[0] for ids, row in outputs.items()}
    if kind == "vocabulary":
        linear = head.linear
        outputs = _outputs(guide.backbone, prefixes[:-1], lambda out: linear(out.last_hidden_state))
    else:
        outputs = _outputs(guide.backbone, prefixes[:-1], lambda out: out.logits.log_softmax(-1))
    return {(*ids, v): score for ids, row in outputs.items() for v, score in enumerate(row)}


# --- step laws, from the papers ------------------------------------------------------------------


def normalised(weights: Mapping[int, float]) -> dict[int, float]:
    total = math.fsum(weights.values())
    return {v: w / total for v, w in weights.items()}


def likeliest(p: Sequence[float], k: int) -> list[int]:
    return sorted(range(len(p)), key=lambda v: -p[v])[:k]


def first_argmax(weights: Mapping[int, float]) -> int:
    return max(weights, key=lambda v: weights[v])


def base(temperature: float = 1.0, top_k: int | None = None, top_p: float = 1.0) -> StepLaw:
    """p^(1/T), cut to the top k, then to the smallest set of mass top_p (Holtzman et al. 2020)."""

    def law(world: World, prefix: Ids) -> dict[int, float]:
        p = world.p(prefix)
        kept = likeliest(p, top_k or len(p))
        warm = normalised({v: p[v] ** (1 / temperature) for v in kept})
        if top_p < 1:
            mass = itertools.accumulate([0.0, *warm.values()])
            warm = {v: warm[v] for v, before in zip(warm, mass, strict=False) if before < top_p}
        return normalised(warm)

    return law


def base_argmax(world: World, prefix: Ids) -> dict[int, float]:
    return {likeliest(world.p(prefix), 1)[0]: 1.0}


def tilted(k: int, beta: float, temperature: float = 1.0) -> StepLaw:
    """(p(v) exp(beta score(s v)))^(1/T) on the top k, nothing elsewhere."""

    def law(world: World, prefix: Ids) -> dict[int, float]:
        p = world.p(prefix)
        return normalised(
            {
                v: (p[v] * math.exp(beta * world.score((*prefix, v)))) ** (1 / temperature)
                for v in likeliest(p, k)
            }
        )

    return law


def tilted_argmax(k: int, beta: float) -> StepLaw:
    """The point mass at the largest log p(v) + beta score(s v) of the top k."""

    def law(world: World, prefix: Ids) -> dict[int, float]:
        p = world.p(prefix)
        logits = {v: math.log(p[v]) + beta * world.score((*prefix, v)) for v in likeliest(p, k)}
        return {first_argmax(logits): 1.0}

    return law


def mean_tail_weights(world: World, prefix: Ids, k: int, beta: float) -> dict[int, float]:
    """p e^{beta V(s v)} on the top k, p e^{beta mean_k V} elsewhere (VAS, Eq. 5)."""
    p = world.p(prefix)
    top = likeliest(p, k)
    scores = {v: world.score((*prefix, v)) for v in top}
    mean = math.fsum(scores.values()) / k
    return {v: p[v] * math.exp(beta * scores.get(v, mean)) for v in range(len(p))}


def mean_tail(k: int, beta: float) -> StepLaw:
    return lambda world, prefix: normalised(mean_tail_weights(world, prefix, k, beta))


def mean_tail_argmax(k: int, beta: float) -> StepLaw:
    """The likeliest single token: outside the k it competes alone, not with the tail's mass."""
    return lambda world, prefix: {first_argmax(mean_tail_weights(world, prefix, k, beta)): 1.0}


# --- laws of whole responses ---------------------------------------------------------------------


def sequence_law(world: World, step: StepLaw) -> Law:
    """prod_t pi(y_t | x, y_<t) of every response: one that ends in EOS, or of `horizon` tokens."""
    done: Law = {}
    open_: Law = {(): 1.0}
    for t in range(world.horizon):
        longer: Law = {}
        for ids, mass in open_.items():
            for v, chance in step(world, world.prompt + ids).items():
                ends = v == EOS or t + 1 == world.horizon
                (done if ends else longer)[(*ids, v)] = mass * chance
        open_ = longer
    return done


def best_of(n: int, law: Mapping[Ids, float], score: Callable[[Ids], float]) -> Law:
    """The law of the best of n draws.

    With below(y) the mass of worse draws and tied(y) that of draws with y's score,

        P(y) = p(y) / tied(y) * ((below(y) + tied(y))^n - below(y)^n):

    some draw has y's score and none a better one. Among tied draws the first is kept, and which
    of them came first follows p.
    """
    tied: dict[float, float] = defaultdict(float)
    for ids, mass in law.items():
        tied[score(ids)] += mass
    below, worse = {}, 0.0
    for s in sorted(tied):
        below[s] = worse
        worse += tied[s]
    return {
        ids: mass / tied[s] * ((below[s] + tied[s]) ** n - below[s] ** n)
        for ids, mass in law.items()
        for s in [score(ids)]
    }


def best_response(world: World, n: int) -> Law:
    """Best-of-n: the best of n whole responses drawn from p."""
    return best_of(n, sequence_law(world, base()), lambda ids: world.score(world.prompt + ids))


def best_blocks(world: World, n: int, length: int) -> Law:
    """Blockwise CD: again and again the best of n blocks of `length` tokens drawn from p."""
    if world.horizon <= 0:
        return {(): 1.0}
    room = min(length, world.horizon)
    law: Law = {}
    for block, chance in best_response(replace(world, horizon=room), n).items():
        rest = replace(world, prompt=world.prompt + block, horizon=world.horizon - room)
        after = {(): 1.0} if block[-1] == EOS else best_blocks(rest, n, length)
        for ids, mass in after.items():
            law[block + ids] = chance * mass
    return law


def total_variation(a: Mapping[T, float], b: Mapping[T, float]) -> float:
    return 0.5 * math.fsum(abs(a.get(x, 0.0) - b.get(x, 0.0)) for x in {*a, *b})


# --- methods -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A method with numbers, and its closed form.

    Attributes:
        id: what the test report calls it.
        method: the library's.
        step: the step law; None for methods over sampled blocks.
        whole: the law of responses, for those.
        wrap: what the method's paper puts around its guide.
        bend: the same on plain numbers.
    """

    id: str
    method: tt.Method
    step: StepLaw | None = None
    whole: Callable[[World], Law] | None = None
    wrap: Callable[[Any], Any] = lambda guide: guide
    bend: Callable[[float], float] = field(default=float)

    def world(self, plain: World) -> World:
        """The world as this method's guide scores it."""
        return replace(
            plain, guide=self.wrap(plain.guide), score=lambda ids: self.bend(plain.score(ids))
        )

    def law(self, plain: World) -> Law:
        """The closed form of the law of responses."""
        world = self.world(plain)
        if self.step is not None:
            return sequence_law(world, self.step)
        assert self.whole is not None
        return self.whole(world)


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


def unit(x: float) -> float:
    return min(max(x, 0.0), 1.0)


TOKENWISE = [
    Case("greedy", tt.greedy(), base_argmax),
    Case("sampling", tt.sampling(), base()),
    Case("sampling-temperature", tt.sampling(temperature=0.6), base(0.6)),
    Case("sampling-top-k", tt.sampling(top_k=3), base(top_k=3)),
    Case("sampling-top-p", tt.sampling(top_p=0.8), base(top_p=0.8)),
    Case("sampling-all", tt.sampling(1.4, 4, 0.7), base(1.4, 4, 0.7)),
    Case("args", tt.args(beta=1.5, k=3), tilted_argmax(3, 1.5)),
    Case("args-stochastic", tt.args_stochastic(beta=1.5, k=3), tilted(3, 1.5, 0.7)),
    Case("pargs", tt.pargs(beta=2.0, k=3), tilted(3, 2.0)),
    Case("pargs-greedy", tt.pargs_greedy(beta=2.0, k=4), tilted_argmax(4, 2.0)),
    Case("vas", tt.vas(beta=1.3, k=2), mean_tail(2, 1.3)),
    Case("vas-whole", tt.vas(beta=1.3, k=5), mean_tail(5, 1.3)),
    Case("vas-drop", tt.vas(beta=1.3, k=2, tail="drop"), tilted(2, 1.3)),
    Case(
        "vas-drop-temperature",
        tt.vas(beta=1.3, k=3, tail="drop", temperature=0.5),
        tilted(3, 1.3, 0.5),
    ),
    Case("vas-greedy", tt.vas(beta=3.0, k=2, temperature=0), mean_tail_argmax(2, 3.0)),
    Case("vas-greedy-k1", tt.vas(beta=1.0, k=1, temperature=0), mean_tail_argmax(1, 1.0)),
    Case("cd", tt.cd(beta=2.5, k=4), tilted(4, 2.5)),
    Case("fudge", tt.fudge(beta=2.0, k=4), tilted(4, 2.0), wrap=tt.LogSigmoid, bend=log_sigmoid),
    Case("rad", tt.rad(beta=5.0, k=3), tilted(3, 5.0), wrap=tt.Clamp, bend=unit),
]
GENARM = Case("genarm", tt.genarm(beta=1.2), lambda w, s: tilted(w.size, 1.2)(w, s))
BLOCKWISE = [
    Case("best-of-n", tt.best_of_n(n=3), whole=lambda w: best_response(w, 3)),
    Case("cd-blockwise", tt.cd_blockwise(n=3, length=2), whole=lambda w: best_blocks(w, 3, 2)),
]
ALL = [*TOKENWISE, GENARM, *BLOCKWISE]
STOCHASTIC = [case for case in ALL if case in BLOCKWISE or not case.method.sampler.greedy]


# --- the decoder's side --------------------------------------------------------------------------


def decoder_steps(world: World, method: tt.Method) -> dict[Ids, dict[int, float]]:
    """The decoder's own law of the next token after every open prefix, from the public loop.

    All prefixes are decoded as prompts of one ragged batch, for one token, with all candidates as
    alternatives. What they leave of the mass is the tail: greedy chose its best token; otherwise
    the base draws inside it, in proportion to p.
    """
    prefixes = [world.prompt + ids for ids in world.open_prefixes()]
    steps = tt.decode_steps(
        world.lm,
        world.guide,
        method,
        [Prompt(ids) for ids in prefixes],
        max_new_tokens=1,
        alternatives=world.size,
    )
    laws = {}
    for step in steps:
        prefix = prefixes[step.row]
        law = {a.token: math.exp(a.logprob) for a in step.alternatives}
        p = world.p(prefix)
        outside = [v for v in range(world.size) if v not in law]
        rest = 1.0 - math.fsum(law.values())
        if outside and method.sampler.greedy:
            law |= {v: rest * (v == step.tokens[0]) for v in outside}
        elif outside:
            mass = math.fsum(p[v] for v in outside)
            law |= {v: rest * p[v] / mass for v in outside}
        laws[prefix] = law
    return laws


@cache
def one_table_world() -> World:
    return table_world()


def pooled_chi_squared(
    drawn: Iterable[Ids], law: Mapping[Ids, float], least: float = 10.0
) -> tuple[float, int]:
    """Pearson's statistic and its degrees of freedom; cells expected under `least` are one cell."""
    counts: dict[Ids, int] = defaultdict(int)
    for ids in drawn:
        counts[ids] += 1
    total = sum(counts.values())
    impossible = [ids for ids in counts if law.get(ids, 0.0) == 0.0]
    assert not impossible, f"drawn although they have no chance: {impossible}"
    observed, expected = [0.0], [0.0]
    for ids, chance in law.items():
        if chance * total >= least:
            observed.append(counts[ids])
            expected.append(chance * total)
        else:
            observed[0] += counts[ids]
            expected[0] += chance * total
    cells = [(o, e) for o, e in zip(observed, expected, strict=True) if e > 1e-6]
    if len(cells) > 1 and cells[0][1] < least and expected[0] == cells[0][1]:
        # The pool itself is rare: it joins the next cell.
        (o0, e0), (o1, e1), *others = cells
        cells = [(o0 + o1, e0 + e1), *others]
    return math.fsum((o - e) ** 2 / e for o, e in cells), len(cells) - 1
