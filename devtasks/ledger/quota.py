"""The account's quota, shared by every process: reservations, and what the service said about the account.

Whatever is decided about an account is decided while its row is locked, so that no two processes take the last place.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, and_, func, or_, select

from devtasks.ledger.counter import ACCOUNTS, RESERVATIONS, Account, Counter, standing_of, used_today
from devtasks.ledger.database import Database
from devtasks.quota import (
    ARRIVAL,
    AccountLimits,
    Budgets,
    DayExhausted,
    MinuteFull,
    Order,
    ReservationState,
    corrected,
    day_of,
    decide,
)


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


class Quota(Database):
    """The account's windows and money limits, and what the service said of them."""

    async def standing_against(self, order: Order, limits: AccountLimits) -> MinuteFull | DayExhausted | None:
        """Return what stands against one more call now, None where it would be granted; nothing is reserved."""

        def look(connection: Connection) -> MinuteFull | DayExhausted | None:
            account, now = self._account(connection, order.account)
            return decide(now, limits, standing_of(connection, account, limits, now, calls=1))

        return await self._writing(look)

    async def day_use(self, account: str) -> DayUse:
        """Return how many free requests the account has used today, its limit, and when the service was asked."""

        def use(connection: Connection) -> DayUse:
            row, now = self._account(connection, account)
            return DayUse(day_of(now), used_today(connection, row, now), row.day_limit, row.checked_at)

        return await self._writing(use)

    async def arrived_today(self, account: str) -> Arrived:
        """Return what `correct_quota` needs, to be taken before the service is asked for its count."""

        def count(connection: Connection) -> Arrived:
            _, now = self._account(connection, account)
            over = and_(RESERVATIONS.c.state == ReservationState.SENT, RESERVATIONS.c.counted_at < now - ARRIVAL)
            query = select(func.count()).where(
                RESERVATIONS.c.account == account,
                RESERVATIONS.c.windowed,
                or_(RESERVATIONS.c.state == ReservationState.SETTLED, over),
                RESERVATIONS.c.counted_at >= day_of(now),
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
                ours = used_today(connection, replace(row, day=None), now)
                has_room = limit is not None and used < limit
                row = replace(
                    row,
                    day=today,
                    correction=corrected(known, used, arrived.calls, ours),
                    exhausted_until=None if has_room else row.exhausted_until,
                )
            self._replace(connection, ACCOUNTS, [row])

        await self._writing(correct)

    async def block_account(self, account: str, until: datetime, *, day: bool) -> None:
        """Note that the service refused the account's calls until then: the rest of the minute's, or of the day's."""
        await self._writing(lambda connection: self._block(connection, account, until, day=day))

    def _block(self, connection: Connection, account: str, until: datetime, *, day: bool) -> None:
        row, _ = self._account(connection, account)
        row = replace(row, exhausted_until=until) if day else replace(row, blocked_until=until)
        self._replace(connection, ACCOUNTS, [row])

    def _account(self, connection: Connection, account: str) -> tuple[Account, datetime]:
        return self._locked_row(connection, ACCOUNTS, Account(account))

    def _counter(
        self, connection: Connection, orders: Sequence[Order], limits: AccountLimits, budgets: Budgets
    ) -> Counter:
        """Lock the account of these orders, which is that of the first."""
        account, now = self._account(connection, orders[0].account)
        calls = sum(order.windowed for order in orders)
        standing = standing_of(connection, account, limits, now, calls=calls) if calls else None
        return Counter(connection, now, limits, budgets, standing)
