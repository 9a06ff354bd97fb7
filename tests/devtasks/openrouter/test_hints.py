import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from devtasks.openrouter.answers import Refusal, read_answer
from devtasks.openrouter.hints import until
from devtasks.recovery import FailureKind

K = FailureKind
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
RESET = str(int((NOON + timedelta(seconds=40)).timestamp() * 1_000))


@pytest.mark.parametrize(
    ("headers", "error", "seconds"),
    [
        pytest.param({}, {}, None, id="nothing"),
        pytest.param({"Retry-After": "7"}, {}, 7, id="seconds"),
        pytest.param({"retry-after": "1.5"}, {}, 1.5, id="in-any-case-with-a-fraction"),
        pytest.param({"Retry-After": "Sun, 01 Mar 2026 12:00:30 GMT"}, {}, 30, id="a-date"),
        pytest.param({"X-RateLimit-Reset": RESET}, {}, 40, id="the-account-s-reset"),
        pytest.param({}, {"metadata": {"headers": {"X-RateLimit-Reset": RESET}}}, 40, id="its-copy-in-the-body"),
        pytest.param({}, {"availability": {"retry_after": 5}}, 5, id="availability"),
        pytest.param({}, {"metadata": {"resets_at": "2026-03-20T00:00:00Z"}}, 18.5 * 86_400, id="a-budget-s-reset"),
        pytest.param({}, {"metadata": {"resets_at": "2026-03-01T12:00:09"}}, 9, id="without-a-zone"),
        pytest.param({}, {"metadata": {"resets_at": int(RESET)}}, 40, id="in-milliseconds"),
        pytest.param({}, {"metadata": {"resets_at": "2027-03-01T00:00:00Z"}}, None, id="beyond-any-budget-s-reset"),
        pytest.param({}, {"metadata": {"resets_at": "the first of the month"}}, None, id="a-reset-in-words"),
        pytest.param({"Retry-After": "7", "X-RateLimit-Reset": RESET}, {}, 7, id="retry-after-goes-first"),
        pytest.param({"Retry-After": "soon", "X-RateLimit-Reset": RESET}, {}, 40, id="the-one-that-can-be-read"),
        pytest.param({"Retry-After": "-1"}, {}, None, id="past"),
        pytest.param({"Retry-After": "1e300"}, {}, None, id="beyond-measure"),
        pytest.param({"Retry-After": "nan"}, {}, None, id="not-a-number"),
        pytest.param({"Retry-After": "90001"}, {}, None, id="longer-than-any-reset"),
        pytest.param({"X-RateLimit-Reset": "inf"}, {"metadata": [], "availability": "x"}, None, id="garbage"),
    ],
)
def test_a_refusal_s_hint_is_read(headers: dict[str, str], error: dict[str, Any], seconds: float | None) -> None:
    assert until(headers, error, NOON) == (None if seconds is None else NOON + timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("seconds", "kind"), [pytest.param(60, "minute_limit", id="soon"), pytest.param(9_000, "day_limit", id="in-hours")]
)
def test_a_limit_that_names_no_window_is_the_day_s_where_it_lasts_longer_than_a_minute(
    seconds: float, kind: FailureKind
) -> None:
    body = b'{"error": {"code": 429, "message": "Rate limit exceeded"}}'
    answer = read_answer(429, body, {"Retry-After": str(seconds)}, NOON)
    assert isinstance(answer, Refusal)
    assert (answer.kind, answer.until) == (kind, NOON + timedelta(seconds=seconds))


IN_FLIGHT = {"code": 402, "message": "Too many.", "metadata": {"limit_source": "openrouter_in_flight_budget"}}


@pytest.mark.parametrize(
    ("status", "error", "hinted", "unhinted"),
    [
        pytest.param(402, IN_FLIGHT, K.UPSTREAM_RATE_LIMIT, K.PAYMENT, id="in-flight-budget"),
        pytest.param(402, {"message": "No credits."}, K.PAYMENT, K.PAYMENT, id="no-credits"),
        pytest.param(503, {"message": "Overloaded."}, K.UPSTREAM_RATE_LIMIT, K.PROVIDER_ERROR, id="overloaded"),
        pytest.param(529, {"message": "Overloaded."}, K.UPSTREAM_RATE_LIMIT, K.PROVIDER_ERROR, id="overloaded-529"),
        pytest.param(500, {"message": "Oops."}, K.PROVIDER_ERROR, K.PROVIDER_ERROR, id="broken"),
        pytest.param(404, {"message": "Gone."}, K.MODEL_UNAVAILABLE, K.MODEL_UNAVAILABLE, id="gone"),
    ],
)
def test_a_service_that_says_when_to_come_back_is_busy_and_not_broken(
    status: int, error: dict[str, Any], hinted: FailureKind, unhinted: FailureKind
) -> None:
    body = json.dumps({"error": error}).encode()
    later, unknown = read_answer(status, body, {"Retry-After": "9"}, NOON), read_answer(status, body, {}, NOON)
    assert isinstance(later, Refusal)
    assert isinstance(unknown, Refusal)
    assert (later.kind, later.until) == (hinted, NOON + timedelta(seconds=9))
    assert (unknown.kind, unknown.until) == (unhinted, None)


def test_the_hint_of_an_error_inside_the_choice_is_read() -> None:
    error = {"code": 429, "message": "at capacity", "availability": {"retry_after": 5, "retryable": True}}
    answer = read_answer(200, json.dumps({"choices": [{"finish_reason": "error", "error": error}]}).encode(), {}, NOON)
    assert isinstance(answer, Refusal)
    assert (answer.kind, answer.until) == (K.UPSTREAM_RATE_LIMIT, NOON + timedelta(seconds=5))
