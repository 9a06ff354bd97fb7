import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from models import NOW

from devtasks.ledger import Ledger
from devtasks.metrics_collector import ExecutionMetrics
from devtasks.selection.bridge import LedgerBridge, outcomes_of
from devtasks.selection.evidence import Outcome
from devtasks.task import TaskCategory

UNIT_TEST = TaskCategory.UNIT_TEST


def attempt(number: int = 1, **changes: Any) -> ExecutionMetrics:
    values: dict[str, Any] = {
        "task_id": "t",
        "flow_run_id": "r",
        "attempt": number,
        "category": "unit_test",
        "target_file": None,
        "model_requested": "m/a",
        "model_served": None,
        "simulated": False,
        "isolation": "local",
        "outcome": "accepted",
        "failure": None,
        "score": 0.9,
        "findings": (),
        "llm_calls": 3,
        "iterations": 3,
        "prompt_tokens": 10,
        "completion_tokens": 1,
        "cost_usd": 0.0,
        "started_at": NOW + timedelta(minutes=number),
        "seconds": 2.0,
    }
    return ExecutionMetrics(**values | changes)


def read(*attempts: ExecutionMetrics, limit: int = 9, simulated: bool = False) -> list[tuple[str, bool]]:
    found = outcomes_of(attempts, UNIT_TEST, limit, simulated=simulated)
    return [(outcome.model_id, outcome.accepted) for outcome in found]


@pytest.mark.parametrize(
    ("failure", "counted"),
    [
        pytest.param(None, [("m/a", True)], id="accepted"),
        pytest.param("rejected", [("m/a", False)], id="rejected"),
        pytest.param("stuck", [("m/a", False)], id="stuck"),
        pytest.param("day_limit", [], id="quota"),
        pytest.param("unreachable", [], id="infrastructure"),
        pytest.param("of_another_version", [], id="unknown-kind"),
    ],
)
def test_only_what_says_something_of_the_model_counts(failure: str | None, counted: list[tuple[str, bool]]) -> None:
    assert read(attempt(failure=failure)) == counted


def test_the_newest_come_first_and_older_ones_are_cut() -> None:
    attempts = [attempt(number, model_requested=f"m/{number}") for number in (2, 3, 1)]
    assert read(*attempts, limit=2) == [("m/3", True), ("m/2", True)]


def test_other_categories_are_left_out() -> None:
    assert read(attempt(category="analysis")) == []


def test_simulated_and_real_attempts_are_kept_apart() -> None:
    real, simulated = attempt(model_requested="m/real"), attempt(2, model_requested="m/simulated", simulated=True)
    assert read(real, simulated) == [("m/real", True)]
    assert read(real, simulated, simulated=True) == [("m/simulated", True)]


def test_a_cost_of_zero_is_an_unknown_one() -> None:
    free, paid = outcomes_of([attempt(2), attempt(cost_usd=0.2)], UNIT_TEST, 9, simulated=False)
    assert (free.cost, paid.cost) == (None, 0.2)


def test_outcomes_are_read_from_a_ledger(tmp_path: Path) -> None:
    async def act() -> list[Outcome]:
        async with Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
            await ledger.record_attempt(attempt())
            return list(await LedgerBridge(ledger).outcomes(UNIT_TEST, 9, simulated=False))

    assert asyncio.run(act()) == [Outcome("m/a", True, attempt().started_at, 2.0, None)]
