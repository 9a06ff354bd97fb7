from datetime import UTC, datetime, timedelta

import pytest
from prefect.client.schemas.objects import State, StateType
from prefect.states import Completed, Paused, Scheduled

from devtasks.task import TaskStatus
from flows.taking_up import why_left

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
