import json
from contextlib import suppress
from typing import Any

import httpx
import pytest

from devtasks.simulator.faults import FaultKind
from devtasks.simulator.shapes import REFUSALS, SPOILT
from devtasks.simulator.wire import WIRE

TURNS = [{"text": "I look at it first.", "tool_calls": [{"name": "terminal", "arguments": {"command": "ls -la"}}]}]
MINUTE_RESET = "1926244860000"  # 2031-01-15T12:01:00Z
DAY_RESET = "1926288000000"  # 2031-01-16T00:00:00Z


def failure(code: int, message: str, **metadata: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": message} | ({"metadata": metadata} if metadata else {})}


REFUSED: dict[FaultKind, tuple[int, dict[str, Any]]] = {
    FaultKind.BAD_MODEL_400: (400, failure(400, "acme/coder-small:free is not a valid model ID")),
    FaultKind.CONTEXT_LENGTH_400: (400, failure(400, "reduce the length", error_type="context_length_exceeded")),
    FaultKind.NO_AUTH_401: (401, failure(401, "No auth credentials found")),
    FaultKind.USER_NOT_FOUND_401: (401, failure(401, "User not found.")),
    FaultKind.CREDITS_402: (402, failure(402, "can only afford 2666")),
    FaultKind.IN_FLIGHT_BUDGET_402: (402, failure(402, "in flight", limit_source="openrouter_in_flight_budget")),
    FaultKind.MODERATION_403: (403, failure(403, "moderation", reasons=["violence"], flagged_input="...")),
    FaultKind.GUARDRAIL_403: (403, failure(403, "guardrail", patterns=["secret"])),
    FaultKind.KEY_LIMIT_403: (403, failure(403, "Key limit exceeded", limit_usd=1)),
    FaultKind.NO_TOOLS_404: (404, failure(404, "No endpoints found that support tool use")),
    FaultKind.NO_PROVIDERS_404: (404, failure(404, "No allowed providers are available")),
    FaultKind.DATA_POLICY_404: (404, failure(404, "No endpoints found matching your data policy")),
    FaultKind.FREE_VARIANT_ENDED_404: (
        404,
        {"error": {"http_status": 404, "availability": {"code": "free_variant_ended", "retryable": False}}},
    ),
    FaultKind.TIMEOUT_408: (408, failure(408, "timed out")),
    FaultKind.PAYLOAD_TOO_LARGE_413: (413, failure(413, "too large")),
    FaultKind.UPSTREAM_429: (
        429,
        failure(429, "Provider returned error", raw="temporarily rate-limited upstream", provider_name="Simulated"),
    ),
    FaultKind.CAPACITY_EXHAUSTED_429: (
        429,
        {
            "error": {
                "error_type": "rate_limit_exceeded",
                "http_status": 429,
                "availability": {"code": "capacity_exhausted", "retryable": True, "retry_after": 5},
            }
        },
    ),
    FaultKind.ACCOUNT_MINUTE_429: (
        429,
        failure(429, "free-models-per-min", headers={"X-RateLimit-Limit": "20", "X-RateLimit-Reset": MINUTE_RESET}),
    ),
    FaultKind.ACCOUNT_DAY_429: (
        429,
        failure(429, "free-models-per-day. Add 10 credits", headers={"X-RateLimit-Reset": DAY_RESET}),
    ),
    FaultKind.HTTP_500: (500, failure(500, "Internal Server Error")),
    FaultKind.HTTP_502: (502, failure(502, "Provider returned error", provider_name="Simulated")),
    FaultKind.HTTP_503: (503, failure(503, "No instances available", error_type="provider_overloaded")),
    FaultKind.HTTP_504: (504, failure(504, "timed out")),
    FaultKind.HTTP_529: (529, failure(529, "overloaded")),
}


def assert_includes(actual: Any, expected: Any) -> None:
    """Every expected key is there; a string is part of the actual one."""
    if isinstance(expected, dict):
        for key, value in expected.items():
            assert key in actual
            assert_includes(actual[key], value)
    elif isinstance(expected, str):
        assert expected in actual
    else:
        assert actual == expected


@pytest.fixture
def strike(play, make_scenario, ask):
    """Ask once of a model whose every call has this fault; return the response, or the client's error."""

    def once(kind: FaultKind, *, stream: bool = False, **options: Any) -> httpx.Response | Exception:
        scenario = make_scenario(turns=TURNS, faults=[{"kind": kind} | options])

        async def act(client, _simulator):
            try:
                return await ask(client, stream=stream)
            except httpx.TransportError as error:
                return error

        return play(scenario, act)

    return once


def events(response: httpx.Response) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_every_kind_is_in_exactly_one_table():
    assert sorted([*REFUSALS, *SPOILT, *WIRE]) == sorted(FaultKind)


def test_every_refusal_has_its_expectation_here():
    assert set(REFUSALS) == {*REFUSED, FaultKind.HTML_524}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("kind", "status", "body"), [(k, *v) for k, v in REFUSED.items()], ids=list(REFUSED))
def test_refusal_has_openrouters_status_and_body(strike, kind, status, body, stream):
    response = strike(kind, stream=stream)
    assert response.status_code == status
    assert response.headers["Content-Type"].startswith("application/json")
    assert response.headers["X-Devtasks-Simulated"] == "true"
    assert "Retry-After" not in response.headers
    assert_includes(response.json(), body)


def test_524_is_an_html_page(strike):
    response = strike(FaultKind.HTML_524)
    assert response.status_code == 524
    assert response.headers["Content-Type"].startswith("text/html")
    assert response.text.startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    "kind", [FaultKind.UPSTREAM_429, FaultKind.HTTP_503, FaultKind.IN_FLIGHT_BUDGET_402], ids=lambda kind: kind
)
def test_retry_after_is_a_header(strike, kind):
    assert strike(kind, retry_after=3).headers["Retry-After"] == "3"


def test_retry_after_of_an_availability_error_is_in_its_body(strike):
    response = strike(FaultKind.CAPACITY_EXHAUSTED_429, retry_after=9)
    assert response.json()["error"]["availability"]["retry_after"] == 9
    assert "code" not in response.json()["error"]


@pytest.mark.parametrize(
    ("kind", "reset"),
    [(FaultKind.ACCOUNT_MINUTE_429, MINUTE_RESET), (FaultKind.ACCOUNT_DAY_429, DAY_RESET)],
    ids=["minute", "day"],
)
def test_account_limit_tells_its_reset_in_headers(strike, kind, reset):
    headers = strike(kind).headers
    assert (headers["X-RateLimit-Remaining"], headers["X-RateLimit-Reset"]) == ("0", reset)


def test_error_in_200(strike):
    whole = strike(FaultKind.ERROR_IN_200)
    assert whole.status_code == 200
    assert_includes(whole.json(), failure(502, "Provider returned error"))
    assert "choices" not in whole.json()
    [chunk] = events(strike(FaultKind.ERROR_IN_200, stream=True))
    assert chunk["error"]["code"] == 502


def test_finish_reason_error_keeps_the_partial_text(strike):
    [choice] = strike(FaultKind.FINISH_REASON_ERROR).json()["choices"]
    assert (choice["finish_reason"], choice["error"]["code"]) == ("error", 502)
    assert choice["message"]["content"] == "I look at"


def test_error_inside_a_stream_comes_after_pieces_of_the_answer(strike):
    response = strike(FaultKind.FINISH_REASON_ERROR, stream=True)
    *pieces, last = events(response)
    assert response.status_code == 200
    assert "".join(piece["choices"][0]["delta"]["content"] for piece in pieces) == "I look at"
    assert (last["error"]["code"], last["choices"][0]["finish_reason"]) == (502, "error")


def test_empty_choices(strike):
    assert strike(FaultKind.EMPTY_CHOICES).json()["choices"] == []
    [chunk] = events(strike(FaultKind.EMPTY_CHOICES, stream=True))
    assert chunk["choices"] == []


def test_null_content_costs_no_tokens(strike):
    body = strike(FaultKind.NULL_CONTENT).json()
    [choice] = body["choices"]
    assert choice["message"]["content"] is None
    assert "tool_calls" not in choice["message"]
    assert (body["usage"]["total_tokens"], body["usage"]["cost"]) == (0, 0)


def test_truncated_arguments_claim_a_complete_tool_call(strike):
    [choice] = strike(FaultKind.TRUNCATED_ARGUMENTS).json()["choices"]
    assert (choice["finish_reason"], choice["native_finish_reason"]) == ("tool_calls", "length")
    arguments = choice["message"]["tool_calls"][0]["function"]["arguments"]
    assert arguments.startswith('{"command"')
    with pytest.raises(json.JSONDecodeError):
        json.loads(arguments)


def test_truncated_arguments_without_a_tool_call_is_an_error_of_the_scenario(play, make_scenario, ask):
    scenario = make_scenario(faults=[{"kind": "truncated_arguments"}])
    response = play(scenario, lambda client, _: ask(client))
    assert response.status_code == 400
    assert "needs a turn with tool calls" in response.json()["error"]["message"]


def test_malformed_json_is_a_complete_answer_of_status_200(strike):
    response = strike(FaultKind.MALFORMED_JSON)
    assert response.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        response.json()
    with pytest.raises(json.JSONDecodeError):
        events(strike(FaultKind.MALFORMED_JSON, stream=True))


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("kind", "options"),
    [(FaultKind.ANSWER_CUT, {}), (FaultKind.CONNECTION_DROPPED, {}), (FaultKind.HANG, {"seconds": 0.05})],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_answer_that_ends_early_is_a_broken_connection(strike, kind, options, stream):
    assert isinstance(strike(kind, stream=stream, **options), httpx.RemoteProtocolError)


def test_cut_stream_has_sent_its_first_half(play, make_scenario):
    body = {"model": "acme/coder-small:free", "messages": [{"role": "user", "content": "Hi"}], "stream": True}

    async def act(client, _simulator):
        received = b""
        async with client.stream("POST", "/chat/completions", json=body) as response:
            with suppress(httpx.RemoteProtocolError):
                async for piece in response.aiter_raw():
                    received += piece
        return received

    received = play(make_scenario(faults=[{"kind": "answer_cut"}]), act)
    assert received.startswith(b'data: {"id": "gen-simulated-1"')
    assert b"[DONE]" not in received


def test_hang_defeats_a_read_timeout_and_ends_when_the_client_leaves(play, make_scenario):
    async def act(client, simulator):
        body = {"model": "acme/coder-small:free", "messages": [{"role": "user", "content": "Hi"}]}
        async with client.stream("POST", "/chat/completions", json=body, timeout=1) as response:
            pieces = response.aiter_raw()
            received = [await anext(pieces) for _ in range(2)]
        return received, simulator.requests

    received, records = play(make_scenario(faults=[{"kind": "hang"}]), act)
    assert b"".join(received).strip() == b""
    assert [(record.status, record.fault) for record in records] == [(200, "hang")]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_slow_answer_follows_its_keep_alives(strike, stream):
    response = strike(FaultKind.SLOW_KEEP_ALIVE, stream=stream, seconds=0.05)
    if stream:
        assert response.text.startswith(": OPENROUTER PROCESSING\n\n")
        assert events(response)[-1]["usage"]["total_tokens"] > 0
    else:
        assert response.text[0].isspace()
        assert response.json()["choices"][0]["finish_reason"] == "tool_calls"
