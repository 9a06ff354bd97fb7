"""How one request leaves and comes back, watched on the wire: what aiohttp must go on doing for the quota to hold."""

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from aiohttp import web
from pydantic import SecretStr
from services import Fault, Wire, service

from devtasks.errors import LedgerError
from devtasks.openrouter import upstream as upstream_module
from devtasks.openrouter.answers import Completion, Refusal
from devtasks.openrouter.upstream import MAX_BODY, Exchange, Leave, Upstream
from devtasks.recovery import FailureKind

KEY = SecretStr("sk-simulated")
ANSWER = b'{"choices": [{"message": {"content": "Hello."}}]}'
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(ANSWER), ANSWER)
NO = Refusal(FailureKind.COOLING, 503, "not now")
K = FailureKind


async def go() -> None:
    """Let a request leave."""


async def refuse() -> Refusal:
    return NO


async def fail() -> Refusal:
    raise LedgerError("the ledger is gone")


async def hang() -> None:
    await asyncio.Event().wait()


def kind_of(exchange: Exchange) -> FailureKind | None:
    return exchange.answer.kind if isinstance(exchange.answer, Refusal) else None


def on_wire(
    act: Callable[[Upstream, Wire], Awaitable[None]], answer: bytes = WHOLE, *, last: int = 0, **given: Any
) -> Wire:
    """Let `act` use a service, close all connections, and return what the wire has seen."""

    async def run() -> Wire:
        async with Wire(answer, last=last) as wire:
            async with asyncio.timeout(20), Upstream(wire.base_url, KEY, **given) as upstream:
                await act(upstream, wire)
            await wire.until(lambda: wire.closed == len(wire.received))
        return wire

    return asyncio.run(run())


async def refused(upstream: Upstream, _: Wire) -> None:
    assert await upstream.send({}, refuse) == Exchange(NO)


async def failed(upstream: Upstream, _: Wire) -> None:
    with pytest.raises(LedgerError):
        await upstream.send({}, fail)


async def given_up(upstream: Upstream, _: Wire) -> None:
    there = asyncio.Event()

    async def wait() -> None:
        there.set()
        await hang()

    sending = asyncio.create_task(upstream.send({}, wait))
    await there.wait()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending


async def too_late(upstream: Upstream, _: Wire) -> None:
    assert kind_of(await upstream.send({}, hang)) is K.LLM_TIMEOUT


HELD = [refused, failed, given_up, too_late]


@pytest.mark.parametrize("held", HELD, ids=lambda held: held.__name__)
def test_a_request_that_may_not_leave_sends_no_byte(held: Callable[[Upstream, Wire], Awaitable[None]]) -> None:
    wire = on_wire(held, call_seconds=0.2)
    assert wire.received == [b""], "one connection stood, and nothing came"


@pytest.mark.parametrize("held", HELD, ids=lambda held: held.__name__)
def test_the_connection_of_a_held_request_new_or_kept_serves_the_next_request(
    held: Callable[[Upstream, Wire], Awaitable[None]],
) -> None:
    async def act(upstream: Upstream, wire: Wire) -> None:
        for _ in range(2):
            await held(upstream, wire)
            assert kind_of(await upstream.send({}, go)) is None

    wire = on_wire(act, call_seconds=0.2)
    assert (len(wire.received), wire.requests) == (1, 2)


def test_leave_is_awaited_once_a_request_on_a_standing_connection_before_the_first_byte() -> None:
    seen: list[tuple[int, int]] = []

    async def act(upstream: Upstream, wire: Wire) -> None:
        async def leave() -> None:
            await wire.until(lambda: bool(wire.received))  # which only a connection that stands makes true
            seen.append((len(wire.received), len(wire.received[0])))

        for number in range(1, 4):
            await upstream.send({}, leave)
            assert len(seen) == number

    wire = on_wire(act)
    each = len(wire.received[0]) // 3
    assert seen == [(1, 0), (1, each), (1, 2 * each)]


def test_requests_at_the_same_time_each_await_their_own_leave() -> None:
    async def act(upstream: Upstream, _: Wire) -> None:
        leaves: list[Leave] = [go, refuse] * 4
        exchanges = await asyncio.gather(*(upstream.send({}, leave) for leave in leaves))
        assert [kind_of(each) for each in exchanges] == [None, K.COOLING] * 4

    assert on_wire(act).requests == 4


def test_a_request_on_a_kept_connection_that_ends_is_not_sent_a_second_time() -> None:
    left: list[int] = []

    async def act(upstream: Upstream, wire: Wire) -> None:
        async def leave() -> None:
            left.append(wire.requests)

        assert kind_of(await upstream.send({}, leave)) is None
        exchange = await upstream.send({}, leave)
        assert (kind_of(exchange), exchange.answered) == (K.PROVIDER_ERROR, False)
        assert kind_of(await upstream.send({}, leave)) is None

    wire = on_wire(act, last=2)
    assert (left, wire.requests, len(wire.received)) == ([0, 1, 2], 3, 2)


def test_a_connection_that_ends_while_the_request_waits_to_leave_is_a_typed_refusal() -> None:
    async def act(upstream: Upstream, wire: Wire) -> None:
        async def leave() -> None:
            await wire.until(lambda: bool(wire.received))
            wire.hang_up()
            await wire.until(lambda: wire.closed == 1)

        assert kind_of(await upstream.send({}, leave)) is K.PROVIDER_ERROR
        assert kind_of(await upstream.send({}, go)) is None

    assert on_wire(act).requests == 1


def head(*lines: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


PACKED = gzip.compress(ANSWER)
BOMB = gzip.compress(b" " * (4 * MAX_BODY))


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        pytest.param(
            head(b"X: " + b"x" * 20_000, b"Content-Length: %d" % len(ANSWER)) + ANSWER, None, id="long-header"
        ),
        pytest.param(head(b"X: " + b"x" * 200_000) + ANSWER, K.PROVIDER_ERROR, id="endless-header"),
        pytest.param(b"220 this is no HTTP\r\n\r\n", K.PROVIDER_ERROR, id="no-http"),
        pytest.param(head(b"Content-Length: x"), K.PROVIDER_ERROR, id="no-length"),
        pytest.param(head(b"Transfer-Encoding: chunked") + b"zz\r\n", K.PROVIDER_ERROR, id="no-chunk"),
        pytest.param(head(b"Content-Encoding: gzip", b"Content-Length: 5") + b"12345", K.PROVIDER_ERROR, id="no-gzip"),
        pytest.param(head(b"Content-Encoding: gzip", b"Content-Length: %d" % len(PACKED)) + PACKED, None, id="gzip"),
        pytest.param(
            head(b"Content-Encoding: gzip", b"Content-Length: %d" % len(BOMB)) + BOMB,
            K.MALFORMED_ANSWER,
            id="gzip-bomb",
        ),
        pytest.param(
            head(b"Content-Encoding: gzip", b"Content-Length: %d" % len(PACKED)) + PACKED[:-9],
            K.LLM_TIMEOUT,
            id="half-a-gzip",
        ),
    ],
)
def test_whatever_comes_back_is_read_or_refused(answer: bytes, kind: FailureKind | None) -> None:
    exchanges: list[Exchange] = []

    async def act(upstream: Upstream, _: Wire) -> None:
        exchanges.append(await upstream.send({}, go))

    on_wire(act, answer, call_seconds=0.5 if kind is K.LLM_TIMEOUT else 20)
    assert [kind_of(each) for each in exchanges] == [kind]
    assert exchanges[0].whole is (kind is None)


def ask(handler: Callable[[httpx.Request], Any], times: int = 1) -> list[Exchange]:
    async def run() -> list[Exchange]:
        async with service(handler) as base_url, Upstream(base_url, KEY) as upstream:
            return [await upstream.send({}, go) for _ in range(times)]

    return asyncio.run(run())


def test_a_redirect_is_not_followed_with_the_key() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(307, headers={"Location": "/elsewhere"})

    assert kind_of(ask(answer)[0]) is K.PROVIDER_ERROR
    assert asked == ["/api/v1/chat/completions"]


def test_no_cookie_is_kept() -> None:
    cookies: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        cookies.append(request.headers.get("Cookie"))
        return httpx.Response(200, headers={"Set-Cookie": "a=b"}, content=ANSWER)

    ask(answer, 2)
    assert cookies == [None, None]


@pytest.mark.parametrize("answering", [False, True], ids=["silent", "no-tls"])
def test_a_service_whose_tls_does_not_come_about_is_unreachable(
    monkeypatch: pytest.MonkeyPatch, *, answering: bool
) -> None:
    monkeypatch.setattr(upstream_module, "CONNECT_SECONDS", 0.2)
    left: list[bool] = []

    async def leave() -> None:
        left.append(True)

    async def run() -> Exchange:
        async with Wire(WHOLE) as silent, service(lambda _: Fault.HANGS) as plain, AsyncExitStack() as stack:
            base_url = plain if answering else silent.base_url
            upstream = await stack.enter_async_context(
                Upstream(base_url.replace("http:", "https:"), KEY, call_seconds=5)
            )
            return await upstream.send({}, leave)

    assert kind_of(asyncio.run(run())) is K.UNREACHABLE
    assert left == [], "no connection stood"


@pytest.mark.parametrize(
    ("without", "asked"),
    [
        pytest.param("", ["http://service.invalid/api/v1/chat/completions"], id="a-proxy"),
        pytest.param("service.invalid", [], id="not-for-this-service"),
    ],
)
def test_the_environment_s_proxy_is_used(monkeypatch: pytest.MonkeyPatch, without: str, asked: list[str]) -> None:
    targets: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        targets.append(str(request.url))
        return web.Response(body=ANSWER)

    async def run() -> Exchange:
        runner = web.ServerRunner(web.Server(answer))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        monkeypatch.setenv("http_proxy", f"127.0.0.1:{runner.addresses[0][1]}")
        monkeypatch.setenv("no_proxy", without)
        async with Upstream("http://service.invalid/api/v1", KEY) as upstream:
            exchange = await upstream.send({}, go)
        await runner.cleanup()
        return exchange

    exchange = asyncio.run(run())
    assert targets == asked
    assert isinstance(exchange.answer, Completion) if asked else kind_of(exchange) is K.UNREACHABLE


def test_a_netrc_s_key_does_not_meddle(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / "netrc").write_text("default login someone password nothing\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    given: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        given.append(request.headers["Authorization"])
        return httpx.Response(200, content=ANSWER)

    ask(answer)
    assert given == [f"Bearer {KEY.get_secret_value()}"]


def test_a_key_that_fits_in_no_header_is_refused_and_not_told() -> None:
    async def run() -> Exchange:
        async with Wire(WHOLE) as wire, Upstream(wire.base_url, SecretStr("sk-\r\nX: y")) as upstream:
            return await upstream.send({}, go)

    exchange = asyncio.run(run())
    assert exchange == Exchange(Refusal(K.PROVIDER_ERROR, 502, "no answer: ValueError"))
