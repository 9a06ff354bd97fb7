"""Which model works on a task: ranked candidates with reasons, from the catalogue, the task and earlier attempts."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import inf
from operator import mul
from typing import Any, NamedTuple

from devtasks.errors import NoModelAvailable
from devtasks.selection.capability import ModelCapability, ModelSpecialization
from devtasks.selection.evidence import Belief, Outcome, Tally, believe, believe_untried, tally
from devtasks.selection.requirements import (
    COOLING,
    MIN_CONTEXT,
    RELAXABLE,
    Case,
    Circumstances,
    Failure,
    Mode,
    TaskRequirements,
    failures,
    require_known,
    rules_for,
)
from devtasks.task import Complexity, TaskCategory

__all__ = [
    "MIN_CONTEXT",
    "Candidate",
    "LeftOut",
    "Mode",
    "ModelCapability",
    "ModelSelector",
    "ModelSpecialization",
    "Ranking",
    "TaskRequirements",
]

UNKNOWN = 0.5
"""The value of a term of which nothing is known."""

HALF_SECONDS = 120.0
"""An attempt that takes so long has half the value for speed: the upper end of the 60-120 s that a simple task was
advised to be given in an earlier system of this kind."""

HALF_COST = 0.05
"""An attempt of this cost in USD has half the value for thrift; the upper end of the seed's $0.02-0.05 a task."""

LINEUP = 4
"""The most models that one conversation may go through."""

AMPLE = 8
"""A context of so many times the tokens needed has the full value for room."""

CODE_CATEGORIES = frozenset(TaskCategory) - {TaskCategory.ANALYSIS, TaskCategory.DOCUMENTATION}


class Terms(NamedTuple):
    """The terms of a score, or their weights: each from 0 to 1."""

    acceptance: float
    quality: float
    speed: float
    thrift: float
    fit: float
    room: float


WEIGHTS: Mapping[Complexity, Terms] = {
    Complexity.SIMPLE: Terms(acceptance=0.84, quality=0.02, speed=0.06, thrift=0.04, fit=0.02, room=0.02),
    Complexity.MODERATE: Terms(acceptance=0.86, quality=0.04, speed=0.03, thrift=0.03, fit=0.02, room=0.02),
    Complexity.COMPLEX: Terms(acceptance=0.84, quality=0.07, speed=0.01, thrift=0.01, fit=0.03, room=0.04),
}
"""The sum of each row is 1. Acceptance decides; the others part models of which that says the same."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that meets the requirements, its score between 0 and 1, and what the score is made of."""

    capability: ModelCapability
    score: float
    belief: Belief
    terms: Terms
    weights: Terms

    @property
    def model_id(self) -> str:
        """The id to ask for."""
        return self.capability.model_id

    @property
    def reasons(self) -> tuple[str, ...]:
        """The choice in words, the weightiest first."""
        model, belief = self.capability, self.belief
        tried = f"{belief.attempts} attempt{'s' if belief.attempts > 1 else ''}" if belief.attempts else "not tried yet"
        cost = "free" if model.free else "unknown price" if belief.cost is None else f"about ${belief.cost:.2g}"
        return (
            f"acceptance {belief.mean:.0%} ({tried})",
            f"{model.specialization} model",
            f"context {model.context_length:,} tokens",
            cost,
        )


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A model that cannot work on the task, and every requirement it fails."""

    model_id: str
    failures: tuple[Failure, ...]


@dataclass(frozen=True)
class Ranking:
    """The candidates, best first, and for each other model the requirements it failed."""

    candidates: tuple[Candidate, ...]
    left_out: tuple[LeftOut, ...]
    cooling: Mapping[str, datetime]

    def choose(self) -> Candidate:
        """Return the first candidate; raise NoModelAvailable naming the requirement to relax and what left how many."""
        if self.candidates:
            return self.candidates[0]
        message = f"none of {len(self.left_out)} models can work on this task ({self._why()}){self._hint()}"
        raise NoModelAvailable(message, self.ready_at)

    def lineup(self) -> tuple[Candidate, ...]:
        """Return the first candidate and those with which its conversation can go on, best first; raise as `choose`.

        They are as it is with or without tool calls, and have at least half its context.
        """
        first = self.choose()
        able = [
            each
            for each in self.candidates[1:]
            if each.capability.supports_tools == first.capability.supports_tools
            and each.capability.context_length * 2 >= first.capability.context_length
        ]
        return first, *able[: LINEUP - 1]

    @property
    def ready_at(self) -> datetime | None:
        """When the first model that only cools down is ready again; None if there is no such model."""
        only = [each.model_id for each in self.left_out if [it.requirement for it in each.failures] == [COOLING]]
        return min((self.cooling[model_id] for model_id in only), default=None)

    def _why(self) -> str:
        counts = Counter(each.failures[0].reason for each in self.left_out)
        told = "; ".join(f"{count} left out: {reason}" for reason, count in counts.most_common())
        return told or "the catalogue is empty"

    def _hint(self) -> str:
        """Return which one requirement to relax, and what would then do; nothing where no single one helps."""
        nearly: dict[str, list[str]] = {}
        for each in self.left_out:
            names = {failure.requirement for failure in each.failures}
            if len(names) == 1 and names <= RELAXABLE:
                nearly.setdefault(names.pop(), []).append(each.model_id)
        hints = [
            f"relax {name}: {len(ids)} would do, such as {min(ids)}"
            for name, ids in sorted(nearly.items(), key=lambda item: -len(item[1]))
        ]
        if self.ready_at:
            hints.insert(0, f"the first one is ready at {self.ready_at:%Y-%m-%d %H:%M:%S %Z}")
        return "".join(f"; {hint}" for hint in hints)


class ModelSelector:
    """Ranks the models of a catalogue; pure: the same models, outcomes, time and requirements give the same order.

    `outcomes` are earlier attempts by category, newest first; `cooling` says until when a model is not to be asked.
    """

    def __init__(
        self,
        models: Sequence[ModelCapability],
        *,
        now: datetime,
        outcomes: Mapping[TaskCategory, Sequence[Outcome]] | None = None,
        cooling: Mapping[str, datetime] | None = None,
    ) -> None:
        self._models = models
        self._now = now
        self._tallies = {category: tally(rows) for category, rows in (outcomes or {}).items()}
        self._cooling = {model_id: ready for model_id, ready in (cooling or {}).items() if ready > now}

    def select_model(self, requirements: TaskRequirements, exclude: Collection[str] = ()) -> Candidate:
        """Return the best candidate; raise NoModelAvailable saying which requirement to relax."""
        return self.rank(requirements, exclude).choose()

    def rank(self, requirements: TaskRequirements, exclude: Collection[str] = ()) -> Ranking:
        """Return every candidate, best first, equal ones by id, and why each other model was left out.

        `exclude` holds models already tried. Raises InvalidInput for a model asked for by name that does not exist.
        """
        if requirements.model is not None:
            require_known(requirements.model, {model.model_id for model in self._models})
        here = Circumstances(self._now, self._cooling, exclude)
        rules = rules_for(requirements, here)
        tallies = self._tallies.get(requirements.category, {})
        candidates: list[Candidate] = []
        left_out: list[LeftOut] = []
        for model in self._models:
            belief = _belief(model, tallies.get(model.model_id))
            failed = failures(Case(model, belief, requirements, here), rules)
            if failed:
                left_out.append(LeftOut(model.model_id, failed))
            else:
                candidates.append(_score(model, belief, requirements))
        key = _best_first if requirements.mode is Mode.BEST else _cheapest_first(requirements.quality_threshold)
        return Ranking(tuple(sorted(candidates, key=key)), tuple(left_out), self._cooling)


def _belief(model: ModelCapability, known: Tally | None) -> Belief:
    priors = model.priors.success, model.attempt_seconds, model.attempt_cost
    return believe(*priors, known) if known else believe_untried(*priors)


def _score(model: ModelCapability, belief: Belief, asked: TaskRequirements) -> Candidate:
    quality = model.priors.quality
    is_code = model.specialization is ModelSpecialization.CODE
    terms = Terms(
        acceptance=belief.promise,
        quality=UNKNOWN if quality is None else quality,
        speed=_falling(belief.seconds, HALF_SECONDS),
        thrift=_falling(belief.cost, HALF_COST),
        fit=1.0 if is_code == (asked.category in CODE_CATEGORIES) else 0.5,
        room=min(1.0, model.context_length / max(1, asked.context_tokens * AMPLE)),
    )
    weights = WEIGHTS[asked.complexity]
    score = sum(map(mul, terms, weights))
    return Candidate(model, score, belief, terms, weights)


def _falling(amount: float | None, half: float) -> float:
    return UNKNOWN if amount is None else half / (half + amount)


def _best_first(candidate: Candidate) -> tuple[Any, ...]:
    return -candidate.score, candidate.model_id


def _cheapest_first(threshold: float) -> Callable[[Candidate], tuple[Any, ...]]:
    """Return the order by cost of those whose acceptance may reach the threshold, then of the others by score."""

    def key(candidate: Candidate) -> tuple[Any, ...]:
        cost, clears = candidate.belief.cost, candidate.belief.may_reach(threshold)
        price = (inf if cost is None else cost) if clears else 0.0
        return not clears, price, *_best_first(candidate)

    return key
