import json
import random
from typing import Any

import pytest

from devtasks.openrouter.answers import BY_PROSE, BY_STATUS, BY_TYPE, Completion, Refusal, read_answer
from devtasks.recovery import FailureKind

K = FailureKind
DAY_PROSE = "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 free model requests per day"
NO_TOOLS = "No endpoints found that support tool use. To learn more about provider routing, visit: https://example.org"
TOO_LONG = "This endpoint's maximum context length is 131072 tokens. Please reduce the length of either one."
UPSTREAM = {"raw": "acme/coder:free is temporarily rate-limited upstream. Please retry shortly", "provider_name": "P"}
HTML = b"<!DOCTYPE html><title>524: A timeout occurred</title>"
ANSWER: dict[str, Any] = {
    "id": "gen-1",
    "model": "acme/coder-2",
    "provider": "P",
    "choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": "Hello."}}],
    "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120, "cost": 0.25},
}


def error(code: int, message: str, **metadata: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "metadata": metadata}, "user_id": "user_1"}


def choice(**values: Any) -> dict[str, Any]:
    return ANSWER | {"choices": [values]}


def unavailable(status: int, code: str, **details: Any) -> dict[str, Any]:
    """The newer shape of an error: no code, the status in the error itself."""
    return {"error": {"message": code, "http_status": status, "availability": {"code": code} | details}}


REFUSALS: list[Any] = [
    pytest.param(400, error(400, "acme/x is not a valid model ID"), K.MODEL_UNAVAILABLE, 400, id="400-unknown-model"),
    pytest.param(400, error(400, TOO_LONG), K.CONTEXT_OVERFLOW, 400, id="400-context"),
    pytest.param(400, error(400, "prompt is too long: 9 tokens"), K.CONTEXT_OVERFLOW, 400, id="400-prompt-too-long"),
    pytest.param(400, error(400, "temperature: bad"), K.BAD_REQUEST, 400, id="400-parameter"),
    pytest.param(400, error(400, "No.", error_type="context_length_exceeded"), K.CONTEXT_OVERFLOW, 400, id="400-type"),
    pytest.param(
        400, {"error": {"message": "No.", "code": "context_length_exceeded"}}, K.CONTEXT_OVERFLOW, 400, id="400-code"
    ),
    pytest.param(
        400,
        error(400, "Provider returned error", raw=TOO_LONG),
        K.CONTEXT_OVERFLOW,
        400,
        id="400-provider-s-context",
    ),
    pytest.param(400, error(400, "No.", error_type="content_policy_violation"), K.MODERATION, 400, id="400-moderation"),
    pytest.param(
        400, unavailable(400, "model_not_found", retryable=False), K.MODEL_UNAVAILABLE, 400, id="400-model-not-found"
    ),
    pytest.param(401, error(401, "No auth credentials found"), K.AUTHENTICATION, 401, id="401-no-key"),
    pytest.param(401, error(401, "User not found."), K.AUTHENTICATION, 401, id="401-disabled-key"),
    pytest.param(402, error(402, "requires more credits, or fewer max_tokens"), K.PAYMENT, 402, id="402-credits"),
    pytest.param(
        402, error(402, "busy", limit_source="openrouter_in_flight_budget"), K.PAYMENT, 402, id="402-in-flight-no-hint"
    ),
    pytest.param(403, error(403, "flagged", reasons=["violence"]), K.MODERATION, 403, id="403-moderation"),
    pytest.param(403, error(403, "Request blocked.", patterns=["x"]), K.MODERATION, 403, id="403-guardrail"),
    pytest.param(403, error(403, "Key limit exceeded (daily limit)."), K.PAYMENT, 403, id="403-key-limit"),
    pytest.param(403, error(403, "Budget limit exceeded"), K.PAYMENT, 403, id="403-budget"),
    pytest.param(
        403, error(403, "No.", limit_source="workspace", resets_at="soon"), K.PAYMENT, 403, id="403-budget-by-source"
    ),
    pytest.param(404, error(404, NO_TOOLS), K.MODEL_UNAVAILABLE, 404, id="404-no-tools"),
    pytest.param(
        404, error(404, "No endpoints found matching your data policy"), K.MODEL_UNAVAILABLE, 404, id="404-data-policy"
    ),
    pytest.param(
        404,
        {"error": {"message": "The free variant has ended.", "error_type": "not_found", "http_status": 404}},
        K.MODEL_UNAVAILABLE,
        404,
        id="404-availability-without-code",
    ),
    pytest.param(
        403,
        unavailable(403, "region_restricted", retryable=False),
        K.MODEL_UNAVAILABLE,
        403,
        id="403-region",
    ),
    pytest.param(403, unavailable(403, "some_day"), K.MODEL_UNAVAILABLE, 403, id="403-availability-unknown"),
    pytest.param(
        404, unavailable(404, "back_soon", retryable=True), K.PROVIDER_ERROR, 404, id="404-availability-retryable"
    ),
    pytest.param(
        503, unavailable(503, "temporarily_unavailable", retryable=True), K.PROVIDER_ERROR, 503, id="503-availability"
    ),
    pytest.param(503, unavailable(503, "gone", retryable=False), K.MODEL_UNAVAILABLE, 503, id="503-availability-final"),
    pytest.param(408, error(408, "Request timed out"), K.LLM_TIMEOUT, 408, id="408"),
    pytest.param(413, error(413, "Request too large"), K.CONTEXT_OVERFLOW, 413, id="413"),
    pytest.param(422, error(422, "unprocessable"), K.BAD_REQUEST, 422, id="422"),
    pytest.param(429, error(429, "Provider returned error", **UPSTREAM), K.UPSTREAM_RATE_LIMIT, 429, id="429-upstream"),
    pytest.param(
        429,
        {"error": {"message": "All providers are at capacity.", "error_type": "rate_limit_exceeded"}},
        K.UPSTREAM_RATE_LIMIT,
        429,
        id="429-capacity",
    ),
    pytest.param(
        429, error(429, "Rate limit exceeded: free-models-per-min. "), K.MINUTE_LIMIT, 429, id="429-account-minute"
    ),
    pytest.param(429, error(429, DAY_PROSE), K.DAY_LIMIT, 429, id="429-account-day"),
    pytest.param(
        429,
        error(429, "Rate limit exceeded: free-models-per-day-high-balance. "),
        K.DAY_LIMIT,
        429,
        id="429-account-day-after-credits",
    ),
    pytest.param(
        429,
        error(429, "Rate limit exceeded", limit_source="openrouter_free_tier_daily"),
        K.DAY_LIMIT,
        429,
        id="429-account-day-by-source",
    ),
    pytest.param(429, error(429, "Rate limit exceeded"), K.MINUTE_LIMIT, 429, id="429-account-without-a-word-which"),
    pytest.param(
        429, error(429, "Rate limit exceeded", provider_name="P"), K.UPSTREAM_RATE_LIMIT, 429, id="429-named-provider"
    ),
    pytest.param(429, b"", K.UPSTREAM_RATE_LIMIT, 429, id="429-without-body"),
    pytest.param(500, error(500, "Internal Server Error"), K.PROVIDER_ERROR, 500, id="500"),
    pytest.param(502, error(502, "Provider returned error", raw="x"), K.PROVIDER_ERROR, 502, id="502"),
    pytest.param(503, error(503, "No instances available"), K.PROVIDER_ERROR, 503, id="503"),
    pytest.param(504, error(504, "Provider timed out"), K.LLM_TIMEOUT, 504, id="504"),
    pytest.param(524, HTML, K.LLM_TIMEOUT, 524, id="524-html"),
    pytest.param(529, error(529, "overloaded"), K.PROVIDER_ERROR, 529, id="529"),
    pytest.param(200, error(502, "Provider returned error"), K.PROVIDER_ERROR, 502, id="200-error"),
    pytest.param(200, error(429, "Provider returned error"), K.UPSTREAM_RATE_LIMIT, 429, id="200-error-429"),
    pytest.param(200, error(429, DAY_PROSE), K.DAY_LIMIT, 429, id="200-error-day"),
    pytest.param(200, error(0, "strange"), K.PROVIDER_ERROR, 502, id="200-error-with-a-strange-code"),
    pytest.param(
        200,
        {"error": {"message": "at capacity", "error_type": "rate_limit_exceeded", "http_status": 429}},
        K.UPSTREAM_RATE_LIMIT,
        429,
        id="200-availability-without-code",
    ),
    pytest.param(
        200,
        {"error": {"message": "busy", "error_type": "rate_limit_exceeded"}},
        K.UPSTREAM_RATE_LIMIT,
        502,
        id="200-typed-error-without-status",
    ),
    pytest.param(
        200,
        {"error": {"message": "x", "metadata": {"error_type": "authentication"}}},
        K.AUTHENTICATION,
        502,
        id="200-type-in-the-metadata",
    ),
    pytest.param(200, {"error": {"code": "429", "message": "x"}}, K.UPSTREAM_RATE_LIMIT, 429, id="200-code-as-text"),
    pytest.param(200, {"error": "overloaded"}, K.PROVIDER_ERROR, 502, id="200-error-as-text"),
    pytest.param(400, {"error": TOO_LONG}, K.CONTEXT_OVERFLOW, 400, id="400-error-as-text"),
    pytest.param(
        200,
        choice(finish_reason="error", error={"code": 502, "message": "gone"}, message={"content": "half an ans"}),
        K.PROVIDER_ERROR,
        502,
        id="200-finish-reason-error",
    ),
    pytest.param(
        200, choice(finish_reason="error", message={"content": "x"}), K.PROVIDER_ERROR, 502, id="200-finish-bare"
    ),
    pytest.param(
        200,
        choice(finish_reason="stop", error={"code": 429, "message": "slow down"}, message={"content": "x"}),
        K.UPSTREAM_RATE_LIMIT,
        429,
        id="200-error-in-the-choice",
    ),
    pytest.param(200, ANSWER | {"choices": []}, K.EMPTY_ANSWER, 502, id="200-no-choices"),
    pytest.param(200, ANSWER | {"choices": None}, K.EMPTY_ANSWER, 502, id="200-null-choices"),
    pytest.param(200, ANSWER | {"choices": [None]}, K.EMPTY_ANSWER, 502, id="200-null-choice"),
    pytest.param(200, choice(message={"content": None}), K.EMPTY_ANSWER, 502, id="200-null-content"),
    pytest.param(200, choice(message={"content": "", "tool_calls": []}), K.EMPTY_ANSWER, 502, id="200-empty-content"),
    pytest.param(200, {}, K.EMPTY_ANSWER, 502, id="200-empty-object"),
    pytest.param(200, b'{"id": "gen-1", "choi', K.MALFORMED_ANSWER, 502, id="200-cut-json"),
    pytest.param(200, b"", K.MALFORMED_ANSWER, 502, id="200-nothing"),
    pytest.param(200, b"\n         \n        ", K.MALFORMED_ANSWER, 502, id="200-only-keep-alives"),
    pytest.param(200, b'data: {"choices": []}\n\ndata: [DONE]\n', K.MALFORMED_ANSWER, 502, id="200-a-stream-unasked"),
    pytest.param(200, b"[1, 2]", K.MALFORMED_ANSWER, 502, id="200-a-list"),
    pytest.param(200, b"\xff\xfe\x00", K.MALFORMED_ANSWER, 502, id="200-not-text"),
    pytest.param(200, b"[" * 100_000, K.MALFORMED_ANSWER, 502, id="200-deeper-than-the-stack"),
    pytest.param(204, b"", K.PROVIDER_ERROR, 502, id="204-success-without-an-answer"),
    pytest.param(301, b"", K.PROVIDER_ERROR, 502, id="301-redirected"),
    pytest.param(418, b"", K.BAD_REQUEST, 418, id="418-unknown-client-error"),
    pytest.param(599, b"", K.PROVIDER_ERROR, 599, id="599-unknown-server-error"),
]


@pytest.mark.parametrize(("status", "body", "kind", "handed_on"), REFUSALS)
def test_an_answer_that_is_none_is_refused_with_its_kind(
    status: int, body: Any, kind: FailureKind, handed_on: int
) -> None:
    answer = read_answer(status, body if isinstance(body, bytes) else json.dumps(body).encode())
    assert isinstance(answer, Refusal)
    assert (answer.kind, answer.status) == (kind, handed_on)
    assert answer.message


def test_every_row_of_the_tables_is_met_by_a_case_above() -> None:
    cases: list[tuple[int, str]] = [
        (status, body.decode(errors="replace") if isinstance(body, bytes) else json.dumps(body))
        for status, body, *_ in (case.values for case in REFUSALS)
    ]
    assert set(BY_STATUS) <= {status for status, _ in cases}
    for code, words, kind in BY_PROSE:
        assert any(status == code and words in text.lower() for status, text in cases), (code, words, kind)


def test_every_type_of_the_table_decides_where_the_status_does_not() -> None:
    for error_type, kind in BY_TYPE.items():
        answer = read_answer(200, json.dumps({"error": {"message": "x", "error_type": error_type}}).encode())
        assert isinstance(answer, Refusal)
        assert answer.kind is kind, error_type


def test_an_answer_that_counts_is_read_with_its_cost() -> None:
    content = b"\n     \n" + json.dumps(ANSWER).encode()
    answer = read_answer(200, content)
    assert answer == Completion(content, "acme/coder-2", "P", "gen-1", 100, 20, 0.25)


@pytest.mark.parametrize(
    "message",
    [
        pytest.param({"content": None, "tool_calls": [{"id": "1"}]}, id="tool-calls-without-text"),
        pytest.param({"content": None, "function_call": {"name": "f"}}, id="the-older-function-call"),
    ],
)
def test_an_answer_without_text_counts_when_it_calls_a_tool(message: dict[str, Any]) -> None:
    assert isinstance(read_answer(200, json.dumps(choice(message=message)).encode()), Completion)


@pytest.mark.parametrize(
    "usage",
    [
        pytest.param(b"null", id="null"),
        pytest.param(b"[]", id="list"),
        pytest.param(b'{"prompt_tokens": "9", "completion_tokens": null, "cost": []}', id="other-types"),
        pytest.param(b'{"prompt_tokens": -5, "completion_tokens": -1, "cost": -0.5}', id="negative"),
        pytest.param(b'{"prompt_tokens": Infinity, "completion_tokens": NaN, "cost": Infinity}', id="not-finite"),
        pytest.param(b'{"prompt_tokens": 1' + b"0" * 400 + b', "cost": 1e300}', id="beyond-measure"),
    ],
)
def test_a_count_that_cannot_be_is_zero_and_such_a_cost_unknown(usage: bytes) -> None:
    content = json.dumps(ANSWER).replace(json.dumps(ANSWER["usage"]), "USAGE").encode().replace(b"USAGE", usage)
    answer = read_answer(200, content)
    assert isinstance(answer, Completion)
    assert (answer.prompt_tokens, answer.completion_tokens, answer.cost_usd) == (0, 0, None)


def test_a_message_is_handed_on_in_bounded_length() -> None:
    answer = read_answer(500, json.dumps(error(500, "x" * 10_000)).encode())
    assert isinstance(answer, Refusal)
    assert len(answer.message) == 500


def test_the_typed_body_names_the_kind() -> None:
    refusal = Refusal(FailureKind.DAY_LIMIT, 429, "no more")
    assert refusal.body() == {"error": {"code": 429, "message": "no more", "metadata": {"error_type": "day_limit"}}}


SCALARS: tuple[Any, ...] = (None, True, 0, -1, 429, 1e308, float("inf"), float("nan"), 10**320, "", "error", "429", [])
KEYS = ("error", "code", "message", "metadata", "limit_source", "choices", "usage", "cost", "content", "finish_reason")


def something(source: random.Random, depth: int) -> Any:
    kind = source.random()
    if depth == 0 or kind < 0.25:
        return source.choice(SCALARS)
    if kind < 0.45:
        return [something(source, depth - 1) for _ in range(source.randrange(3))]
    return {key: something(source, depth - 1) for key in source.sample(KEYS, source.randrange(1, 5))}


def test_no_json_whatsoever_makes_it_raise() -> None:
    source = random.Random(7)
    for _ in range(3_000):
        body, status = something(source, 4), source.choice((200, 204, 302, 400, 429, 500, 999))
        answer = read_answer(status, json.dumps(body).encode())
        assert isinstance(answer, Completion) or 400 <= answer.status < 600, (status, body)
