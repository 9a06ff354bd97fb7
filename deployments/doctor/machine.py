"""Checks of this machine: the environment, programs, disk, and the file of own models."""

import asyncio
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from deployments.doctor.checks import Finding, failed, ok, skipped, warning
from devtasks.config import OpenHandsConfig
from devtasks.errors import InvalidInput, ServiceUnreachable
from devtasks.execution import bubblewrap
from devtasks.execution.docker_engine import check_image
from devtasks.execution.image import default_image
from devtasks.openrouter.overlay import Overlay

GIB = 1 << 30
LEAST_DISK = 1 * GIB
"""Below this PostgreSQL and the runs are about to fail."""

RUN_DISK = 4 * GIB
"""What one run may fill, by the default of the block OpenHands Runtime (4,096 MiB)."""


async def environment() -> Finding:
    """Whether every package that devtasks requires is here in a version it accepts."""
    missing = [str(each) for each in map(Requirement, requires("devtasks") or ()) if not _satisfied(each)]
    if missing:
        return failed(f"missing or of another version: {', '.join(missing)}")
    python = ".".join(map(str, sys.version_info[:3]))
    return ok(f"devtasks {version('devtasks')} and all it requires, Python {python}, in {sys.prefix}")


def _satisfied(requirement: Requirement) -> bool:
    if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
        return True
    try:
        return requirement.specifier.contains(version(requirement.name), prereleases=True)
    except PackageNotFoundError:
        return False


async def git() -> Finding:
    """Whether git is on the path, and which."""
    if shutil.which("git") is None:
        return failed("there is no git on the path")
    done = await asyncio.to_thread(
        subprocess.run, ["git", "--version"], capture_output=True, text=True, timeout=20, check=True
    )
    return ok(done.stdout.strip().removeprefix("git version "))


async def sandbox() -> Finding:
    """Whether bubblewrap works here; without it the local runtime shuts nothing in."""
    reason = await asyncio.to_thread(bubblewrap.why_not)
    return ok("works") if reason is None else warning(f"without it agents see your files and the network: {reason}")


async def docker(config: OpenHandsConfig) -> Finding:
    """Whether the docker runtime could be used: engine and image; needed only where it was asked for."""
    image = default_image()
    try:
        await check_image(image)
    except InvalidInput as error:
        found = f"{image} should be {error.allowed}"
    except ServiceUnreachable as error:
        found = str(error)
    else:
        return ok(f"the engine answers, and {image} is there")
    return failed(found) if config.use_docker_runtime else warning(f"optional: {found}")


async def disk(folder: Path) -> Finding:
    """Whether there is room where the stack keeps its state."""
    place = next(each for each in (folder, *folder.parents) if each.is_dir())
    free = shutil.disk_usage(place).free
    found = f"{free / GIB:,.1f} GiB free at {place}"
    if free < LEAST_DISK:
        return failed(found)
    return warning(f"{found}; one run may fill {RUN_DISK / GIB:g} GiB") if free < RUN_DISK else ok(found)


async def own_models(config: OpenHandsConfig) -> Finding:
    """Whether the file that DEVTASKS_MODELS names can be read."""
    if config.models_file is None:
        return skipped("DEVTASKS_MODELS is not set")
    Overlay.load(config.models_file)
    return ok(str(config.models_file))
