"""The overlap guard of scheduled flows: of one deployment's runs only the one that began first goes on.

What decides is when a run first began (the server's clock), then its id: both are the same for everybody and never
change, so two runs that begin together come to the same answer. A run that a worker has just taken may have begun
without it showing yet, so it is waited for.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from prefect import get_run_logger
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.runtime import flow_run
from prefect.states import Completed

SKIPPED = "Skipped"
"""The name of the state, of type Completed, in which a run ends that left the work to another one."""

TAKEN_SECONDS = 60.0
"""How long a run that a worker has taken may take to begin; one that begins later finds this one and skips itself."""

POLL_SECONDS = 0.5

_MOST = 200
"""The server hands out at most so many runs at once: those that have begun, then those whose time came first."""

_OPEN = (StateType.PENDING, StateType.RUNNING, StateType.CANCELLING, StateType.PAUSED, StateType.SCHEDULED)


@dataclass(frozen=True)
class Begun:
    """A run of a deployment that has not ended; `at` is when it first began, None while a worker has only taken it."""

    run: UUID
    name: str
    state: str
    at: datetime | None


@dataclass(frozen=True)
class GoOn:
    """No other run is in front."""


@dataclass(frozen=True)
class Skip:
    """The run `other` goes on."""

    other: Begun


@dataclass(frozen=True)
class Wait:
    """It does not show yet whether the run `other` began first."""

    other: Begun


def decide(mine: Begun, others: Iterable[Begun]) -> GoOn | Skip | Wait:
    """Return what a run has to do, which itself has begun, beside others of its deployment that have not ended."""
    others = list(others)
    for other in others:
        if other.at and mine.at and (other.at, other.run) < (mine.at, mine.run):
            return Skip(other)
    return next((Wait(other) for other in others if other.at is None), GoOn())


async def skip_if_running() -> State | None:
    """Return the state to end this run in where another of its deployment is under way or waits to go on, else None.

    Runs that a schedule has made for later do not count, nor does anything beside a run without a deployment.
    """
    async with get_client() as client:
        mine = await client.read_flow_run(UUID(flow_run.id))
        if mine.deployment_id is None:
            return None
        decision = await _decide(client, mine, mine.deployment_id)
    if not isinstance(decision, Skip):
        return None
    other = decision.other
    message = f"{other.name} ({other.run}) of the same deployment is still {other.state}: this run left it to that one."
    get_run_logger().warning(message)
    return Completed(name=SKIPPED, message=message)


async def _decide(client: PrefectClient, mine: FlowRun, deployment: UUID) -> GoOn | Skip | Wait:
    deadline = asyncio.get_running_loop().time() + TAKEN_SECONDS
    while True:
        runs = await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                deployment_id=FlowRunFilterDeploymentId(any_=[deployment]),
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(_OPEN))),
            ),
            sort=FlowRunSort.START_TIME_ASC,
            limit=_MOST,
        )
        decision = decide(_begun(mine), [_begun(each) for each in runs if each.id != mine.id and _counts(each)])
        if not isinstance(decision, Wait) or asyncio.get_running_loop().time() > deadline:
            return decision
        await asyncio.sleep(POLL_SECONDS)


def _counts(run: FlowRun) -> bool:
    return run.start_time is not None or run.state_type is StateType.PENDING


def _begun(run: FlowRun) -> Begun:
    return Begun(run.id, run.name, run.state_name or "Pending", run.start_time)
