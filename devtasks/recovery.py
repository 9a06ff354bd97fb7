"""What to try after an attempt: a table and a pure function over the history; docs/recovery.md shows the table."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
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

    NO_MODEL = "no_model"

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
    """What follows an attempt.

    Deliver; repair with the findings; try the next model; go on with the same attempt after a delay, or when there is
    quota again; ask a person; end the task as rejected.
    """

    ACCEPT = "accept"
    REPAIR = "repair"
    FALL_BACK = "fall_back"
    RETRY = "retry"
    DEFER = "defer"
    ESCALATE = "escalate"
    REJECT = "reject"


POSTPONING = frozenset({Step.RETRY, Step.DEFER})
"""Steps after which the attempt is not over: the run gives its worker slot back, and goes on with it later."""

RETRIES_WHILE_UNREACHABLE = 7
"""With the delays of `retry_delay` about half an hour."""

RETRIES_AFTER_MINUTE_LIMIT = 3

FIRST_RETRY_SECONDS = 15.0
LONGEST_RETRY_SECONDS = 900.0

_MODEL_FAULT = (Step.FALL_BACK,)
_ASKS = (Step.ESCALATE,)
_OVER = (Step.REJECT,)

POLICY: Mapping[FailureKind, tuple[Step, ...]] = {
    FailureKind.REJECTED: (Step.REPAIR, Step.FALL_BACK),
    FailureKind.STUCK: _MODEL_FAULT,
    FailureKind.NO_TOOL_CALL: _MODEL_FAULT,
    FailureKind.EMPTY_ANSWERS: _MODEL_FAULT,
    FailureKind.REPETITIVE: _MODEL_FAULT,
    FailureKind.ITERATIONS: _MODEL_FAULT,
    FailureKind.AGENT_ERROR: _MODEL_FAULT,
    FailureKind.INTERRUPTED: _OVER,
    FailureKind.CANCELLED: _OVER,
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
    FailureKind.NO_MODEL: (Step.DEFER,),
    FailureKind.AUTHENTICATION: _ASKS,
    FailureKind.PAYMENT: _MODEL_FAULT,
    FailureKind.MINUTE_LIMIT: (*[Step.RETRY] * RETRIES_AFTER_MINUTE_LIMIT, Step.ESCALATE),
    FailureKind.DAY_LIMIT: (Step.DEFER,),
    FailureKind.UNREACHABLE: (*[Step.RETRY] * RETRIES_WHILE_UNREACHABLE, Step.ESCALATE),
    FailureKind.LIMIT_SECONDS: _ASKS,
    FailureKind.LIMIT_LLM_CALLS: _ASKS,
    FailureKind.LIMIT_TOKENS: _ASKS,
    FailureKind.LIMIT_COST: _ASKS,
    FailureKind.LIMIT_BUDGET: _ASKS,
    FailureKind.LIMIT_SILENCE: _MODEL_FAULT,
    FailureKind.LIMIT_OUTPUT: _MODEL_FAULT,
    FailureKind.LIMIT_RESOURCES: _MODEL_FAULT,
}
"""For each kind the step after its first, second, … occurrence with the same model; the last one repeats."""

NOT_THE_MODELS: frozenset[FailureKind] = frozenset(
    {
        FailureKind.INTERRUPTED,
        FailureKind.CANCELLED,
        FailureKind.NO_MODEL,
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
    """One attempt as the policy sees it; `failure` is None when the validator accepted the result.

    A `postponed` one was not over: it stands for the time that it was put off, and went on later. After one that was
    `answered` a person wanted another try: it counts among the attempts, and no longer as its failure's occurrence.
    """

    model: str
    failure: FailureKind | None
    postponed: bool = False
    answered: bool = False


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


def next_step(history: Sequence[Attempt], limits: TaskLimits, *, asks: bool = False) -> Step:
    """Return what follows the last attempt of a non-empty history; `asks` is whether the task may ask a person."""
    last = history[-1]
    if last.failure is None:
        return Step.ACCEPT
    row = POLICY[last.failure]
    step = row[min(_times(history), len(row)) - 1]
    if step in (Step.REPAIR, Step.FALL_BACK) and sum(not each.postponed for each in history) >= limits.attempts:
        step = Step.ESCALATE
    return Step.REJECT if step is Step.ESCALATE and not asks else step


def retry_delay(history: Sequence[Attempt], jitter: float | None = None) -> timedelta:
    """Return how long to wait before the last attempt of a history goes on: twice as long each time, up to 15 minutes.

    `jitter` from 0 to 1, random if None, makes it up to half as long again, so that runs that failed together do not
    come back together.
    """
    seconds = min(FIRST_RETRY_SECONDS * 2 ** (_times(history) - 1), LONGEST_RETRY_SECONDS)
    share = random.random() if jitter is None else jitter  # noqa: S311 - no secret
    return timedelta(seconds=seconds * (1 + share / 2))


def _times(history: Sequence[Attempt]) -> int:
    """Return how often the last attempt's model has met its failure."""
    last = history[-1]
    return sum((each.model, each.failure, each.answered) == (last.model, last.failure, False) for each in history)
