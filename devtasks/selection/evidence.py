"""What earlier attempts say of a model: a posterior of acceptance that forgets, and observed time and cost.

Each attempt counts with a weight that falls with every later attempt of the same model (OWN_MEMORY) and with every
later attempt at all (MEMORY). The first makes a model that turned bad fall quickly; the second lets what is known of a
model that is not asked any more fade to the prior, so that one that got better is found again.

The figures were chosen with `make bench-selection`; see docs/model-selection.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from math import sqrt
from typing import NamedTuple

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


@dataclass(frozen=True)
class Outcome:
    """How one attempt that says something of its model ended; the cost is in USD, None where none was measured."""

    model_id: str
    accepted: bool
    at: datetime
    seconds: float
    cost: float | None


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
