"""Where the commands run that make a project's environment: by default on this machine."""

import os
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import uv

DOWNLOADS = "uv-cache"
"""The beginning of the names of the folders beside the environments in which uv keeps what it has downloaded."""


@dataclass(frozen=True)
class Step:
    """One command, what it finds in its environment, and the folders that it may write."""

    argv: tuple[str, ...]
    cwd: Path
    environment: Mapping[str, str]
    writable: tuple[Path, ...]


class Builder(Protocol):
    """Runs the steps that make an environment, one at a time."""

    @property
    def python(self) -> Path:
        """The interpreter that environments are made with, as the steps see it."""
        ...

    @property
    def uv(self) -> str:
        """The uv that the steps see."""
        ...

    def path(self, own: str) -> str:
        """Return the PATH of the steps, where this process's is `own`."""
        ...

    async def identity(self) -> tuple[str, ...]:
        """Return what decides, besides the project, how an environment comes out."""
        ...

    async def start(self, step: Step) -> tuple[tuple[str, ...], Mapping[str, str] | None]:
        """Return the command of this machine that runs a step, and its environment; None for this process's."""
        ...

    async def kill(self) -> None:
        """End what is left of the step that was started last, whose command was killed."""
        ...


class HostBuilder:
    """Runs steps as programs of this machine."""

    python = Path(sys.executable)

    @property
    def uv(self) -> str:
        """The one that is installed with devtasks."""
        return uv.find_uv_bin()

    def path(self, own: str) -> str:
        """Return that uv's folder, then this process's PATH."""
        return os.pathsep.join((str(Path(self.uv).parent), own))

    async def identity(self) -> tuple[str, ...]:
        """Return the versions of Python and uv."""
        return (sys.version, getattr(sys, "_base_executable", sys.executable), sysconfig.get_platform(), version("uv"))

    async def start(self, step: Step) -> tuple[tuple[str, ...], Mapping[str, str]]:
        """Return the step itself."""
        return step.argv, step.environment

    async def kill(self) -> None:
        """Do nothing: with its command's tree all of a step is gone."""


def clear_downloads(folder: Path) -> None:
    """Remove a folder of uv's downloads when no uv is at work there; raise OSError where that fails."""
    command = (uv.find_uv_bin(), "cache", "clean", "--cache-dir", str(folder))
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise OSError(done.stderr.strip())
