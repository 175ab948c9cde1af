"""What the demonstration asks, how often, and how strongly it steers."""

from __future__ import annotations

from dataclasses import dataclass

from trimtab.decoding.methods import Method, args, args_stochastic, best_of_n, sampling, vas

TOPICS = (
    "data compression",
    "fruit wines",
    "curtains",
    "volcanoes",
    "bicycles",
    "taxes",
    "coffee",
    "winter",
)
QUESTION = "Write a one sentence opinion about the following topic: {topic}."


@dataclass(frozen=True)
class Arm:
    """One way of decoding.

    Attributes:
        name: what tables call it.
        method: its parts.
        n: responses per prompt.
        draws: whole responses that the base writes for each that is kept.
        trained: whether the trained value guides it, and not the reward read on prefixes.
        betas: strengths in the picture; none where it is a single point there.
    """

    name: str
    method: Method
    n: int
    draws: int = 1
    trained: bool = False
    betas: tuple[float, ...] = ()


@dataclass(frozen=True)
class Settings:
    """Everything that decides the demonstration's numbers (times aside).

    Attributes:
        topics: one prompt each.
        reward: name of the reward.
        n: responses per prompt of the sampling arms.
        best_n: responses per prompt of best-of-n, which reads `draws` times as many.
        draws: n of best-of-n.
        max_new_tokens: longest response.
        beta: strength of the reward read on prefixes. A sentiment word moves it by about .5, so 8
            gives it odds of e^4; at 1 or 2 the published strengths do little here.
        betas: of it in the picture; 0 shows what dropping the tail costs on its own.
        value_beta: strength of the trained value, best-of-64's reward on topics it has not seen.
        value_betas: of it in the picture; 0 is the base.
        sweep_n: responses per prompt and strength in the picture.
        base_temperature: of pi_ref, to which the KL is measured.
        seed: of all draws.
    """

    topics: tuple[str, ...] = TOPICS
    reward: str = "sentiment"
    n: int = 8
    best_n: int = 2
    draws: int = 8
    max_new_tokens: int = 36
    beta: float = 8.0
    betas: tuple[float, ...] = (0.0, 2.0, 4.0, 8.0, 16.0)
    value_beta: float = 20.0
    value_betas: tuple[float, ...] = (0.0, 5.0, 10.0, 20.0, 40.0)
    sweep_n: int = 4
    base_temperature: float = 0.7
    seed: int = 0

    @property
    def prompts(self) -> list[str]:
        """What the model is asked."""
        return [QUESTION.format(topic=topic) for topic in self.topics]

    @property
    def arms(self) -> tuple[Arm, ...]:
        """The table's rows, the base first. Temperature lives in pi_ref, so none acts after it."""
        return (
            Arm("base", sampling(), self.n),
            Arm(f"best-of-{self.draws}", best_of_n(self.draws), self.best_n, self.draws),
            Arm("ARGS", args(self.beta), 1),
            Arm(
                "ARGS stochastic",
                args_stochastic(self.beta, temperature=1.0),
                self.n,
                betas=self.betas,
            ),
            Arm("VAS", vas(self.value_beta, k=10), self.n, trained=True, betas=self.value_betas),
        )
