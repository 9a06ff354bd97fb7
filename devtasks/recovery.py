"""What to try after an attempt: a table and a pure function over the history."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from devtasks.execution.runtime import AgentStatus
from devtasks.task import TaskLimits


class FailureKind(StrEnum):
    """Why an attempt was not accepted; every kind has its row in POLICY."""

    REJECTED = "rejected"
    STUCK = "stuck"
    NO_TOOL_CALL = "no_tool_call"
    EMPTY_ANSWERS = "empty_answers"
    REPETITIVE = "repetitive"
    ITERATIONS = "iterations"
    AGENT_ERROR = "agent_error"
    INTERRUPTED = "interrupted"
    CANCELLED = "cancelled"

    BAD_REQUEST = "bad_request"
    CONTEXT_OVERFLOW = "context_overflow"
    MODEL_UNAVAILABLE = "model_unavailable"
    MODERATION = "moderation"
    UPSTREAM_RATE_LIMIT = "upstream_rate_limit"
    COOLING = "cooling"
    PROVIDER_ERROR = "provider_error"
    MALFORMED_ANSWER = "malformed_answer"
    EMPTY_ANSWER = "empty_answer"
    LLM_TIMEOUT = "llm_timeout"

    AUTHENTICATION = "authentication"
    PAYMENT = "payment"
    MINUTE_LIMIT = "minute_limit"
    DAY_LIMIT = "day_limit"
    UNREACHABLE = "unreachable"

    LIMIT_SECONDS = "limit_seconds"
    LIMIT_LLM_CALLS = "limit_llm_calls"
    LIMIT_TOKENS = "limit_tokens"
    LIMIT_COST = "limit_cost"
    LIMIT_BUDGET = "limit_budget"
    LIMIT_SILENCE = "limit_silence"
    LIMIT_OUTPUT = "limit_output"
    LIMIT_RESOURCES = "limit_resources"


class Step(StrEnum):
    """What follows: deliver, repair with the findings, try another model, go on later, or end the task as rejected."""

    ACCEPT = "accept"
    REPAIR = "repair"
    FALL_BACK = "fall_back"
    DEFER = "defer"
    REJECT = "reject"


_MODEL_FAULT = (Step.FALL_BACK,)
_ENDS_TASK = (Step.REJECT,)

POLICY: Mapping[FailureKind, tuple[Step, ...]] = {
    FailureKind.REJECTED: (Step.REPAIR, Step.FALL_BACK),
    FailureKind.STUCK: _MODEL_FAULT,
    FailureKind.NO_TOOL_CALL: _MODEL_FAULT,
    FailureKind.EMPTY_ANSWERS: _MODEL_FAULT,
    FailureKind.REPETITIVE: _MODEL_FAULT,
    FailureKind.ITERATIONS: _MODEL_FAULT,
    FailureKind.AGENT_ERROR: _MODEL_FAULT,
    FailureKind.INTERRUPTED: _ENDS_TASK,
    FailureKind.CANCELLED: _ENDS_TASK,
    FailureKind.BAD_REQUEST: _MODEL_FAULT,
    FailureKind.CONTEXT_OVERFLOW: _MODEL_FAULT,
    FailureKind.MODEL_UNAVAILABLE: _MODEL_FAULT,
    FailureKind.MODERATION: _MODEL_FAULT,
    FailureKind.UPSTREAM_RATE_LIMIT: _MODEL_FAULT,
    FailureKind.COOLING: _MODEL_FAULT,
    FailureKind.PROVIDER_ERROR: _MODEL_FAULT,
    FailureKind.MALFORMED_ANSWER: _MODEL_FAULT,
    FailureKind.EMPTY_ANSWER: _MODEL_FAULT,
    FailureKind.LLM_TIMEOUT: _MODEL_FAULT,
    FailureKind.AUTHENTICATION: _ENDS_TASK,
    FailureKind.PAYMENT: _MODEL_FAULT,
    FailureKind.MINUTE_LIMIT: _ENDS_TASK,
    FailureKind.DAY_LIMIT: (Step.DEFER,),
    FailureKind.UNREACHABLE: _ENDS_TASK,
    FailureKind.LIMIT_SECONDS: _ENDS_TASK,
    FailureKind.LIMIT_LLM_CALLS: _ENDS_TASK,
    FailureKind.LIMIT_TOKENS: _ENDS_TASK,
    FailureKind.LIMIT_COST: _ENDS_TASK,
    FailureKind.LIMIT_BUDGET: _ENDS_TASK,
    FailureKind.LIMIT_SILENCE: _MODEL_FAULT,
    FailureKind.LIMIT_OUTPUT: _MODEL_FAULT,
    FailureKind.LIMIT_RESOURCES: _MODEL_FAULT,
}
"""For each kind the step after its first, second, … occurrence with the same model; the last one repeats."""

NOT_THE_MODELS: frozenset[FailureKind] = frozenset(
    {
        FailureKind.INTERRUPTED,
        FailureKind.CANCELLED,
        FailureKind.MODEL_UNAVAILABLE,
        FailureKind.UPSTREAM_RATE_LIMIT,
        FailureKind.COOLING,
        FailureKind.PROVIDER_ERROR,
        FailureKind.LLM_TIMEOUT,
        FailureKind.AUTHENTICATION,
        FailureKind.PAYMENT,
        FailureKind.MINUTE_LIMIT,
        FailureKind.DAY_LIMIT,
        FailureKind.UNREACHABLE,
        FailureKind.LIMIT_BUDGET,
    }
)
"""Kinds by which infrastructure or a quota ended the attempt: they say nothing about what the model can do."""


ROTATES: frozenset[FailureKind] = frozenset(
    {
        FailureKind.UPSTREAM_RATE_LIMIT,
        FailureKind.COOLING,
        FailureKind.MODEL_UNAVAILABLE,
        FailureKind.PROVIDER_ERROR,
        FailureKind.LLM_TIMEOUT,
    }
)
"""Kinds that are a provider's trouble alone: the conversation goes on with the next model, where there is one."""


@dataclass(frozen=True)
class Attempt:
    """One attempt as the policy sees it; `failure` is None when the validator accepted the result."""

    model: str
    failure: FailureKind | None


BY_STATUS: Mapping[AgentStatus, FailureKind] = {
    AgentStatus.FINISHED: FailureKind.REJECTED,
    AgentStatus.MAX_ITERATIONS: FailureKind.ITERATIONS,
    AgentStatus.STUCK: FailureKind.STUCK,
    AgentStatus.ERROR: FailureKind.AGENT_ERROR,
    AgentStatus.DEADLINE: FailureKind.LIMIT_SECONDS,
    AgentStatus.NO_TOOL_CALL: FailureKind.NO_TOOL_CALL,
    AgentStatus.EMPTY_ANSWERS: FailureKind.EMPTY_ANSWERS,
    AgentStatus.REPETITIVE: FailureKind.REPETITIVE,
    AgentStatus.SILENCE: FailureKind.LIMIT_SILENCE,
    AgentStatus.OUTPUT: FailureKind.LIMIT_OUTPUT,
    AgentStatus.RESOURCES: FailureKind.LIMIT_RESOURCES,
}
"""What an attempt that was not accepted failed of, by the agent's end, where no model call was refused."""


def classify(status: AgentStatus | None, refused: FailureKind | None, *, passed: bool) -> FailureKind | None:
    """Return why an attempt failed, None if its result passed; `status` is None where the agent was interrupted.

    A result that passes is good however the agent ended; a refused model call explains more than the agent's end does.
    """
    if passed:
        return None
    if status is None:
        return FailureKind.INTERRUPTED
    return refused or BY_STATUS[status]


def next_step(history: Sequence[Attempt], limits: TaskLimits) -> Step:
    """Return what follows the last attempt of a non-empty history."""
    last = history[-1]
    if last.failure is None:
        return Step.ACCEPT
    row = POLICY[last.failure]
    times = sum(attempt == last for attempt in history)
    step = row[min(times, len(row)) - 1]
    # An attempt that is deferred is not over.
    return Step.REJECT if len(history) >= limits.attempts and step is not Step.DEFER else step
