"""What every call passes: a place in the account's quota before it is sent, and its end written down after.

A call is admitted (it waits while the account's minute is full), departs when its connection stands and its first byte
is about to leave, and ends; each step is one transaction of the ledger, so a process may die between any two.
"""

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from devtasks.circuit_breaker import CallEnd, CoolingUntil, signal_of
from devtasks.ledger import Ended, Lapsed, Ledger
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
Wait = Callable[[float, str], Awaitable[None]]

RECHECK_SECONDS = 60.0
"""How often a used-up day is checked against the service's own count."""

MINUTE = timedelta(seconds=60)


@dataclass(frozen=True)
class Request:
    """A call as it is asked for; `pricing` None where the catalogue does not know the model."""

    model: str
    pricing: Pricing | None
    body: dict[str, Any]


@dataclass
class Permit:
    """A call's right to be sent, and how far it has come."""

    reservation: str = ""
    departed: bool = False
    trial: bool = False


@dataclass(frozen=True)
class Trip:
    """How a call ended: what came back, whether the service answered at all, and for how much (None: not known)."""

    refusal: Refusal | None
    answered: bool
    cost_usd: float | None


class Pacing(Protocol):
    """Whatever a call passes on its way; `retried` are the kinds of refusal that it waits out."""

    retried: frozenset[FailureKind]

    async def admit(self, request: Request, wait: Wait) -> Permit | Refusal:
        """Get a place in the quota, waiting with `wait` for one; or return why there is none."""
        ...

    async def day_ends(self) -> datetime | None:
        """Return when there are free requests again, where the day's are used up; else None."""
        ...

    async def depart(self, permit: Permit, call: LlmCall) -> Refusal | None:
        """Note that the call is being sent now; return a refusal where it must not be."""
        ...

    async def arrive(self, permit: Permit, call: LlmCall, trip: Trip) -> None:
        """Note how the call has ended."""
        ...


class Unpaced:
    """No quota and no record: for a service of one's own, and for tests of what else a gateway does."""

    retried: frozenset[FailureKind] = frozenset()

    async def admit(self, request: Request, wait: Wait) -> Permit | Refusal:
        """Admit every call."""
        return Permit()

    async def day_ends(self) -> datetime | None:
        """Return None: no day is ever used up."""

    async def depart(self, permit: Permit, call: LlmCall) -> Refusal | None:
        """Let every call leave."""
        permit.departed = True

    async def arrive(self, permit: Permit, call: LlmCall, trip: Trip) -> None:
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

    async def admit(self, request: Request, wait: Wait) -> Permit | Refusal:
        """Reserve a call, waiting while the minute is full; a used-up day is checked with the service first."""
        order = replace(
            self._order,
            model=request.model,
            windowed=not self._limits.free_only or price.is_free(request.model, request.pricing),
            bound_usd=price.bound_usd(request.pricing, request.body),
        )
        checked = False
        while True:
            match await self._ledger.reserve(order, self._limits, self._budgets):
                case Granted(reservation):
                    return Permit(reservation)
                case MinuteFull(_, seconds):
                    await wait(seconds, "for the account's minute window")
                case DayExhausted() as exhausted:
                    if checked or not await self._rechecked():
                        return _exhausted(exhausted)
                    checked = True
                case OverBudget() as over:
                    return _over(over)

    async def day_ends(self) -> datetime | None:
        """Return when the account has free requests again, where those of the day are used up; else None."""
        order = replace(self._order, bound_usd=0)
        match await self._ledger.standing_against(order, self._limits):
            case DayExhausted(until) if not await self._rechecked():
                return until
            case _:
                return None

    async def depart(self, permit: Permit, call: LlmCall) -> Refusal | None:
        """Mark the call as sent, anew where that itself took longer than a call may take to leave."""
        at = datetime.now(UTC) if self._breaker else None
        clock = time.monotonic()
        answer = await self._ledger.depart(self._order, permit.reservation, call, breaker_at=at)
        match answer:
            case Lapsed():
                return Refusal(FailureKind.PROVIDER_ERROR, 503, "the call's reservation lapsed before it was sent")
            case CoolingUntil(until):
                message = f"{call.model_requested} is left alone until {until:%H:%M:%S} UTC"
                return Refusal(FailureKind.COOLING, 503, message, until)
            case _:
                permit.departed, permit.trial = True, answer.trial
        while time.monotonic() - clock > DEPARTURE_SECONDS:
            clock = time.monotonic()
            await self._ledger.redepart(self._order.account, permit.reservation)

    async def arrive(self, permit: Permit, call: LlmCall, trip: Trip) -> None:
        """Write the call's row, settle or give back its reservation, and tell the breaker and the account."""
        if not permit.departed:
            await self._ledger.turn_back(permit.reservation, call)
            return
        now, kind = datetime.now(UTC), trip.refusal.kind if trip.refusal else None
        until = trip.refusal.until if trip.refusal else None
        end = Ended(
            answered=trip.answered,
            cost_usd=trip.cost_usd,
            breaker=CallEnd(signal_of(kind), now, until, permit.trial) if self._breaker else None,
            account_until=_account_until(kind, until, now),
            for_the_day=kind is FailureKind.DAY_LIMIT,
        )
        await self._ledger.arrive(self._order, permit.reservation, call, end)

    async def _rechecked(self) -> bool:
        """Ask the service for its own count, unless that was done a moment ago."""
        use = await self._ledger.day_use(self._order.account)
        fresh = use.checked_at and (datetime.now(UTC) - use.checked_at).total_seconds() < RECHECK_SECONDS
        if fresh or not self._recheck:
            return False
        await self._recheck()
        return True


def _account_until(kind: FailureKind | None, until: datetime | None, now: datetime) -> datetime | None:
    """Return until when the account's own refusal holds, None for every other end."""
    if kind is FailureKind.MINUTE_LIMIT:
        return until or now + MINUTE
    return (until or next_day(now)) if kind is FailureKind.DAY_LIMIT else None


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
