"""The models' circuit breakers, shared by every process."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import reduce
from itertools import groupby
from operator import itemgetter

from sqlalchemy import Connection, bindparam, select

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
        return await self._writing(lambda connection: self._admit_model(connection, service, model, at))

    async def observe_model(self, service: str, model: str, end: CallEnd) -> None:
        """Tell the breaker how a call that was let through has ended."""
        await self._writing(lambda connection: self._observe_models(connection, [(service, model, end)]))

    def _admit_model(self, connection: Connection, service: str, model: str, at: datetime) -> Admitted | CoolingUntil:
        seen = _seen(connection, service, model)
        after, answer = admit(seen, at)
        if after == seen:  # which needs no lock
            return answer
        before, _ = self._locked_row(connection, _breakers, seen)
        after, answer = admit(before, at)
        self._replace(connection, _breakers, [after])
        return answer

    def _observe_models(self, connection: Connection, ends: Sequence[tuple[str, str, CallEnd]]) -> None:
        by_model = groupby(sorted(ends, key=itemgetter(0, 1)), key=itemgetter(0, 1))
        for (service, model), each in by_model:
            seen, signals = _seen(connection, service, model), [end for *_, end in each]
            if reduce(observe, signals, seen) != seen:
                before, _ = self._locked_row(connection, _breakers, seen)
                self._replace(connection, _breakers, [reduce(observe, signals, before)])


def _seen(connection: Connection, service: str, model: str) -> Breaker:
    row = connection.execute(_BREAKER, {"service": service, "model_id": model}).one_or_none()
    return Breaker(*row) if row else Breaker(service, model)
