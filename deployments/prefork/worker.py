"""The worker type `prefork`: Prefect's process worker, whose flow runs are forks of a preloaded server.

`prefect worker start --pool devtasks --type prefork`. What differs from the stock process worker: a flow run starts
in about a second, its memory has a limit, and it does not inherit the worker's secrets.
"""

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, Self, override

import anyio
from anyio.abc import TaskStatus
from prefect.client.schemas.objects import FlowRun
from prefect.workers.process import (
    ProcessJobConfiguration,
    ProcessVariables,
    ProcessWorker,
    ProcessWorkerResult,
)
from pydantic import Field

from deployments.prefork import child, environment, memory, private
from deployments.prefork.servers import Preload, Servers
from devtasks.execution import agent, local
from devtasks.forkserver.client import CannotFork, ForkedProcess

LIBRARIES = (
    "aiohttp.web",
    "alembic.command",
    "asyncpg",
    "coverage",
    "httpx",
    "jinja2",
    "psutil",
    "pydantic_settings",
    "sqlalchemy.ext.asyncio",
    "tenacity",
    "yaml",
)
"""What our flows import besides Prefect. Not pandas: it starts threads, after which forking is not safe."""

MEMORY_LIMIT_MB = 4_096


def preloads() -> tuple[Preload, Preload]:
    """Return what the servers for flow runs and for agents have in memory."""
    shown = environment.shown(private.settings_environment())
    settings = {name: value for name, value in shown.items() if private.is_setting(name)}
    server = environment.of_server()
    flows = Preload(
        f"{child.__name__}:main", (*private.PRELOAD, *LIBRARIES), server, (f"{child.__name__}:prepare", settings)
    )
    # HOME is no folder: OpenHands derives from it, when it is imported, where it looks for a user's own instructions.
    agents = Preload(local.FORKED_SUPERVISOR, agent.MODULES, server | local.CONSTANTS | {"HOME": "/nonexistent"})
    return flows, agents


class PreforkVariables(ProcessVariables):
    """The job variables of a pool of this type: the process worker's and two more."""

    memory_limit_mb: int = Field(
        default=MEMORY_LIMIT_MB,
        ge=64,
        title="Memory Limit (MB)",
        description="Memory that the flow run's process may hold of its own; beyond it the run ends as crashed.",
    )
    pass_secrets: list[str] = Field(
        default_factory=list,
        title="Pass Secrets",
        description="Names of the worker's environment variables that look like secrets and are passed all the same.",
    )


class PreforkJobConfiguration(ProcessJobConfiguration):
    """A job of this worker; see PreforkVariables."""

    memory_limit_mb: int = MEMORY_LIMIT_MB
    pass_secrets: list[str] = Field(default_factory=list)

    @override
    def prepare_for_flow_run(self, *arguments: Any, **named: Any) -> None:
        """Prepare as the process worker does, without the secrets of the worker's environment."""
        given = {name for name, value in self.env.items() if value is not None} | {*self.pass_secrets}
        super().prepare_for_flow_run(*arguments, **named)
        self.env |= environment.withheld(given)


class PreforkWorker(private.WithoutRunsUnderWay, ProcessWorker):
    """Runs flow runs as forks of a server process that has Prefect and the other libraries imported."""

    type = "prefork"
    job_configuration = PreforkJobConfiguration
    job_configuration_variables = PreforkVariables

    _display_name = "Process (prefork)"
    _description = "Execute flow runs as forks of a preloaded process: they start in a second instead of in ten."

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        flows, agents = preloads()
        self._of_server = flows.environment
        self._servers = Servers(flows, agents)
        self._warned: set[str] = set()
        self._resources = AsyncExitStack()

    @override
    async def __aenter__(self) -> Self:
        if can_fork():
            if private.interrupt_is_ignored() and (task := asyncio.current_task()):
                asyncio.get_running_loop().add_signal_handler(signal.SIGINT, task.cancel)
            private.share_tls_contexts()
            self._servers.prepare()
            self._resources.push_async_callback(self._servers.close)
        await super().__aenter__()
        return self

    @override
    async def __aexit__(self, *exc_info: Any) -> None:
        async with self._resources:
            await super().__aexit__(*exc_info)

    @override
    async def run(
        self,
        flow_run: FlowRun,
        configuration: ProcessJobConfiguration,
        task_status: TaskStatus[int] | None = None,
    ) -> ProcessWorkerResult:
        """Run a flow run as the process worker does, in a fork where that is possible."""
        if reason := self._reason_against(configuration):
            self._warn(reason)
            return await super().run(flow_run, configuration, task_status)
        limit = getattr(configuration, "memory_limit_mb", MEMORY_LIMIT_MB) * memory.MB
        start = Start(self._servers, limit, self.get_flow_run_logger(flow_run).error, self._warn)
        with private.starting_with(start):
            return await super().run(flow_run, configuration, task_status)

    def _reason_against(self, configuration: ProcessJobConfiguration) -> str | None:
        if not can_fork():
            return "this system cannot fork"
        if private.names_command(configuration):
            return "a job names its own command"
        if name := environment.needs_new_process(configuration.env, self._of_server):
            return f"a job sets {name}, which takes effect only when a process starts"
        return None

    def _warn(self, reason: str) -> None:
        if reason not in self._warned:
            self._warned.add(reason)
            self._logger.warning("Flow runs start as with the stock process worker: %s.", reason)


def can_fork() -> bool:
    """Whether this system can fork and pass descriptors."""
    return hasattr(os, "fork") and hasattr(socket, "send_fds")


class Start:
    """Starts Prefect's Python processes as forks; has the signature of Prefect's `run_process`."""

    def __init__(
        self, servers: Servers, memory_limit: int, log: Callable[[str], None], warn: Callable[[str], None]
    ) -> None:
        self._servers = servers
        self._memory_limit = memory_limit
        self._log = log
        self._warn = warn

    async def __call__(self, command: list[str], **options: Any) -> Any:
        """Run a command to its end, in a fork if it is one of Prefect's own; return the ended process."""
        program = private.parse_command(command)
        if program is None:
            return await private.stock_run_process(command, **options)
        folder = str(options["cwd"])
        os.stat(folder)  # noqa: PTH116 - a missing folder is the starter's error, with the words of a real start
        request = {
            "kind": program.kind,
            "arguments": program.arguments,
            "folder": folder,
            "environment": options["env"],
        }
        try:
            process = await self._servers.fork(request, with_output=bool(options.get("stream_output")))
        except CannotFork as reason:
            self._warn(str(reason))
            return await private.stock_run_process(command, **options)
        try:
            await self._follow(process, **options)
        finally:  # an unfinished process is killed, as one that a worker started itself would be
            with anyio.CancelScope(shield=True):
                process.kill()
                await process.wait()
        return process

    async def _follow(
        self,
        process: ForkedProcess,
        *,
        task_status: Any = None,
        task_status_handler: Callable[[Any], Any] | None = None,
        **_: Any,
    ) -> None:
        if task_status is not None:
            task_status.started(task_status_handler(process) if task_status_handler else process.pid)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._limit_memory, process)
            await process.wait()
            tasks.cancel_scope.cancel()

    async def _limit_memory(self, process: ForkedProcess) -> None:
        held = await memory.outgrown(process.pid, self._memory_limit)
        process.end_as(private.OUT_OF_MEMORY)
        self._log(
            f"Its process held {held // memory.MB} MB of memory, more than the {self._memory_limit // memory.MB} MB"
            " of the job variable memory_limit_mb, and was killed."
        )
