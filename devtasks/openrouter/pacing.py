"""What every call passes: a place in the account's quota before it is sent, and its end written down after.

A call is counted when its connection stands and its first byte is about to leave, and ends; each step is one
transaction of the ledger, so a process may die between the two. One that has to wait for the account's minute is not
counted yet, and asks again. Calls that depart, or end, while others are being written are written together.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from devtasks.batches import Batches
from devtasks.circuit_breaker import CallEnd, CoolingUntil, signal_of
from devtasks.ledger import Answer, Ended, Leaving, Ledger
from devtasks.metrics_collector import LlmCall
from devtasks.openrouter import price
from devtasks.openrouter.answers import Refusal
from devtasks.openrouter.client import Pricing
from devtasks.quota import (
    DEPARTURE_SECONDS,
    AccountLimits,
    Budgets,
    DayExhausted,
    Granted,
    MinuteFull,
    Order,
    OverBudget,
    next_day,
)
from devtasks.recovery import FailureKind

logger = logging.getLogger(__name__)

Recheck = Callable[[], Awaitable[None]]

RECHECK_SECONDS = 60.0
"""How often a used-up day is checked against the service's own count."""

LINGER_SECONDS = 0.1
"""How long an end that tells nothing waits for others, to be written in one transaction with them."""

MINUTE = timedelta(seconds=60)


@dataclass(frozen=True)
class Request:
    """A call as it is asked for; `pricing` None where the catalogue does not know the model."""

    model: str
    pricing: Pricing | None
    body: dict[str, Any]


@dataclass(frozen=True)
class Permit:
    """A call's right to be sent; it was counted in the moment it was given."""

    reservation: str = ""
    trial: bool = False


@dataclass(frozen=True)
class Hold:
    """The call must not be sent yet; it may ask again in so many seconds."""

    seconds: float
    reason: str


Departure = Permit | Hold | Refusal


@dataclass(frozen=True)
class Trip:
    """How a call ended: what came back, whether the service answered at all, and for how much (None: not known).

    `tells` says whether quota, budget or breaker may decide otherwise on the next call for what came of this one.
    """

    refusal: Refusal | None
    answered: bool
    cost_usd: float | None
    tells: bool = True


class Pacing(Protocol):
    """Whatever a call passes on its way; `retried` are the kinds of refusal that it waits out."""

    retried: frozenset[FailureKind]

    async def day_ends(self) -> datetime | None:
        """Return when there are free requests again, where the day's are used up; else None."""
        ...

    async def depart(self, request: Request, call: LlmCall) -> Departure:
        """Let the call leave, and count it; or return why not, or why not yet."""
        ...

    async def arrive(self, permit: Permit | None, call: LlmCall, trip: Trip) -> None:
        """Note how the call has ended; without a permit it was never sent."""
        ...


class Unpaced:
    """No quota and no record: for a service of one's own, and for tests of what else a gateway does."""

    retried: frozenset[FailureKind] = frozenset()

    async def day_ends(self) -> datetime | None:
        """Return None: no day is ever used up."""

    async def depart(self, request: Request, call: LlmCall) -> Departure:
        """Let every call leave."""
        return Permit()

    async def arrive(self, permit: Permit | None, call: LlmCall, trip: Trip) -> None:
        """Forget the call."""


class LedgerPacing:
    """Quota, breaker and record of one run's calls, in the ledger that all processes share."""

    retried = frozenset({FailureKind.MINUTE_LIMIT})

    def __init__(
        self,
        ledger: Ledger,
        order: Order,
        limits: AccountLimits,
        budgets: Budgets,
        *,
        breaker: bool = True,
        recheck: Recheck | None = None,
    ) -> None:
        """`order` names the account, run and batch of every call; `recheck` asks the service for its own count."""
        self._ledger = ledger
        self._order = order
        self._limits = limits
        self._budgets = budgets
        self._breaker = breaker
        self._recheck = recheck
        self._departures = Batches(self._depart)
        self._arrivals = Batches(self._arrive, linger=LINGER_SECONDS)

    async def day_ends(self) -> datetime | None:
        """Return when the account has free requests again, where those of the day are used up; else None."""
        match await self._ledger.standing_against(self._order, self._limits):
            case DayExhausted(until) if not await self._rechecked():
                return until
            case _:
                return None

    async def depart(self, request: Request, call: LlmCall) -> Departure:
        """Reserve the call; a used-up day is checked with the service first.

        One that is held up meanwhile for longer than a call may take to leave counts anew.
        """
        at = datetime.now(UTC) if self._breaker else None
        leaving = Leaving(self._order_of(request), call, breaker_at=at)
        clock = time.monotonic()
        answer = await self._departures.ask(leaving)
        if isinstance(answer, DayExhausted) and await self._rechecked():
            clock = time.monotonic()
            answer = await self._departures.ask(leaving)
        if not isinstance(answer, Granted):
            return _not_granted(answer, call.model_requested)
        while time.monotonic() - clock > DEPARTURE_SECONDS:
            clock = time.monotonic()
            await self._ledger.redepart(self._order.account, [answer.reservation])
        return Permit(answer.reservation, answer.trial)

    async def arrive(self, permit: Permit | None, call: LlmCall, trip: Trip) -> None:
        """Write the call's row, settle its reservation, and tell the breaker and the account."""
        if not permit:
            await self._arrivals.ask(Ended(call, None), urgent=True)
            return
        now, kind = datetime.now(UTC), trip.refusal.kind if trip.refusal else None
        until = trip.refusal.until if trip.refusal else None
        ended = Ended(
            call,
            permit.reservation,
            answered=trip.answered,
            cost_usd=trip.cost_usd,
            breaker=CallEnd(signal_of(kind), now, until, permit.trial) if self._breaker else None,
            account_until=_account_until(kind, until, now),
            for_the_day=kind is FailureKind.DAY_LIMIT,
        )
        await self._arrivals.ask(ended, urgent=trip.tells)

    async def _depart(self, calls: Sequence[Leaving]) -> Sequence[Answer]:
        return await self._ledger.depart(calls, self._limits, self._budgets)

    async def _arrive(self, ends: Sequence[Ended]) -> Sequence[None]:
        await self._ledger.arrive(self._order, ends)
        return [None] * len(ends)

    def _order_of(self, request: Request) -> Order:
        return replace(
            self._order,
            model=request.model,
            windowed=not self._limits.free_only or price.is_free(request.model, request.pricing),
            bound_usd=price.bound_usd(request.pricing, request.body),
        )

    async def _rechecked(self) -> bool:
        """Ask the service for its own count, unless that was done a moment ago."""
        use = await self._ledger.day_use(self._order.account)
        fresh = use.checked_at and (datetime.now(UTC) - use.checked_at).total_seconds() < RECHECK_SECONDS
        if fresh or not self._recheck:
            return False
        await self._arrivals.flush()  # so that the service's count is compared with all that arrived
        await self._recheck()
        return True


def _account_until(kind: FailureKind | None, until: datetime | None, now: datetime) -> datetime | None:
    """Return until when the account's own refusal holds, None for every other end."""
    if kind is FailureKind.MINUTE_LIMIT:
        return until or now + MINUTE
    return (until or next_day(now)) if kind is FailureKind.DAY_LIMIT else None


def _not_granted(answer: MinuteFull | DayExhausted | OverBudget | CoolingUntil, model: str) -> Hold | Refusal:
    match answer:
        case MinuteFull(_, seconds):
            return Hold(seconds, "for the account's minute window")
        case CoolingUntil(until):
            return Refusal(FailureKind.COOLING, 503, f"{model} is left alone until {until:%H:%M:%S} UTC", until)
        case DayExhausted():
            return _exhausted(answer)
        case OverBudget():
            return _over(answer)


def _exhausted(answer: DayExhausted) -> Refusal:
    count = f"{answer.used} of {answer.limit}" if answer.limit is not None else "all"
    message = f"the account's free requests of today are used up ({count}); new ones from {answer.until:%H:%M} UTC"
    return Refusal(FailureKind.DAY_LIMIT, 429, message, answer.until)


def _over(answer: OverBudget) -> Refusal:
    kind = FailureKind.LIMIT_COST if answer.scope == "task" else FailureKind.LIMIT_BUDGET
    if answer.bound_usd is None:
        return Refusal(kind, 403, f"the model's price is unknown, and the {answer.scope} has a money limit")
    message = (
        f"the {answer.scope}'s money limit of ${answer.limit_usd:.4f} could be exceeded: "
        f"${answer.spent_usd:.4f} spent, and this call may cost ${answer.bound_usd:.4f}"
    )
    return Refusal(kind, 403, message)
