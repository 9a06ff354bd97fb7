"""Runs that lost their worker: what becomes of each, and the flow that looks at one that has gone silent.

An automation (deployments/automations.py) calls the flow when a run's heartbeats stay away. Their absence alone proves
nothing: the run may have given its slot back a moment after its last one, or the server was away itself. So the flow
looks first whether the run still counts as running, and for heartbeats that came since.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from prefect import flow, get_run_logger
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.events.filters import EventFilter, EventNameFilter, EventResourceFilter
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Completed, Crashed, Scheduled

from devtasks.task import TaskStatus
from flows.giving_back import GAVE_BACK

HEARTBEAT = "prefect.flow-run.heartbeat"

MISSED = 4
"""Heartbeats that have to be missing until a run counts as lost."""

FIRST_SECONDS = 195
"""How long a run that sent one heartbeat at most is waited for: Prefect's default pace is 180 s, if a worker has it."""

MAX_RESTARTS = 3
"""How often a run that lost its worker is queued again before it counts as crashed."""

QUEUED_AGAIN = "Its worker died; queued again."


@flow(name="take-up-run")
async def take_up_run(run: UUID) -> State[Any]:
    """Queue a run again whose heartbeats stay away, up to three times; leave one alone that lives, waits or has ended.

    Args:
        run: The flow run's id.
    """
    async with get_client() as client:
        try:
            silent = await client.read_flow_run(run)
        except ObjectNotFound:
            return Completed(message=f"There is no flow run {run} any more.")
        reason = why_left(silent.state, await _heartbeats(client, run), datetime.now(UTC))
        if reason is None and await take_up(client, silent):
            silent = await client.read_flow_run(silent.id)
            reason = f"its heartbeats stayed away; it is {silent.state_name} now"
    message = f"{silent.name} ({run}): {reason or 'it came to an end of its own'}."
    get_run_logger().info(message)
    return Completed(message=message)


def why_left(state: State | None, heartbeats: Sequence[datetime], now: datetime) -> str | None:
    """Return why a run is not lost, None where it is; `heartbeats` are its last two, the newest first.

    They come at the pace at which they came since the run began, or went on.
    """
    if state is None or state.type not in (StateType.RUNNING, StateType.CANCELLING):
        return f"it is {state.name if state else 'Pending'}, and needs no process"
    since = [each for each in heartbeats if each >= state.timestamp or state.type is StateType.CANCELLING]
    patience = (since[0] - since[1]) * MISSED if len(since) > 1 else timedelta(seconds=FIRST_SECONDS)
    quiet = now - (since[0] if since else state.timestamp)
    return f"its last heartbeat was {quiet.total_seconds():.0f} s ago" if quiet < patience else None


async def take_up(client: PrefectClient, before: FlowRun) -> bool:
    """Give a run that lost its worker its next state, unless it came to an end of its own meanwhile."""
    now = await client.read_flow_run(before.id)
    # A process that was asked to end calls its run crashed, which is no end of the task.
    if now.state and now.state.is_final() and now.state_type is not StateType.CRASHED:
        return False
    states = await client.read_flow_run_states(before.id)
    await client.set_flow_run_state(before.id, next_state(before, states), force=True)
    return True


def next_state(flow_run: FlowRun, states: Iterable[State]) -> State:
    """Return what becomes of a run that lost its worker, by all the states it was in."""
    if flow_run.state_type is StateType.CANCELLING:
        return Cancelled(message="Cancelled while its worker was gone.")
    if (deaths := _deaths(states)) >= MAX_RESTARTS:
        return Crashed(message=f"Its worker died {deaths + 1} times; not queued again.")
    return Scheduled(name=TaskStatus.AWAITING_RETRY, message=QUEUED_AGAIN)


def _deaths(states: Iterable[State]) -> int:
    """Return how often a run was queued again since it last gave its slot back of its own accord."""
    deaths = 0
    for state in sorted(states, key=lambda each: each.timestamp):
        if state.message == QUEUED_AGAIN:
            deaths += 1
        elif state.name in GAVE_BACK:
            deaths = 0
    return deaths


async def _heartbeats(client: PrefectClient, flow_run_id: UUID) -> list[datetime]:
    """Return when the last two heartbeats were, the newest first."""
    wanted = EventFilter(
        event=EventNameFilter(name=[HEARTBEAT]),
        resource=EventResourceFilter(id=[f"prefect.flow-run.{flow_run_id}"]),
    )
    page = await client.read_events(wanted, limit=2)
    return [event.occurred for event in page.events]
