"""What becomes of a run whose worker died; the rest of orphans.py is seen in the end-to-end tests."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import Pending, Running, Scheduled

from deployments.orphans import MAX_RESTARTS, QUEUED_AGAIN, next_state
from devtasks.task import TaskStatus
from flows.batch_tasks import AWAITING_TASKS

DEATH = (Pending(), Running(), Scheduled(name=TaskStatus.AWAITING_RETRY, message=QUEUED_AGAIN))


def gave_back(name: str) -> tuple[State, ...]:
    return (Pending(), Running(), Scheduled(name=name, message="later"))


def course(*parts: tuple[State, ...]) -> list[State]:
    start = datetime(2026, 3, 1, tzinfo=UTC)
    states = [state for part in (*parts, (Pending(), Running())) for state in part]
    return [each.model_copy(update={"timestamp": start + timedelta(seconds=at)}) for at, each in enumerate(states)]


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (course(), StateType.SCHEDULED),
        (course(*[DEATH] * (MAX_RESTARTS - 1)), StateType.SCHEDULED),
        (course(*[DEATH] * MAX_RESTARTS), StateType.CRASHED),
        (course(*[gave_back(AWAITING_TASKS)] * 100), StateType.SCHEDULED),
        (course(*[DEATH] * MAX_RESTARTS, gave_back(TaskStatus.AWAITING_QUOTA)), StateType.SCHEDULED),
        (course(gave_back(TaskStatus.AWAITING_RETRY), *[DEATH] * MAX_RESTARTS), StateType.CRASHED),
    ],
    ids=["first", "some", "too many", "looked often", "went on in between", "put off before"],
)
def test_run_is_queued_again_unless_its_worker_died_too_often_in_a_row(
    states: list[State], expected: StateType
) -> None:
    flow_run = FlowRun(flow_id=uuid4(), state=Running(), state_type=StateType.RUNNING, run_count=500)
    assert next_state(flow_run, list(reversed(states))).type is expected


def test_run_that_was_being_cancelled_is_cancelled() -> None:
    flow_run = FlowRun(flow_id=uuid4(), state_type=StateType.CANCELLING)
    assert next_state(flow_run, course()).type is StateType.CANCELLED
