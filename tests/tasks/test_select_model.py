"""The step against a simulator's catalogue and a real ledger, outside any flow."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from models import NOW
from prefect.logging import disable_run_logger
from pydantic import SecretStr

from blocks import OpenRouterCredentials
from devtasks.errors import InvalidInput, NoModelAvailable
from devtasks.ledger import Ledger
from devtasks.metrics_collector import ExecutionMetrics
from devtasks.model_selector import Candidate
from devtasks.redaction import Redactor
from devtasks.simulator import Scenario, Simulator
from devtasks.task import DevTask
from tasks.run import Services
from tasks.select_model import select_model

SCENARIO = {
    "name": "two",
    "models": [{"id": "m/a:free"}, {"id": "m/b:free"}, {"id": "m/paid", "prompt_price": "0.000001"}],
}
REJECTED = ExecutionMetrics(
    task_id="t",
    flow_run_id="r",
    attempt=1,
    category="unit_test",
    target_file="a.py",
    model_requested="m/a:free",
    model_served=None,
    simulated=True,
    isolation="local",
    outcome="rejected",
    failure="rejected",
    score=0.1,
    findings=(),
    llm_calls=3,
    iterations=3,
    prompt_tokens=10,
    completion_tokens=1,
    cost_usd=0.0,
    started_at=NOW,
    seconds=60.0,
)


def choose(
    folder: Path, *earlier: ExecutionMetrics, tried: tuple[str, ...] = (), prompt: str = "", **fields: Any
) -> tuple[Candidate, bool]:
    async def act() -> tuple[Candidate, bool]:
        task = DevTask.parse(task_id="t", category="unit_test", description="x", repository=".", **fields)
        async with (
            Simulator(Scenario.model_validate(SCENARIO)) as simulator,
            Ledger.open(f"sqlite:///{folder}/ledger.db") as ledger,
            AsyncExitStack() as stack,
        ):
            for attempt in earlier:
                await ledger.record_attempt(attempt)
            keys = OpenRouterCredentials(api_key=SecretStr("a-key"), base_url=simulator.base_url)
            services = Services(stack, ledger, task, "r", breaker=True, redactor=Redactor())
            run: Any = SimpleNamespace(task=task, ledger=ledger, credentials=keys, simulated=False, services=services)
            with disable_run_logger():
                return (await select_model.fn(run, prompt, tried))[0], run.simulated

    return asyncio.run(act())


def test_a_simulated_catalogue_marks_the_run(tmp_path: Path) -> None:
    candidate, simulated = choose(tmp_path)
    assert (candidate.model_id, simulated) == ("m/a:free", True)


def test_earlier_attempts_in_the_ledger_decide(tmp_path: Path) -> None:
    assert choose(tmp_path, REJECTED)[0].model_id == "m/b:free"


def test_attempts_that_ended_by_quota_do_not(tmp_path: Path) -> None:
    assert choose(tmp_path, replace(REJECTED, outcome="failed", failure="day_limit"))[0].model_id == "m/a:free"


def test_models_that_were_tried_and_paid_ones_are_left_out(tmp_path: Path) -> None:
    assert choose(tmp_path, tried=("m/a:free",))[0].model_id == "m/b:free"
    with pytest.raises(NoModelAvailable, match="relax free_only: 1 would do, such as m/paid"):
        choose(tmp_path, tried=("m/a:free", "m/b:free"))


def test_the_task_s_files_need_room(tmp_path: Path) -> None:
    with pytest.raises(NoModelAvailable, match="its context is below 132000 tokens"):
        choose(tmp_path, prompt="x" * 300_000)


def test_a_model_asked_for_by_name_that_does_not_exist_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="the nearest are m/b:free"):
        choose(tmp_path, model="m/b:fre")
