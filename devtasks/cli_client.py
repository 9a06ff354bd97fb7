"""The Prefect server that the commands speak to."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from devtasks.config import STACK, OpenHandsConfig
from devtasks.errors import ServiceUnreachable

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

    from deployments.stack import Connection


def find_connection() -> "Connection | None":
    """Return how to reach PREFECT_API_URL's server, else the stack that is up, else the active profile's, else None."""
    config = OpenHandsConfig.from_env()  # before Prefect is loaded: a bad setting is told at once
    from prefect.settings import PREFECT_API_URL

    from deployments.stack import Connection, read_connection

    found = None if config.prefect_api_url else read_connection(up_folder(config))
    url = PREFECT_API_URL.value()
    return found or (Connection(url, None) if url else None)


def up_folder(config: OpenHandsConfig) -> Path:
    """Return the folder of the stack that `devtasks up` keeps."""
    return (config.home / STACK).expanduser().resolve()


@asynccontextmanager
async def open_client() -> "AsyncGenerator[PrefectClient]":
    """Yield a client of the server that `find_connection` finds; raise ServiceUnreachable where none answers."""
    connection = find_connection()
    from httpx import HTTPError, HTTPStatusError
    from prefect.client.orchestration import get_client

    if connection is None:
        reason = "PREFECT_API_URL is not set and no stack is up; start one with `devtasks up`"
        raise ServiceUnreachable("a Prefect server", "(no address)", reason)
    try:
        with connection.settings():
            async with get_client() as client:
                yield client
    except (HTTPError, OSError) as error:
        answered = isinstance(error, HTTPStatusError)
        reason = f"it answers with HTTP {error.response.status_code}" if answered else type(error).__name__
        raise ServiceUnreachable("the Prefect server", connection.api_url, reason) from error
