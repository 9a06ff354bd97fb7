"""The scheduled flows themselves, run in this process against a real server."""

import asyncio
import json
from collections.abc import Callable, Generator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from builders import make_attempt
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey, FlowRunFilter, FlowRunFilterIdempotencyKey
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.sorting import ArtifactSort
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow_async
from prefect.states import Completed, Running
from prefect_stack import PrefectStack
from queues import commit, make_repository
from services import service

from blocks import OpenRouterCredentials
from deployments.stack import Connection
from devtasks.config import OpenHandsConfig
from devtasks.ledger import Ledger
from devtasks.openrouter.client import SIMULATED_HEADER
from flows.metrics_report import metrics_report
from flows.refresh import refresh
from flows.scheduled_batches import write_docstrings
from flows.taking_up import take_up_run


@pytest.fixture
def connected(server: PrefectStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[PrefectStack]:
    monkeypatch.setenv("DEVTASKS_HOME", str(tmp_path / "devtasks"))
    with Connection(server.url, server.auth).settings():
        yield server


async def newest(client: PrefectClient, key: str) -> str:
    named = ArtifactFilter(key=ArtifactFilterKey(any_=[key]))
    found = await client.read_artifacts(artifact_filter=named, sort=ArtifactSort.CREATED_DESC, limit=1)
    return str(found[0].data)


def test_the_report_shows_yesterday_and_leaves_simulated_attempts_out(connected: PrefectStack) -> None:
    async def check() -> None:
        yesterday = datetime.now(UTC) - timedelta(days=1)
        async with Ledger.open(OpenHandsConfig.from_env().ledger_url) as ledger:
            await ledger.record_attempt(make_attempt(task_id="one", flow_run_id="one", started_at=yesterday))
            simulated = make_attempt(task_id="two", flow_run_id="two", started_at=yesterday, simulated=True)
            await ledger.record_attempt(simulated)
        state: State[Any] = await metrics_report(return_state=True)
        assert state.message == "Yesterday: 1 of 1 tasks accepted."
        async with connected.client() as client:
            assert (await newest(client, "metrics-report")).count("1 of 1 tasks accepted (100%)") == 2
            (row,) = json.loads(await newest(client, "metrics-by-model"))
            assert (row["model"], row["category"], row["attempts"]) == ("acme/coder:free", "unit_test", 1)

    asyncio.run(check())


def test_a_ledger_without_attempts_gives_nothing_to_report(connected: PrefectStack) -> None:
    state: State[Any] = asyncio.run(metrics_report(return_state=True))
    assert state.is_completed()
    assert state.message == "Yesterday: nothing to report."


def models(*ids: str) -> dict[str, Any]:
    price = {"prompt": "0", "completion": "0"}
    return {"data": [{"id": each, "context_length": 1_000, "pricing": price} for each in ids]}


def service_that_lists(listed: list[str], headers: dict[str, str]) -> Callable[[httpx.Request], httpx.Response]:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/key"):
            return httpx.Response(200, json={"data": {"free_model_daily_requests": {"limit": 50, "used": 7}}})
        assert request.url.path.endswith("/models"), "no model is called"
        return httpx.Response(200, json=models(*listed), headers=headers)

    return answer


def test_a_refresh_shows_the_day_s_use_and_what_changed_in_the_catalogue(connected: PrefectStack) -> None:
    async def check() -> None:
        listed = ["acme/coder:free"]
        async with service(service_that_lists(listed, {})) as address, connected.client() as client:
            await OpenRouterCredentials(api_key="sk-or-simulated", base_url=address).asave("refreshed")  # pyright: ignore
            first: State[Any] = await refresh("refreshed", return_state=True)
            assert first.message == "7 of 50 free requests of today are used (the ledger had counted 0)."
            assert "No catalogue of this service was known before." in await newest(client, "refresh")
            listed[:] = ["acme/coder-2:free"]
            second: State[Any] = await refresh("refreshed", return_state=True)
            assert second.message == "7 of 50 free requests of today are used."
            text = await newest(client, "refresh")
            assert "`acme/coder-2:free` new: free" in text
            assert "`acme/coder:free` gone: free" in text
        unreachable: State[Any] = await refresh("refreshed", return_state=True)
        assert unreachable.is_failed()

    asyncio.run(check())


def test_a_simulated_service_is_marked_and_without_a_block_nothing_is_asked(connected: PrefectStack) -> None:
    async def check() -> None:
        answer = service_that_lists(["acme/coder:free"], {SIMULATED_HEADER: "true"})
        async with service(answer) as address, connected.client() as client:
            await OpenRouterCredentials(api_key="sk-or-simulated", base_url=address).asave("refreshed", overwrite=True)  # pyright: ignore
            await refresh("refreshed", return_state=True)
            assert "1 models (simulated), 1 of them free." in await newest(client, "refresh")
        skipped: State[Any] = await refresh("no-such-block", return_state=True)
        assert (skipped.name, skipped.is_completed()) == ("Skipped", True)

    asyncio.run(check())


async def running(client: PrefectClient) -> FlowRun:
    found = await client.read_deployment_by_name("development-task/normal")
    made = await client.create_flow_run_from_deployment(found.id, name=f"run-{uuid4()}")
    await client.set_flow_run_state(made.id, Running(), force=True)
    return made


def test_a_run_that_began_just_now_or_is_gone_is_not_taken_up(connected: PrefectStack) -> None:
    async def check() -> None:
        async with connected.client() as client:
            lives = await running(client)
            state: State[Any] = await take_up_run(lives.id, return_state=True)
            assert "its last heartbeat was" in (state.message or "")
            assert (await client.read_flow_run(lives.id)).state_name == "Running"
            gone: State[Any] = await take_up_run(uuid4(), return_state=True)
            assert gone.is_completed()

    asyncio.run(check())


def test_a_lost_run_is_queued_again_up_to_three_times(connected: PrefectStack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.taking_up.FIRST_SECONDS", 0)

    async def check() -> None:
        async with connected.client() as client:
            lost = await running(client)
            states: list[str | None] = []
            for _ in range(4):
                await client.set_flow_run_state(lost.id, Running(), force=True)
                await take_up_run(lost.id, return_state=True)
                states.append((await client.read_flow_run(lost.id)).state_name)
            assert states == ["AwaitingRetry"] * 3 + ["Crashed"]

    asyncio.run(check())


def test_a_scheduled_batch_is_submitted_once_and_ends_when_its_batch_does(
    connected: PrefectStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.found_batch.LOOK", timedelta())
    (tmp_path / "shop").mkdir()
    repository = make_repository(tmp_path / "shop")
    (repository / "prices.py").write_text("def price():\n    return 1\n")
    commit(repository)

    async def check() -> None:
        async with connected.client() as client:
            await OpenRouterCredentials(api_key="sk-or-simulated").asave("nightly", overwrite=True)  # pyright: ignore
            flow_id = await client.create_flow_from_name("batch")
            await client.create_deployment(flow_id, "batch", entrypoint="flows:none")
            mine = await client.create_flow_run(
                write_docstrings, parameters={"repositories": [str(repository)], "credentials": "nightly"}
            )
            key = FlowRunFilter(idempotency_key=FlowRunFilterIdempotencyKey(any_=[f"devtasks-scheduled:{mine.id}"]))

            async def go_on() -> FlowRun:
                now = await client.read_flow_run(mine.id)
                with suppress(Pause):
                    await run_flow_async(write_docstrings, now, now.parameters, return_type="state")
                return await client.read_flow_run(mine.id)

            assert (await go_on()).state_name == "AwaitingTasks"
            (batch,) = await client.read_flow_runs(flow_run_filter=key)
            tasks = batch.parameters["tasks"]
            assert sorted(each["target_file"] for each in tasks) == ["prices.py", "shop.py"]
            assert {each["priority"] for each in tasks} == {"low"}
            assert {each["limits"]["cost_usd"] for each in tasks} == {0}
            assert batch.parameters["one_branch"].startswith("devtasks/docstrings-")

            await client.set_flow_run_state(batch.id, Completed(name="Finished", message="2 accepted"), force=True)
            done = await go_on()
            assert done.state
            assert done.state.is_completed()
            assert "is Finished: 2 accepted" in (done.state.message or "")
            assert len(await client.read_flow_runs(flow_run_filter=key)) == 1

    asyncio.run(check())
