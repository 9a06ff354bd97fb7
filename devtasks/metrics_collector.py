"""What is measured: one ExecutionMetrics for each attempt, one LlmCall for each call to a model; and summaries."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from devtasks.validation.result import Finding


@dataclass(frozen=True)
class LlmCall:
    """One call that reached the gateway; times in UTC, latency in seconds, cost in USD.

    `status` is the HTTP status the agent received, `error` the typed kind of a call that was not answered.
    """

    flow_run_id: str
    attempt: int
    sequence: int
    model_requested: str
    model_served: str | None
    provider: str | None
    generation_id: str | None
    status: int
    error: str | None
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    latency_seconds: float
    started_at: datetime
    simulated: bool


@dataclass(frozen=True)
class ExecutionMetrics:
    """One attempt at a task, whatever its end; `outcome` is accepted, rejected (by the validator) or failed.

    `failure` names what went wrong, None when accepted; tokens and cost are the sum over the attempt's calls.
    `model_requested` was asked last; `rotations` is how often the conversation had moved on from another model.
    """

    task_id: str
    flow_run_id: str
    attempt: int
    category: str
    target_file: str | None
    model_requested: str
    model_served: str | None
    simulated: bool
    isolation: str
    outcome: str
    failure: str | None
    score: float
    findings: tuple[Finding, ...]
    llm_calls: int
    iterations: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    started_at: datetime
    seconds: float
    rotations: int = 0


@dataclass(frozen=True)
class ModelMetrics:
    """How one model did, over all categories (`category` None) or in one.

    Seconds are per attempt; tokens and cost (USD) are sums; `mean_score` is over the attempts that were judged, 0 when
    none was; `failures` counts the attempts that were not accepted by what went wrong.
    """

    model_id: str
    category: str | None
    attempts: int
    accepted: int
    acceptance_rate: float
    mean_score: float
    mean_seconds: float
    p50_seconds: float
    p95_seconds: float
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    failures: Mapping[str, int]


@dataclass(frozen=True)
class SystemMetrics:
    """How everything did; a task counts once however many attempts it took, and is accepted when one of them was.

    Rates are 0 where there is nothing to divide by; cost in USD.
    """

    tasks: int
    accepted_tasks: int
    task_acceptance_rate: float
    attempts: int
    accepted_attempts: int
    attempt_acceptance_rate: float
    llm_calls: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float


class MetricsCollector:
    """Summaries of attempts; `simulated` keeps only the attempts by simulated models, which are otherwise left out."""

    def __init__(self, rows: Iterable[ExecutionMetrics], *, simulated: bool = False) -> None:
        self._rows = [row for row in rows if row.simulated is simulated]

    def system(self) -> SystemMetrics:
        """Return the totals and rates over every attempt."""
        frame = _frame(self._rows)
        tasks = frame.groupby("task_id")["accepted"].any()
        return SystemMetrics(
            tasks=len(tasks),
            accepted_tasks=int(tasks.sum()),
            task_acceptance_rate=_mean(tasks),
            attempts=len(frame),
            accepted_attempts=int(frame["accepted"].sum()),
            attempt_acceptance_rate=_mean(frame["accepted"]),
            llm_calls=int(frame["llm_calls"].sum()),
            prompt_tokens=int(frame["prompt_tokens"].sum()),
            completion_tokens=int(frame["completion_tokens"].sum()),
            cost_usd=float(frame["cost_usd"].sum()),
        )

    def models(self, *, by_category: bool = False) -> tuple[ModelMetrics, ...]:
        """Return one summary for each model that served, by name; or for each model and category."""
        keys = ["model_id", "category"] if by_category else ["model_id"]
        groups = _frame(self._rows).groupby(keys)
        return tuple(_model_metrics(group, *key) for key, group in groups)


def _frame(rows: Sequence[ExecutionMetrics]) -> Any:
    """Return the attempts as a pandas frame, with the model that served (or was asked for) and whether it succeeded."""
    import pandas  # pyright: ignore[reportMissingTypeStubs]

    columns = [field.name for field in fields(ExecutionMetrics)]
    frame: Any = pandas.DataFrame([[getattr(row, name) for name in columns] for row in rows], columns=columns)
    return frame.assign(
        model_id=[row.model_served or row.model_requested for row in rows],
        accepted=[row.outcome == "accepted" for row in rows],
    )


def _model_metrics(group: Any, model_id: str, category: str | None = None) -> ModelMetrics:
    seconds = group["seconds"]
    return ModelMetrics(
        model_id=model_id,
        category=category,
        attempts=len(group),
        accepted=int(group["accepted"].sum()),
        acceptance_rate=_mean(group["accepted"]),
        mean_score=_mean(group.loc[group["outcome"] != "failed", "score"]),
        mean_seconds=_mean(seconds),
        p50_seconds=float(seconds.quantile(0.5)),
        p95_seconds=float(seconds.quantile(0.95)),
        prompt_tokens=int(group["prompt_tokens"].sum()),
        completion_tokens=int(group["completion_tokens"].sum()),
        cost_usd=float(group["cost_usd"].sum()),
        failures={str(kind): int(count) for kind, count in group["failure"].value_counts().items()},
    )


def _mean(series: Any) -> float:
    return float(series.mean()) if len(series) else 0.0
