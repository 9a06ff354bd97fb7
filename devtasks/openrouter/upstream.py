"""The service behind the gateway: one request at a time is sent, bounded by a real deadline, and its answer read."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Self

import httpx
from pydantic import SecretStr

from devtasks.openrouter.answers import Completion, Json, Refusal, read_answer
from devtasks.openrouter.client import SIMULATED_HEADER, attribution
from devtasks.recovery import FailureKind

MAX_BODY = 16 << 20
"""Bytes of a request or an answer."""

CALL_SECONDS = 180.0
"""Wall-clock bound of one call to a model."""

CONNECT_SECONDS = 10.0

Leave = Callable[[], Awaitable[Refusal | None]]


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


class Upstream:
    """Holds the key and the connections to the service."""

    def __init__(
        self,
        base_url: str,
        key: SecretStr,
        *,
        call_seconds: float = CALL_SECONDS,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._key = key
        self._call_seconds = call_seconds
        self._says_when = transport is None
        self._client = httpx.AsyncClient(
            base_url=base_url,
            headers={"Authorization": f"Bearer {key.get_secret_value()}", **attribution()},
            timeout=httpx.Timeout(call_seconds, connect=CONNECT_SECONDS),
            transport=transport,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def send(self, body: Json, leave: Leave) -> Exchange:
        """Send a request and return what came of it; never raises on whatever the service does.

        `leave` is awaited when the connection stands, before the first byte; where it refuses, nothing is sent.
        """
        left = False

        async def let_go(event: str = "", _: Any = None) -> None:
            nonlocal left
            if not left and event in ("", "http11.send_request_headers.started"):
                left = True
                if refusal := await leave():
                    raise _Held(refusal)

        exchange = Exchange(Refusal(FailureKind.PROVIDER_ERROR, 502, "no answer"))
        content = bytearray()
        try:
            if not self._says_when:  # a transport of a test's own, without such events
                await let_go()
            async with (
                asyncio.timeout(self._call_seconds),
                self._client.stream("POST", "/chat/completions", json=body, extensions={"trace": let_go}) as response,
            ):
                exchange = replace(exchange, answered=True, simulated=SIMULATED_HEADER in response.headers)
                async for chunk in response.aiter_bytes():
                    content += chunk
                    if len(content) > MAX_BODY:
                        too_large = Refusal(FailureKind.MALFORMED_ANSWER, 502, "the answer is too large")
                        return replace(exchange, answer=too_large)
        except _Held as held:
            return replace(exchange, answer=held.refusal)
        except (httpx.HTTPError, TimeoutError) as error:
            return replace(exchange, answer=self._failure(error))
        read = read_answer(response.status_code, bytes(content), response.headers, datetime.now(UTC))
        return replace(exchange, answer=self._without_key(read), whole=True)

    def _failure(self, error: Exception) -> Refusal:
        name = type(error).__name__
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return Refusal(FailureKind.UNREACHABLE, 502, f"no connection: {name}")
        if isinstance(error, TimeoutError | httpx.TimeoutException):
            return Refusal(FailureKind.LLM_TIMEOUT, 504, f"no answer within {self._call_seconds:g} s")
        return Refusal(FailureKind.PROVIDER_ERROR, 502, f"no answer: {name}")

    def _without_key(self, answer: Completion | Refusal) -> Completion | Refusal:
        """Return the answer; a service that quotes the key it refuses does not hand it to the agent or a log."""
        if isinstance(answer, Completion):
            return answer
        return replace(answer, message=answer.message.replace(self._key.get_secret_value(), "[the key]"))
