"""OpenRouter's errors in its own words: refusals with a status, and answers of status 200 that are spoilt."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from devtasks.simulator.faults import FaultKind

Json = dict[str, Any]

MINUTE = 60
DAY = 86_400
REQUESTS_PER_MINUTE = 20
REQUESTS_PER_DAY = 50
ADD_CREDITS = "Add 10 credits to unlock 1000 free model requests per day"
PROVIDER = "Simulated"


@dataclass(frozen=True)
class Reply:
    """One HTTP answer; a `str` body is HTML."""

    status: int
    body: Json | str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


class Refused(Exception):
    """A request is answered with an error, which this carries."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


@dataclass(frozen=True)
class Situation:
    """What a refusal may mention."""

    model: str
    now: datetime
    retry_after: float | None = None

    @property
    def hint(self) -> dict[str, str]:
        """The Retry-After header, where the scenario gives one."""
        return {} if self.retry_after is None else {"Retry-After": f"{self.retry_after:g}"}


def error(status: int, message: str, headers: Mapping[str, str] | None = None, /, **metadata: Any) -> Reply:
    """Return an answer in OpenRouter's error shape; `metadata` is left out when empty."""
    body: Json = {"code": status, "message": message} | ({"metadata": metadata} if metadata else {})
    return Reply(status, {"error": body, "user_id": "user_simulated"}, headers or {})


def availability(status: int, error_type: str, message: str, **details: Any) -> Reply:
    """Return an answer in the newer shape: no `code`, the type and the status in the error itself."""
    body = {"message": message, "error_type": error_type, "http_status": status, "availability": details}
    return Reply(status, {"error": body})


def account_limit(
    now: datetime, *, window: int, limit: int, is_free_tier: bool = True, reset_after: float | None = None
) -> Reply:
    """Return the account's 429 for a window of so many seconds: no Retry-After, the reset in epoch milliseconds.

    The reset is the window's end, or after so many seconds where a test cannot wait for that.
    """
    reset = (int(now.timestamp()) // window + 1) * window * 1_000
    if reset_after is not None:
        reset = int((now.timestamp() + reset_after) * 1_000)
    headers = {"X-RateLimit-Limit": str(limit), "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(reset)}
    if window != DAY:
        return error(429, "Rate limit exceeded: free-models-per-min. ", headers, headers=headers, provider_name=None)
    scope = f"free-models-per-day. {ADD_CREDITS}" if is_free_tier else "free-models-per-day-high-balance. "
    source = "openrouter_free_tier_daily"
    return error(429, f"Rate limit exceeded: {scope}", headers, headers=headers, limit_source=source)


def bad_model(model: str) -> Reply:
    """Return the answer to a model that is not in the catalogue."""
    return error(400, f"{model} is not a valid model ID")


def no_tools() -> Reply:
    """Return the answer to tools sent to a model without them."""
    return error(404, "No endpoints found that support tool use. To learn more about provider routing, visit: /docs")


NO_AUTH = error(401, "No auth credentials found")
USER_NOT_FOUND = error(401, "User not found.")
CREDITS = (
    "This request requires more credits, or fewer max_tokens. "
    "You requested up to 65536 tokens, but can only afford 2666."
)
CONTEXT_LENGTH = (
    "This endpoint's maximum context length is 131072 tokens. However, you requested about 150000 tokens. "
    "Please reduce the length of either one, or use the context-compression plugin."
)


def _upstream_429(situation: Situation) -> Reply:
    raw = (
        f"{situation.model} is temporarily rate-limited upstream. Please retry shortly, "
        "or add your own key to accumulate your rate limits"
    )
    return error(429, "Provider returned error", situation.hint, raw=raw, provider_name=PROVIDER)


def _capacity_exhausted(situation: Situation) -> Reply:
    return availability(
        429,
        "rate_limit_exceeded",
        "All providers for this model are at capacity.",
        code="capacity_exhausted",
        retryable=True,
        retry_after=5 if situation.retry_after is None else situation.retry_after,
        requested_models=[situation.model],
        affected_providers=[PROVIDER],
    )


def _free_variant_ended(situation: Situation) -> Reply:
    return availability(
        404,
        "not_found",
        "The free variant of this model has ended.",
        code="free_variant_ended",
        retryable=False,
        requested_models=[situation.model],
        fallback_models=[situation.model.removesuffix(":free")],
    )


def _moderation(situation: Situation) -> Reply:
    return error(
        403,
        "Input was flagged by moderation.",
        reasons=["violence"],
        flagged_input="...",
        provider_name=PROVIDER,
        model_slug=situation.model,
    )


REFUSALS: Mapping[FaultKind, Callable[[Situation], Reply]] = {
    FaultKind.BAD_MODEL_400: lambda s: bad_model(s.model),
    FaultKind.CONTEXT_LENGTH_400: lambda _: error(400, CONTEXT_LENGTH, error_type="context_length_exceeded"),
    FaultKind.NO_AUTH_401: lambda _: NO_AUTH,
    FaultKind.USER_NOT_FOUND_401: lambda _: USER_NOT_FOUND,
    FaultKind.CREDITS_402: lambda _: error(402, CREDITS),
    FaultKind.IN_FLIGHT_BUDGET_402: lambda s: error(
        402, "Too many requests in flight for the balance.", s.hint, limit_source="openrouter_in_flight_budget"
    ),
    FaultKind.MODERATION_403: _moderation,
    FaultKind.GUARDRAIL_403: lambda _: error(403, "Request blocked by guardrail.", patterns=["secret"]),
    FaultKind.KEY_LIMIT_403: lambda _: error(
        403, "Key limit exceeded (daily limit).", limit_source="openrouter_key", limit_usd=1, spend_usd=1
    ),
    FaultKind.NO_TOOLS_404: lambda _: no_tools(),
    FaultKind.NO_PROVIDERS_404: lambda _: error(
        404, "No allowed providers are available for the selected model.", available_providers=[PROVIDER]
    ),
    FaultKind.DATA_POLICY_404: lambda _: error(
        404, "No endpoints found matching your data policy (Free model publication). Configure: /settings/privacy"
    ),
    FaultKind.FREE_VARIANT_ENDED_404: _free_variant_ended,
    FaultKind.TIMEOUT_408: lambda _: error(408, "Request timed out", error_type="timeout"),
    FaultKind.PAYLOAD_TOO_LARGE_413: lambda _: error(413, "Request too large", error_type="payload_too_large"),
    FaultKind.UPSTREAM_429: _upstream_429,
    FaultKind.CAPACITY_EXHAUSTED_429: _capacity_exhausted,
    FaultKind.ACCOUNT_MINUTE_429: lambda s: account_limit(s.now, window=MINUTE, limit=REQUESTS_PER_MINUTE),
    FaultKind.ACCOUNT_DAY_429: lambda s: account_limit(
        s.now, window=DAY, limit=REQUESTS_PER_DAY, reset_after=s.retry_after
    ),
    FaultKind.HTTP_500: lambda _: error(500, "Internal Server Error", error_type="server"),
    FaultKind.HTTP_502: lambda _: error(
        502, "Provider returned error", raw="upstream connect error", provider_name=PROVIDER
    ),
    FaultKind.HTTP_503: lambda s: error(
        503, "No instances available", s.hint, error_type="provider_overloaded", provider_name=PROVIDER
    ),
    FaultKind.HTTP_504: lambda _: error(504, "Provider timed out", error_type="timeout", provider_name=PROVIDER),
    FaultKind.HTTP_529: lambda _: error(529, "Provider is overloaded", provider_name=PROVIDER),
    FaultKind.HTML_524: lambda _: Reply(
        524, "<!DOCTYPE html><html><head><title>524: A timeout occurred</title></head><body>Error 524</body></html>"
    ),
}


def _error_in_200(_completion: Json) -> Json:
    details = {"code": 502, "message": "Provider returned error", "metadata": {"provider_name": PROVIDER}}
    return {"error": details, "user_id": "user_simulated"}


def _finish_reason_error(completion: Json) -> Json:
    message = completion["choices"][0]["message"]
    message.pop("tool_calls", None)
    message["content"] = (message["content"] or "")[: len(message["content"] or "") // 2]
    details = {"code": 502, "message": "Provider disconnected", "metadata": {"provider_name": PROVIDER}}
    completion["choices"][0] |= {"finish_reason": "error", "native_finish_reason": None, "error": details}
    return completion


def _empty_choices(completion: Json) -> Json:
    return completion | {"choices": []}


def _null_content(completion: Json) -> Json:
    message = completion["choices"][0]["message"]
    message.pop("tool_calls", None)
    message["content"] = None
    completion["choices"][0] |= {"finish_reason": "stop", "native_finish_reason": "stop"}
    completion["usage"] |= {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0, "cost": 0}
    return completion


def _truncated_arguments(completion: Json) -> Json:
    choice = completion["choices"][0]
    message = choice["message"]
    if calls := message.get("tool_calls"):
        function = calls[-1]["function"]
        function["arguments"] = function["arguments"][: len(function["arguments"]) // 2]
        choice |= {"finish_reason": "tool_calls", "native_finish_reason": "length"}
    elif "<function=" in (message["content"] or ""):
        before, opening, call = message["content"].rpartition("<function=")
        message["content"] = before + opening + call[: len(call) // 2]
        choice |= {"finish_reason": "length", "native_finish_reason": "length"}
    else:
        raise Refused(error(400, "The scenario's fault truncated_arguments needs a turn with tool calls"))
    return completion


SPOILT: Mapping[FaultKind, Callable[[Json], Json]] = {
    FaultKind.ERROR_IN_200: _error_in_200,
    FaultKind.FINISH_REASON_ERROR: _finish_reason_error,
    FaultKind.EMPTY_CHOICES: _empty_choices,
    FaultKind.NULL_CONTENT: _null_content,
    FaultKind.TRUNCATED_ARGUMENTS: _truncated_arguments,
}


def spoil(kind: FaultKind, completion: Json) -> Json:
    """Return the completion as this fault leaves it; faults that do not touch the body leave it as it is."""
    return SPOILT[kind](copy.deepcopy(completion)) if kind in SPOILT else completion
