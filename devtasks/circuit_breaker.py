"""The circuit breaker of a model: closed → open → half-open, as values and pure transitions.

Closed lets every call through. Open lets none through until its time has come; then it is half-open and lets exactly
one through, on whose end everything depends. The account's own limits say nothing about the model: they open it until
the reset, and then it is closed again without a trial.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from devtasks.quota import next_day
from devtasks.recovery import FailureKind

TRIAL_LEASE = timedelta(seconds=240)
"""How long a trial may be under way before the next one is let through: a call's bound (180 s), and some."""


MAX_DOUBLINGS = 20
"""A cooldown of a second has become twelve days by then, longer than any bound below."""


class State(StrEnum):
    """What the breaker does with a call."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Signal(StrEnum):
    """What the end of a call says about its model."""

    ANSWERED = "answered"
    NOTHING = "nothing"
    FAULT = "fault"
    LIMITED = "limited"
    GONE = "gone"
    ACCOUNT_MINUTE = "account_minute"
    ACCOUNT_DAY = "account_day"


SIGNALS: Mapping[FailureKind, Signal] = {
    FailureKind.PROVIDER_ERROR: Signal.FAULT,
    FailureKind.MALFORMED_ANSWER: Signal.FAULT,
    FailureKind.EMPTY_ANSWER: Signal.FAULT,
    FailureKind.LLM_TIMEOUT: Signal.FAULT,
    FailureKind.UPSTREAM_RATE_LIMIT: Signal.LIMITED,
    FailureKind.MODEL_UNAVAILABLE: Signal.GONE,
    FailureKind.MINUTE_LIMIT: Signal.ACCOUNT_MINUTE,
    FailureKind.DAY_LIMIT: Signal.ACCOUNT_DAY,
}
"""Signals by what a call failed of; every other kind (the key, the request, a limit of ours) says nothing."""


def signal_of(failure: FailureKind | None) -> Signal:
    """Return what a call's end says about its model; None is an answer."""
    return Signal.ANSWERED if failure is None else SIGNALS.get(failure, Signal.NOTHING)


@dataclass(frozen=True)
class Rule:
    """After how many such signals in a row the breaker opens, and for how long.

    The cooldown doubles with each opening in a row, up to `longest`; the service's own hint goes before it the first
    time, later the longer of both. `trial` says whether the model has to prove itself afterwards.
    """

    opens_after: int
    cooldown: timedelta
    longest: timedelta
    trial: bool = True


RULES: Mapping[Signal, Rule] = {
    Signal.FAULT: Rule(3, timedelta(seconds=30), timedelta(hours=1)),
    Signal.LIMITED: Rule(1, timedelta(seconds=10), timedelta(minutes=10)),
    Signal.GONE: Rule(1, timedelta(minutes=10), timedelta(hours=24)),
    Signal.ACCOUNT_MINUTE: Rule(1, timedelta(seconds=60), timedelta(seconds=60), trial=False),
    Signal.ACCOUNT_DAY: Rule(1, timedelta(hours=24), timedelta(hours=24), trial=False),
}


@dataclass(frozen=True)
class Breaker:
    """The breaker of one service's model; `faults` and `openings` count in a row, until an answer.

    `ready_at` is when an open one lets a call through, `trial_until` until when a half-open one waits for its trial.
    """

    service: str
    model_id: str
    state: State = State.CLOSED
    faults: int = 0
    openings: int = 0
    ready_at: datetime | None = None
    needs_trial: bool = True
    trial_until: datetime | None = None


@dataclass(frozen=True)
class Admitted:
    """The call may be sent; `trial` where everything depends on it."""

    trial: bool


@dataclass(frozen=True)
class CoolingUntil:
    """The model is left alone until then."""

    at: datetime


def ready_again(breaker: Breaker, at: datetime) -> datetime | None:
    """Return when the breaker lets a call through, None if it would now."""
    later = {State.CLOSED: None, State.OPEN: breaker.ready_at, State.HALF_OPEN: breaker.trial_until}[breaker.state]
    return later if later and later > at else None


def admit(breaker: Breaker, at: datetime) -> tuple[Breaker, Admitted | CoolingUntil]:
    """Return the breaker after a call asked for passage, and the answer."""
    if later := ready_again(breaker, at):
        return breaker, CoolingUntil(later)
    if breaker.state is State.CLOSED:
        return breaker, Admitted(trial=False)
    if not breaker.needs_trial:
        return _closed(breaker), Admitted(trial=False)
    return replace(breaker, state=State.HALF_OPEN, ready_at=None, trial_until=at + TRIAL_LEASE), Admitted(trial=True)


@dataclass(frozen=True)
class CallEnd:
    """How a call ended; `until` is the service's own hint when to ask again."""

    signal: Signal
    at: datetime
    until: datetime | None = None
    trial: bool = False


def observe(breaker: Breaker, end: CallEnd) -> Breaker:
    """Return the breaker after a call ended; in half-open only the trial's end counts."""
    if breaker.state is State.HALF_OPEN and not end.trial:
        return breaker
    good = {Signal.ANSWERED: 0, Signal.NOTHING: 1}
    return _TRANSITIONS[breaker.state][good.get(end.signal, 2)](breaker, end)


def earliest_ready(models: Iterable[str], cooling: Mapping[str, datetime]) -> datetime | None:
    """Return when the first of these models is ready again; None where one is ready now, or there are none."""
    moments = [cooling.get(model) for model in models]
    known = [moment for moment in moments if moment is not None]
    return min(known) if known and len(known) == len(moments) else None


def _same(breaker: Breaker, _: CallEnd) -> Breaker:
    return breaker


def _closed(breaker: Breaker, _: CallEnd | None = None) -> Breaker:
    return Breaker(breaker.service, breaker.model_id)


def _next_trial(breaker: Breaker, _: CallEnd) -> Breaker:
    return replace(breaker, trial_until=None)


def _count(breaker: Breaker, end: CallEnd) -> Breaker:
    counted = replace(breaker, faults=breaker.faults + 1)
    return _open(counted, end) if counted.faults >= RULES[end.signal].opens_after else counted


def _later(breaker: Breaker, end: CallEnd) -> Breaker:
    """A call that was under way when it opened fails too: only its hint is news."""
    known = [moment for moment in (breaker.ready_at, end.until) if moment]
    return replace(breaker, ready_at=max(known))


def _open(breaker: Breaker, end: CallEnd) -> Breaker:
    rule = RULES[end.signal]
    grown = end.at + min(rule.cooldown * 2 ** min(breaker.openings, MAX_DOUBLINGS), rule.longest)
    if end.signal is Signal.ACCOUNT_DAY:
        grown = next_day(end.at)
    ready_at = end.until or grown
    if breaker.openings and rule.trial:
        ready_at = max(ready_at, grown)
    openings = breaker.openings + 1 if rule.trial else breaker.openings
    fresh = replace(_closed(breaker), faults=breaker.faults, openings=openings)
    needs_trial = rule.trial or breaker.state is State.HALF_OPEN  # whose trial has proved nothing yet
    return replace(fresh, state=State.OPEN, ready_at=ready_at, needs_trial=needs_trial)


_Transition = Callable[[Breaker, CallEnd], Breaker]

_TRANSITIONS: Mapping[State, tuple[_Transition, _Transition, _Transition]] = {
    #                answered, nothing, any other signal
    State.CLOSED: (_closed, _same, _count),
    State.OPEN: (_same, _same, _later),
    State.HALF_OPEN: (_closed, _next_trial, _open),
}
