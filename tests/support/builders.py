"""Values that tests need whole, but care about in a field or two."""

from datetime import UTC, datetime
from typing import Any

from devtasks.metrics_collector import ExecutionMetrics, LlmCall


def make_attempt(**changes: Any) -> ExecutionMetrics:
    """An accepted attempt by a free model, but for these changes."""
    values: dict[str, Any] = {
        "task_id": "task",
        "flow_run_id": "run",
        "attempt": 1,
        "category": "unit_test",
        "target_file": "src/auth.py",
        "model_requested": "acme/coder:free",
        "model_served": None,
        "simulated": False,
        "isolation": "local",
        "outcome": "accepted",
        "failure": None,
        "score": 1.0,
        "findings": (),
        "llm_calls": 3,
        "iterations": 3,
        "prompt_tokens": 100,
        "completion_tokens": 10,
        "cost_usd": 0.0,
        "started_at": datetime(2026, 3, 1, tzinfo=UTC),
        "seconds": 10.0,
    }
    return ExecutionMetrics(**values | changes)


def make_call(**changes: Any) -> LlmCall:
    """An answered call, but for these changes."""
    values: dict[str, Any] = {
        "flow_run_id": "run",
        "attempt": 1,
        "sequence": 1,
        "model_requested": "acme/coder:free",
        "model_served": "acme/coder",
        "provider": "Provider",
        "generation_id": "gen-1",
        "status": 200,
        "error": None,
        "prompt_tokens": 10,
        "completion_tokens": 20,
        "cost_usd": 0.0004,
        "latency_seconds": 1.25,
        "started_at": datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC),
        "simulated": False,
    }
    return LlmCall(**values | changes)
