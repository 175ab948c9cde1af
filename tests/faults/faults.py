"""Deliberate faults: one changed line each, and the tests that have to notice.

Each was chosen because it is easily made and gives wrong numbers without an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Fault:
    """One change of the source that must not go unseen.

    Attributes:
        name: what would be wrong.
        file: in src/trimtab.
        right: the text that is replaced; it stands there once.
        wrong: what replaces it.
        tests: files or tests that must fail.
    """

    name: str
    file: str
    right: str
    wrong: str
    tests: tuple[str, ...]

    def put_into(self, source: str) -> str:
        """The source with the fault.

        Raises:
            ValueError: the text to be replaced does not stand there exactly once.
        """
        if source.count(self.right) != 1:
            raise ValueError(f"{self.name}: found {source.count(self.right)} times in {self.file}")
        return source.replace(self.right, self.wrong)


READERS = ("tests/laws/test_guides.py", "tests/laws/test_models.py")
FUZZ = ("tests/fuzz",)

CACHE = (
    Fault(
        "the chosen candidate's keys are not moved behind the prefix",
        "cache/reader.py",
        "self.store.move(rows, state.lengths + index, state.lengths, missed)",
        "self.store.move(rows, state.lengths, state.lengths, missed)",
        READERS,
    ),
    Fault(
        "a fork copies one position too few",
        "cache/slots.py",
        "            stack[:, dst, :length] = stack[:, src, :length]",
        "            stack[:, dst, : length - 1] = stack[:, src, : length - 1]",
        READERS,
    ),
    Fault(
        "rows that close up leave their last position behind",
        "cache/slots.py",
        "                stack[:, target, :length] = stack[:, source, :length]",
        "                stack[:, target, : length - 1] = stack[:, source, : length - 1]",
        (*READERS, *FUZZ),
    ),
    Fault(
        "copies of a prefix are seen from one position too far",
        "cache/slots.py",
        "self.place = torch.arange(width, device=at.device) - (width - lengths)[:, None]",
        "self.place = torch.arange(width, device=at.device) - (width - lengths)[:, None] - 1",
        READERS,
    ),
    Fault(
        "a dropped row's neighbour is kept",
        "cache/slots.py",
        "            tuple(self.slots[i] for i in rows),",
        "            tuple(self.slots[i] for i in reversed(rows)),",
        READERS,
    ),
)

MASKS = (
    Fault(
        "a window is one token too long",
        "cache/networks.py",
        "mask &= within(visible, self.position, torch",
        "mask &= within(visible, self.position - 1, torch",
        READERS,
    ),
    Fault(
        "candidates see each other",
        "cache/networks.py",
        "chain = (s >= start) & (s <= at)",
        "chain = (s <= at)",
        READERS,
    ),
    Fault(
        "a candidate stands one position too far",
        "cache/networks.py",
        "return (self.prefix[:, None] + self.at - self.start).masked_fill(~self.real, 0)",
        "return (self.prefix[:, None] + self.at - self.start + 1).masked_fill(~self.real, 0)",
        READERS,
    ),
    Fault(
        "candidates of several tokens share one chain",
        "cache/networks.py",
        "start = prefix[:, None] + lane // length * length",
        "start = prefix[:, None] + 0 * lane",
        READERS,
    ),
)

TAIL = (
    Fault(
        "the tail's score is its best candidate's",
        "decoding/step.py",
        "torch.cat([scores, mean_score(candidates, scores)], dim=-1),",
        "torch.cat([scores, scores.amax(dim=-1, keepdim=True)], dim=-1),",
        ("tests/exact/test_laws_of_methods.py",),
    ),
    Fault(
        "greedy decoding compares the tail's whole mass",
        "decoding/step.py",
        "tail = candidates.tail.best_logprob if greedy else candidates.tail.logprob\n    return",
        "tail = candidates.tail.logprob\n    return",
        ("tests/exact/test_laws_of_methods.py",),
    ),
    Fault(
        "the tail's draw may be a candidate",
        "models/proposals.py",
        "outside = logprobs.scatter(1, candidates.tokens[:, :, 0], -torch.inf)",
        "outside = logprobs.clone()",
        ("tests/laws/test_models.py",),
    ),
    Fault(
        "the tail's mass is one minus a rounded sum",
        "models/proposals.py",
        "Tail(mass_outside(logprobs, inside, best), top.indices[:, k], best)",
        "Tail(torch.log1p(-top.values[:, :k].exp().sum(-1).clamp(max=1)), top.indices[:, k], best)",
        ("tests/decoding/test_tail.py", *FUZZ),
    ),
)

LEDGER = (
    Fault(
        "the nucleus leaves out the token that reaches its mass",
        "decoding/methods.py",
        "before = weights.cumsum(dim=-1) - weights",
        "before = weights.cumsum(dim=-1)",
        ("tests/exact/test_samplers.py", "tests/decoding/test_samplers.py"),
    ),
    Fault(
        "the divergence is that of pi_ref from pi",
        "decoding/step.py",
        "terms = logprobs.exp() * (logprobs - reference)",
        "terms = reference.exp() * (reference - logprobs)",
        ("tests/exact/test_laws_of_methods.py", *FUZZ),
    ),
    Fault(
        "two samples of a prompt share their random numbers",
        "rng.py",
        'text = ",".join(map(str, ids)) + f"#{sample}"',
        'text = ",".join(map(str, ids)) + "#"',
        ("tests/decoding/test_rng.py", "tests/decoding/test_loop.py"),
    ),
    Fault(
        "a draw does not know its position",
        "rng.py",
        "x = _mix((x ^ self.positions) + _GOLDEN)",
        "x = _mix(x + _GOLDEN)",
        ("tests/decoding/test_rng.py", "tests/golden"),
    ),
)

IDENTITY = (
    Fault(
        "what a closure holds is not looked into",
        "runs/fingerprint.py",
        """        parts.append(self._named(cells.items(), "the closure's "))
""",
        "",
        ("tests/runs/test_fingerprint.py",),
    ),
    Fault(
        "a method is known without the object that it is bound to",
        "runs/fingerprint.py",
        'types.MethodType: ("__func__", "__self__"),',
        'types.MethodType: ("__func__",),',
        ("tests/runs/test_fingerprint.py",),
    ),
    Fault(
        "the helpers that a function calls are not looked into",
        "runs/fingerprint.py",
        "return [*parts, self._globals(f) if own else []]",
        "return parts",
        ("tests/runs/test_fingerprint.py",),
    ),
    Fault(
        "what cannot be looked into is taken for the same",
        "runs/fingerprint.py",
        'self.unknown.append(f"{where} is a {home}{kind.__name__}, which cannot be looked into")',
        "pass",
        ("tests/runs/test_fingerprint.py",),
    ),
)

THREADS = (
    Fault(
        "threads may be inside a reader together",
        "cache/reader.py",
        "        with self.lock, torch.inference_mode():\n            return method",
        "        with torch.inference_mode():\n            return method",
        ("tests/laws/test_threads.py",),
    ),
    Fault(
        "a slot is never given back",
        "cache/slots.py",
        "        self._returned.append(self.index)",
        "        pass",
        ("tests/laws/test_threads.py", "tests/decoding/test_counters.py"),
    ),
)

STATISTICS = (
    Fault(
        "samples of one prompt count as independent",
        "evaluation/statistics.py",
        "each: Sequence[Hashable] = range(len(a)) if prompts is None else prompts",
        "each: Sequence[Hashable] = range(len(a))",
        ("tests/evaluation/test_statistics.py",),
    ),
    Fault(
        "the variance of few clusters is not corrected",
        "evaluation/statistics.py",
        "se = math.sqrt(g / (g - 1) * squares)",
        "se = math.sqrt(squares)",
        ("tests/evaluation/test_statistics.py",),
    ),
    Fault(
        "adjusted p-values may fall",
        "evaluation/statistics.py",
        "largest = max(largest, min(1.0, (len(p) - i) * p[name]))",
        "largest = min(1.0, (len(p) - i) * p[name])",
        ("tests/evaluation/test_compare.py",),
    ),
    Fault(
        "rounding counts as a difference",
        "evaluation/statistics.py",
        "return np.where(np.abs(d) <= noise, 0.0, d), noise",
        "return d, noise",
        ("tests/evaluation/test_compare.py", "tests/evaluation/test_invariance.py"),
    ),
    Fault(
        "best-of-n draws with replacement",
        "evaluation/best_of.py",
        "falling = np.cumprod(np.maximum(rank - n, 0) / (rank - 1))",
        "falling = np.cumprod((rank - 1) ** n / rank**n)",
        ("tests/evaluation/test_best_of.py",),
    ),
)

FAULTS = (*CACHE, *MASKS, *TAIL, *LEDGER, *IDENTITY, *THREADS, *STATISTICS)
