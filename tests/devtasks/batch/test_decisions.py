from datetime import timedelta

import pytest
from builders import make_attempt

from devtasks.batch.forecast import forecast
from devtasks.batch.order import BatchLimits
from devtasks.batch.selection import Selection, parse_slice
from devtasks.batch.standing import Standing, Tally, admitted, count, next_look, stop_of
from devtasks.errors import InvalidInput
from devtasks.task import DevTask


def make_tasks(*paths: str) -> list[DevTask]:
    return [
        DevTask.parse(
            task_id=path.replace("/", "-"), category="unit_test", description="Test.", repository="/r", target_file=path
        )
        for path in paths
    ]


def make_tally(*standings: Standing, **changes: float) -> Tally:
    values = {"submitted": len(standings), "ended_since": 0, "seconds": 60.0}
    return Tally(counts=count(standings), **values | changes)  # pyright: ignore[reportArgumentType]


PATHS = ("src/a.py", "src/b.py", "lib/c.py", "src/d.py")


@pytest.mark.parametrize(
    ("selection", "chosen"),
    [
        (Selection(), "abcd"),
        (Selection(pattern="src/*"), "abd"),
        (Selection(part=parse_slice("1:3")), "bc"),
        (Selection(part=parse_slice("-2:")), "cd"),
        (Selection(pattern="src/*", part=parse_slice("1:"), limit=1), "b"),
        (Selection(pattern="no/*"), ""),
    ],
)
def test_selection_filters_then_slices_then_limits(selection: Selection, chosen: str) -> None:
    assert "".join((task.target_file or "")[-4] for task in selection.of(make_tasks(*PATHS))) == chosen


def test_shuffle_is_the_same_for_the_same_seed_and_loses_nothing() -> None:
    tasks = make_tasks(*(f"src/{number}.py" for number in range(20)))
    orders = [Selection(seed=seed).of(tasks) for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0], key=lambda task: task.task_id) == sorted(tasks, key=lambda task: task.task_id)


@pytest.mark.parametrize("text", ["", "1", "a:b", "1:2:3"])
def test_slice_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="--slice"):
        parse_slice(text)


W, R, A, J, N = Standing.WAITING, Standing.RUNNING, Standing.ACCEPTED, Standing.REJECTED, Standing.NOT_SUBMITTED


@pytest.mark.parametrize(
    ("limits", "tally", "reason"),
    [
        ({}, make_tally(J, J, llm_calls=1_000, cost_usd=99, seconds=1e6), None),
        ({"failures": 2}, make_tally(J, Standing.REFUSED, N), "max_failures 2 is met: 2 tasks failed"),
        ({"failures": 2}, make_tally(J, Standing.CANCELLED, A), None),
        ({"cost_usd": 1}, make_tally(W, cost_usd=1.0), "max_cost_usd 1 is met: $1.0000 spent"),
        ({"cost_usd": 1}, make_tally(W, cost_usd=0.9), None),
        ({"llm_calls": 7}, make_tally(W, llm_calls=8), "max_llm_calls 7 is met: 8 calls made"),
        ({"hours": 0.5}, make_tally(W, seconds=1_800), "max_hours 0.5 is met: 0.50 hours gone"),
        ({"tasks": 1}, make_tally(W, N, submitted=1), "max_tasks 1 is met: 1 tasks submitted"),
        ({"tasks": 1}, make_tally(W, submitted=1), None),
        ({"cost_usd": 0}, make_tally(A, N, llm_calls=9), None),
        ({"cost_usd": 0}, make_tally(A, N, cost_usd=0.01), "max_cost_usd 0 is met: $0.0100 spent"),
    ],
)
def test_limit_that_is_met_is_named(limits: dict[str, float], tally: Tally, reason: str | None) -> None:
    stop = stop_of(BatchLimits.parse(**limits), tally)
    assert (stop and stop.reason) == reason
    assert stop is None or stop.cancels is ("tasks" not in limits)


@pytest.mark.parametrize(
    ("limits", "queue_room", "number"),
    [
        ({"in_flight": 5}, 100, 3),
        ({"in_flight": 5}, 1, 1),
        ({"in_flight": 1}, 100, 0),
        ({"in_flight": 5, "tasks": 4}, 100, 1),
        ({"in_flight": 5, "tasks": 2}, 100, 0),
    ],
)
def test_no_more_are_admitted_than_every_bound_allows(limits: dict[str, int], queue_room: int, number: int) -> None:
    tally = make_tally(W, R, A, N, N, N, N, submitted=3)
    assert admitted(BatchLimits.parse(**limits), tally, queue_room) == number


def test_time_left_follows_from_how_many_ended() -> None:
    assert make_tally(A, W, N, N, ended_since=1, seconds=30.0).eta_seconds == 90
    assert make_tally(W, N).eta_seconds is None
    assert make_tally(A, J, Standing.CANCELLED, W, N).ended == 3


def test_long_batch_is_looked_at_less_often() -> None:
    looks = [next_look(seconds) for seconds in (0, 400, 1e6)]
    assert looks == [timedelta(seconds=10), timedelta(seconds=20), timedelta(seconds=60)]


def test_forecast_sums_the_means_of_each_category() -> None:
    history = [
        make_attempt(task_id="1", llm_calls=4, cost_usd=0.1, seconds=10),
        make_attempt(task_id="1", attempt=2, llm_calls=2, cost_usd=0.1, seconds=20),
        make_attempt(task_id="2", llm_calls=8, cost_usd=0.0, seconds=30),
        make_attempt(task_id="3", llm_calls=999, simulated=True),
        make_attempt(task_id="4", category="refactoring", llm_calls=999),
    ]
    found = forecast(make_tasks("a.py", "b.py"), history, used=20, limit=50)
    assert (found.llm_calls, found.seconds, found.known) == (14, 60, {"unit_test": 2})
    assert found.cost_usd == pytest.approx(0.2)
    assert (found.quota_share, found.quota_left) == (pytest.approx(0.28), 30)


def test_nothing_is_forecast_for_a_category_that_nobody_knows() -> None:
    found = forecast(make_tasks("a.py"), [make_attempt(simulated=True)], limit=50)
    assert (found.llm_calls, found.cost_usd, found.seconds, found.quota_share) == (None, None, None, None)
    assert found.known == {"unit_test": 0}
