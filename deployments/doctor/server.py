"""Checks of the Prefect server and of what has to be on it: pool, queues, deployments, a worker, blocks."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import httpx
import prefect
import yaml
from prefect import Flow
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound
from prefect.utilities.callables import parameter_schema

from blocks import OpenHandsRuntime, OpenRouterCredentials
from deployments.client import online_workers
from deployments.doctor.checks import Finding, failed, ok, warning
from deployments.setup import POOL, PROJECT, QUEUE_PRIORITIES
from deployments.stack import Connection
from devtasks.errors import ServiceUnreachable

ANSWER_SECONDS = 10.0


async def server(connection: Connection) -> Finding:
    """Whether the server answers, takes our password, is of our version, and asks strangers for one."""
    url = connection.api_url
    try:
        async with httpx.AsyncClient(timeout=ANSWER_SECONDS) as anybody:
            (await anybody.get(f"{url}/health")).raise_for_status()
            stranger = await anybody.get(f"{url}/admin/version")
        with connection.settings():
            async with get_client() as client:
                version = await client.api_version()
    except httpx.HTTPStatusError as error:
        if error.response.status_code not in (401, 403):
            raise ServiceUnreachable("the Prefect server", url, str(error.response.status_code)) from error
        return failed(f"{url} refuses us ({error.response.status_code})", "set PREFECT_API_AUTH_STRING=user:password")
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise ServiceUnreachable("the Prefect server", url, type(error).__name__) from error
    found = f"{url}, Prefect {version}"
    if version != prefect.__version__:
        return warning(f"{found}, and {prefect.__version__} here", f"run the server with Prefect {prefect.__version__}")
    if stranger.is_success:
        return warning(
            f"{found}, asks for no password: whoever reaches it can read the key",
            "start the server with PREFECT_SERVER_API_AUTH_STRING=user:password, clients with PREFECT_API_AUTH_STRING",
        )
    return ok(found)


async def pool(client: PrefectClient) -> Finding:
    """Whether the work pool is there with its queues, each with its priority, and nothing paused."""
    try:
        found = await client.read_work_pool(POOL)
    except ObjectNotFound:
        return failed(f"there is no work pool {POOL}")
    queues = {each.name: each for each in await client.read_work_queues(work_pool_name=POOL)}
    wrong = [f"{name} is missing" for name in QUEUE_PRIORITIES if name not in queues]
    wrong += [
        f"{name} has priority {queues[name].priority} instead of {priority}"
        for name, priority in QUEUE_PRIORITIES.items()
        if name in queues and queues[name].priority != priority
    ]
    if wrong:
        return failed(f"queues of {POOL}: {', '.join(wrong)}")
    paused = [name for name in QUEUE_PRIORITIES if queues[name].is_paused]
    if found.is_paused or paused:
        what = f"work pool {POOL}" if found.is_paused else f"queues {', '.join(paused)}"
        return warning(f"paused: {what}", "resume it in the UI, or nothing in it starts")
    return ok(f"work pool {POOL}, " + ", ".join(f"{name} {number}" for name, number in QUEUE_PRIORITIES.items()))


async def deployments(client: PrefectClient) -> Finding:
    """Whether what prefect.yaml declares is on the server, as this version has it."""
    declared = yaml.safe_load((PROJECT / "prefect.yaml").read_text())["deployments"]
    wrong: list[str] = []
    for each in declared:
        flow = _flow(each["entrypoint"])
        name = f"{flow.name}/{each['name']}"
        try:
            deployed = await client.read_deployment_by_name(name)
        except ObjectNotFound:
            wrong.append(f"{name} is missing")
        else:
            wrong += [f"{name} is of another version"] if _differs(deployed, each, flow) else []
    return failed(", ".join(wrong)) if wrong else ok(f"{len(declared)} of this version")


def _flow(entrypoint: str) -> Flow[..., Any]:
    module, _, name = entrypoint.replace(":", ".").rpartition(".")
    return getattr(import_module(module), name)


def _differs(deployed: DeploymentResponse, declared: Mapping[str, Any], flow: Flow[..., Any]) -> bool:
    place = (deployed.entrypoint, deployed.work_pool_name, deployed.work_queue_name)
    pool = declared["work_pool"]
    if place != (declared["entrypoint"], pool["name"], pool.get("work_queue_name", "default")):
        return True
    return deployed.parameter_openapi_schema != parameter_schema(flow).model_dump_for_openapi()


async def worker(client: PrefectClient) -> Finding:
    """Whether a worker polls the pool."""
    online = await online_workers(client, POOL)
    return ok(", ".join(online)) if online else failed("none polls: tasks wait")


async def credentials(client: PrefectClient) -> Finding:
    """Whether the block with the key is there; the key is not read."""
    try:
        await client.read_block_document_by_name("default", OpenRouterCredentials.get_block_type_slug())
    except ObjectNotFound:
        return failed("there is no block OpenRouter Credentials default, which tasks use unless they name another")
    return ok("OpenRouter Credentials default")


async def runtime(client: PrefectClient) -> Finding:
    """Whether the block with the bounds of every task is there."""
    try:
        block = await OpenHandsRuntime.aload("default", client=client)
    except ValueError:
        return failed("there is no block OpenHands Runtime default")
    return ok(f"OpenHands Runtime default: {block.runtime or 'local or as the worker says'}, sandbox {block.sandbox}")
