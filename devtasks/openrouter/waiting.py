"""Waits that are not the agent's fault: for the account's minute, and for a model that asked for patience."""

import asyncio
import time
from collections.abc import Awaitable, Callable

OnWait = Callable[[float, str], None]
"""Is told before each wait how many seconds it takes, and what for."""

Sleep = Callable[[float], Awaitable[None]]


class Waiting:
    """Sleeps, and counts the time in which at least one call slept."""

    def __init__(self, sleep: Sleep = asyncio.sleep) -> None:
        self._sleep = sleep
        self._count = 0
        self._since = 0.0
        self._past = 0.0

    @property
    def seconds(self) -> float:
        """Seconds of all waits so far, the current one included; those at the same time count once."""
        return self._past + (time.monotonic() - self._since if self._count else 0.0)

    async def wait(self, seconds: float) -> None:
        """Sleep so long."""
        if not self._count:
            self._since = time.monotonic()
        self._count += 1
        try:
            await self._sleep(seconds)
        finally:
            self._count -= 1
            if not self._count:
                self._past += time.monotonic() - self._since
