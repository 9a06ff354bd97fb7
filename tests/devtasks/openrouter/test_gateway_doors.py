"""What the gateway opens, to whom, and how much it takes in: asked over real sockets."""

import asyncio
import gzip
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import psutil
import pytest
from gateways import ServiceGateway, gateway_to
from pydantic import SecretStr
from services import service

from devtasks.openrouter import gateway as gateway_module
from devtasks.openrouter.upstream import MAX_BODY
from devtasks.simulator import Scenario, Simulator
from devtasks.simulator.faults import FaultKind

KEY = "sk-or-simulated-0123456789"
MODEL = "acme/coder:free"
PROMPT = "the prompt nobody may read"
BODY = {"messages": [{"role": "user", "content": PROMPT}]}


@asynccontextmanager
async def opened(**model: Any) -> AsyncGenerator[tuple[ServiceGateway, Simulator]]:
    described = {"id": MODEL, "conversations": [{"turns": [{"text": "the answer nobody may read"}]}]} | model
    async with (
        Simulator(Scenario.model_validate({"name": "doors", "keys": [KEY], "models": [described]})) as simulator,
        gateway_to(simulator.base_url, SecretStr(KEY), MODEL, "acme/second") as gateway,
    ):
        yield gateway, simulator


def ask(
    act: Callable[[httpx.AsyncClient, ServiceGateway], Awaitable[httpx.Response]], *, reaches: int = 0, **model: Any
) -> httpx.Response:
    """Return what `act` is answered; `reaches` is how many calls may come through to the service."""

    async def run() -> httpx.Response:
        async with opened(**model) as (gateway, simulator), httpx.AsyncClient(trust_env=False, timeout=20) as client:
            response = await act(client, gateway)
            assert len(simulator.requests) == reaches
            return response

    return asyncio.run(run())


async def raw(gateway: ServiceGateway, request: bytes) -> bytes:
    """Send these bytes and return the status line of the answer."""
    port = httpx.URL(gateway.base_url).port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    async with asyncio.timeout(20):
        line = await reader.readline()
    writer.close()
    return line


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(lambda token: {}, id="none"),
        pytest.param(lambda token: {"Authorization": token}, id="no-scheme"),
        pytest.param(lambda token: {"Authorization": f"bearer {token}"}, id="other-scheme-case"),
        pytest.param(lambda token: {"Authorization": f"Bearer  {token}"}, id="two-spaces"),
        pytest.param(lambda token: {"Authorization": f"Bearer Bearer {token}"}, id="prefix-twice"),
        pytest.param(lambda token: {"Authorization": f"Basic {token}"}, id="other-scheme"),
        pytest.param(lambda token: bearer(token[:-1]), id="shorter"),
        pytest.param(lambda token: bearer(token + "x"), id="longer"),
        pytest.param(lambda token: bearer(token.swapcase()), id="other-case"),
        pytest.param(lambda token: bearer(KEY), id="the-service's-key"),
        pytest.param(lambda token: {"Authorization": "Bearer \xe9"}, id="no-ascii"),
        pytest.param(lambda token: {"X-Api-Key": token}, id="another-header"),
    ],
)
@pytest.mark.parametrize("path", ["/chat/completions", "/models", "/key"])
def test_only_the_run_s_token_opens_anything(headers: Callable[[str], dict[str, str]], path: str) -> None:
    async def act(client: httpx.AsyncClient, gateway: ServiceGateway) -> httpx.Response:
        encoded = {name: value.encode("latin-1") for name, value in headers(gateway.token).items()}
        return await client.post(gateway.base_url + path, headers=encoded, json=BODY)

    response = ask(act)
    assert response.status_code == 401
    assert response.json()["error"]["metadata"]["error_type"] == "authentication"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/api/v1/completions", 404),
        ("GET", "/api/v1/key", 404),
        ("GET", "/api/v1/credits", 404),
        ("GET", "/", 404),
        ("GET", "/api/v1/chat/completions", 405),
        ("TRACE", "/api/v1/chat/completions", 405),
        ("OPTIONS", "/api/v1/chat/completions", 405),
        ("HEAD", "/api/v1/models", 405),
        ("GET", "/api/v1/models/", 404),
        ("GET", "/api/v1/models%2f..%2fkey", 404),
        ("DELETE", "/api/v1/models", 405),
        ("POST", "/api/v1/chat/completions/..%2f..%2fkey", 404),
    ],
)
def test_the_token_opens_two_paths_alone(method: str, path: str, status: int) -> None:
    async def act(client: httpx.AsyncClient, gateway: ServiceGateway) -> httpx.Response:
        url = httpx.URL(gateway.base_url).copy_with(raw_path=path.encode())
        return await client.request(method, url, headers=bearer(gateway.token))

    assert ask(act).status_code == status


def test_the_models_are_the_lineup_s() -> None:
    async def act(client: httpx.AsyncClient, gateway: ServiceGateway) -> httpx.Response:
        return await client.get(f"{gateway.base_url}/models", headers=bearer(gateway.token))

    assert ask(act).json() == {"data": [{"id": MODEL}, {"id": "acme/second"}]}


def test_the_listener_is_loopback_s_and_gone_after_the_run() -> None:
    async def run() -> None:
        async with opened() as (gateway, _):
            assert gateway._runner
            assert [address[0] for address in gateway._runner.addresses] == ["127.0.0.1"]
            port = httpx.URL(gateway.base_url).port
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)

    asyncio.run(run())


def test_two_runs_have_two_tokens() -> None:
    async def run() -> None:
        async with opened() as (one, _), opened() as (other, _):
            assert one.token != other.token
            async with httpx.AsyncClient(trust_env=False) as client:
                response = await client.get(f"{one.base_url}/models", headers=bearer(other.token))
            assert response.status_code == 401

    asyncio.run(run())


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"X: " + b"x" * 100_000, id="a-long-header"),
        pytest.param(b"\r\n".join(b"X-%d: x" % number for number in range(1_000)), id="many-headers"),
        pytest.param(b"no header at all", id="garbage"),
    ],
)
def test_headers_are_bounded(head: bytes) -> None:
    async def run() -> bytes:
        async with opened() as (gateway, _):
            return await raw(gateway, b"POST /api/v1/chat/completions HTTP/1.1\r\n" + head + b"\r\n\r\n")

    assert asyncio.run(run()).split()[1] in (b"400", b"431")


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"\x00\xff\x16\x03\x01\r\n\r\n", id="garbage-bytes"),
        pytest.param(b"GET / HTTP/9.9\r\n\r\n", id="version"),
        pytest.param(b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", id="length"),
    ],
)
def test_what_is_no_http_is_refused(sent: bytes) -> None:
    async def run() -> bytes:
        async with opened() as (gateway, _):
            return await raw(gateway, sent)

    assert asyncio.run(run()).split()[1] == b"400"


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_refused(chunked: bool) -> None:
    async def chunks() -> AsyncGenerator[bytes]:
        for _ in range(MAX_BODY // 65_536 + 1):
            yield b" " * 65_536

    async def act(client: httpx.AsyncClient, gateway: ServiceGateway) -> httpx.Response:
        content: Any = chunks() if chunked else b" " * (MAX_BODY + 1)
        return await client.post(f"{gateway.base_url}/chat/completions", headers=bearer(gateway.token), content=content)

    assert ask(act).status_code == 413


def test_a_compressed_body_is_not_unpacked() -> None:
    async def act(client: httpx.AsyncClient, gateway: ServiceGateway) -> httpx.Response:
        headers = bearer(gateway.token) | {"Content-Encoding": "gzip"}
        packed = gzip.compress(json.dumps(BODY).encode())
        return await client.post(f"{gateway.base_url}/chat/completions", headers=headers, content=packed)

    assert ask(act).status_code == 400


def test_a_body_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_module, "BODY_SECONDS", 0.1)

    async def run() -> bytes:
        async with opened() as (gateway, _):
            head = f"POST /api/v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gateway.token}\r\n"
            return await raw(gateway, head.encode() + b"Content-Length: 1000\r\n\r\n{")

    assert asyncio.run(run()).split()[1] == b"408"


def test_a_connection_that_says_nothing_does_not_hold_the_run_up() -> None:
    async def run() -> None:
        async with asyncio.timeout(20), opened() as (gateway, _):
            head = f"POST /api/v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gateway.token}\r\n"
            _, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(gateway.base_url).port)
            writer.write(head.encode() + b"Content-Length: 1000\r\n\r\n{")
            await writer.drain()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("fault", "sent"),
    [
        pytest.param(None, 1, id="answered"),
        pytest.param("user_not_found_401", 1, id="key-refused"),
        pytest.param("http_500", 3, id="failed"),
    ],
)
def test_neither_key_nor_token_nor_words_are_logged_at_any_level(
    fault: str | None, sent: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    for name in ("httpx", "httpcore", "aiohttp", "devtasks"):  # whatever level another test left them at
        caplog.set_level(1, name)
    tokens: list[str] = []

    async def act(client: httpx.AsyncClient, gateway: ServiceGateway) -> httpx.Response:
        gateway.start(1, MODEL)
        tokens.append(gateway.token)
        return await client.post(f"{gateway.base_url}/chat/completions", headers=bearer(gateway.token), json=BODY)

    ask(act, reaches=sent, faults=[{"kind": fault}] if fault else [])
    assert any(record.name == "devtasks.openrouter.calls" for record in caplog.records), "the calls are logged"
    for secret in (KEY, tokens[0], PROMPT, "the answer nobody may read"):
        assert secret not in _logged(caplog)


# Every key of OpenRouter's that moves a call, spends money or has the service do more; all with a value that would.
HARMFUL = {
    "model": "acme/dear",
    "models": ["acme/dear"],
    "route": "fallback",
    "provider": {"order": ["dear"], "allow_fallbacks": True},
    "plugins": [{"id": "web"}],
    "web_search_options": {"search_context_size": "high"},
    "transforms": ["middle-out"],
    "preset": "dear",
    "service_tier": "priority",
    "prediction": {"type": "content", "content": "x"},
    "n": 8,
    "modalities": ["image"],
    "user": "someone",
    "session_id": "another",
    "metadata": {"a": "b"},
    "trace": {"id": "x"},
    "usage": {"include": True},
    "stream_options": {"include_usage": True},
    "extra_body": {"models": ["acme/dear"]},
    "api_key": "another",
    "api_base": "http://127.0.0.1:9/",
}


@pytest.mark.parametrize("key", HARMFUL)
def test_a_key_that_could_cost_more_than_an_answer_stays_here(key: str) -> None:
    sent: list[dict[str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(json.loads(request.content))
        return httpx.Response(200, json={"model": MODEL, "choices": [{"message": {"content": "Hello."}}]})

    async def run() -> int:
        async with (
            service(answer) as base_url,
            gateway_to(base_url, SecretStr(KEY), MODEL) as gateway,
            httpx.AsyncClient(trust_env=False, timeout=20) as client,
        ):
            body = BODY | {key: HARMFUL[key]}
            url = f"{gateway.base_url}/chat/completions?{key}=acme/dear"
            return (await client.post(url, headers=bearer(gateway.token), json=body)).status_code

    assert asyncio.run(run()) == 200
    assert sent == [{"model": MODEL, **BODY}]


def test_a_stream_is_refused() -> None:
    async def act(client: httpx.AsyncClient, gateway: ServiceGateway) -> httpx.Response:
        body = BODY | {"stream": True}
        return await client.post(f"{gateway.base_url}/chat/completions", headers=bearer(gateway.token), json=body)

    assert ask(act).status_code == 400


def test_a_gzip_bomb_is_not_unpacked() -> None:
    bomb = gzip.compress(b" " * (8 * MAX_BODY))
    assert len(bomb) < MAX_BODY

    async def act(client: httpx.AsyncClient, gateway: ServiceGateway) -> httpx.Response:
        headers = bearer(gateway.token) | {"Content-Encoding": "gzip"}
        return await client.post(f"{gateway.base_url}/chat/completions", headers=headers, content=bomb)

    assert ask(act).status_code == 400


def test_http_1_0_is_answered_and_only_with_the_token() -> None:
    async def run() -> tuple[bytes, bytes]:
        async with opened() as (gateway, _):
            line = b"GET /api/v1/models HTTP/1.0\r\n"
            key = f"Authorization: Bearer {gateway.token}\r\n\r\n".encode()
            return await raw(gateway, line + b"\r\n"), await raw(gateway, line + key)

    assert [line.split()[1] for line in asyncio.run(run())] == [b"401", b"200"]


def test_only_loopback_is_listened_on_as_the_system_sees_it() -> None:
    async def run() -> set[str]:
        async with opened() as (gateway, _):
            port = httpx.URL(gateway.base_url).port
            listening = [c for c in psutil.Process().net_connections("inet") if c.status == psutil.CONN_LISTEN]
            return {connection.laddr.ip for connection in listening if connection.laddr.port == port}

    assert asyncio.run(run()) == {"127.0.0.1"}


@pytest.mark.parametrize(
    "request_of",
    [
        pytest.param(lambda token: f"{token} / HTTP/1.1\r\n\r\n", id="method"),
        pytest.param(lambda token: f"GET /{token} HTTP/9.9\r\n\r\n", id="version"),
        pytest.param(lambda token: f"GET / HTTP/1.1\r\nBearer {token}\r\n\r\n", id="header-without-colon"),
        pytest.param(lambda token: f"GET / HTTP/1.1\r\nA: {token}\x00\r\n\r\n", id="header-with-nul"),
        pytest.param(lambda token: f"GET / HTTP/1.1\r\nContent-Length: {token}\r\n\r\n", id="length"),
    ],
)
def test_a_token_in_what_is_no_http_is_not_logged(
    request_of: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    for name in ("aiohttp", "aiohttp.server", "asyncio"):
        caplog.set_level(1, name)
    tokens: list[str] = []

    async def run() -> None:
        async with opened() as (gateway, _):
            tokens.append(gateway.token)
            await raw(gateway, request_of(gateway.token).encode())

    asyncio.run(run())
    assert tokens[0] not in _logged(caplog)


QUICK = [kind for kind in FaultKind if kind not in (FaultKind.HANG, FaultKind.SLOW_KEEP_ALIVE)]


@pytest.mark.parametrize("kind", QUICK)
def test_no_way_to_fail_logs_a_secret(kind: FaultKind, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    for name in ("httpx", "httpcore", "aiohttp", "devtasks"):
        caplog.set_level(1, name)

    async def run() -> str:
        calls = [{"name": "terminal", "arguments": {"command": "the answer nobody may read"}}]
        turns = [{"tool_calls": calls}]
        async with (
            opened(faults=[{"kind": kind}], conversations=[{"turns": turns}]) as (gateway, simulator),
            httpx.AsyncClient(trust_env=False, timeout=20) as client,
        ):
            gateway.start(1, MODEL)
            await client.post(f"{gateway.base_url}/chat/completions", headers=bearer(gateway.token), json=BODY)
            assert simulator.requests
            return gateway.token

    token = asyncio.run(run())
    for secret in (KEY, token, PROMPT, "the answer nobody may read"):
        assert secret not in _logged(caplog)


def _logged(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(f"{record.getMessage()} {record.args} {record.exc_text or ''}" for record in caplog.records)
