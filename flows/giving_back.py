"""How a run that goes on later gives its worker slot back."""

from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import Pause
from prefect.states import Scheduled

from devtasks.task import TaskStatus

AWAITING_TASKS = "AwaitingTasks"
"""The state of a run that looks at the tasks of a batch again later."""

GAVE_BACK = (TaskStatus.AWAITING_QUOTA, TaskStatus.AWAITING_RETRY, AWAITING_TASKS)
"""States of runs that go on later by their own wish; they may have begun any number of times."""


async def give_back(flow_run_id: UUID, state: State[Any]) -> NoReturn:
    """Enter a state in which the run waits, and end its process; one that was cancelled or ended meanwhile stays so.

    Prefect's rules keep a run that is being cancelled from it, but not one that has ended: that would be a retry.
    """
    async with get_client() as client:
        now = await client.read_flow_run(flow_run_id)
        if now.state and now.state.is_running():
            await client.set_flow_run_state(flow_run_id, state)
    raise Pause(state.message, state=state)


async def await_tasks(flow_run_id: UUID, message: str, wait: timedelta) -> NoReturn:
    """Give the slot of a run back that looks at the tasks of a batch again in a while."""
    at = datetime.now(UTC) + wait
    await give_back(flow_run_id, Scheduled(name=AWAITING_TASKS, message=message, scheduled_time=at))
