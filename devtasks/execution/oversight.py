"""Watches an agent by its events, from outside of its process, and says when it is to be stopped."""

import asyncio
import json
from collections.abc import Callable
from typing import Self

from devtasks.execution.runtime import AgentEvent, AgentStatus, Stop
from devtasks.execution.stuck import StuckDetector


class Oversight:
    """Calls `stop` once, when the agent is stuck, says nothing for too long, or says too much.

    `silence` is in seconds after its first event, `output` in bytes of all of them. On leaving `with` it is over.
    `stopped` is why it was to be stopped, None while it is not.
    """

    def __init__(self, stop: Callable[[Stop], None], *, silence: float, output: int) -> None:
        self._stop = stop
        self._silence = silence
        self._output = output
        self._detector = StuckDetector()
        self._bytes = 0
        self._responses: set[str] = set()
        self._quiet_until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.stopped: Stop | None = None

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer:
            self._timer.cancel()

    @property
    def iterations(self) -> int:
        """How many answers of a model the agent has acted on."""
        return len(self._responses)

    def feed(self, event: AgentEvent) -> None:
        """Take in the agent's next event."""
        loop = asyncio.get_running_loop()
        self._quiet_until = loop.time() + self._silence
        if self._timer is None:
            self._timer = loop.call_at(self._quiet_until, self._heard_nothing)
        self._bytes += len(json.dumps(event))
        if response := event.get("response"):
            self._responses.add(response)
        if self._bytes > self._output:
            self._end(Stop(AgentStatus.OUTPUT, f"more than {self._output:,} bytes of events"))
        elif stuck := self._detector.feed(event):
            self._end(stuck)

    def extend(self, seconds: float) -> None:
        """Let the agent be silent for so many seconds more, because it waits for something that is not its fault."""
        self._quiet_until += seconds

    def _heard_nothing(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() < self._quiet_until:
            self._timer = loop.call_at(self._quiet_until, self._heard_nothing)
        else:
            self._end(Stop(AgentStatus.SILENCE, f"no event for {self._silence:g} seconds"))

    def _end(self, stop: Stop) -> None:
        if self.stopped is None:
            self.stopped = stop
            self._stop(stop)
