"""What OpenRouter's answers mean: a chat completion that counts, or a refusal with its kind.

OpenRouter disguises errors: a 200 may hold an error in its body, in its first choice, or no choice at all. The shapes
are those of its documentation and of public issue threads; status codes and typed fields decide, and its prose only
where it is the single thing that tells two cases apart (which rate limit, which 400). docs/faults.md has the table.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from devtasks.openrouter import hints, jsontext
from devtasks.recovery import FailureKind

Json = dict[str, Any]

LONGEST_MINUTE = timedelta(minutes=2)
"""A limit of the account that names no window but lasts longer than this is the day's."""

OVERLOADED = frozenset({503, 529})
"""Statuses of a provider that is only busy, if it says when to ask again."""

PASSING = frozenset({FailureKind.UPSTREAM_RATE_LIMIT, FailureKind.LLM_TIMEOUT, FailureKind.PROVIDER_ERROR})
"""What a model that is unavailable for the moment can be refused as."""

MAX_NUMBER = 1e12
"""No count of tokens and no cost is larger; what is, or is not finite, is no number to reckon with."""


@dataclass(frozen=True)
class Refusal:
    """A call that was not answered; `status` is the HTTP status handed on, `message` OpenRouter's own words.

    `until` is when it may be made again, as far as anybody said.
    """

    kind: FailureKind
    status: int
    message: str
    until: datetime | None = None

    def body(self) -> Json:
        """Return the typed error body that the agent's side receives."""
        metadata = {"error_type": self.kind.value} | ({"retry_at": self.until.isoformat()} if self.until else {})
        return {"error": {"code": self.status, "message": self.message, "metadata": metadata}}


@dataclass(frozen=True)
class Completion:
    """A chat completion that counts, in the service's own bytes; what it cost in USD is None where not reported."""

    content: bytes
    model: str | None
    provider: str | None
    generation_id: str | None
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None


BY_STATUS: Mapping[int, FailureKind] = {
    400: FailureKind.BAD_REQUEST,
    401: FailureKind.AUTHENTICATION,
    402: FailureKind.PAYMENT,
    403: FailureKind.MODERATION,
    404: FailureKind.MODEL_UNAVAILABLE,
    408: FailureKind.LLM_TIMEOUT,
    413: FailureKind.CONTEXT_OVERFLOW,
    422: FailureKind.BAD_REQUEST,
    429: FailureKind.UPSTREAM_RATE_LIMIT,
    504: FailureKind.LLM_TIMEOUT,
    524: FailureKind.LLM_TIMEOUT,
}
"""Kinds by status; any other status from 500 on is the provider's fault."""

BY_TYPE: Mapping[str, FailureKind] = {
    "context_length_exceeded": FailureKind.CONTEXT_OVERFLOW,
    "token_limit_exceeded": FailureKind.CONTEXT_OVERFLOW,
    "payload_too_large": FailureKind.CONTEXT_OVERFLOW,
    "content_policy_violation": FailureKind.MODERATION,
    "refusal": FailureKind.MODERATION,
    "authentication": FailureKind.AUTHENTICATION,
    "payment_required": FailureKind.PAYMENT,
    "not_found": FailureKind.MODEL_UNAVAILABLE,
    "rate_limit_exceeded": FailureKind.UPSTREAM_RATE_LIMIT,
    "provider_overloaded": FailureKind.PROVIDER_ERROR,
    "provider_unavailable": FailureKind.PROVIDER_ERROR,
    "timeout": FailureKind.LLM_TIMEOUT,
}
"""Kinds by `error_type`, which says more than the status (or is all there is, in a 200); others are left to that."""

BY_PROSE: tuple[tuple[int, str, FailureKind], ...] = (
    (429, "free-models-per-day", FailureKind.DAY_LIMIT),
    (429, "free-models-per-min", FailureKind.MINUTE_LIMIT),
    # The account's as well, without a word on the window; a provider's names the provider.
    (429, "rate limit exceeded", FailureKind.MINUTE_LIMIT),
    (400, "maximum context length", FailureKind.CONTEXT_OVERFLOW),
    (400, "reduce the length", FailureKind.CONTEXT_OVERFLOW),
    (400, "prompt is too long", FailureKind.CONTEXT_OVERFLOW),
    (400, "not a valid model id", FailureKind.MODEL_UNAVAILABLE),
    (403, "limit exceeded", FailureKind.PAYMENT),
)


def read_answer(
    status: int, content: bytes, headers: Mapping[str, str] | None = None, now: datetime | None = None
) -> Completion | Refusal:
    """Return what an answer of the chat endpoint means; never raises on whatever the bytes hold."""
    try:
        parsed = jsontext.read(content)
    except ValueError:
        parsed = None
    answer = _read(status, parsed, content)
    if isinstance(answer, Completion):
        return answer
    now, error = now or datetime.now(UTC), _first_error(parsed)
    until = hints.until(headers or {}, error, now)
    return replace(answer, kind=_by_hint(answer, error, until - now) if until else answer.kind, until=until)


def _by_hint(refusal: Refusal, error: Json, after: timedelta) -> FailureKind:
    """Return the kind of a refusal that says when to ask again: long is the day's, and busy is not broken."""
    if refusal.kind is FailureKind.MINUTE_LIMIT and after > LONGEST_MINUTE:
        return FailureKind.DAY_LIMIT
    overloaded = refusal.status in OVERLOADED or _mapping(error.get("availability")).get("retryable") is True
    in_flight = _limit_source(error) == "openrouter_in_flight_budget"
    is_busy = (refusal.kind is FailureKind.PROVIDER_ERROR and overloaded) or (refusal.status == 402 and in_flight)
    return FailureKind.UPSTREAM_RATE_LIMIT if is_busy else refusal.kind


def _read(status: int, parsed: Any, content: bytes) -> Completion | Refusal:
    if status != 200 and not 400 <= status < 600:
        return Refusal(FailureKind.PROVIDER_ERROR, 502, f"HTTP {status}, which is neither an answer nor an error")
    if not isinstance(parsed, dict):
        if status == 200:
            return Refusal(FailureKind.MALFORMED_ANSWER, 502, "the provider's answer is not JSON")
        return Refusal(_by_status(status), status, f"HTTP {status} without a readable body")
    body = cast(Json, parsed)
    if error := _error_in(body):
        return _refusal(status, error)
    if status != 200:
        return Refusal(_by_status(status), status, f"HTTP {status}")
    return _completion(body, content)


def _completion(body: Json, content: bytes) -> Completion | Refusal:
    choice = _first_choice(body)
    if choice is None:
        return Refusal(FailureKind.EMPTY_ANSWER, 502, "the provider answered without any choice")
    if choice.get("finish_reason") == "error" or choice.get("error"):
        return _refusal(502, _error_in(choice))
    message = _mapping(choice.get("message"))
    if not (message.get("content") or message.get("tool_calls") or message.get("function_call")):
        return Refusal(FailureKind.EMPTY_ANSWER, 502, "the provider answered with an empty message")
    usage = _mapping(body.get("usage"))
    return Completion(
        content=content,
        model=_text(body.get("model")),
        provider=_text(body.get("provider")),
        generation_id=_text(body.get("id")),
        prompt_tokens=int(_number(usage.get("prompt_tokens"))),
        completion_tokens=int(_number(usage.get("completion_tokens"))),
        cost_usd=_amount(usage.get("cost")),
    )


def _refusal(status: int, error: Json) -> Refusal:
    code = str(error.get("code", error.get("http_status")))
    if code.isdecimal() and len(code) == 3 and 400 <= int(code) < 600:
        status = int(code)
    elif status == 200:
        status = 502
    return Refusal(_kind(status, error), status, str(error.get("message") or "no reason given")[:500])


def _kind(status: int, error: Json) -> FailureKind:
    said = (
        _by_source(status, error),
        _by_prose(status, error),
        _by_availability(status, error),
        _by_type(error),
        _by_status(status),
    )
    return next(kind for kind in said if kind)


def _by_source(status: int, error: Json) -> FailureKind | None:
    source = _limit_source(error)
    if status == 429 and source == "openrouter_free_tier_daily":
        return FailureKind.DAY_LIMIT
    return FailureKind.PAYMENT if status == 403 and source else None


def _by_prose(status: int, error: Json) -> FailureKind | None:
    metadata = _mapping(error.get("metadata"))
    if status == 429 and (metadata.get("provider_name") or error.get("availability")):
        return None  # a provider's own limit, in whatever words
    raw = metadata.get("raw") if status == 400 else None  # "Provider returned error" tells nothing
    prose = f"{error.get('message')} {raw}".lower()
    return next((kind for code, words, kind in BY_PROSE if code == status and words in prose), None)


def _by_availability(status: int, error: Json) -> FailureKind | None:
    """Return the kind by what is said of the model's availability; unknown codes go by `retryable` and status."""
    availability = _mapping(error.get("availability"))
    if not availability:
        return None
    retryable, kind = availability.get("retryable"), _by_status(status)
    if retryable is True:
        return kind if kind in PASSING else FailureKind.PROVIDER_ERROR
    return kind if retryable is None and kind in PASSING else FailureKind.MODEL_UNAVAILABLE


def _by_type(error: Json) -> FailureKind | None:
    named = (error.get("error_type"), _mapping(error.get("metadata")).get("error_type"), error.get("code"))
    return next((BY_TYPE[name] for name in named if isinstance(name, str) and name in BY_TYPE), None)


def _by_status(status: int) -> FailureKind:
    return BY_STATUS.get(status, FailureKind.PROVIDER_ERROR if status >= 500 else FailureKind.BAD_REQUEST)


def _limit_source(error: Json) -> Any:
    return _mapping(error.get("metadata")).get("limit_source")


def _first_error(parsed: Any) -> Json:
    """Return the error of an answer, or else of its first choice."""
    body = _mapping(parsed)
    return _error_in(body) or _error_in(_first_choice(body) or {})


def _first_choice(body: Json) -> Json | None:
    """Return the first choice, None where there is not one."""
    choices = body.get("choices")
    return _mapping(cast(list[Any], choices)[0]) if isinstance(choices, list) and choices else None


def _error_in(holder: Json) -> Json:
    """Return the error an object holds, empty for none; some services give no more than its message."""
    error = holder.get("error")
    return {"message": error} if isinstance(error, str) and error else _mapping(error)


def _mapping(value: Any) -> Json:
    return cast(Json, value) if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: Any) -> float:
    return _amount(value) or 0.0


def _amount(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 <= value <= MAX_NUMBER else None
