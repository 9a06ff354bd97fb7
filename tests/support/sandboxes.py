"""Whether tests can run sandboxes here."""

import asyncio
import subprocess
from functools import cache

import pytest

from devtasks.errors import DevtasksError
from devtasks.execution import bubblewrap
from devtasks.execution.docker_engine import check_image
from devtasks.execution.image import default_image


@cache
def why_not() -> str:
    """Return why no container of our image can run here; nothing where one can, which is tried."""
    try:
        asyncio.run(check_image(default_image()))
    except DevtasksError as error:
        return str(error)
    options = ("--rm", "--network=none", "--read-only", "--memory=64m", "--pids-limit=16", "--cpus=1")
    tried = subprocess.run(["docker", "run", *options, default_image(), "true"], capture_output=True, check=False)
    return tried.stderr.decode(errors="replace").strip()[-300:] if tried.returncode else ""


def require_docker() -> None:
    """Skip the test where there is no Docker engine, or `make image` has not been run."""
    if reason := why_not():
        pytest.skip(reason)


def require_bubblewrap() -> None:
    """Skip the test where bubblewrap is not installed or may not make namespaces."""
    if reason := bubblewrap.why_not():
        pytest.skip(reason)
