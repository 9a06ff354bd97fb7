"""Where a call can go: a model, what it costs, and the service that serves it."""

from dataclasses import dataclass

from devtasks.openrouter.client import Pricing
from devtasks.openrouter.pacing import Pacing
from devtasks.openrouter.upstream import Upstream


@dataclass(frozen=True)
class Service:
    """An API and the account there: the connections, which hold its key, and the pacing of all calls to it."""

    upstream: Upstream
    pacing: Pacing


@dataclass(frozen=True)
class Route:
    """One way for a call to go; `pricing` is None where it is unknown."""

    model: str
    service: Service
    pricing: Pricing | None = None
