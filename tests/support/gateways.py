"""Gateways before one service, for tests of what happens on the way there."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from pydantic import SecretStr

from devtasks.openrouter.client import Pricing
from devtasks.openrouter.gateway import Gateway
from devtasks.openrouter.pacing import Pacing, Unpaced
from devtasks.openrouter.route import Route, Service
from devtasks.openrouter.upstream import Upstream
from devtasks.task import TaskLimits


class ServiceGateway(Gateway):
    """A gateway all of whose models are at one service."""

    service: Service

    def start(self, attempt: int, *models: str, pricing: Pricing | None = None, **callbacks: Any) -> None:
        """Begin an attempt with these models."""
        self.begin(attempt, [Route(model, self.service, pricing) for model in models], **callbacks)


async def instantly(_: float) -> None:
    """Sleep no time at all."""


@asynccontextmanager
async def gateway_to(
    base_url: str, key: SecretStr, *models: str, pacing: Pacing | None = None, upstream: Any = None, **given: Any
) -> AsyncGenerator[ServiceGateway]:
    """Open a gateway whose first attempt has begun; it waits no time, unless it is given how to sleep."""
    wanted = {"flow_run_id": "run", "limits": TaskLimits(), "first_wait": 0, "sleep": instantly} | given
    async with Upstream(base_url, key, **upstream or {}) as connections, ServiceGateway(**wanted) as gateway:
        gateway.service = Service(connections, pacing or Unpaced())
        gateway.start(1, *models)
        yield gateway
