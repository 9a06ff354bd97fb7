from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import Completed, Paused, Pending, Running, Scheduled

from devtasks.task import TaskStatus
from flows.giving_back import AWAITING_TASKS
from flows.taking_up import MAX_RESTARTS, QUEUED_AGAIN, next_state, why_left

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def ago(*seconds: float) -> list[datetime]:
    return [NOW - timedelta(seconds=each) for each in seconds]


@pytest.mark.parametrize(
    "state",
    [
        Scheduled(name=TaskStatus.AWAITING_RETRY),
        Scheduled(name=TaskStatus.AWAITING_QUOTA),
        Scheduled(name="AwaitingTasks"),
        Paused(name=TaskStatus.NEEDS_REVIEW),
        Completed(name=TaskStatus.ACCEPTED),
        None,
    ],
    ids=lambda state: state.name if state else "none",
)
def test_a_run_that_waits_or_has_ended_is_never_lost_however_long_it_is_silent(state: State | None) -> None:
    assert why_left(state, ago(86_400, 86_430), NOW)


@pytest.mark.parametrize("kind", [StateType.RUNNING, StateType.CANCELLING])
@pytest.mark.parametrize(
    ("heartbeats", "lost"),
    [
        pytest.param(ago(121, 151), True, id="four missed"),
        pytest.param(ago(119, 149), False, id="three missed"),
        pytest.param(ago(5, 35), False, id="alive"),
        pytest.param(ago(5, 400), False, id="back after the server was away"),
        pytest.param(ago(210, 390), False, id="a slower pace: one missed"),
        pytest.param(ago(721, 901), True, id="a slower pace: four missed"),
        pytest.param(ago(190), False, id="one alone: the next may be due by Prefect's default"),
        pytest.param(ago(200), True, id="one alone, and none by Prefect's default"),
    ],
)
def test_a_run_is_lost_once_enough_heartbeats_are_missing(
    kind: StateType, heartbeats: list[datetime], lost: bool
) -> None:
    state = State(type=kind, timestamp=NOW - timedelta(hours=1))
    assert (why_left(state, heartbeats, NOW) is None) is lost


def test_the_pace_before_a_run_gave_its_slot_back_does_not_count() -> None:
    went_on = State(type=StateType.RUNNING, timestamp=NOW - timedelta(seconds=201))
    assert why_left(went_on, ago(200, 20_000), NOW) is None


@pytest.mark.parametrize(("seconds", "lost"), [(190, False), (200, True)])
def test_a_run_that_never_sent_one_is_waited_for_from_its_beginning(seconds: int, lost: bool) -> None:
    began = State(type=StateType.RUNNING, timestamp=NOW - timedelta(seconds=seconds))
    assert (why_left(began, [], NOW) is None) is lost


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
