"""The native retries of the steps, as data."""

from typing import Any

from prefect.cache_policies import NO_CACHE

from devtasks.errors import DevtasksError


async def is_transient(_task: Any, _run: Any, state: Any) -> bool:
    """Ask the typed error of a failed step whether the same step may be tried again."""
    return isinstance(state.data, DevtasksError) and state.data.transient


# Steps pass live objects on (the gateway, the runtime), which have no place in a cache or in stored results.
STEP: dict[str, Any] = {"cache_policy": NO_CACHE, "persist_result": False}

RETRIED: dict[str, Any] = STEP | {"retries": 2, "retry_delay_seconds": [1, 5], "retry_condition_fn": is_transient}
