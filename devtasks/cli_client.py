"""The Prefect server that the commands speak to."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from devtasks.config import STACK, OpenHandsConfig
from devtasks.errors import ServiceUnreachable

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient


@asynccontextmanager
async def open_client() -> "AsyncGenerator[PrefectClient]":
    """Yield a client of PREFECT_API_URL's server, else of the stack that is up, else of the active profile's."""
    from httpx import HTTPError
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL

    from deployments.stack import Connection, read_connection

    config = OpenHandsConfig.from_env()
    found = None if config.prefect_api_url else read_connection((config.home / STACK).expanduser().resolve())
    connection = found or Connection(PREFECT_API_URL.value() or "", None)
    if not connection.api_url:
        reason = "PREFECT_API_URL is not set and no stack is up; start one with `devtasks up`"
        raise ServiceUnreachable("a Prefect server", "(no address)", reason)
    try:
        with connection.settings():
            async with get_client() as client:
                yield client
    except (HTTPError, OSError) as error:
        raise ServiceUnreachable("the Prefect server", connection.api_url, type(error).__name__) from error
