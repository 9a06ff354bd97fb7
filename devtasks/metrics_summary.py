"""The summary of a period's attempts as Markdown and as a table; simulated ones are left out."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from devtasks.metrics_collector import ExecutionMetrics, MetricsCollector, ModelMetrics
from devtasks.quota import day_of


@dataclass(frozen=True)
class Period:
    """A time with a name: from `since` on, before `until`."""

    name: str
    since: datetime
    until: datetime

    def of(self, rows: Iterable[ExecutionMetrics]) -> MetricsCollector:
        """Return the collector over the attempts that began in this period."""
        return MetricsCollector(row for row in rows if self.since <= row.started_at < self.until)


def report_periods(now: datetime, days: int) -> tuple[Period, Period]:
    """Return yesterday, and so many days up to it; days of UTC, by which the account's quota is counted too."""
    today = day_of(now)
    yesterday, first = today - timedelta(days=1), today - timedelta(days=days)
    return (
        Period(f"Yesterday ({yesterday:%Y-%m-%d} UTC)", yesterday, today),
        Period(f"The last {days} days ({first:%Y-%m-%d} to {yesterday:%Y-%m-%d} UTC)", first, today),
    )


def summary_markdown(periods: Iterable[Period], rows: Iterable[ExecutionMetrics]) -> str:
    """Return a report with a section for each period; a period without attempts says so."""
    rows = list(rows)
    sections = ["# What tasks did", "Attempts by simulated models are left out."]
    for period in periods:
        sections += [f"## {period.name}", _section(period.of(rows))]
    return "\n\n".join(sections) + "\n"


def model_rows(models: Iterable[ModelMetrics]) -> list[dict[str, str | int]]:
    """Return a row for each model and category, or for each model where they are over all categories."""
    return [
        {
            "model": each.model_id,
            "category": each.category or "all",
            "attempts": each.attempts,
            "accepted": each.accepted,
            "acceptance": f"{each.acceptance_rate:.0%}",
            "mean score": f"{each.mean_score:.2f}",
            "p50 s": f"{each.p50_seconds:.1f}",
            "p95 s": f"{each.p95_seconds:.1f}",
            "cost": f"${each.cost_usd:.4f}",
            "failures": ", ".join(f"{kind} {count}" for kind, count in each.failures.items()),
        }
        for each in models
    ]


def _section(collector: MetricsCollector) -> str:
    system = collector.system()
    if not system.attempts:
        return "Nothing to report: no attempt began in this time."
    lines = [
        f"{system.accepted_tasks} of {system.tasks} tasks accepted ({system.task_acceptance_rate:.0%}), "
        f"{system.accepted_attempts} of {system.attempts} attempts, {system.llm_calls:,} calls, "
        f"{system.prompt_tokens + system.completion_tokens:,} tokens, ${system.cost_usd:.4f}",
        "",
    ]
    rows = model_rows(collector.models())
    lines += [f"| {' | '.join(rows[0])} |", "|---" * len(rows[0]) + "|"]
    lines += [f"| {' | '.join(str(cell) for cell in row.values())} |" for row in rows]
    return "\n".join(lines)
