"""The models' circuit breakers, shared by every process."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from devtasks.circuit_breaker import Admitted, Breaker, CallEnd, CoolingUntil, State, admit, observe, ready_again
from devtasks.ledger.columns import table
from devtasks.ledger.database import Database

_breakers = table("breakers", Breaker, key=("service", "model_id"))


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
        before = await self._breaker(connection, service, model)
        after, answer = admit(before, at)
        await self._store(connection, before, after)
        return answer

    async def _observe_model(self, connection: AsyncConnection, service: str, model: str, end: CallEnd) -> None:
        before = await self._breaker(connection, service, model)
        await self._store(connection, before, observe(before, end))

    async def _breaker(self, connection: AsyncConnection, service: str, model: str) -> Breaker:
        is_it = _breakers.c.service == service, _breakers.c.model_id == model
        return await self._locked_row(connection, _breakers, Breaker(service, model), *is_it)

    async def _store(self, connection: AsyncConnection, before: Breaker, after: Breaker) -> None:
        if after != before:
            await self._replace(connection, _breakers, [after])
