"""What OpenRouter's answers mean: a chat completion that counts, or a refusal with its kind.

OpenRouter disguises errors: a 200 may hold an error in its body, in its first choice, or no choice at all. The shapes
are those of its documentation and of public issue threads; status codes and typed fields decide, and its prose only
where it is the single thing that tells two cases apart (which rate limit, which 400).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from devtasks.openrouter import hints
from devtasks.recovery import FailureKind

Json = dict[str, Any]

LONGEST_MINUTE = timedelta(minutes=2)
"""A limit of the account that names no window but lasts longer than this is the day's."""

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
    """A chat completion that counts, with what it cost in USD; None where the service reports none."""

    body: Json
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

BY_PROSE: tuple[tuple[int, str, FailureKind], ...] = (
    (429, "free-models-per-day", FailureKind.DAY_LIMIT),
    (429, "free-models-per-min", FailureKind.MINUTE_LIMIT),
    # The account's as well, without a word on the window; a provider's is told as "Provider returned error".
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
        parsed = json.loads(content)
    except (ValueError, RecursionError):
        parsed = None
    answer = _read(status, parsed)
    if isinstance(answer, Completion):
        return answer
    now = now or datetime.now(UTC)
    until = hints.until(headers or {}, _error_in(cast(Json, parsed)) if isinstance(parsed, dict) else {}, now)
    is_day = answer.kind is FailureKind.MINUTE_LIMIT and until is not None and until - now > LONGEST_MINUTE
    return replace(answer, kind=FailureKind.DAY_LIMIT if is_day else answer.kind, until=until)


def _read(status: int, parsed: Any) -> Completion | Refusal:
    if status != 200 and not 400 <= status < 600:
        return Refusal(FailureKind.PROVIDER_ERROR, 502, f"HTTP {status}, which is neither an answer nor an error")
    if not isinstance(parsed, dict):
        if status == 200:
            return Refusal(FailureKind.MALFORMED_ANSWER, 502, "the provider's answer is not JSON")
        return Refusal(_kind(status, ""), status, f"HTTP {status} without a readable body")
    body = cast(Json, parsed)
    if error := _error_in(body):
        return _refusal(status, error)
    if status != 200:
        return Refusal(_kind(status, ""), status, f"HTTP {status}")
    return _completion(body)


def _completion(body: Json) -> Completion | Refusal:
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices:
        return Refusal(FailureKind.EMPTY_ANSWER, 502, "the provider answered without any choice")
    choice = _mapping(cast(list[Any], choices)[0])
    if choice.get("finish_reason") == "error" or choice.get("error"):
        return _refusal(502, _error_in(choice))
    message = _mapping(choice.get("message"))
    if not (message.get("content") or message.get("tool_calls") or message.get("function_call")):
        return Refusal(FailureKind.EMPTY_ANSWER, 502, "the provider answered with an empty message")
    usage = _mapping(body.get("usage"))
    return Completion(
        body=body,
        model=_text(body.get("model")),
        provider=_text(body.get("provider")),
        generation_id=_text(body.get("id")),
        prompt_tokens=int(_number(usage.get("prompt_tokens"))),
        completion_tokens=int(_number(usage.get("completion_tokens"))),
        cost_usd=_amount(usage.get("cost")),
    )


def _refusal(status: int, error: Json) -> Refusal:
    code = error.get("code", error.get("http_status"))
    if isinstance(code, int) and 400 <= code < 600:
        status = code
    elif status == 200:
        status = 502
    message = str(error.get("message") or "no reason given")[:500]
    source = _mapping(error.get("metadata")).get("limit_source")
    if status == 429 and source == "openrouter_free_tier_daily":
        return Refusal(FailureKind.DAY_LIMIT, status, message)
    return Refusal(_kind(status, message), status, message)


def _kind(status: int, message: str) -> FailureKind:
    prose = message.lower()
    for code, words, kind in BY_PROSE:
        if code == status and words in prose:
            return kind
    return BY_STATUS.get(status, FailureKind.PROVIDER_ERROR if status >= 500 else FailureKind.BAD_REQUEST)


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
