"""Whether tests can run sandboxes here."""

import asyncio
from functools import cache

import pytest

from devtasks.errors import DevtasksError
from devtasks.execution import bubblewrap
from devtasks.execution.docker import check_image
from devtasks.execution.image import default_image


@cache
def why_not() -> str:
    """Return why no container of our image can run here; nothing where one can."""
    try:
        asyncio.run(check_image(default_image()))
    except DevtasksError as error:
        return str(error)
    return ""


def require_docker() -> None:
    """Skip the test where there is no Docker engine, or `make image` has not been run."""
    if reason := why_not():
        pytest.skip(reason)


def require_bubblewrap() -> None:
    """Skip the test where bubblewrap is not installed or may not make namespaces."""
    if reason := bubblewrap.why_not():
        pytest.skip(reason)
