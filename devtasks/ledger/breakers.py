"""The models' circuit breakers, shared by every process."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from devtasks.circuit_breaker import Admitted, Breaker, CallEnd, CoolingUntil, State, admit, observe, ready_again
from devtasks.ledger.columns import table
from devtasks.ledger.database import Database

_breakers = table("breakers", Breaker, key=("service", "model_id"))
_BREAKER = select(_breakers).where(
    _breakers.c.service == bindparam("service"), _breakers.c.model_id == bindparam("model_id")
)


class Breakers(Database):
    """One breaker for each model of a service (by its address) that was ever in trouble."""

    async def cooling(self, service: str, at: datetime) -> Mapping[str, datetime]:
        """Return the models that are left alone, each with the moment from which a call may be tried again."""
        query = select(_breakers).where(_breakers.c.service == service, _breakers.c.state != State.CLOSED)
        breakers = await self._fetch(Breaker, query)
        moments = {breaker.model_id: ready_again(breaker, at) for breaker in breakers}
        return {model: moment for model, moment in moments.items() if moment}

    async def admit_model(self, service: str, model: str, at: datetime) -> Admitted | CoolingUntil:
        """Ask for passage of one call; of many that ask at once after a cooldown, exactly one is the trial."""
        async with self._writing() as connection:
            return await self._admit_model(connection, service, model, at)

    async def observe_model(self, service: str, model: str, end: CallEnd) -> None:
        """Tell the breaker how a call that was let through has ended."""
        async with self._writing() as connection:
            await self._observe_model(connection, service, model, end)

    async def _admit_model(
        self, connection: AsyncConnection, service: str, model: str, at: datetime
    ) -> Admitted | CoolingUntil:
        seen = await _seen(connection, service, model)
        after, answer = admit(seen, at)
        if after == seen:  # which needs no lock
            return answer
        before, _ = await self._locked_row(connection, _breakers, seen)
        after, answer = admit(before, at)
        await self._replace(connection, _breakers, [after])
        return answer

    async def _observe_model(self, connection: AsyncConnection, service: str, model: str, end: CallEnd) -> None:
        seen = await _seen(connection, service, model)
        if observe(seen, end) != seen:
            before, _ = await self._locked_row(connection, _breakers, seen)
            await self._replace(connection, _breakers, [observe(before, end)])


async def _seen(connection: AsyncConnection, service: str, model: str) -> Breaker:
    row = (await connection.execute(_BREAKER, {"service": service, "model_id": model})).one_or_none()
    return Breaker(*row) if row else Breaker(service, model)
