"""What the prefork worker does besides: environment, fresh code, memory, commands of a job's own, leaving in order."""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import FlowRun
from prefect_stack import PrefectStack, ended

from deployments.prefork.worker import PreforkJobConfiguration

POOL = "extras"
SECRETS = {"OPENROUTER_API_KEY": "sk-or-simulated", "HANDED_ON_TOKEN": "handed-on", "PLAIN": "plain"}

LOOK = """
import gc, json, os, sys
from pathlib import Path
from prefect import flow
from prefect.settings import get_current_settings
from deployments import NAME

@flow
async def look(folder: str) -> None:
    found = {"environment": dict(os.environ), "folder": str(Path.cwd()), "name": NAME, "main": sys.argv[0]}
    settings = get_current_settings()
    found["level"] = settings.logging.level
    # What was there before the fork is hidden from the collector.
    found["settings are new"] = any(each is settings for each in gc.get_objects())
    (Path(folder) / "found.json").write_text(json.dumps(found))
"""


@pytest.fixture(scope="module")
def worker(stack: PrefectStack) -> Generator[psutil.Process]:
    asyncio.run(stack.create_pool(POOL, "prefork"))
    with stack.worker(POOL, "--limit", "4", **SECRETS) as process:
        yield psutil.Process(process.pid)


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A project whose package has the name of one of ours."""
    (tmp_path / "deployments").mkdir()
    (tmp_path / "deployments" / "__init__.py").write_text("NAME = 'the project'\n")
    (tmp_path / "look.py").write_text(LOOK)
    return tmp_path


def run(stack: PrefectStack, entrypoint: str, folder: Path, **options: Any) -> tuple[FlowRun, list[str]]:
    """Run a flow to its end; return the flow run and its log lines."""

    async def logs(client: PrefectClient, flow_run: FlowRun) -> list[str]:
        wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run.id]))
        return [log.message for log in await client.read_logs(wanted)]

    async def play() -> tuple[FlowRun, list[str]]:
        async with stack.client() as client, asyncio.timeout(120):
            flow_run = await stack.submit(client, POOL, entrypoint, {"folder": str(folder)}, **options)
            while not ended(flow_run := await client.read_flow_run(flow_run.id)):
                await asyncio.sleep(0.1)
            return flow_run, await logs(client, flow_run)

    return asyncio.run(play())


def look(stack: PrefectStack, code: Path, **options: Any) -> dict[str, Any]:
    flow_run, _ = run(stack, "look.py:look", code, code=code, **options)
    assert flow_run.state_name == "Completed", flow_run.state
    return json.loads((code / "found.json").read_text())


def servers(worker: psutil.Process) -> list[psutil.Process]:
    return [child for child in worker.children() if "server.py" in " ".join(child.cmdline())]


def test_secrets_of_the_worker_reach_neither_the_server_nor_a_run(
    stack: PrefectStack, worker: psutil.Process, code: Path
) -> None:
    environment = look(stack, code)["environment"]
    assert not {"sk-or-simulated", "handed-on"} & set(environment.values())
    assert environment["PLAIN"] == "plain"
    assert environment["PREFECT_API_AUTH_STRING"] == stack.auth
    assert len(servers(worker)) == 2
    for raw in (Path(f"/proc/{server.pid}/environ") for server in servers(worker)):
        if raw.exists():
            assert not any(secret in raw.read_text() for secret in ("sk-or-simulated", "handed-on", stack.auth))


def test_a_job_gives_variables_of_its_own_and_names_secrets_to_pass(
    stack: PrefectStack, worker: psutil.Process, code: Path
) -> None:
    environment = look(stack, code, env={"OPENROUTER_API_KEY": "the job's"}, pass_secrets=["HANDED_ON_TOKEN"])
    environment = environment["environment"]
    assert environment["OPENROUTER_API_KEY"] == "the job's"
    assert environment["HANDED_ON_TOKEN"] == "handed-on"


def test_a_secret_that_the_job_sets_to_nothing_is_not_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", "the worker's")
    job = PreforkJobConfiguration(env={"A_TOKEN": None})
    job.prepare_for_flow_run(FlowRun(flow_id=uuid4()))
    assert job.env.get("A_TOKEN") is None


def test_a_run_loads_the_projects_code_as_it_is_now_and_none_of_ours_is_in_its_way(
    stack: PrefectStack, worker: psutil.Process, code: Path
) -> None:
    assert look(stack, code)["name"] == "the project"
    (code / "deployments" / "__init__.py").write_text("NAME = 'changed'\n")
    os.utime(code / "deployments" / "__init__.py", (1, 1))
    found = look(stack, code)
    assert found["name"] == "changed"
    assert found["folder"] == str(code)


def test_a_run_shares_the_servers_settings_unless_its_environment_or_folder_says_otherwise(
    stack: PrefectStack, worker: psutil.Process, code: Path
) -> None:
    shared = look(stack, code)
    of_environment = look(stack, code, env={"PREFECT_LOGGING_LEVEL": "ERROR"})
    (code / "prefect.toml").write_text('[logging]\nlevel = "WARNING"\n')
    of_folder = look(stack, code)
    found = [(each["level"], each["settings are new"]) for each in (shared, of_environment, of_folder)]
    assert found == [("INFO", False), ("ERROR", True), ("WARNING", True)]


def test_a_run_is_told_where_agents_are_forked(stack: PrefectStack, worker: psutil.Process, code: Path) -> None:
    assert Path(look(stack, code)["environment"]["DEVTASKS_AGENT_SERVER"]).is_socket()


def test_a_run_that_outgrows_its_memory_crashes_with_that_reason(
    stack: PrefectStack, worker: psutil.Process, tmp_path: Path
) -> None:
    flow_run, _ = run(stack, "ending_flows.py:grows", tmp_path, memory_limit_mb=200)
    assert flow_run.state_name == "Crashed"
    assert flow_run.state
    assert "memory" in str(flow_run.state.message)
    [pid] = json.loads((tmp_path / "pids").read_text())
    assert not psutil.pid_exists(pid)


def test_what_cannot_be_forked_runs_as_with_the_stock_worker_with_one_warning(
    stack: PrefectStack, worker: psutil.Process, code: Path
) -> None:
    look(stack, code, env={"PYTHONUTF8": "1"})
    for _ in range(2):
        environment = look(stack, code, command=f"{sys.executable} -m prefect.engine")["environment"]
    assert "sk-or-simulated" not in environment.values()
    assert stack.log(POOL).count("a job sets PYTHONUTF8") == 1
    assert stack.log(POOL).count("a job names its own command") == 1


def test_a_worker_in_a_scripts_background_leaves_in_order_on_sigterm(stack: PrefectStack, tmp_path: Path) -> None:
    asyncio.run(stack.create_pool("leaving", "prefork"))

    with stack.worker("leaving", in_background=True) as process:
        wait(lambda: "started!" in stack.log("leaving"))
        below = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        assert process.wait(20) == 0
    assert below
    _, alive = psutil.wait_procs(below, timeout=10)
    assert alive == []
    assert "stopped!" in stack.log("leaving")


def test_a_worker_that_runs_once_ends_when_its_run_has(stack: PrefectStack, tmp_path: Path) -> None:
    async def submit() -> FlowRun:
        await stack.create_pool("once", "prefork")
        async with stack.client() as client:
            return await stack.submit(client, "once", "ending_flows.py:succeeds", {"folder": str(tmp_path)})

    async def read(flow_run: FlowRun) -> FlowRun:
        async with stack.client() as client:
            return await client.read_flow_run(flow_run.id)

    flow_run = asyncio.run(submit())
    with stack.worker("once", "--run-once") as process:
        assert process.wait(60) == 0
    assert asyncio.run(read(flow_run)).state_name == "Completed"


def wait(condition: Callable[[], bool]) -> None:
    async def poll() -> None:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.1)

    asyncio.run(poll())
