"""A Prefect server on the embedded PostgreSQL, with workers of any type, for tests and benchmarks of workers."""

import asyncio
import contextlib
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from harness import clean_environment
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun
from prefect.states import Scheduled
from prefect.workers.process import ProcessWorker

from deployments.postgres import EmbeddedPostgres
from deployments.prefork.worker import PreforkWorker

SUPPORT = Path(__file__).parent
SECONDS = 150
TYPES = {each.type: each for each in (ProcessWorker, PreforkWorker)}


@dataclass(frozen=True)
class PrefectStack:
    """A server that is up; `variables` is the environment of its clients, `restart` kills it and starts it again."""

    folder: Path
    url: str
    auth: str
    variables: dict[str, str]
    restart: Callable[[], None]

    def client(self) -> PrefectClient:
        return PrefectClient(self.url, auth_string=self.auth)

    async def create_pool(self, name: str, worker_type: str) -> None:
        template = TYPES[worker_type].get_default_base_job_template()
        async with self.client() as client:
            await client.create_work_pool(WorkPoolCreate(name=name, type=worker_type, base_job_template=template))

    async def submit(
        self,
        client: PrefectClient,
        pool: str,
        entrypoint: str,
        parameters: dict[str, Any],
        *,
        code: Path | None = SUPPORT,
        queue: str | None = None,
        **job_variables: Any,
    ) -> FlowRun:
        """Deploy a flow to a pool, and create a run of it: one of a file in the folder `code` (`file.py:flow`).

        Without a folder it is one of a module that the job can import (`module.flow`), and starts where the job does.
        """
        steps = [{"prefect.deployments.steps.set_working_directory": {"directory": str(code)}}] if code else []
        flow_id = await client.create_flow_from_name(re.split("[.:]", entrypoint)[-1].replace("_", "-"))
        deployment = await client.create_deployment(
            flow_id,
            f"{pool}-{secrets.token_hex(4)}",
            entrypoint=entrypoint,
            pull_steps=steps,
            work_pool_name=pool,
            job_variables=job_variables,
        )
        return await client.create_flow_run_from_deployment(
            deployment, parameters=parameters, state=Scheduled(), work_queue_name=queue
        )

    @contextlib.contextmanager
    def worker(
        self, pool: str, *options: str, in_background: bool = False, **variables: str
    ) -> Generator[subprocess.Popen[bytes]]:
        """Run a worker on a pool, where wanted as in a script's background (SIGINT ignored); its log is POOL.log."""
        prefix = ("sh", "-c", 'trap "" INT; exec "$@"', "sh") if in_background else ()
        command = (sys.executable, "-m", "prefect", "--no-prompt", "worker", "start", "--pool", pool, *options)
        with (self.folder / f"{pool}.log").open("ab") as log:
            process = subprocess.Popen(
                (*prefix, *command),
                env=self.variables | variables,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def log(self, pool: str) -> str:
        return (self.folder / f"{pool}.log").read_text()


@contextlib.contextmanager
def prefect_stack(folder: Path) -> Generator[PrefectStack]:
    """Run a Prefect server over `folder`."""
    postgres = EmbeddedPostgres(folder / "postgres")
    postgres.start(("prefect",))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url, auth = f"http://127.0.0.1:{port}/api", f"test:{secrets.token_hex(8)}"
    variables = clean_environment(folder / "home") | {
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_API_URL": url,
        "PREFECT_API_AUTH_STRING": auth,
        "PREFECT_WORKER_QUERY_SECONDS": "0.5",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    server = {
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": postgres.url("prefect"),
        "PREFECT_SERVER_API_AUTH_STRING": auth,
        # While it marks a run late, a poll passes over that run; a worker that polls once would never see it.
        "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED": "false",
    }
    command = (sys.executable, "-m", "prefect", "--no-prompt", "server", "start", "--port", str(port))
    processes: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        with (folder / "server.log").open("ab") as log:
            process = subprocess.Popen(
                command, env=variables | server, cwd=folder, stdout=log, stderr=log, start_new_session=True
            )
        processes.append(process)
        _wait_healthy(url, process)

    def end(seconds: float) -> None:
        process = processes[-1]
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        process.kill()
        process.wait()

    def restart() -> None:
        end(0)
        start()

    try:
        start()
        yield PrefectStack(folder, url, auth, variables, restart)
    finally:
        if processes:
            processes[-1].terminate()
            end(20)
        postgres.stop()


def _wait_healthy(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/health").is_success:
                return
        time.sleep(0.2)
    raise RuntimeError("the Prefect server did not start")


async def until(condition: Callable[[], Any], meaning: str) -> None:
    """Wait until a condition, sync or async, holds."""

    async def poll() -> None:
        while not (await found if asyncio.iscoroutine(found := condition()) else found):
            await asyncio.sleep(0.2)

    try:
        await asyncio.wait_for(poll(), SECONDS)
    except TimeoutError:
        raise AssertionError(f"not within {SECONDS} s: {meaning}") from None


def ended(flow_run: FlowRun) -> bool:
    return flow_run.state is not None and flow_run.state.is_final()
