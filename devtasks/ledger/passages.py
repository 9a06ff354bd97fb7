"""A call's way through the ledger: reserved, sent, ended. Each step is one transaction over all it concerns."""

from dataclasses import dataclass
from datetime import datetime

from devtasks.circuit_breaker import Admitted, CallEnd, CoolingUntil
from devtasks.ledger.breakers import Breakers
from devtasks.ledger.measurements import Measurements
from devtasks.ledger.quota import Quota, release, settle
from devtasks.metrics_collector import LlmCall
from devtasks.quota import Order


@dataclass(frozen=True)
class Lapsed:
    """The reservation had expired before the call could be sent; it has to be made again."""


@dataclass(frozen=True)
class Ended:
    """How a sent call ended: whether the service answered at all, and for how much (None: not known)."""

    answered: bool
    cost_usd: float | None
    breaker: CallEnd | None = None
    account_until: datetime | None = None
    for_the_day: bool = False


class Passages(Quota, Breakers, Measurements):
    """What the gateway writes of each call, before its first byte leaves and when it has ended."""

    async def depart(
        self, order: Order, reservation: str, call: LlmCall, *, breaker_at: datetime | None
    ) -> Admitted | CoolingUntil | Lapsed:
        """Mark the call as sent and write its row; from then on it counts, whatever becomes of this process.

        `breaker_at` is the time for the model's breaker, None to leave that alone. A call that is not let through
        gives its reservation back.
        """
        async with self._writing() as connection:
            if not await self._mark_sent(connection, order.account, reservation):
                return Lapsed()
            answer: Admitted | CoolingUntil = Admitted(trial=False)
            if breaker_at:
                answer = await self._admit_model(connection, order.service, call.model_requested, breaker_at)
            if isinstance(answer, CoolingUntil):
                await release(connection, reservation)
            else:
                await self._replace_calls(connection, [call])
            return answer

    async def redepart(self, account: str, reservation: str) -> None:
        """Mark a call that was held up on its way out as sent now."""
        async with self._writing() as connection:
            await self._mark_sent(connection, account, reservation)

    async def arrive(self, order: Order, reservation: str, call: LlmCall, end: Ended) -> None:
        """Write how the call ended; one that was sent and not answered goes on counting, at its bound."""
        async with self._writing() as connection:
            if end.account_until:
                await self._block(connection, order.account, end.account_until, day=end.for_the_day)
            if end.answered:
                await settle(connection, reservation, end.cost_usd)
            if end.breaker:
                await self._observe_model(connection, order.service, call.model_requested, end.breaker)
            await self._replace_calls(connection, [call])

    async def turn_back(self, reservation: str, call: LlmCall) -> None:
        """Write a call that could not be sent, and give its reservation back."""
        async with self._writing() as connection:
            await release(connection, reservation)
            await self._replace_calls(connection, [call])
