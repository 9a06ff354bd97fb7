"""The account's quota, shared by every process: reservations, and what the service said about the account.

Whatever is decided about an account is decided while its row is locked, so that no two processes take the last place.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any
from uuid import uuid4

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Index,
    Select,
    and_,
    bindparam,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from devtasks.ledger.columns import table
from devtasks.ledger.database import Database
from devtasks.quota import (
    ARRIVAL,
    DEPARTURE_SECONDS,
    RESERVATION_SECONDS,
    TRANSIT_SECONDS,
    AccountLimits,
    Answer,
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
    """One call's reservation; `counted_at` is when it was marked as sent, before that when it was made.

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
    expires_at: datetime
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


def _counts(now: datetime | BindParameter[Any]) -> ColumnElement[bool]:
    """What was sent counts, answered or not; what is only reserved counts until it lapses."""
    sent = _r.state.in_((ReservationState.SENT, ReservationState.SETTLED))
    return or_(sent, and_(_r.state == ReservationState.RESERVED, _r.expires_at > now))


@cache
def _standing(*, minute: bool, day: bool) -> Select[Any, Any]:
    """Return the query for when the minute's last place was taken, and for the count of the day.

    Calls sent just before midnight may have arrived after it, and count on both days.
    """
    counted = _r.account == bindparam("of_account"), _r.windowed, _counts(bindparam("now"))
    in_minute = select(_r.counted_at).where(*counted, _r.counted_at > bindparam("minute_begins"))
    newest_first = in_minute.order_by(_r.counted_at.desc())
    filled_at = newest_first.offset(bindparam("before_the_last")).limit(1).scalar_subquery()
    today = select(func.count()).where(*counted, _r.counted_at >= bindparam("day_begins")).scalar_subquery()
    return select(filled_at if minute else null(), today if day else literal(0))


# Each call's statements are built once: to build one takes longer than to run it.
_RESERVE = insert(_reservations)
_IS_IT = _r.id == bindparam("reservation")
_ALIVE = or_(
    _r.state == ReservationState.SENT, and_(_r.state == ReservationState.RESERVED, _r.expires_at > bindparam("now"))
)
_MARK_SENT = (
    update(_reservations).where(_IS_IT, _ALIVE).values(state=ReservationState.SENT, counted_at=bindparam("now"))
)
_RELEASE = update(_reservations).where(_IS_IT).values(state=ReservationState.RELEASED)
_SETTLE = update(_reservations).where(_IS_IT).values(state=ReservationState.SETTLED, cost_usd=bindparam("cost"))


class Quota(Database):
    """Reservations of calls, in the account's windows and within its money limits."""

    async def reserve(self, order: Order, limits: AccountLimits, budgets: Budgets) -> Answer:
        """Reserve one call, or return what stands against it; a reservation lapses after RESERVATION_SECONDS."""
        async with self._writing() as connection:
            account, now = await self._account(connection, order.account)
            if refusal := await _against(connection, order, limits, budgets, account=account, now=now):
                return refusal
            reservation = _Reservation(
                id=uuid4().hex,
                account=order.account,
                flow_run_id=order.flow_run_id,
                batch=order.batch,
                model=order.model,
                windowed=order.windowed,
                state=ReservationState.RESERVED,
                counted_at=now,
                expires_at=now + timedelta(seconds=RESERVATION_SECONDS),
                bound_usd=order.bound_usd,
            )
            await connection.execute(_RESERVE, vars(reservation))
            return Granted(reservation.id)

    async def standing_against(self, order: Order, limits: AccountLimits) -> Answer | None:
        """Return what stands against one more call now, None where it would be granted; nothing is reserved."""
        async with self._writing() as connection:
            account, now = await self._account(connection, order.account)
            return await _against(connection, order, limits, Budgets(), account=account, now=now)

    async def release(self, reservation: str) -> None:
        """Give back a reservation that was not sent."""
        async with self._writing() as connection:
            await release(connection, reservation)

    async def day_use(self, account: str) -> DayUse:
        """Return how many free requests the account has used today, its limit, and when the service was asked."""
        async with self._writing() as connection:
            row, now = await self._account(connection, account)
            return DayUse(day_of(now), await _used_today(connection, row, now), row.day_limit, row.checked_at)

    async def arrived_today(self, account: str) -> Arrived:
        """Return what `correct_quota` needs, to be taken before the service is asked for its count."""
        async with self._writing() as connection:
            _, now = await self._account(connection, account)
            over = and_(_r.state == ReservationState.SENT, _r.counted_at < now - ARRIVAL)
            query = select(func.count()).where(
                _r.account == account,
                _r.windowed,
                or_(_r.state == ReservationState.SETTLED, over),
                _r.counted_at >= day_of(now),
            )
            return Arrived(day_of(now), (await connection.execute(query)).scalar_one())

    async def correct_quota(self, account: str, *, limit: int | None, used: int | None, arrived: Arrived) -> None:
        """Take over the service's limit and count of the day, None for what it does not say.

        A count of another day than `arrived` is no news of this one, and is left.
        """
        async with self._writing() as connection:
            row, now = await self._account(connection, account)
            row = replace(row, day_limit=limit if limit is not None else row.day_limit, checked_at=now)
            if used is not None and arrived.day == (today := day_of(now)):
                known = row.correction if row.day == today else 0
                ours = await _used_today(connection, replace(row, day=None), now)
                has_room = limit is not None and used < limit
                row = replace(
                    row,
                    day=today,
                    correction=corrected(known, used, arrived.calls, ours),
                    exhausted_until=None if has_room else row.exhausted_until,
                )
            await self._replace(connection, _accounts, [row])

    async def block_account(self, account: str, until: datetime, *, day: bool) -> None:
        """Note that the service refused the account's calls until then: the rest of the minute's, or of the day's."""
        async with self._writing() as connection:
            await self._block(connection, account, until, day=day)

    async def _block(self, connection: AsyncConnection, account: str, until: datetime, *, day: bool) -> None:
        row, _ = await self._account(connection, account)
        row = replace(row, exhausted_until=until) if day else replace(row, blocked_until=until)
        await self._replace(connection, _accounts, [row])

    async def _account(self, connection: AsyncConnection, account: str) -> tuple[_Account, datetime]:
        return await self._locked_row(connection, _accounts, _Account(account))

    async def _mark_sent(self, connection: AsyncConnection, account: str, reservation: str) -> bool:
        """Mark a reservation as sent now; False where it has lapsed. One that is marked already is marked anew."""
        _, now = await self._account(connection, account)
        marked = await connection.execute(_MARK_SENT, {"reservation": reservation, "now": now})
        return marked.rowcount == 1


async def release(connection: AsyncConnection, reservation: str) -> None:
    """Give a reservation back, in the caller's transaction."""
    await connection.execute(_RELEASE, {"reservation": reservation})


async def settle(connection: AsyncConnection, reservation: str, cost_usd: float | None) -> None:
    """Note that a call was answered, in the caller's transaction; None where its cost is not known."""
    await connection.execute(_SETTLE, {"reservation": reservation, "cost": cost_usd})


async def _against(
    connection: AsyncConnection,
    order: Order,
    limits: AccountLimits,
    budgets: Budgets,
    *,
    account: _Account,
    now: datetime,
) -> MinuteFull | DayExhausted | OverBudget | None:
    if order.windowed:
        filled_at, used_today = await _counted(connection, account, limits, now)
        standing = Standing(
            filled_at=filled_at,
            used_today=used_today,
            day_limit=account.day_limit,
            blocked_until=account.blocked_until,
            exhausted_until=account.exhausted_until,
        )
        if refusal := decide(now, limits, standing):
            return refusal
    if order.bound_usd == 0 or not budgets.any:
        return None
    return over_budget(order, [row async for row in _spending(connection, order, budgets, now)])


async def _counted(
    connection: AsyncConnection, account: _Account, limits: AccountLimits, now: datetime
) -> tuple[datetime | None, int]:
    """Return when the minute's last place was taken (None: it has room), and the day's count (0: it has no limit)."""
    minute = limits.requests_per_minute is not None
    day = limits.requests_per_day is not None or account.day_limit is not None or account.exhausted_until is not None
    given = {
        "of_account": account.account,
        "now": now,
        "before_the_last": (limits.requests_per_minute or 1) - 1,
        "minute_begins": now - limits.window,
        "day_begins": day_of(now) - _LATE,
    }
    filled_at, ours = (await connection.execute(_standing(minute=minute, day=day), given)).one()
    return filled_at, _with_correction(ours, account, now)


async def _used_today(connection: AsyncConnection, account: _Account, now: datetime) -> int:
    given = {"of_account": account.account, "now": now, "day_begins": day_of(now) - _LATE}
    _, ours = (await connection.execute(_standing(minute=False, day=True), given)).one()
    return _with_correction(ours, account, now)


def _with_correction(ours: int, account: _Account, now: datetime) -> int:
    return max(0, ours + (account.correction if account.day == day_of(now) else 0))


async def _spending(connection: AsyncConnection, order: Order, budgets: Budgets, now: datetime):
    """Yield each money limit with what was spent under it, counting calls under way at their bound."""
    scopes: Sequence[tuple[str, float | None, ColumnElement[bool]]] = (
        ("task", budgets.task_usd, _r.flow_run_id == order.flow_run_id),
        ("batch", budgets.batch_usd, _r.batch == order.batch),
        ("day", budgets.day_usd, and_(_r.account == order.account, _r.counted_at >= day_of(now))),
    )
    for scope, limit, belongs in scopes:
        if limit is not None:
            spent = func.coalesce(func.sum(func.coalesce(_r.cost_usd, _r.bound_usd, 0)), 0)
            query = select(spent).where(belongs, _counts(now))
            yield scope, limit, float((await connection.execute(query)).scalar_one())
