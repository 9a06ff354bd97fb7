import asyncio
import json
import logging
import socket
import stat
import statistics
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from gateways import ServiceGateway, gateway_to
from pydantic import SecretStr
from services import Fault, service

from devtasks.metrics_collector import LlmCall
from devtasks.openrouter.calls import PATIENT_WAITS, TRIES
from devtasks.openrouter.client import Pricing
from devtasks.openrouter.pacing import Permit, Trip, Unpaced
from devtasks.openrouter.upstream import MAX_BODY
from devtasks.recovery import FailureKind
from devtasks.simulator import Scenario, Simulator
from devtasks.simulator.faults import FaultKind
from devtasks.task import TaskLimits

KEY = "the-key-nobody-may-see"
MODEL = "acme/coder:free"
MESSAGES = [{"role": "user", "content": "Hi"}]
K = FailureKind

Answer = Callable[[httpx.Request], httpx.Response | Fault]


def completion(*, tokens: int = 12, cost: float = 0.0, **more: Any) -> httpx.Response:
    usage = {"prompt_tokens": tokens - 2, "completion_tokens": 2, "cost": cost}
    message = {"role": "assistant", "content": "Hello."}
    body = {"id": "gen-1", "model": "acme/coder-2", "provider": "P", "choices": [{"message": message}], "usage": usage}
    return httpx.Response(200, json=body | more)


def failure(status: int, message: str = "Provider returned error") -> httpx.Response:
    return httpx.Response(status, json={"error": {"code": status, "message": message}})


class Upstream:
    """OpenRouter, giving these answers in turn (the last one for ever) and keeping what it was asked."""

    def __init__(self, *answers: httpx.Response | Fault) -> None:
        self._answers = answers or (completion(),)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response | Fault:
        self.requests.append(request)
        return self._answers[min(len(self.requests), len(self._answers)) - 1]


@asynccontextmanager
async def serving(base_url: str, **more: Any) -> AsyncGenerator[ServiceGateway]:
    models = more.pop("models", (MODEL,))
    upstream = {"call_seconds": more.pop("call_seconds")} if "call_seconds" in more else {}
    async with gateway_to(base_url, SecretStr(KEY), *models, upstream=upstream, **more) as gateway:
        yield gateway


async def ask(gateway: ServiceGateway, *, token: str | None = None, content: bytes | None = None, **body: Any) -> Any:
    headers = {"Authorization": f"Bearer {gateway.token if token is None else token}"}
    sent: dict[str, Any] = {"content": content} if content is not None else {"json": {"messages": MESSAGES} | body}
    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        return await client.post(f"{gateway.base_url}/chat/completions", headers=headers, **sent)


def kind_of(response: httpx.Response) -> str:
    return response.json()["error"]["metadata"]["error_type"]


def through(
    upstream: Answer, act: Callable[[ServiceGateway], Awaitable[Any]], **more: Any
) -> tuple[ServiceGateway, Any]:
    """Open a gateway before this upstream, let the test use it; return the gateway and what the test returns."""

    async def run() -> tuple[ServiceGateway, Any]:
        async with service(upstream) as base_url, serving(base_url, **more) as gateway:
            return gateway, await act(gateway)

    return asyncio.run(run())


def asking(times: int = 1, **body: Any) -> Callable[[ServiceGateway], Awaitable[list[httpx.Response]]]:
    async def act(gateway: ServiceGateway) -> list[httpx.Response]:
        return [await ask(gateway, **body) for _ in range(times)]

    return act


# What comes of each fault: its kind (None: the answer counts) and how often the call was sent.
FAULTS: dict[FaultKind, tuple[FailureKind | None, int]] = {
    FaultKind.BAD_MODEL_400: (K.MODEL_UNAVAILABLE, 1),
    FaultKind.CONTEXT_LENGTH_400: (K.CONTEXT_OVERFLOW, 1),
    FaultKind.NO_AUTH_401: (K.AUTHENTICATION, 1),
    FaultKind.USER_NOT_FOUND_401: (K.AUTHENTICATION, 1),
    FaultKind.CREDITS_402: (K.PAYMENT, 1),
    FaultKind.IN_FLIGHT_BUDGET_402: (K.PAYMENT, 1),
    FaultKind.MODERATION_403: (K.MODERATION, 1),
    FaultKind.GUARDRAIL_403: (K.MODERATION, 1),
    FaultKind.KEY_LIMIT_403: (K.PAYMENT, 1),
    FaultKind.NO_TOOLS_404: (K.MODEL_UNAVAILABLE, 1),
    FaultKind.NO_PROVIDERS_404: (K.MODEL_UNAVAILABLE, 1),
    FaultKind.DATA_POLICY_404: (K.MODEL_UNAVAILABLE, 1),
    FaultKind.FREE_VARIANT_ENDED_404: (K.MODEL_UNAVAILABLE, 1),
    FaultKind.TIMEOUT_408: (K.LLM_TIMEOUT, 1),
    FaultKind.PAYLOAD_TOO_LARGE_413: (K.CONTEXT_OVERFLOW, 1),
    FaultKind.UPSTREAM_429: (K.UPSTREAM_RATE_LIMIT, 1 + PATIENT_WAITS),
    FaultKind.CAPACITY_EXHAUSTED_429: (K.UPSTREAM_RATE_LIMIT, 1 + PATIENT_WAITS),
    FaultKind.ACCOUNT_MINUTE_429: (K.MINUTE_LIMIT, 1),
    FaultKind.ACCOUNT_DAY_429: (K.DAY_LIMIT, 1),
    FaultKind.HTTP_500: (K.PROVIDER_ERROR, TRIES),
    FaultKind.HTTP_502: (K.PROVIDER_ERROR, TRIES),
    FaultKind.HTTP_503: (K.PROVIDER_ERROR, TRIES),
    FaultKind.HTTP_504: (K.LLM_TIMEOUT, 1),
    FaultKind.HTTP_529: (K.PROVIDER_ERROR, TRIES),
    FaultKind.HTML_524: (K.LLM_TIMEOUT, 1),
    FaultKind.ERROR_IN_200: (K.PROVIDER_ERROR, TRIES),
    FaultKind.FINISH_REASON_ERROR: (K.PROVIDER_ERROR, TRIES),
    FaultKind.EMPTY_CHOICES: (K.EMPTY_ANSWER, TRIES),
    FaultKind.NULL_CONTENT: (K.EMPTY_ANSWER, TRIES),
    FaultKind.TRUNCATED_ARGUMENTS: (None, 1),
    FaultKind.MALFORMED_JSON: (K.MALFORMED_ANSWER, TRIES),
    FaultKind.ANSWER_CUT: (K.PROVIDER_ERROR, TRIES),
    FaultKind.CONNECTION_DROPPED: (K.PROVIDER_ERROR, TRIES),
    FaultKind.HANG: (K.LLM_TIMEOUT, 1),
    FaultKind.SLOW_KEEP_ALIVE: (None, 1),
}
SLOW = {FaultKind.HANG: {}, FaultKind.SLOW_KEEP_ALIVE: {"seconds": 0.05}}


def test_every_fault_the_simulator_knows_has_its_expectation() -> None:
    assert set(FAULTS) == set(FaultKind)


def test_a_socket_leads_to_the_same_gateway_and_is_its_owner_s_alone(tmp_path: Path) -> None:
    socket = tmp_path / "gateway"

    async def act() -> list[int]:
        async with service(Upstream()) as base_url, serving(base_url, socket=socket) as gateway:
            assert stat.S_IMODE(socket.stat().st_mode) == 0o600
            url = f"{gateway.base_url}/chat/completions"
            async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(socket))) as client:
                headers = ({"Authorization": f"Bearer {gateway.token}"}, {})
                return [
                    (await client.post(url, json={"messages": MESSAGES}, headers=each)).status_code for each in headers
                ]

    assert asyncio.run(act()) == [200, 401]


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_of_openrouter_reaches_the_agent_with_its_kind(fault: FaultKind) -> None:
    rule = {"kind": fault} | SLOW.get(fault, {})
    turns = [{"tool_calls": [{"name": "terminal", "arguments": {"command": "ls"}}]}]
    model = {"id": MODEL, "faults": [rule], "conversations": [{"turns": turns}]}
    scenario = Scenario.model_validate({"name": "faulty", "models": [model]})
    patience = 0.3 if fault is FaultKind.HANG else 20

    async def run() -> tuple[ServiceGateway, httpx.Response, int]:
        async with (
            Simulator(scenario) as simulator,
            serving(base_url=simulator.base_url, call_seconds=patience) as gateway,
        ):
            return gateway, await ask(gateway), len(simulator.requests)

    gateway, response, sent = asyncio.run(run())
    kind, times = FAULTS[fault]
    assert sent == len(gateway.calls) == times
    assert [call.error for call in gateway.calls] == [kind] * times
    assert (gateway.refusal and gateway.refusal.kind) is kind
    assert response.status_code == gateway.calls[-1].status
    assert kind is None or kind_of(response) == kind
    said = fault is not FaultKind.CONNECTION_DROPPED
    assert all(call.simulated is said for call in gateway.calls), "only what never began to answer did not say it"


@pytest.mark.parametrize("token", ["", "another", KEY, "tökén"], ids=["none", "wrong", "the-key", "not-ascii"])
def test_a_call_without_the_token_goes_nowhere(token: str) -> None:
    upstream = Upstream()

    async def act(gateway: ServiceGateway) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(gateway.base_url).port)
        head = f"POST /api/v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        writer.write(f"{head}Content-Length: 2\r\nConnection: close\r\n\r\n{{}}".encode("latin-1"))
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        return answer

    gateway, answer = through(upstream, act)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b'"authentication"' in answer
    assert (upstream.requests, gateway.calls, gateway.refusal) == ([], [], None)


def test_upstream_sees_the_key_and_the_attempt_s_model_but_not_the_token() -> None:
    upstream = Upstream()
    gateway, _ = through(upstream, asking(model="acme/expensive", temperature=0.5))
    (request,) = upstream.requests
    assert request.url.path == "/api/v1/chat/completions"
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    body = request.read().decode()
    assert f'"model":"{MODEL}"' in body
    assert '"temperature":0.5' in body
    assert gateway.token not in f"{request.headers}{body}"


def test_what_came_back_is_handed_on_counted_and_recorded() -> None:
    gateway, (first, _) = through(Upstream(completion(tokens=12, cost=0.25)), asking(2))
    assert first.json()["choices"][0]["message"]["content"] == "Hello."
    usage = gateway.usage
    assert (usage.llm_calls, usage.tokens, usage.cost_usd) == (2, 24, 0.5)
    call = gateway.calls[1]
    assert (call.flow_run_id, call.attempt, call.sequence, call.status, call.error) == ("run", 1, 2, 200, None)
    assert (call.model_requested, call.model_served, call.provider) == (MODEL, "acme/coder-2", "P")
    assert (call.generation_id, call.prompt_tokens, call.completion_tokens) == ("gen-1", 10, 2)
    assert call.started_at.utcoffset() is not None
    assert not call.simulated


def test_each_attempt_has_its_calls_its_model_and_a_clean_slate() -> None:
    async def act(gateway: ServiceGateway) -> None:
        await ask(gateway)
        assert gateway.refusal
        gateway.start(2, "acme/other")
        assert gateway.refusal is None
        await ask(gateway)

    gateway, _ = through(Upstream(failure(402), completion()), act)
    assert [(call.attempt, call.model_requested) for call in gateway.calls] == [(1, MODEL), (2, "acme/other")]
    assert gateway.calls_of(2) == (gateway.calls[1],)
    assert gateway.usage.llm_calls == 2, "the limits count over all attempts"


LINEUP = (MODEL, "acme/second", "acme/third")


def requested(gateway: ServiceGateway) -> list[tuple[str, str | None]]:
    return [(call.model_requested, call.error) for call in gateway.calls]


@pytest.mark.parametrize(
    ("refusals", "kind"),
    [
        pytest.param([failure(429)], K.UPSTREAM_RATE_LIMIT, id="upstream-limit"),
        pytest.param([failure(404)], K.MODEL_UNAVAILABLE, id="no-endpoint"),
        pytest.param([failure(502)] * TRIES, K.PROVIDER_ERROR, id="provider-down"),
        pytest.param([failure(504)], K.LLM_TIMEOUT, id="timeout"),
    ],
)
def test_a_conversation_moves_to_the_next_model_and_stays_there(
    refusals: list[httpx.Response], kind: FailureKind
) -> None:
    moves: list[tuple[str, str]] = []
    upstream = Upstream(*refusals, completion())

    async def act(gateway: ServiceGateway) -> list[httpx.Response]:
        gateway.start(1, *LINEUP, on_move=lambda model, refusal: moves.append((model, refusal.kind)))
        return await asking(2)(gateway)

    gateway, answers = through(upstream, act)
    assert [answer.status_code for answer in answers] == [200, 200]
    assert requested(gateway) == [(MODEL, kind)] * len(refusals) + [("acme/second", None)] * 2
    assert moves == [("acme/second", kind)]
    assert (gateway.lineup, gateway.rotations, gateway.refusal) == (LINEUP[1:], 1, None)
    sent = [json.loads(request.content) for request in upstream.requests]
    assert [body["messages"] for body in sent] == [MESSAGES] * len(sent), "the conversation is kept"


@pytest.mark.parametrize("status", [400, 401, 402, 403])
def test_what_is_not_the_provider_s_trouble_moves_no_conversation(status: int) -> None:
    gateway, _ = through(Upstream(failure(status)), asking(), models=LINEUP)
    assert [model for model, _ in requested(gateway)] == [MODEL]


def test_calls_at_the_same_time_move_the_conversation_once() -> None:
    async def act(gateway: ServiceGateway) -> None:
        await asyncio.gather(*(ask(gateway) for _ in range(4)))

    def limited(request: httpx.Request) -> httpx.Response:
        return failure(429) if json.loads(request.content)["model"] == MODEL else completion()

    gateway, _ = through(limited, act, models=LINEUP)
    assert (gateway.rotations, gateway.lineup) == (1, LINEUP[1:])


def test_a_whole_lineup_in_trouble_is_asked_once_each_and_the_last_one_is_given_time() -> None:
    waits: list[tuple[float, str]] = []

    async def act(gateway: ServiceGateway) -> httpx.Response:
        gateway.start(1, *LINEUP, on_wait=lambda *wait: waits.append(wait))
        return await ask(gateway)

    after = httpx.Response(429, headers={"Retry-After": "7"}, json=failure(429).json())
    gateway, answer = through(Upstream(after, after, after, completion()), act)
    assert answer.status_code == 200
    assert [model for model, _ in requested(gateway)] == [*LINEUP, LINEUP[-1]]
    ((seconds, reason),) = waits
    assert 6 < seconds <= 7
    assert reason == "until acme/third may be asked again (upstream_rate_limit)"


@pytest.mark.parametrize(
    ("seconds", "sent"), [pytest.param(62, 1, id="too-long"), pytest.param(1, 1 + PATIENT_WAITS, id="too-often")]
)
def test_patience_with_the_last_model_ends(seconds: int, sent: int) -> None:
    upstream = Upstream(httpx.Response(429, headers={"Retry-After": str(seconds)}, json=failure(429).json()))
    _, (answer,) = through(upstream, asking())
    assert kind_of(answer) == K.UPSTREAM_RATE_LIMIT
    assert len(upstream.requests) == sent


def test_nothing_of_a_request_reaches_the_service_that_could_move_it_to_another_model() -> None:
    upstream = Upstream(completion())
    harmful = {"models": ["acme/dear"], "route": "fallback", "provider": {"order": ["X"]}, "plugins": [{"id": "web"}]}
    through(upstream, asking(model="acme/dear", temperature=0.5, **harmful))
    assert json.loads(upstream.requests[0].content) == {"model": MODEL, "messages": MESSAGES, "temperature": 0.5}


@pytest.mark.parametrize(
    ("limits", "answer", "kind"),
    [
        pytest.param({"llm_calls": 1}, completion(), K.LIMIT_LLM_CALLS, id="calls"),
        pytest.param({"tokens": 1_000}, completion(tokens=1_000), K.LIMIT_TOKENS, id="tokens"),
        pytest.param({"cost_usd": 0.5}, completion(cost=0.5), K.LIMIT_COST, id="cost"),
        pytest.param({"cost_usd": 0}, completion(cost=0.001), K.LIMIT_COST, id="any-cost-where-none-is-allowed"),
    ],
)
def test_a_call_beyond_a_limit_is_refused_and_not_sent(
    limits: dict[str, Any], answer: httpx.Response, kind: FailureKind
) -> None:
    upstream = Upstream(answer)
    gateway, (first, second) = through(upstream, asking(2), limits=TaskLimits(**limits))
    assert (first.status_code, second.status_code) == (200, 403)
    assert kind_of(second) == kind
    assert gateway.refusal is not None
    assert gateway.refusal.kind is kind
    assert len(upstream.requests) == len(gateway.calls) == 1


def test_where_nothing_may_be_spent_free_models_still_work() -> None:
    _, responses = through(Upstream(completion(cost=0)), asking(3), limits=TaskLimits(cost_usd=0))
    assert [response.status_code for response in responses] == [200, 200, 200]


def test_a_passing_fault_is_not_the_agent_s_business() -> None:
    gateway, (response,) = through(Upstream(failure(502), failure(503), completion()), asking())
    assert response.status_code == 200
    assert [call.error for call in gateway.calls] == [K.PROVIDER_ERROR, K.PROVIDER_ERROR, None]
    assert gateway.refusal is None


def test_tries_count_against_the_limit_on_calls() -> None:
    upstream = Upstream(failure(502))
    _, (response,) = through(upstream, asking(), limits=TaskLimits(llm_calls=2))
    assert kind_of(response) == K.LIMIT_LLM_CALLS
    assert len(upstream.requests) == 2


@pytest.mark.parametrize(
    ("fault", "kind", "times"),
    [
        pytest.param(Fault.HANGS, K.LLM_TIMEOUT, 1, id="no-answer"),
        pytest.param(Fault.DROPS, K.PROVIDER_ERROR, TRIES, id="dropped-before-the-answer"),
        pytest.param(Fault.RESETS, K.PROVIDER_ERROR, TRIES, id="reset-in-the-answer"),
        pytest.param(Fault.CUTS, K.PROVIDER_ERROR, TRIES, id="cut-in-the-answer"),
    ],
)
def test_a_connection_that_fails_is_told_from_a_model_that_does(fault: Fault, kind: FailureKind, times: int) -> None:
    patience = 0.3 if fault is Fault.HANGS else 20
    gateway, (response,) = through(Upstream(fault), asking(), call_seconds=patience)
    assert kind_of(response) == kind
    assert [call.error for call in gateway.calls] == [kind] * times


def test_a_service_that_is_not_there_is_unreachable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused

        async def run() -> Any:
            async with serving(base_url=f"http://127.0.0.1:{taken.getsockname()[1]}/api/v1") as gateway:
                return await ask(gateway)

        response = asyncio.run(run())
    assert (response.status_code, kind_of(response)) == (502, K.UNREACHABLE)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b'{"messages": [], "stream": true}', id="stream"),
        pytest.param(b"[]", id="list"),
        pytest.param(b"{", id="not-json"),
        pytest.param(b"\xff\xfe", id="not-text"),
        pytest.param(b"", id="empty"),
        pytest.param(b"[" * 100_000, id="deeper-than-the-stack"),
        pytest.param(b'{"messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", id="whole-and-deeper"),
        pytest.param(b'{"messages": [], "temperature": NaN}', id="no-number"),
        pytest.param(b'{"messages": [], "temperature": -Infinity}', id="no-finite-number"),
        pytest.param(b'{"messages": [], "temperature": 1e400}', id="a-number-beyond-measure"),
    ],
)
def test_what_is_no_request_is_refused_and_not_sent(content: bytes) -> None:
    upstream = Upstream()
    gateway, (response,) = through(upstream, asking(content=content))
    assert (response.status_code, kind_of(response)) == (400, K.BAD_REQUEST)
    assert gateway.refusal is not None
    assert upstream.requests == []


HALF = b'{"messages": [{"role": "user", "content": "cut: \\ud83d"}]}'


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(HALF, id="half-an-emoji"),
        pytest.param(b"\xef\xbb\xbf" + json.dumps({"messages": MESSAGES}).encode(), id="byte-order-mark"),
        pytest.param(b'{"messages": ' + b"[" * 500 + b"]" * 500 + b"}", id="deep"),
        pytest.param(b'{"messages": ["' + b"x" * (2 << 20) + b'"]}', id="two-mebibytes"),
    ],
)
def test_a_request_that_is_odd_and_yet_json_arrives_as_it_is(content: bytes) -> None:
    upstream = Upstream()
    _, (response,) = through(upstream, asking(content=content))
    assert response.status_code == 200
    assert json.loads(upstream.requests[0].content) == json.loads(content.decode("utf-8-sig")) | {"model": MODEL}


@pytest.mark.parametrize("depth", [240, 260, 900, 1_020, 1_100])
def test_however_deep_a_request_is_it_is_sent_or_refused(depth: int) -> None:
    upstream = Upstream()
    _, (response,) = through(upstream, asking(content=b'{"messages": ' + b"[" * depth + b"]" * depth + b"}"))
    assert (response.status_code, len(upstream.requests)) in ((200, 1), (400, 0))


@pytest.mark.parametrize(
    "spoken",
    [
        pytest.param(completion().content.replace(b"Hello.", b"\\ud83d"), id="half-an-emoji"),
        pytest.param(completion().content.replace(b'"cost":0.0', b'"cost":NaN'), id="no-number"),
        pytest.param(b"\n     \n" + completion().content + b"\n", id="keep-alives"),
    ],
)
def test_an_answer_is_handed_on_in_the_service_s_own_bytes(spoken: bytes) -> None:
    gateway, (response,) = through(Upstream(httpx.Response(200, content=spoken)), asking())
    assert (response.status_code, response.headers["Content-Type"]) == (200, "application/json")
    assert response.content == spoken
    assert gateway.usage.tokens == 12


def test_a_body_too_large_is_refused_and_not_sent() -> None:
    upstream = Upstream()
    gateway, (response,) = through(upstream, asking(content=b" " * (MAX_BODY + 1)))
    assert (response.status_code, kind_of(response)) == (413, K.CONTEXT_OVERFLOW)
    assert gateway.refusal is not None
    assert upstream.requests == []


def test_an_answer_too_large_does_not_count() -> None:
    gateway, (response,) = through(Upstream(completion(padding="x" * MAX_BODY)), asking())
    assert (response.status_code, kind_of(response)) == (502, K.MALFORMED_ANSWER)
    assert len(gateway.calls) == TRIES


def test_a_call_the_agent_abandons_is_recorded_all_the_same() -> None:
    arrived = asyncio.Event()

    async def never(_: httpx.Request) -> httpx.Response:
        arrived.set()
        await asyncio.sleep(600)
        return completion()

    async def run() -> ServiceGateway:
        async with service(never) as base_url, serving(base_url) as gateway:
            async with asyncio.timeout(10):
                agent = asyncio.create_task(ask(gateway))
                await arrived.wait()
                agent.cancel()
                while not gateway.calls:
                    await asyncio.sleep(0.01)
            return gateway

    gateway = asyncio.run(run())
    assert [(call.status, call.error) for call in gateway.calls] == [(499, K.INTERRUPTED)]
    assert gateway.usage.llm_calls == 1


def test_it_listens_on_loopback_only_and_no_longer_than_it_is_open() -> None:
    def listeners(port: int | None) -> list[str]:
        every = psutil.Process().net_connections("inet")
        return [each.laddr.ip for each in every if each.status == psutil.CONN_LISTEN and each.laddr.port == port]

    async def act(gateway: ServiceGateway) -> list[str]:
        return listeners(httpx.URL(gateway.base_url).port)

    gateway, open_at = through(Upstream(), act)
    assert open_at == ["127.0.0.1"]
    assert listeners(httpx.URL(gateway.base_url).port) == []


def test_each_run_has_a_token_of_its_own() -> None:
    async def act(gateway: ServiceGateway) -> str:
        return gateway.token

    tokens = {through(Upstream(), act)[1] for _ in range(3)}
    assert len(tokens) == 3
    assert statistics.fmean(map(len, tokens)) >= 43, "256 bits"


def test_neither_key_nor_token_is_ever_written_down(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    model = {"id": MODEL, "faults": [{"kind": "http_502", "calls": [1]}], "conversations": [{"turns": [{"text": "x"}]}]}
    scenario = Scenario.model_validate({"name": "s", "models": [model]})

    async def run() -> tuple[ServiceGateway, list[httpx.Response]]:
        async with Simulator(scenario) as simulator, serving(base_url=simulator.base_url) as gateway:
            responses = [await ask(gateway), await ask(gateway, token="wrong"), await ask(gateway, content=b"{")]
            return gateway, responses

    gateway, responses = asyncio.run(run())
    assert "call 2 to" in caplog.text, "the gateway logged its calls"
    written = caplog.text + "".join(f"{each.text}{each.headers}" for each in responses) + repr(gateway.calls)
    assert KEY not in written
    assert gateway.token not in written.replace(f"Bearer {gateway.token}", "")
    assert gateway.token not in caplog.text


def test_a_service_that_quotes_the_key_does_not_give_it_away() -> None:
    gateway, (response,) = through(Upstream(failure(401, f"Incorrect API key provided: {KEY}.")), asking())
    assert KEY not in response.text
    assert gateway.refusal is not None
    assert gateway.refusal.message == "Incorrect API key provided: [the key]."


class SlowEnd(Unpaced):
    """Pacing that writes no end down before it is let."""

    def __init__(self) -> None:
        self.let = asyncio.Event()
        self.written = 0

    async def arrive(self, permit: Permit, call: LlmCall, trip: Trip) -> None:
        await self.let.wait()
        self.written += 1


ZERO = Pricing(prompt=Decimal(0), completion=Decimal(0))


@pytest.mark.parametrize(
    ("answer", "pricing", "waits"),
    [
        pytest.param(completion(), ZERO, False, id="a-free-answer"),
        pytest.param(completion(), Pricing(prompt=Decimal(1), completion=Decimal(1)), True, id="what-was-spent"),
        pytest.param(completion(), None, True, id="a-cost-nobody-knows"),
        pytest.param(failure(400), ZERO, True, id="a-refusal"),
    ],
)
def test_a_call_waits_until_what_the_last_one_tells_of_quota_budget_or_breaker_is_written(
    answer: httpx.Response, pricing: Pricing | None, waits: bool
) -> None:
    pacing = SlowEnd()

    async def act(gateway: ServiceGateway) -> bool:
        gateway.start(1, MODEL, pricing=pricing)
        try:
            async with asyncio.timeout(10):
                await ask(gateway)
            second = asyncio.create_task(ask(gateway))
            done, _ = await asyncio.wait({second}, timeout=0.3 if waits else 10)
            assert pacing.written == 0
        finally:
            pacing.let.set()
        await second
        return not done

    assert through(Upstream(answer), act, pacing=pacing)[1] is waits
    assert pacing.written == 2
