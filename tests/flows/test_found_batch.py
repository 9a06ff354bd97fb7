import pytest
from builders import make_attempt

from devtasks.selection.capability import CALLS
from devtasks.task import DevTask
from flows.found_batch import choose

FOUND = [
    DevTask.parse(
        task_id=str(number), category="unit_test", description="Test it.", repository="/r", target_file="a.py"
    )
    for number in range(10)
]
HISTORY = [make_attempt(task_id="a", llm_calls=6), make_attempt(task_id="a", llm_calls=4, attempt=2)]
"""A task that took ten calls."""


@pytest.mark.parametrize(
    ("history", "used", "limit", "most", "number"),
    [
        pytest.param(HISTORY, 0, 50, None, 5, id="as many as the quota allows"),
        pytest.param(HISTORY, 25, 50, None, 2, id="as what is left of it allows"),
        pytest.param(HISTORY, 60, 50, None, 0, id="none when it is used up"),
        pytest.param(HISTORY, 0, 50, 3, 3, id="no more than wanted"),
        pytest.param(HISTORY, 0, None, None, 10, id="all without a known limit"),
        pytest.param([], 0, 4 * CALLS, None, 4, id="by an assumption without any history"),
    ],
)
def test_as_many_tasks_are_submitted_as_quota_and_wishes_allow(
    history: list, used: int, limit: int | None, most: int | None, number: int
) -> None:
    chosen, why = choose(FOUND, history, used, limit, most)
    assert chosen == FOUND[:number]
    assert why.startswith(f"10 tasks found, {number} submitted")


def test_it_is_said_when_the_quota_is_the_reason() -> None:
    _, why = choose(FOUND, HISTORY, 25, 50, 8)
    assert why.endswith("25 of 50 free requests of today are used, and a task makes about 10")
    assert ":" not in choose(FOUND, HISTORY, 0, 50, 3)[1]
