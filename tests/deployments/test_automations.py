"""Automations on a real server: what happens leads to a call of a webhook, a silent run to a look at it."""

import asyncio
import json
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.objects import FlowRun, State
from prefect.events import Event
from prefect.events.clients import get_events_client
from prefect.events.schemas.automations import AutomationCore
from prefect.states import Completed, Crashed, Failed, Paused, Running, Scheduled
from prefect_stack import PrefectStack, until
from services import service

from deployments.automations import NAMES, NOTIFY_BLOCK, SILENT, TAKE_UP, Silence, set_up_automations
from deployments.setup import set_up_blocks
from deployments.stack import Connection
from devtasks.config import OpenHandsConfig
from devtasks.errors import InvalidInput
from devtasks.task import TaskStatus
from flows.taking_up import HEARTBEAT

REASON = 'no "result" <passed> (simulated)'
SOON = Silence(within=timedelta(seconds=10), look_after=timedelta())


@pytest.fixture
def connected(server: PrefectStack) -> Generator[PrefectStack]:
    async def make_take_up() -> None:
        async with server.client() as client:
            flow_id = await client.create_flow_from_name(TAKE_UP.split("/")[0])
            await client.create_deployment(flow_id, TAKE_UP.split("/")[1], entrypoint="flows:none")

    asyncio.run(make_take_up())

    async def clear() -> None:
        async with server.client() as client:
            await forget(client)

    with Connection(server.url, server.auth).settings():
        yield server
    asyncio.run(clear())


@asynccontextmanager
async def notified() -> AsyncGenerator[tuple[list[dict[str, Any]], str]]:
    """A service that notices are posted to; yields what came in, and its address."""
    received: list[dict[str, Any]] = []

    def take(request: httpx.Request) -> httpx.Response:
        assert request.headers["content-type"] == "application/json"
        received.append(json.loads(request.content))
        return httpx.Response(200)

    async with service(take) as address:
        yield received, address


def config(**variables: str) -> OpenHandsConfig:
    return OpenHandsConfig.model_validate(variables)


async def automations(client: PrefectClient) -> dict[str, tuple[str, str]]:
    """Return id and last change of our automations by name; two of the same name are an error."""
    answer = await client.request("POST", "/automations/filter", json={})
    found = [each for each in answer.json() if each["name"] in NAMES]
    assert len(found) == len({each["name"] for each in found})
    return {each["name"]: (each["id"], each["updated"]) for each in found}


async def forget(client: PrefectClient) -> None:
    for each in await client.read_automations():
        await client.delete_automation(each.id)
    for each in await client.read_block_documents():
        if each.name == NOTIFY_BLOCK:
            await client.delete_block_document(each.id)


async def run_in(client: PrefectClient, state: State, deployment: str = "development-task/normal") -> FlowRun:
    """Create a run of a deployment, and put it into this state."""
    found = await client.read_deployment_by_name(deployment)
    made = await client.create_flow_run_from_deployment(found.id, name=f"run-{uuid4()}", tags=["devtasks"])
    await client.set_flow_run_state(made.id, state, force=True)
    return made


async def emit(event: str, resource: str, *related: dict[str, str], **payload: Any) -> None:
    async with get_events_client() as events:
        labels = {"prefect.resource.id": resource, "prefect.resource.name": "nightly"}
        await events.emit(Event(event=event, resource=labels, related=list(related), payload=payload))


def test_a_set_up_makes_one_automation_each_and_repeating_it_changes_nothing(connected: PrefectStack) -> None:
    async def check() -> None:
        async with connected.client() as client:
            await set_up_automations(client, config())
            assert set(await automations(client)) == {SILENT}

            told = config(DEVTASKS_NOTIFY_URL="http://127.0.0.1:9/hook")
            await set_up_blocks(told)
            await set_up_automations(client, told)
            assert set(await automations(client)) == set(NAMES)
            (switched_off,) = await client.read_automations_by_name(NAMES[-1])
            await client.pause_automation(switched_off.id)
            made = await automations(client)
            await set_up_automations(client, told)
            await set_up_automations(client, told)
            assert await automations(client) == made

            # As Prefect's own command would leave it, and as another version of ours.
            (mine,) = await client.read_automations_by_name(SILENT)
            await client.create_automation(AutomationCore.model_validate(mine.model_dump(exclude={"id"})))
            await set_up_automations(client, told, SOON)
            (changed,) = await client.read_automations_by_name(SILENT)
            assert changed.trigger.within == SOON.within

            await forget(client)
            await set_up_automations(client, config())
            assert set(await automations(client)) == {SILENT}

    asyncio.run(check())


def test_a_block_that_tells_nobody_is_refused(connected: PrefectStack) -> None:
    async def set_up(block: str) -> None:
        async with connected.client() as client:
            await set_up_blocks(config(OPENROUTER_API_KEY="sk-or-simulated"))
            await set_up_automations(client, config(DEVTASKS_NOTIFY_BLOCK=block))

    for block in ("slack-webhook/none", "openrouter-credentials/default"):
        with pytest.raises(InvalidInput, match=f"DEVTASKS_NOTIFY_BLOCK: '{block}' is not allowed"):
            asyncio.run(set_up(block))


def test_what_a_task_comes_to_and_a_batch_reach_the_webhook(connected: PrefectStack) -> None:
    async def check() -> None:
        async with connected.client() as client, notified() as (received, address):
            told = config(DEVTASKS_NOTIFY_URL=address)
            await set_up_blocks(told)
            await set_up_automations(client, told)

            rejected = await run_in(
                client, Failed(name=TaskStatus.REJECTED, message='no "result" <passed> (simulated)')
            )
            await until(lambda: received, "the failure is told")
            (notice,) = received
            assert notice.pop("text").startswith(f"Rejected: {rejected.name}\n{REASON}\nhttp")
            assert notice.pop("url").endswith(f"/flow-run/{rejected.id}")
            assert notice == {
                "kind": "task failed",
                "title": f"Rejected: {rejected.name}",
                "state": "Rejected",
                "reason": REASON,
                "flow_run_id": str(rejected.id),
                "simulated": True,
            }

            received.clear()
            later = Scheduled(name=TaskStatus.AWAITING_QUOTA, message="used up")
            for state in (later, later, Completed(name=TaskStatus.ACCEPTED), Crashed(message="gone")):
                await run_in(client, state)
            await run_in(client, Paused(name=TaskStatus.NEEDS_REVIEW, message="waits for a person"))
            batch = await run_in(client, Completed())
            payload = {"state": "Finished", "reason": "all ended", "simulated": False, "counts": {"accepted": 3}}
            related = {"prefect.resource.id": f"prefect.flow-run.{batch.id}", "prefect.resource.role": "flow-run"}
            await emit("devtasks.batch.finished", f"devtasks.batch.{batch.id}", related, **payload)
            kinds = ["batch finished", "quota exhausted", "task escalated", "task failed"]
            await until(lambda: len(received) >= len(kinds), "each is told")
            assert sorted(each["kind"] for each in received) == kinds
            (finished,) = [each for each in received if each["kind"] == "batch finished"]
            assert finished["title"] == "Batch nightly: Finished"
            assert finished["batch"] == payload
            assert "accepted: 3" in finished["text"]
            assert finished["flow_run_id"] == str(batch.id)

    asyncio.run(check())


def test_a_silent_run_is_looked_at_and_one_that_waits_is_not(connected: PrefectStack) -> None:
    async def check() -> None:
        async with connected.client() as client:
            await set_up_automations(client, config(), SOON)
            silent, waits = await run_in(client, Running()), await run_in(client, Running())
            tag = {"prefect.resource.id": "prefect.tag.devtasks", "prefect.resource.role": "tag"}
            for each in (silent, waits):
                await emit(HEARTBEAT, f"prefect.flow-run.{each.id}", tag)
            await client.set_flow_run_state(waits.id, Scheduled(name=TaskStatus.AWAITING_RETRY), force=True)
            take_up = await client.read_deployment_by_name(TAKE_UP)
            looks = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[take_up.id]))

            async def looked_at() -> list[str]:
                return [each.parameters["run"] for each in await client.read_flow_runs(flow_run_filter=looks)]

            await until(looked_at, "somebody looks at the silent run")
            assert await looked_at() == [str(silent.id)]

    asyncio.run(check())
