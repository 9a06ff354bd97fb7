"""The account's windows for free models: a minute and a day, both aligned to UTC, as OpenRouter counts them."""

from collections.abc import Iterable
from datetime import datetime

from devtasks.simulator.scenario import Limits
from devtasks.simulator.shapes import DAY, Json, Refused, account_limit


class Window:
    """Counts the requests of the current window of so many seconds."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds
        self._index = -1
        self._count = 0

    def used(self, now: datetime) -> int:
        """Return the requests counted in the window that holds this time."""
        index = int(now.timestamp()) // self.seconds
        if index != self._index:
            self._index, self._count = index, 0
        return self._count

    def count(self, now: datetime) -> None:
        """Count one request."""
        self._count = self.used(now) + 1


class Quota:
    """Admits requests to free models up to the scenario's limits; whatever comes of an admitted one, it counts."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._day = Window(DAY)
        self._minute = Window(limits.minute_seconds)

    def admit(self, now: datetime) -> None:
        """Count one request, or raise Refused (429) with the headers of the window that is full."""
        bounds = ((self._day, self._limits.free_requests_per_day), (self._minute, self._limits.requests_per_minute))
        for window, limit in bounds:
            if limit is not None and window.used(now) >= limit:
                tier = self._limits.is_free_tier
                raise Refused(account_limit(now, window=window.seconds, limit=limit, is_free_tier=tier))
        for window, _ in bounds:
            window.count(now)

    def daily(self, now: datetime) -> Json:
        """Return the key's `free_model_daily_requests`, or nothing where the scenario has no daily limit."""
        limit = self._limits.free_requests_per_day
        if limit is None:
            return {}
        used = self._day.used(now)
        return {"free_model_daily_requests": {"limit": limit, "used": used, "remaining": limit - used}}


def busiest(times: Iterable[datetime], seconds: float) -> int:
    """Return the most requests that arrived within so many seconds, wherever those begin."""
    ordered = sorted(time.timestamp() for time in times)
    return max((sum(first <= time < first + seconds for time in ordered) for first in ordered), default=0)
