"""The faults a scenario can name, and when each strikes; their shapes are in `shapes` and `wire`."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from devtasks.simulator.strict import Strict


class FaultKind(StrEnum):
    """An error as OpenRouter gives it; a name that ends in digits carries the HTTP status."""

    BAD_MODEL_400 = "bad_model_400"
    CONTEXT_LENGTH_400 = "context_length_400"
    NO_AUTH_401 = "no_auth_401"
    USER_NOT_FOUND_401 = "user_not_found_401"
    CREDITS_402 = "credits_402"
    IN_FLIGHT_BUDGET_402 = "in_flight_budget_402"
    MODERATION_403 = "moderation_403"
    GUARDRAIL_403 = "guardrail_403"
    KEY_LIMIT_403 = "key_limit_403"
    NO_TOOLS_404 = "no_tools_404"
    NO_PROVIDERS_404 = "no_providers_404"
    DATA_POLICY_404 = "data_policy_404"
    FREE_VARIANT_ENDED_404 = "free_variant_ended_404"
    TIMEOUT_408 = "timeout_408"
    PAYLOAD_TOO_LARGE_413 = "payload_too_large_413"
    UPSTREAM_429 = "upstream_429"
    CAPACITY_EXHAUSTED_429 = "capacity_exhausted_429"
    ACCOUNT_MINUTE_429 = "account_minute_429"
    ACCOUNT_DAY_429 = "account_day_429"
    HTTP_500 = "http_500"
    HTTP_502 = "http_502"
    HTTP_503 = "http_503"
    HTTP_504 = "http_504"
    HTTP_529 = "http_529"
    HTML_524 = "html_524"

    ERROR_IN_200 = "error_in_200"
    FINISH_REASON_ERROR = "finish_reason_error"
    EMPTY_CHOICES = "empty_choices"
    NULL_CONTENT = "null_content"
    TRUNCATED_ARGUMENTS = "truncated_arguments"

    MALFORMED_JSON = "malformed_json"
    ANSWER_CUT = "answer_cut"
    CONNECTION_DROPPED = "connection_dropped"
    HANG = "hang"
    SLOW_KEEP_ALIVE = "slow_keep_alive"


TAKES_RETRY_AFTER = frozenset(
    {
        FaultKind.ACCOUNT_DAY_429,
        FaultKind.IN_FLIGHT_BUDGET_402,
        FaultKind.UPSTREAM_429,
        FaultKind.CAPACITY_EXHAUSTED_429,
        FaultKind.HTTP_503,
    }
)
TAKES_SECONDS = frozenset({FaultKind.HANG, FaultKind.SLOW_KEEP_ALIVE})


class Fault(Strict):
    """One fault; `retry_after` is the hint in seconds, `seconds` how long keep-alives are sent."""

    kind: FaultKind
    retry_after: Annotated[float, Field(ge=0)] | None = None
    seconds: Annotated[float, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _takes(self) -> Self:
        for name, value, kinds in (
            ("retry_after", self.retry_after, TAKES_RETRY_AFTER),
            ("seconds", self.seconds, TAKES_SECONDS),
        ):
            if value is not None and self.kind not in kinds:
                raise ValueError(f"{name} only with the kinds {', '.join(sorted(kinds))}")
        return self


class FaultRule(Fault):
    """A fault and when it strikes: on these calls of the model (from 1), on this share of them, or on all."""

    calls: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    rate: Annotated[float, Field(gt=0, le=1)] | None = None

    @model_validator(mode="after")
    def _one_condition(self) -> Self:
        if self.calls is not None and self.rate is not None:
            raise ValueError("calls or rate, not both")
        return self

    def strikes(self, call: int, draw: float) -> bool:
        """Return whether it strikes this call; `draw` is uniform in [0, 1)."""
        if self.calls is not None:
            return call in self.calls
        return self.rate is None or draw < self.rate
