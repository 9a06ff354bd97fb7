"""The account's counting: what is reserved in it, and one call after the other decided on while its row is locked."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import ColumnElement, Connection, Index, and_, bindparam, func, insert, literal, select, true, update

from devtasks.ledger.columns import table
from devtasks.ledger.database import rows_of
from devtasks.quota import (
    DEPARTURE_SECONDS,
    TRANSIT_SECONDS,
    AccountLimits,
    Budgets,
    DayExhausted,
    Granted,
    MinuteFull,
    Order,
    OverBudget,
    ReservationState,
    Standing,
    day_of,
    decide,
    over_budget,
    places,
)


@dataclass(frozen=True)
class Account:
    """An account by its fingerprint; `correction` is what the service counts beyond our calls on the day `day`."""

    account: str
    day: datetime | None = None
    correction: int = 0
    day_limit: int | None = None
    checked_at: datetime | None = None
    blocked_until: datetime | None = None
    exhausted_until: datetime | None = None


@dataclass(frozen=True)
class Reservation:
    """One call's reservation; `counted_at` is when it was sent.

    `windowed` says whether it counts in the account's minute and day; `cost_usd` is None until it is known.
    """

    id: str
    account: str
    flow_run_id: str
    batch: str | None
    model: str
    windowed: bool
    state: ReservationState
    counted_at: datetime
    bound_usd: float | None
    cost_usd: float | None = None


ACCOUNTS = table("quota_accounts", Account, key=("account",))
RESERVATIONS = table("quota_reservations", Reservation, key=("id",))
_r = RESERVATIONS.c
Index("ix_quota_reservations_account", _r.account, _r.counted_at)
Index("ix_quota_reservations_flow_run_id", _r.flow_run_id)
Index("ix_quota_reservations_batch", _r.batch)

_LATE = timedelta(seconds=DEPARTURE_SECONDS + TRANSIT_SECONDS)

_IS_COUNTED = _r.account == bindparam("of_account"), _r.windowed
_TODAY = select(func.count()).where(*_IS_COUNTED, _r.counted_at >= bindparam("day_begins"))
_IN_MINUTE = select(_r.counted_at).where(*_IS_COUNTED, _r.counted_at > bindparam("minute_begins"))
_TAKEN = _IN_MINUTE.order_by(_r.counted_at.desc()).offset(bindparam("skipped")).limit(bindparam("calls")).subquery()

# Each call's statements are built once: to build one takes longer than to run it.
_STANDING = select(_TODAY.scalar_subquery(), _TAKEN.c.counted_at).select_from(
    select(literal(1)).subquery().outerjoin(_TAKEN, true())
)
_RESERVE = insert(RESERVATIONS)
_IS_IT = _r.id == bindparam("reservation")
_MARK = update(RESERVATIONS).where(_IS_IT).values(counted_at=bindparam("now"))
_SETTLE = update(RESERVATIONS).where(_IS_IT).values(state=ReservationState.SETTLED, cost_usd=bindparam("cost"))


class Counter:
    """Decides on one run's calls, one after the other, while their account is locked."""

    def __init__(
        self,
        connection: Connection,
        now: datetime,
        limits: AccountLimits,
        budgets: Budgets,
        standing: Standing | None,
    ) -> None:
        self._connection = connection
        self._now = now
        self._limits = limits
        self._budgets = budgets
        self._standing = standing
        self._spent: Sequence[tuple[str, float | None, float]] | None = None
        self._reservations: list[Reservation] = []

    def against(self, order: Order) -> MinuteFull | DayExhausted | OverBudget | None:
        """Return what stands against one more call, None if nothing does."""
        if order.windowed and self._standing:
            granted = sum(each.windowed for each in self._reservations)
            if refusal := decide(self._now, self._limits, self._standing, granted):
                return refusal
        if order.bound_usd == 0 or not self._budgets.any:
            return None
        if self._spent is None:
            self._spent = tuple(_spending(self._connection, order, self._budgets, self._now))
        bounds = sum(each.bound_usd or 0 for each in self._reservations)
        return over_budget(order, [(scope, limit, spent + bounds) for scope, limit, spent in self._spent])

    def grant(self, order: Order, *, trial: bool) -> Granted:
        """Reserve the call."""
        reservation = Reservation(
            id=uuid4().hex,
            account=order.account,
            flow_run_id=order.flow_run_id,
            batch=order.batch,
            model=order.model,
            windowed=order.windowed,
            state=ReservationState.SENT,
            counted_at=self._now,
            bound_usd=order.bound_usd,
        )
        self._reservations.append(reservation)
        return Granted(reservation.id, trial)

    def write(self) -> None:
        """Store what was granted."""
        if self._reservations:
            self._connection.execute(_RESERVE, rows_of(self._reservations))


def mark_again(connection: Connection, reservations: Sequence[str], now: datetime) -> None:
    """Let calls count from now."""
    connection.execute(_MARK, [{"reservation": reservation, "now": now} for reservation in reservations])


def settle(connection: Connection, costs: Mapping[str, float | None]) -> None:
    """Note which reserved calls were answered, and for how much; None where that is not known."""
    if costs:
        connection.execute(_SETTLE, [{"reservation": key, "cost": cost} for key, cost in costs.items()])


def standing_of(
    connection: Connection, account: Account, limits: AccountLimits, now: datetime, *, calls: int
) -> Standing:
    """Return an account's standing before so many further calls."""
    in_minute = limits.requests_per_minute
    skipped = max(0, (in_minute or 0) - calls)
    day = limits.requests_per_day is not None or account.day_limit is not None or account.exhausted_until is not None
    taken, used = list[datetime](), 0
    if in_minute is not None or day:
        minute = {"minute_begins": now - limits.window, "skipped": skipped, "calls": calls}
        taken, used = _counted(connection, account, now, minute if in_minute is not None else {})
    return Standing(
        taken_at=(None,) * calls if in_minute is None else places(taken, skipped, in_minute, calls, now),
        used_today=used,
        day_limit=account.day_limit,
        blocked_until=account.blocked_until,
        exhausted_until=account.exhausted_until,
    )


def used_today(connection: Connection, account: Account, now: datetime) -> int:
    """Return the account's count of the day."""
    return _counted(connection, account, now, {})[1]


def _counted(
    connection: Connection, account: Account, now: datetime, minute: Mapping[str, Any]
) -> tuple[list[datetime], int]:
    """Return when some of the minute's calls were sent, newest first, and the count of the day.

    Calls sent just before midnight may have arrived after it, and count on both days.
    """
    no_minute = {"minute_begins": now, "skipped": 0, "calls": 0}
    given = {"of_account": account.account, "day_begins": day_of(now) - _LATE} | no_minute | dict(minute)
    rows = connection.execute(_STANDING, given).all()
    correction = account.correction if account.day == day_of(now) else 0
    return sorted((at for _, at in rows if at), reverse=True), max(0, rows[0][0] + correction)


def _spending(
    connection: Connection, order: Order, budgets: Budgets, now: datetime
) -> Generator[tuple[str, float | None, float]]:
    """Yield each money limit with what was spent under it, counting calls under way at their bound."""
    scopes: Sequence[tuple[str, float | None, ColumnElement[bool]]] = (
        ("task", budgets.task_usd, _r.flow_run_id == order.flow_run_id),
        ("batch", budgets.batch_usd, _r.batch == order.batch),
        ("day", budgets.day_usd, and_(_r.account == order.account, _r.counted_at >= day_of(now))),
    )
    for scope, limit, belongs in scopes:
        if limit is not None:
            spent = func.coalesce(func.sum(func.coalesce(_r.cost_usd, _r.bound_usd, 0)), 0)
            yield scope, limit, float(connection.execute(select(spent).where(belongs)).scalar_one())
