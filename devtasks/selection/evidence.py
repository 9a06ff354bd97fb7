"""What earlier attempts say of a model: a posterior of acceptance that forgets, and observed time and cost.

Each attempt counts with a weight that falls with every later attempt of the same model (OWN_MEMORY) and with every
later attempt at all (MEMORY). The first makes a model that turned bad fall quickly; the second lets what is known of a
model that is not asked any more fade to the prior, so that one that got better is found again.

The figures were chosen with `make bench-selection`; see docs/model-selection.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from math import sqrt
from typing import NamedTuple, Protocol

from devtasks.recovery import FailureKind
from devtasks.task import TaskCategory

OWN_MEMORY = 0.9
MEMORY = 0.99
PRIOR_ATTEMPTS = 2.0
"""Attempts that a prior counts for."""

PRIOR_SUCCESS = 0.5
"""The prior probability of acceptance of a model of which nothing is known."""

CURIOSITY = 0.6
"""Standard deviations of the posterior that a choice adds to its mean."""

HISTORY = 300
"""Attempts at a category that are read; an older one would count less than 0.99^300 = 5 %."""

SAYS_OF_MODEL: Mapping[FailureKind, bool] = {
    FailureKind.REJECTED: True,
    FailureKind.STUCK: True,
    FailureKind.ITERATIONS: True,
    FailureKind.AGENT_ERROR: True,
    FailureKind.INTERRUPTED: False,
    FailureKind.BAD_REQUEST: True,
    FailureKind.CONTEXT_OVERFLOW: True,
    FailureKind.MODEL_UNAVAILABLE: False,
    FailureKind.MODERATION: True,
    FailureKind.UPSTREAM_RATE_LIMIT: False,
    FailureKind.PROVIDER_ERROR: False,
    FailureKind.MALFORMED_ANSWER: True,
    FailureKind.EMPTY_ANSWER: True,
    FailureKind.LLM_TIMEOUT: False,
    FailureKind.AUTHENTICATION: False,
    FailureKind.PAYMENT: False,
    FailureKind.MINUTE_LIMIT: False,
    FailureKind.DAY_LIMIT: False,
    FailureKind.UNREACHABLE: False,
    FailureKind.LIMIT_SECONDS: True,
    FailureKind.LIMIT_LLM_CALLS: True,
    FailureKind.LIMIT_TOKENS: True,
    FailureKind.LIMIT_COST: True,
}
"""Whether an attempt that failed so counts against the model; the others say something of accounts, providers and
machines. Limits count: a model that wanders until its task's calls or time are used up has not done the task."""


@dataclass(frozen=True)
class Outcome:
    """How one attempt ended, as far as it says something of the model; `cost` in USD, None when unknown."""

    model_id: str
    accepted: bool
    at: datetime
    seconds: float
    cost: float | None


class Outcomes(Protocol):
    """Where earlier attempts are kept."""

    async def outcomes(self, category: TaskCategory, limit: int, *, simulated: bool) -> Sequence[Outcome]:
        """Return the last attempts at a category that say something of their model, newest first.

        Those of simulated models if `simulated`, else those of real ones; kinds of failure as in SAYS_OF_MODEL.
        """
        ...


@dataclass
class Tally:
    """Weighted sums over one model's attempts; `attempts` is their plain number."""

    attempts: int = 0
    weight: float = 1.0
    accepted: float = 0.0
    rejected: float = 0.0
    seconds: float = 0.0
    cost: float = 0.0
    cost_weight: float = 0.0

    def add(self, outcome: Outcome, fade: float) -> None:
        """Count the model's next older attempt; `fade` is its weight by the attempts of all models since."""
        weight = self.weight * fade
        self.attempts += 1
        self.weight *= OWN_MEMORY
        if outcome.accepted:
            self.accepted += weight
        else:
            self.rejected += weight
        self.seconds += weight * outcome.seconds
        if outcome.cost is not None:
            self.cost += weight * outcome.cost
            self.cost_weight += weight


class Belief(NamedTuple):
    """What is believed of a model in a category: the posterior of acceptance, and time and cost of one attempt.

    `doubt` is the standard deviation of the posterior; seconds and cost (USD) are None where neither a prior nor an
    attempt tells them.
    """

    attempts: int
    mean: float
    doubt: float
    seconds: float | None
    cost: float | None

    @property
    def promise(self) -> float:
        """The mean with CURIOSITY standard deviations added, at most 1: what a curious choice reckons with."""
        return min(1.0, self.mean + CURIOSITY * self.doubt)

    def may_reach(self, acceptance: float) -> bool:
        """Whether the probability of acceptance reaches this, or is within one standard deviation of it."""
        return self.mean + self.doubt >= acceptance


def tally(outcomes: Sequence[Outcome]) -> dict[str, Tally]:
    """Return the weighted sums of each model that has attempts; `outcomes` newest first."""
    tallies: dict[str, Tally] = {}
    fade = 1.0
    for outcome in outcomes:
        mine = tallies.get(outcome.model_id)
        if mine is None:
            mine = tallies[outcome.model_id] = Tally()
        mine.add(outcome, fade)
        fade *= MEMORY
    return tallies


NOTHING = Tally()


@lru_cache
def believe_untried(success: float | None, seconds: float | None, cost: float | None) -> Belief:
    """Return the belief from a model's priors alone; most models of a catalogue share one."""
    return believe(success, seconds, cost, NOTHING)


def believe(success: float | None, seconds: float | None, cost: float | None, known: Tally) -> Belief:
    """Return the belief from a model's priors (None: unknown) and its tally.

    The prior of acceptance counts as PRIOR_ATTEMPTS attempts, those of time and cost as one.
    """
    prior = PRIOR_SUCCESS if success is None else success
    accepted = PRIOR_ATTEMPTS * prior + known.accepted
    total = PRIOR_ATTEMPTS + known.accepted + known.rejected
    mean = accepted / total
    return Belief(
        attempts=known.attempts,
        mean=mean,
        doubt=sqrt(mean * (1 - mean) / (total + 1)),
        seconds=_blend(seconds, known.seconds, known.accepted + known.rejected),
        cost=_blend(cost, known.cost, known.cost_weight),
    )


def _blend(prior: float | None, observed: float, weight: float) -> float | None:
    if prior is None:
        return observed / weight if weight else None
    return (prior + observed) / (1 + weight)
