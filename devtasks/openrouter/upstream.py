"""The service behind the gateway: one request at a time is sent, bounded by a real deadline, and its answer read."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from io import BytesIO
from typing import Any, Self
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx
from aiohttp.connector import Connection
from pydantic import SecretStr

from devtasks.openrouter import jsontext
from devtasks.openrouter.answers import Completion, Json, Refusal, read_answer
from devtasks.openrouter.client import SIMULATED_HEADER, attribution
from devtasks.recovery import FailureKind

MAX_BODY = 16 << 20
"""Bytes of a request or an answer."""

MAX_HEADER = 64 << 10
"""Bytes of one header of an answer; aiohttp's own 8 KiB are fewer than some proxies in front of services send."""

CALL_SECONDS = 180.0
"""Wall-clock bound of one call to a model."""

CONNECT_SECONDS = 10.0

Leave = Callable[[], Awaitable[Refusal | None]]

_leave: ContextVar[Leave] = ContextVar("leave")
"""What the request that the current task sends has to wait for."""


@dataclass(frozen=True)
class Exchange:
    """What came of a request: the answer, whether the service began one and ended it, and whether it is a simulator."""

    answer: Completion | Refusal
    answered: bool = False
    whole: bool = False
    simulated: bool = False


class _Held(Exception):
    """The request must not be sent; carries why."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class _Connector(aiohttp.TCPConnector):
    """Connections that are handed out when their request may leave; one that may not gives its connection back."""

    async def connect(self, *args: Any, **kwargs: Any) -> Connection:
        """Return a connection, new or kept, on which nothing has been sent for this request."""
        connection = await super().connect(*args, **kwargs)
        try:
            if refusal := await _leave.get()():
                raise _Held(refusal)  # noqa: TRY301
        except BaseException:
            connection.release()
            raise
        return connection


class Upstream:
    """Holds the key and the connections to the service; `async with` opens and closes it."""

    _session: aiohttp.ClientSession

    def __init__(self, base_url: str, key: SecretStr, *, call_seconds: float = CALL_SECONDS) -> None:
        self._url = base_url.rstrip("/") + "/chat/completions"
        self._key = key
        self._call_seconds = call_seconds

    async def __aenter__(self) -> Self:
        """Make ready to connect, over the environment's proxy if it names one for this service."""
        authorization = {"Authorization": f"Bearer {self._key.get_secret_value()}", "Content-Type": "application/json"}
        self._session = aiohttp.ClientSession(
            connector=_Connector(limit=0, ssl=_tls() if self._url.startswith("https:") else True),
            headers=authorization | attribution(),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS),
            max_field_size=MAX_HEADER,
            # Not trust_env: it asks two threads for each request, and a netrc for a second key.
            proxy=_proxy(self._url),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every connection."""
        await self._session.close()

    async def send(self, body: Json, leave: Leave) -> Exchange:
        """Send a request and return what came of it; never raises on whatever the service does.

        `leave` is awaited when the connection stands, before the first byte; where it refuses, nothing is sent.
        """
        try:
            content = jsontext.write(body)
        except ValueError as error:
            return Exchange(Refusal(FailureKind.BAD_REQUEST, 400, f"the request cannot be sent: {error}"))
        before = _leave.set(leave)
        try:
            return await self._exchange(content)
        finally:
            _leave.reset(before)

    async def _exchange(self, request: bytes) -> Exchange:
        exchange = Exchange(Refusal(FailureKind.PROVIDER_ERROR, 502, "no answer"))
        try:
            async with (
                asyncio.timeout(self._call_seconds),
                # BytesIO, because aiohttp warns of bytes beyond one MiB.
                self._session.post(self._url, data=BytesIO(request), allow_redirects=False) as response,
            ):
                exchange = replace(exchange, answered=True, simulated=SIMULATED_HEADER in response.headers)
                content = await _content(response)
        except _Held as held:
            return replace(exchange, answer=held.refusal)
        except (aiohttp.ClientError, OSError, ValueError) as error:  # ValueError: a key that fits in no header
            return replace(exchange, answer=self._failure(error))
        if content is None:
            too_large = Refusal(FailureKind.MALFORMED_ANSWER, 502, "the answer is too large")
            return replace(exchange, answer=too_large)
        read = read_answer(response.status, content, response.headers, datetime.now(UTC))
        return replace(exchange, answer=self._without_key(read), whole=True)

    def _failure(self, error: Exception) -> Refusal:
        name = type(error).__name__
        if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
            return Refusal(FailureKind.UNREACHABLE, 502, f"no connection: {name}")
        if isinstance(error, TimeoutError):
            return Refusal(FailureKind.LLM_TIMEOUT, 504, f"no answer within {self._call_seconds:g} s")
        return Refusal(FailureKind.PROVIDER_ERROR, 502, f"no answer: {name}")

    def _without_key(self, answer: Completion | Refusal) -> Completion | Refusal:
        """Return the answer; a service that quotes the key it refuses does not hand it to the agent or a log."""
        if isinstance(answer, Completion):
            return answer
        return replace(answer, message=answer.message.replace(self._key.get_secret_value(), "[the key]"))


async def _content(response: aiohttp.ClientResponse) -> bytes | None:
    """Return an answer's bytes, unpacked; None where they are too many."""
    chunks, size = list[bytes](), 0
    async for chunk in response.content.iter_any():
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_BODY:
            return None
    return b"".join(chunks)


def _tls() -> ssl.SSLContext:
    """Return httpx's idea of whom to trust, as the catalogue's requests have it: SSL_CERT_FILE, or else certifi."""
    return httpx.create_ssl_context()


def _proxy(url: str) -> str | None:
    """Return the proxy that the environment names for an address, None where there is none."""
    parts, proxies = urlsplit(url), getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.netloc):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"
