"""The account's quota, shared by every process: reservations, and what the service said about the account.

Whatever is decided about an account is decided while its row is locked, so that no two processes take the last place.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import (
    ColumnElement,
    Connection,
    Index,
    and_,
    bindparam,
    func,
    insert,
    literal,
    or_,
    select,
    true,
    update,
)

from devtasks.ledger.columns import table
from devtasks.ledger.database import Database, rows_of
from devtasks.quota import (
    ARRIVAL,
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
    corrected,
    day_of,
    decide,
    over_budget,
    places,
)


@dataclass(frozen=True)
class _Account:
    """An account by its fingerprint; `correction` is what the service counts beyond our calls on the day `day`."""

    account: str
    day: datetime | None = None
    correction: int = 0
    day_limit: int | None = None
    checked_at: datetime | None = None
    blocked_until: datetime | None = None
    exhausted_until: datetime | None = None


@dataclass(frozen=True)
class _Reservation:
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


@dataclass(frozen=True)
class DayUse:
    """The day's free requests as the ledger counts them; `limit` None where the service named none."""

    day: datetime
    used: int
    limit: int | None
    checked_at: datetime | None


@dataclass(frozen=True)
class Arrived:
    """How many of the day's calls the service had received for certain, before it was asked for its own count."""

    day: datetime
    calls: int


_accounts = table("quota_accounts", _Account, key=("account",))
_reservations = table("quota_reservations", _Reservation, key=("id",))
_r = _reservations.c
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
_RESERVE = insert(_reservations)
_IS_IT = _r.id == bindparam("reservation")
_MARK = update(_reservations).where(_IS_IT).values(counted_at=bindparam("now"))
_SETTLE = update(_reservations).where(_IS_IT).values(state=ReservationState.SETTLED, cost_usd=bindparam("cost"))


class Quota(Database):
    """The account's windows and money limits, and what the service said of them."""

    async def standing_against(self, order: Order, limits: AccountLimits) -> MinuteFull | DayExhausted | None:
        """Return what stands against one more call now, None where it would be granted; nothing is reserved."""

        def look(connection: Connection) -> MinuteFull | DayExhausted | None:
            account, now = self._account(connection, order.account)
            return decide(now, limits, _standing(connection, account, limits, now, calls=1))

        return await self._writing(look)

    async def day_use(self, account: str) -> DayUse:
        """Return how many free requests the account has used today, its limit, and when the service was asked."""

        def use(connection: Connection) -> DayUse:
            row, now = self._account(connection, account)
            return DayUse(day_of(now), _used_today(connection, row, now), row.day_limit, row.checked_at)

        return await self._writing(use)

    async def arrived_today(self, account: str) -> Arrived:
        """Return what `correct_quota` needs, to be taken before the service is asked for its count."""

        def count(connection: Connection) -> Arrived:
            _, now = self._account(connection, account)
            over = and_(_r.state == ReservationState.SENT, _r.counted_at < now - ARRIVAL)
            query = select(func.count()).where(
                _r.account == account,
                _r.windowed,
                or_(_r.state == ReservationState.SETTLED, over),
                _r.counted_at >= day_of(now),
            )
            return Arrived(day_of(now), connection.execute(query).scalar_one())

        return await self._writing(count)

    async def correct_quota(self, account: str, *, limit: int | None, used: int | None, arrived: Arrived) -> None:
        """Take over the service's limit and count of the day, None for what it does not say.

        A count of another day than `arrived` is no news of this one, and is left.
        """

        def correct(connection: Connection) -> None:
            row, now = self._account(connection, account)
            row = replace(row, day_limit=limit if limit is not None else row.day_limit, checked_at=now)
            if used is not None and arrived.day == (today := day_of(now)):
                known = row.correction if row.day == today else 0
                ours = _used_today(connection, replace(row, day=None), now)
                has_room = limit is not None and used < limit
                row = replace(
                    row,
                    day=today,
                    correction=corrected(known, used, arrived.calls, ours),
                    exhausted_until=None if has_room else row.exhausted_until,
                )
            self._replace(connection, _accounts, [row])

        await self._writing(correct)

    async def block_account(self, account: str, until: datetime, *, day: bool) -> None:
        """Note that the service refused the account's calls until then: the rest of the minute's, or of the day's."""
        await self._writing(lambda connection: self._block(connection, account, until, day=day))

    def _block(self, connection: Connection, account: str, until: datetime, *, day: bool) -> None:
        row, _ = self._account(connection, account)
        row = replace(row, exhausted_until=until) if day else replace(row, blocked_until=until)
        self._replace(connection, _accounts, [row])

    def _account(self, connection: Connection, account: str) -> tuple[_Account, datetime]:
        return self._locked_row(connection, _accounts, _Account(account))

    def _counter(
        self, connection: Connection, orders: Sequence[Order], limits: AccountLimits, budgets: Budgets
    ) -> "Counter":
        """Lock the account of these orders, which is that of the first."""
        account, now = self._account(connection, orders[0].account)
        calls = sum(order.windowed for order in orders)
        standing = _standing(connection, account, limits, now, calls=calls) if calls else None
        return Counter(connection, now, limits, budgets, standing)

    def _mark_again(self, connection: Connection, account: str, reservations: Sequence[str]) -> None:
        """Let calls count from now, which were held up after they had been reserved."""
        _, now = self._account(connection, account)
        connection.execute(_MARK, [{"reservation": reservation, "now": now} for reservation in reservations])


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
        self._reservations: list[_Reservation] = []

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
        reservation = _Reservation(
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


def settle(connection: Connection, costs: Mapping[str, float | None]) -> None:
    """Note which reserved calls were answered, and for how much; None where that is not known."""
    if costs:
        connection.execute(_SETTLE, [{"reservation": key, "cost": cost} for key, cost in costs.items()])


def _standing(
    connection: Connection, account: _Account, limits: AccountLimits, now: datetime, *, calls: int
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


def _used_today(connection: Connection, account: _Account, now: datetime) -> int:
    return _counted(connection, account, now, {})[1]


def _counted(
    connection: Connection, account: _Account, now: datetime, minute: Mapping[str, Any]
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
