"""Which isolation a run works in: a container, bubblewrap's sandbox, or none but the supervisor's own."""

import asyncio
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

from blocks import OpenHandsRuntime
from devtasks.config import OpenHandsConfig
from devtasks.errors import InvalidInput
from devtasks.execution import bubblewrap
from devtasks.execution.bubblewrap import BubblewrapRuntime
from devtasks.execution.docker import DockerRuntime
from devtasks.execution.limits import ResourceLimits
from devtasks.execution.local import LocalRuntime
from devtasks.execution.supervised import SupervisedRuntime


class Sandbox(StrEnum):
    """What shuts in the agent and the commands of a run."""

    DOCKER = "docker"
    BUBBLEWRAP = "bubblewrap"
    NONE = "none"


async def choose_sandbox(
    asked_for_docker: bool, settings: OpenHandsRuntime, config: OpenHandsConfig, warn: Callable[[str], None]
) -> Sandbox:
    """Return a run's sandbox: what the task asks for, else the block, else the environment, where the machine has it.

    `warn` is told where there is none. A task cannot leave a container that the block or the environment puts it in.
    Raises InvalidInput where the block insists on bubblewrap and that does not work.
    """
    if in_docker(asked_for_docker, settings, config):
        return Sandbox.DOCKER
    if settings.sandbox == "none":
        return Sandbox.NONE
    reason = await asyncio.to_thread(bubblewrap.why_not)
    if reason is None:
        return Sandbox.BUBBLEWRAP
    if settings.sandbox == "bubblewrap":
        raise InvalidInput("sandbox", settings.sandbox, f"auto or none, since bubblewrap does not work: {reason}")
    warn(f"no sandbox, what runs can read your files and reach the network: {reason}")
    return Sandbox.NONE


def in_docker(asked: bool, settings: OpenHandsRuntime, config: OpenHandsConfig) -> bool:
    """Tell whether a run is put in a container."""
    return asked or (settings.runtime == "docker" if settings.runtime else config.use_docker_runtime)


def make_runtime(
    sandbox: Sandbox, folder: Path, settings: OpenHandsRuntime, config: OpenHandsConfig, gateway: Path | None
) -> SupervisedRuntime:
    """Return the runtime of a sandbox, not yet entered; `gateway` is the socket, for one without a network."""
    limits = ResourceLimits(settings.max_memory_mb, settings.max_processes, settings.max_disk_mb, settings.max_cpus)
    match sandbox:
        case Sandbox.DOCKER:
            return DockerRuntime(folder, limits=limits, gateway=gateway, image=settings.image)
        case Sandbox.BUBBLEWRAP:
            return BubblewrapRuntime(folder, limits=limits, gateway=gateway)
        case Sandbox.NONE:
            return LocalRuntime(folder, limits=limits, server=config.agent_server)
