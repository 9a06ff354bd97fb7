"""What is measured: one ExecutionMetrics for each attempt, one LlmCall for each call to a model."""

from dataclasses import dataclass
from datetime import datetime

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
