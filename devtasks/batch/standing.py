"""Where a batch stands, and what is decided from that: limits that are met, how many tasks may come, when to look."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from devtasks.batch.order import BatchLimits


class Standing(StrEnum):
    """Where one task of a batch stands; all but the first four are ends.

    REFUSED is one that could not be submitted, UNVERIFIED one that ended as completed and left no report.
    """

    NOT_SUBMITTED = "not submitted"
    WAITING = "waiting"
    RUNNING = "running"
    NEEDS_REVIEW = "needs review"
    ACCEPTED = "accepted"
    APPROVED = "approved"
    REJECTED = "rejected"
    FAILED = "failed"
    CRASHED = "crashed"
    CANCELLED = "cancelled"
    REFUSED = "refused"
    UNVERIFIED = "unverified"


IN_FLIGHT = frozenset({Standing.WAITING, Standing.RUNNING})
OPEN = IN_FLIGHT | {Standing.NEEDS_REVIEW}
FAILURES = frozenset({Standing.REJECTED, Standing.FAILED, Standing.CRASHED, Standing.REFUSED, Standing.UNVERIFIED})
"""Ends that count against a batch's limit of failures; who cancels a task knows why."""

SHORTEST_LOOK = timedelta(seconds=10)
LONGEST_LOOK = timedelta(seconds=60)
_LOOKS = 20


@dataclass(frozen=True)
class Tally:
    """A batch in numbers; `submitted` are the tasks of its own, without those that other submissions had answered.

    `ended_since` are those of its own that ended in the `seconds` since the batch began, or was resumed. Calls and
    money are those of its own tasks, running ones included.
    """

    counts: Mapping[Standing, int]
    submitted: int
    ended_since: int
    seconds: float
    llm_calls: int = 0
    cost_usd: float = 0.0
    simulated: bool = False

    @property
    def total(self) -> int:
        """How many tasks the batch has."""
        return sum(self.counts.values())

    @property
    def ended(self) -> int:
        """How many of them have come to an end."""
        return self.total - self.number(OPEN) - self.counts[Standing.NOT_SUBMITTED]

    @property
    def eta_seconds(self) -> float | None:
        """How long it will take if tasks go on ending at this rate; None before one has ended."""
        return self.seconds / self.ended_since * (self.total - self.ended) if self.ended_since else None

    def number(self, standings: Iterable[Standing]) -> int:
        """Return how many tasks stand at any of these."""
        return sum(self.counts.get(each, 0) for each in standings)


@dataclass(frozen=True)
class Stop:
    """The limit that stops new tasks, in words; `cancels` whether those that wait are cancelled too."""

    reason: str
    cancels: bool = True


def count(standings: Iterable[Standing]) -> Mapping[Standing, int]:
    """Return how many tasks stand where; each standing has a number."""
    found = Counter(standings)
    return {each: found[each] for each in Standing}


def stop_of(limits: BatchLimits, tally: Tally) -> Stop | None:
    """Return the limit that is met, None where all are kept; one of no money is met by the first cent.

    What was admitted by the limit of tasks goes on to its end.
    """
    failures, hours = tally.number(FAILURES), tally.seconds / 3_600
    met = (
        (limits.failures, failures, f"{failures} tasks failed"),
        (limits.cost_usd, tally.cost_usd, f"${tally.cost_usd:.4f} spent"),
        (limits.llm_calls, tally.llm_calls, f"{tally.llm_calls} calls made"),
        (limits.hours, hours, f"{hours:.2f} hours gone"),
    )
    names = ("max_failures", "max_cost_usd", "max_llm_calls", "max_hours")
    for name, (limit, value, words) in zip(names, met, strict=True):
        if limit is not None and value >= limit and value > 0:
            return Stop(f"{name} {limit:g} is met: {words}")
    if limits.tasks is not None and tally.submitted >= limits.tasks and tally.counts[Standing.NOT_SUBMITTED]:
        return Stop(f"max_tasks {limits.tasks} is met: {tally.submitted} tasks submitted", cancels=False)
    return None


def admitted(limits: BatchLimits, tally: Tally, queue_room: int) -> int:
    """Return how many tasks may be submitted now."""
    room = min(limits.in_flight - tally.number(IN_FLIGHT), queue_room)
    return max(room if limits.tasks is None else min(room, limits.tasks - tally.submitted), 0)


def next_look(seconds: float) -> timedelta:
    """Return when to look again at a batch that has gone on so long: a short one soon, a long one once a minute."""
    return min(max(timedelta(seconds=seconds / _LOOKS), SHORTEST_LOOK), LONGEST_LOOK)
