"""What a batch would take, by what earlier tasks of the same categories took."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from devtasks.metrics_collector import ExecutionMetrics, MetricsCollector
from devtasks.task import DevTask


@dataclass(frozen=True)
class Forecast:
    """Calls, US dollars and seconds of work (one task at a time); None where the ledger knows no task of a category.

    `quota_share` is the part of a day's free requests that the calls are, `quota_left` how many of today's are left,
    None where the service has named no limit. `known` is how many earlier tasks it is made from, by category.
    """

    tasks: int
    llm_calls: float | None
    cost_usd: float | None
    seconds: float | None
    quota_share: float | None
    quota_left: int | None
    known: Mapping[str, int]


@dataclass(frozen=True)
class _Mean:
    tasks: int
    calls: float
    cost: float
    seconds: float


def forecast(
    tasks: Sequence[DevTask], history: Iterable[ExecutionMetrics], *, used: int = 0, limit: int | None = None
) -> Forecast:
    """Return what tasks would take; simulated attempts tell nothing. `used` of `limit` requests are used today."""
    means = _means(history)
    wanted = Counter(str(task.category) for task in tasks)
    known = {category: means[category].tasks if category in means else 0 for category in wanted}
    calls = cost = seconds = None
    if all(known.values()):
        calls = sum(number * means[category].calls for category, number in wanted.items())
        cost = sum(number * means[category].cost for category, number in wanted.items())
        seconds = sum(number * means[category].seconds for category, number in wanted.items())
    return Forecast(
        tasks=len(tasks),
        llm_calls=calls,
        cost_usd=cost,
        seconds=seconds,
        quota_share=calls / limit if calls is not None and limit else None,
        quota_left=None if limit is None else max(limit - used, 0),
        known=known,
    )


def _means(history: Iterable[ExecutionMetrics]) -> Mapping[str, _Mean]:
    rows: dict[str, list[ExecutionMetrics]] = {}
    for row in history:
        if not row.simulated:
            rows.setdefault(row.category, []).append(row)
    return {category: _mean(found) for category, found in rows.items()}


def _mean(rows: Sequence[ExecutionMetrics]) -> _Mean:
    system = MetricsCollector(rows).system()
    seconds = sum(row.seconds for row in rows)
    number = system.tasks
    return _Mean(number, system.llm_calls / number, system.cost_usd / number, seconds / number)
