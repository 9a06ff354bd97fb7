"""What was measured: attempts, calls to models, and the outcomes that selection learns from."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Index, func, or_, select

from devtasks.ledger.columns import table
from devtasks.ledger.database import Database
from devtasks.metrics_collector import ExecutionMetrics, LlmCall
from devtasks.recovery import NOT_THE_MODELS
from devtasks.selection.evidence import Outcome
from devtasks.task import TaskCategory

_attempts = table("attempts", ExecutionMetrics, key=("flow_run_id", "attempt"))
_llm_calls = table("llm_calls", LlmCall, key=("flow_run_id", "attempt", "sequence"))
Index("ix_attempts_started_at", _attempts.c.started_at)


@dataclass(frozen=True)
class Usage:
    """What runs have used so far: calls to models and their US dollars, and whether any model was a simulated one."""

    llm_calls: int
    cost_usd: float
    simulated: bool


class Measurements(Database):
    """Attempts and calls, written once or again under their keys."""

    async def record_attempt(self, metrics: ExecutionMetrics) -> None:
        """Store the attempt, in place of what was stored for the same run and number."""
        await self._writing(lambda connection: self._replace(connection, _attempts, [metrics]))

    async def record_calls(self, calls: Sequence[LlmCall]) -> None:
        """Store the calls, all or none, each in place of what was stored for the same run, attempt and sequence."""
        await self._writing(lambda connection: self._replace_calls(connection, calls))

    async def attempts(
        self, flow_run_id: str | None = None, since: datetime | None = None, include_simulated: bool = True
    ) -> tuple[ExecutionMetrics, ...]:
        """Return the attempts of one run by number, or of all runs by start; `since` is inclusive and aware."""
        query = select(_attempts)
        if flow_run_id is not None:
            query = query.where(_attempts.c.flow_run_id == flow_run_id).order_by(_attempts.c.attempt)
        if since is not None:
            query = query.where(_attempts.c.started_at >= since)
        if not include_simulated:
            query = query.where(_attempts.c.simulated.is_(False))
        query = query.order_by(_attempts.c.started_at, _attempts.c.flow_run_id, _attempts.c.attempt)
        return await self._fetch(ExecutionMetrics, query)

    async def calls(self, flow_run_id: str) -> tuple[LlmCall, ...]:
        """Return one run's calls in the order they were made."""
        query = select(_llm_calls).where(_llm_calls.c.flow_run_id == flow_run_id)
        return await self._fetch(LlmCall, query.order_by(_llm_calls.c.attempt, _llm_calls.c.sequence))

    async def usage(self, flow_run_ids: Sequence[str]) -> Usage:
        """Return what these runs have used, those that are still under way too."""
        of = _llm_calls.c
        simulated = func.count().filter(of.simulated)
        query = select(func.count(), func.coalesce(func.sum(of.cost_usd), 0.0), simulated).where(
            of.flow_run_id.in_(flow_run_ids)
        )
        calls, cost, by_simulated = await self._reading(lambda connection: connection.execute(query).one())
        return Usage(calls, cost, by_simulated > 0)

    async def outcomes(self, category: TaskCategory, limit: int, *, simulated: bool) -> Sequence[Outcome]:
        """Return the last attempts of this category, newest first; real ones, or simulated ones alone.

        Those that say nothing about the model (`recovery.NOT_THE_MODELS`), and those several models worked on, are left
        out.
        """
        failure = _attempts.c.failure
        query = (
            select(_attempts)
            .where(_attempts.c.category == category.value, _attempts.c.simulated.is_(simulated))
            .where(_attempts.c.rotations == 0)
            .where(or_(failure.is_(None), failure.not_in(NOT_THE_MODELS)))
            .order_by(_attempts.c.started_at.desc(), _attempts.c.flow_run_id, _attempts.c.attempt.desc())
            .limit(limit)
        )
        return [
            Outcome(
                model_id=attempt.model_requested,
                accepted=attempt.outcome == "accepted",
                at=attempt.started_at,
                seconds=attempt.seconds,
                cost=attempt.cost_usd if attempt.llm_calls else None,
            )
            for attempt in await self._fetch(ExecutionMetrics, query)
        ]

    def _replace_calls(self, connection: Connection, calls: Sequence[LlmCall]) -> None:
        self._replace(connection, _llm_calls, calls)
