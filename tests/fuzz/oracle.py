"""What a decode must have been, recomputed from nothing, one row at a time.

Each row is walked along the tokens that it emitted. At each step the law of the next token and the
scores of the candidates come from plain forwards of the whole text so far, alone, without a cache;
rule, sampler and ledger are written out in float64. The row's own random number then says which
outcome must have been taken. Where two outcomes lie closer together than rounding, either may
have been.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

import trimtab as tt
from tests.fuzz.worlds import SWITCHING, Ids, Scored, plain, tokenizer_text
from trimtab.decoding.methods import Greedy, Stochastic
from trimtab.rng import BLOCK, DRAW, TAIL, Rng, row_key
from trimtab.types import Completion, Prompt, Samples, Step, TopK, Vocabulary

NEAR = 3e-4
"""Closer than this, in float32, two outcomes or a draw and an edge may change places."""


class DisagreementError(AssertionError):
    """The decode is not what recomputation says."""


def hold(ok: bool, what: str, got: object, want: object) -> None:
    if not ok:
        raise DisagreementError(f"{what}: got {got}, recomputed {want}")


def close(what: str, got: float, want: float, tolerance: float) -> None:
    near = math.isfinite(want) and abs(got - want) <= tolerance * max(1.0, abs(want))
    hold(near or got == want, what, got, want)


@dataclass(frozen=True)
class Outcomes:
    """What may come next: candidates in their order, perhaps with the tail as the last one.

    Attributes:
        tokens: the candidates' ids.
        reference: log pi_ref of each outcome, float64.
        scores: of each outcome; 0 without a guide.
        tail: whether the last outcome is the tail.
        law: log pi_ref of every token.
    """

    tokens: list[int]
    reference: Tensor
    scores: Tensor
    tail: bool
    law: Tensor


@dataclass(frozen=True)
class Oracle:
    """One row's decode, recomputed.

    Attributes:
        family: of the base.
        lm: the base.
        scored: the guide and its scores without a cache; None without a guide.
        method: how it was decoded.
        beta: the row's strength.
        seed: the call's.
        tolerance: of figures, relative above 1.
    """

    family: str
    lm: tt.TransformersLM
    scored: Scored | None
    method: tt.Method
    beta: float
    seed: int
    tolerance: float

    @torch.inference_mode()
    def check(
        self,
        done: Completion,
        which: int,
        sample: int,
        budget: int,
        stop: tuple[str, ...],
        stop_at_eos: bool,
    ) -> None:
        """Raise `DisagreementError` unless the completion is what this row must have been."""
        ids = done.prompt.ids
        if self.lm.context is not None:
            budget = min(budget, self.lm.context - len(ids))
        at: Ids = ()
        for step in done.steps:
            if isinstance(self.method.proposal, Samples):
                self._check_block(step, ids, at, which, sample, budget)
            else:
                self._check_token(step, ids, at, which, sample)
            at += step.tokens
        hold(at == done.tokens, "tokens of the steps", at, done.tokens)
        self._check_end(done, budget, stop, stop_at_eos)

    def _check_end(
        self, done: Completion, budget: int, stop: tuple[str, ...], stop_at_eos: bool
    ) -> None:
        eos = self.lm.eos_ids if stop_at_eos else frozenset[int]()
        tokens = done.tokens
        hold(not any(t in eos for t in tokens[:-1]), "tokens after EOS", tokens, "none")
        ended = tokens[-1] in eos
        whole = tokenizer_text(tokens[:-1] if ended else tokens)
        found = [i for s in stop if (i := whole.find(s)) >= 0]
        want = whole[: min(found)] if found else whole
        hold(done.text == want, "text", repr(done.text), repr(want))
        reason = "stop" if found else "eos" if ended else "length"
        hold(done.finish == reason, "finish", done.finish, reason)
        if reason == "length":
            hold(len(tokens) == budget, "length", len(tokens), budget)
        hold(len(tokens) <= budget, "length", len(tokens), f"at most {budget}")

    # --- the base -------------------------------------------------------------------------------

    def law(self, text: Ids) -> Tensor:
        """log pi_ref of the next token, in float64."""
        logits = plain(self.lm.model, [text]).logits[0, -1].double() / self.lm.base_temperature
        law = logits.log_softmax(-1)
        if self.lm.base_top_p < 1:
            law = nucleus(law, self.lm.base_top_p).log_softmax(-1)
        return law

    @torch.inference_mode()
    def check_tail(self, ids: Ids, k: int) -> None:
        """Raise `DisagreementError` unless the tail after a prompt is what lies outside the k."""
        state = self.lm.prefill([Prompt(ids)])
        proposed = self.lm.propose(state, TopK(k, "mean"), self._rng(ids, 0, 0))
        assert proposed.tail is not None
        outside = state.last[0].double()
        outside[proposed.tokens[0, :, 0]] = -math.inf
        mass = float(outside.logsumexp(-1))
        close("log of the tail's mass", float(proposed.tail.logprob[0]), mass, 1e-5)

    def _rng(self, ids: Ids, sample: int, position: int) -> Rng:
        key = torch.tensor([row_key(ids, sample)])
        return Rng(self.seed, key, torch.tensor([position]))

    # --- tokens ---------------------------------------------------------------------------------

    def outcomes(self, law: Tensor, ids: Ids, at: Ids, which: int) -> Outcomes | None:
        """The outcomes; None where rounding decides what is a candidate."""
        proposal, greedy = self.method.proposal, isinstance(self.method.sampler, Greedy)
        if isinstance(proposal, Vocabulary):
            tokens = list(range(len(law)))
        else:
            assert isinstance(proposal, TopK)
            order = law.argsort(descending=True, stable=True)
            tokens = order[: proposal.k].tolist()
            if len(law) > proposal.k and float(law[order[proposal.k - 1]]) > -math.inf:
                gap = float(law[order[proposal.k - 1]] - law[order[proposal.k]])
                if gap < NEAR:
                    return None
        scores = torch.zeros(len(tokens), dtype=torch.float64)
        if self.scored is not None and self.method.guided:
            made = self.scored.score(which, ids, [(*at, t) for t in tokens])
            scores = torch.tensor(made, dtype=torch.float64)
        reference = law[tokens]
        tail = isinstance(proposal, TopK) and proposal.tail == "mean"
        if tail:
            outside = law.clone()
            outside[tokens] = -math.inf
            mass = outside.max() if greedy else outside.logsumexp(-1)
            reference = torch.cat([reference, mass[None]])
            scores = torch.cat([scores, scores.mean()[None]])
        return Outcomes(tokens, reference, scores, tail, law)

    def policy(self, found: Outcomes) -> Tensor | None:
        """log pi of each outcome; None where rounding decides whose chance is none."""
        logits = found.reference + self.beta * found.scores
        sampler = self.method.sampler
        if isinstance(sampler, Greedy):
            return logits.log_softmax(-1)  # only compared, never drawn from
        assert isinstance(sampler, Stochastic)
        logits = logits / sampler.temperature
        if sampler.top_k is not None and sampler.top_k < len(logits):
            order = logits.sort(descending=True)
            edge = order.values[sampler.top_k - 1] - order.values[sampler.top_k]
            if not float(edge) > NEAR:
                return None
            kept = torch.full_like(logits, -math.inf)
            kept[order.indices[: sampler.top_k]] = order.values[: sampler.top_k]
            logits = kept
        if sampler.top_p < 1:
            if near_edge(logits, sampler.top_p):
                return None
            logits = nucleus(logits, sampler.top_p)
        return logits.log_softmax(-1)

    def _check_token(self, step: Step, ids: Ids, at: Ids, which: int, sample: int) -> None:
        (token,) = step.tokens
        law = self.law(ids + at)
        if self.lm.base_top_p < 1 and near_edge(
            plain(self.lm.model, [ids + at]).logits[0, -1].double() / self.lm.base_temperature,
            self.lm.base_top_p,
        ):
            return
        found = self.outcomes(law, ids, at, which)
        policy = None if found is None else self.policy(found)
        if found is None or policy is None:
            return
        inside = token in found.tokens
        hold(inside or found.tail, "a token outside the candidates", token, found.tokens)
        index = found.tokens.index(token) if inside else len(found.tokens)
        rng = self._rng(ids, sample, len(at))
        greedy = isinstance(self.method.sampler, Greedy)
        where = f"position {len(at)}, token {token}"
        if greedy:
            best = float(policy.max())
            near = float(policy[index]) >= best - 4 * NEAR
            hold(near, f"{where}: greedy choice", index, int(policy.argmax()))
            logprob, kl = 0.0, -float(found.reference[index])
        else:
            uniform = float(rng.uniform(DRAW)[0])
            self._check_draw(f"{where}: draw", policy, index, uniform)
            logprob, kl = float(policy[index]), divergence(policy, found.reference)
        ref_logprob = float(law[token])
        if not inside:
            if greedy:
                best = float(found.reference[index])
                hold(ref_logprob >= best - NEAR, f"{where}: the tail's best", ref_logprob, best)
            else:
                outside = law.clone()
                outside[found.tokens] = -math.inf
                self._check_draw(
                    f"{where}: draw in the tail", outside, token, float(rng.uniform(TAIL)[0])
                )
                logprob += ref_logprob - float(found.reference[index])
        tolerance = self.tolerance * (1 + abs(self.beta))
        close(f"{where}: log pi_ref", step.ref_logprob, ref_logprob, self.tolerance)
        close(f"{where}: log pi", step.logprob, logprob, tolerance)
        hold(step.logprob <= 1e-5, f"{where}: log pi", step.logprob, "at most 0")
        if self.method.guided:
            close(f"{where}: score", step.score, float(found.scores[index]), self.tolerance)
        hold(step.kl is not None and step.kl >= 0, f"{where}: KL", step.kl, "at least 0")
        if step.kl is not None and not (greedy and not inside):
            close(f"{where}: KL", step.kl, kl, tolerance)

    def _check_draw(self, what: str, law: Tensor, index: int, uniform: float) -> None:
        """The uniform number must fall on the outcome's stretch, or so near that rounding may."""
        edges = law.softmax(-1).cumsum(-1)
        low = float(edges[index - 1]) if index else 0.0
        near = low - NEAR <= uniform <= float(edges[index]) + NEAR
        hold(near, what, f"{index} at {uniform:.6f}", f"{low:.6f} to {float(edges[index]):.6f}")

    # --- blocks ---------------------------------------------------------------------------------

    def _check_block(
        self, step: Step, ids: Ids, at: Ids, which: int, sample: int, budget: int
    ) -> None:
        proposal = self.method.proposal
        assert isinstance(proposal, Samples)
        room = budget - len(at)
        length = room if proposal.length is None else min(proposal.length, room)
        drawn = []
        for key in self._rng(ids, sample, len(at)).fork(proposal.n).keys.tolist():
            block = self._draw_block(ids, at, key, length)
            if block is None:
                return
            drawn.append(block)
        if self.scored is None:
            return
        scores = self.scored.score(which, ids, [at + block for block in drawn])
        hold(step.tokens in drawn, "a block that was not drawn", step.tokens, drawn)
        score = scores[drawn.index(step.tokens)]
        hold(score >= max(scores) - 4 * NEAR, "block", score, max(scores))
        close("block: score", step.score, score, self.tolerance)
        text, total = ids + at, 0.0
        for token in step.tokens:
            total += float(self.law(text)[token])
            text += (token,)
        close("block: log pi_ref", step.ref_logprob, total, self.tolerance * len(step.tokens))

    def _draw_block(self, ids: Ids, at: Ids, key: int, length: int) -> Ids | None:
        """One continuation drawn from pi_ref; None where rounding decides a draw."""
        block: Ids = ()
        for i in range(length):
            rng = Rng(self.seed, torch.tensor([key]), torch.tensor([len(at) + i]))
            uniform = rng.uniform(BLOCK)
            law = self.law(ids + at + block)
            edges = law.softmax(-1).cumsum(-1)
            if float((edges - uniform).abs().min()) < NEAR:
                return None
            block += (int(torch.searchsorted(edges, uniform, right=True)),)
            if block[-1] in self.lm.eos_ids:
                break
        return block


def nucleus(logits: Tensor, top_p: float) -> Tensor:
    """The smallest set of likeliest outcomes whose mass reaches top_p."""
    order = logits.sort(descending=True, stable=True)
    weights = order.values.softmax(-1)
    cut = weights.cumsum(-1) - weights >= top_p
    kept = logits.clone()
    kept[order.indices[cut]] = -math.inf
    return kept


def near_edge(logits: Tensor, top_p: float) -> bool:
    """Whether rounding decides who is in the nucleus."""
    weights = logits.softmax(-1).sort(descending=True).values
    before = weights.cumsum(-1) - weights
    at = int((before < top_p).sum())  # the first one outside
    tie = at < len(weights) and float(weights[at - 1] - weights[at]) < NEAR * float(weights[at])
    return bool(float((before - top_p).abs().min()) < NEAR) or tie


def divergence(policy: Tensor, reference: Tensor) -> float:
    """KL(pi || pi_ref) over the outcomes."""
    terms = policy.exp() * (policy - reference)
    return float(torch.where(torch.isneginf(policy), 0.0, terms).sum())


__all__ = ["SWITCHING", "DisagreementError", "Oracle"]
