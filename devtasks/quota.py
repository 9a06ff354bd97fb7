"""The account's budget, as values and pure decisions; the ledger keeps what they are decided from.

A call's reservation is written at the last moment, when its connection stands and its first byte is about to leave: so
none is ever left over by a call that could not be sent, and what is written counts for ever, whatever became of it.
OpenRouter's windows are a minute that slides and a day of UTC (reference: 20 requests a minute, 50 or 1,000 free ones a
day, for the whole account).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

DEPARTURE_SECONDS = 1.0
"""What may pass between a call's mark as sent and its first byte; a call that took longer is marked anew."""

TRANSIT_SECONDS = 1.0
"""What a request may travel until OpenRouter counts it: an assumption, some five times a round trip across an ocean."""

ARRIVAL = timedelta(minutes=5)
"""A call that was sent so long ago has arrived or never will: it is bounded by 180 s, and its process may be dead."""


class ReservationState(StrEnum):
    """Where a reservation stands; `sent` also stands for one whose answer never came."""

    SENT = "sent"
    SETTLED = "settled"


@dataclass(frozen=True)
class AccountLimits:
    """What an account may send; None is no limit. With `free_only`, calls that have a price count in neither window.

    `requests_per_day` is the user's own; the service's is in the ledger. `minute_seconds` is shorter in tests only.
    """

    requests_per_minute: int | None = None
    requests_per_day: int | None = None
    free_only: bool = True
    minute_seconds: float = 60.0

    def __post_init__(self) -> None:
        for limit in (self.requests_per_minute, self.requests_per_day):
            if limit is not None and limit < 1:
                raise ValueError(f"a limit of at least one request, not {limit}")

    @property
    def window(self) -> timedelta:
        """How long a call stays in the minute: the minute, and how much later than marked it may have arrived."""
        return timedelta(seconds=self.minute_seconds + DEPARTURE_SECONDS + TRANSIT_SECONDS)


@dataclass(frozen=True)
class Budgets:
    """The most that may be spent, in USD: by the task, by its batch, by the account in a day of UTC; None is no limit.

    With any of them set, a call whose price is unknown is refused.
    """

    task_usd: float | None = None
    batch_usd: float | None = None
    day_usd: float | None = None

    @property
    def any(self) -> bool:
        """Whether there is a limit at all."""
        return any(limit is not None for limit in (self.task_usd, self.batch_usd, self.day_usd))


@dataclass(frozen=True)
class Order:
    """A call somebody wants to send; `bound_usd` is the most it can cost, None when its price is unknown.

    `account` names the account by its fingerprint, `service` where it is one by its address.

    `windowed` says whether it counts in the account's minute and day.
    """

    account: str
    flow_run_id: str
    service: str = ""
    model: str = ""
    windowed: bool = True
    bound_usd: float | None = None
    batch: str | None = None


@dataclass(frozen=True)
class Granted:
    """The call may be sent; `reservation` is the id to settle it by, `trial` that its model's breaker waits for it."""

    reservation: str
    trial: bool = False


@dataclass(frozen=True)
class MinuteFull:
    """The minute is full: ask again at `until`, which is in so many seconds by the ledger's clock."""

    until: datetime
    seconds: float


@dataclass(frozen=True)
class DayExhausted:
    """The day's free requests are used up; at `until` the next day begins."""

    until: datetime
    used: int
    limit: int | None


@dataclass(frozen=True)
class OverBudget:
    """The call could exceed a money limit; `bound_usd` None says that its price is unknown."""

    scope: str
    spent_usd: float
    bound_usd: float | None
    limit_usd: float


@dataclass(frozen=True)
class Standing:
    """What the ledger holds of an account: when each further call's place was taken, and the day's count and limit.

    The former is the time of the newest call but `requests_per_minute` less one (for the second call: less two, and so
    on), None where the minute has a place left. `blocked_until` and `exhausted_until` are what the service itself said
    in a refusal.
    """

    taken_at: Sequence[datetime | None]
    used_today: int
    day_limit: int | None
    blocked_until: datetime | None = None
    exhausted_until: datetime | None = None


def decide(
    now: datetime, limits: AccountLimits, standing: Standing, granted: int = 0
) -> MinuteFull | DayExhausted | None:
    """Return what stands against one more call after so many that were granted since, None if nothing does."""
    day_limits = [limit for limit in (limits.requests_per_day, standing.day_limit) if limit is not None]
    day_limit = min(day_limits, default=None)
    used = standing.used_today + granted
    if standing.exhausted_until and now < standing.exhausted_until:
        return DayExhausted(standing.exhausted_until, used, day_limit)
    if day_limit is not None and used >= day_limit:
        return DayExhausted(next_day(now), used, day_limit)
    taken_at = standing.taken_at[granted]
    room_at = taken_at + limits.window if taken_at else now
    free_at = max(room_at, standing.blocked_until or now)
    return MinuteFull(free_at, (free_at - now).total_seconds()) if free_at > now else None


def corrected(known: int, used: int, arrived: int, ours: int) -> int:
    """Return what an account uses beyond our own calls, as near to what was `known` as the service's count allows.

    Of `ours`, the service had received the `arrived` for certain and of the others some, so that it counts `used` minus
    something between the two for anybody else. Less than nothing says that it does not count all that reached it.
    """
    return min(max(known, used - ours), used - arrived)


def places(
    newest_first: Sequence[datetime], skipped: int, limit: int, calls: int, now: datetime
) -> tuple[datetime | None, ...]:
    """Return for each of so many further calls when the place it needs was taken, None where one is free.

    `newest_first` are the times of the minute's calls but for the `skipped` newest; further calls take theirs `now`.
    """
    needed = (limit - 1 - further for further in range(calls))
    taken = dict(enumerate(newest_first, skipped))
    return tuple(now if index < 0 else taken.get(index) for index in needed)


def over_budget(order: Order, limits: Sequence[tuple[str, float | None, float]]) -> OverBudget | None:
    """Return the first money limit the call could exceed; `limits` are scope, limit and what is spent, in USD."""
    for scope, limit, spent in limits:
        if limit is not None and (order.bound_usd is None or spent + order.bound_usd > limit + ROUNDING_USD):
            return OverBudget(scope, spent, order.bound_usd, limit)
    return None


ROUNDING_USD = 1e-9
"""Sums of floating-point prices are no more exact than this; OpenRouter's cheapest token costs more."""


def day_of(now: datetime) -> datetime:
    """Return the beginning of the day of UTC."""
    return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def next_day(now: datetime) -> datetime:
    """Return the beginning of the next day of UTC, when OpenRouter's daily count begins anew."""
    return day_of(now) + timedelta(days=1)


def tasks_within(used: int, limit: int | None, calls_per_task: float | None) -> int | None:
    """Return how many tasks the rest of a day's requests allows, None where limit or calls are not known."""
    if limit is None or not calls_per_task:
        return None
    return int(max(limit - used, 0) / calls_per_task)
