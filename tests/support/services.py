"""Services on loopback, for tests of what a client makes of an answer, or of none."""

import asyncio
import inspect
import socket
import struct
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from enum import Enum, auto
from typing import Any

import httpx
from aiohttp import web


class Fault(Enum):
    """What a service does instead of answering."""

    HANGS = auto()
    DROPS = auto()
    CUTS = auto()
    RESETS = auto()


@asynccontextmanager
async def service(handler: Callable[[httpx.Request], Any]) -> AsyncGenerator[str]:
    """Serve what `handler`, which may be async, returns for each request: an httpx.Response, or a fault."""

    async def answer(request: web.Request) -> web.StreamResponse:
        content = await request.read()
        asked = httpx.Request(request.method, str(request.url), headers=list(request.headers.items()), content=content)
        said = handler(asked)
        said = await said if inspect.isawaitable(said) else said
        if isinstance(said, Fault):
            return await _fail(request, said)
        headers = [(name, value) for name, value in said.headers.multi_items() if name != "content-length"]
        return web.Response(status=said.status_code, headers=headers, body=said.content)

    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/api/v1"
    finally:
        await runner.cleanup()


async def _fail(request: web.Request, fault: Fault) -> web.StreamResponse:
    if fault is Fault.HANGS:
        await asyncio.Event().wait()
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    if fault in (Fault.CUTS, Fault.RESETS):
        await response.prepare(request)
        await response.write(b'{"choices": [')
    assert request.transport
    if fault is Fault.RESETS:
        linger_no_time = struct.pack("ii", 1, 0)
        request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_no_time)
    request.transport.abort()
    return response


class Wire:
    """A server that keeps what comes in on each connection, byte for byte, and answers every request alike.

    With `last` it reads the request of that number (from 1) and closes the connection instead.
    """

    def __init__(self, answer: bytes, *, last: int = 0) -> None:
        self._answer = answer
        self._last = last
        self._server: asyncio.Server | None = None
        self._open = set[asyncio.StreamWriter]()
        self.received: list[bytes] = []
        self.requests = 0
        self.closed = 0

    async def __aenter__(self) -> "Wire":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server
        self.hang_up()
        self._server.close()
        await self._server.wait_closed()

    @property
    def port(self) -> int:
        assert self._server
        return self._server.sockets[0].getsockname()[1]

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/v1"

    def hang_up(self) -> None:
        """Close every connection."""
        for writer in self._open:
            writer.close()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition, ten seconds at most."""
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.001)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, seen = len(self.received), 0
        self.received.append(b"")
        self._open.add(writer)
        with suppress(ConnectionError):  # a client may leave in the middle of an answer
            while chunk := await reader.read(65_536):
                self.received[number] += chunk
                if self.received[number].count(b"\r\n\r\n{}") > seen:
                    seen, self.requests = seen + 1, self.requests + 1
                    if self.requests == self._last:
                        break
                    writer.write(self._answer)
        self._open.discard(writer)
        self.closed += 1
        writer.close()
