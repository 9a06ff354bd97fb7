"""The per-run LLM gateway: an OpenRouter-shaped API on loopback, and on a Unix socket, that alone holds the key.

The agent gets the gateway's address and a random token, which opens `/chat/completions` and `/models` for as long as
the run lasts; every call goes its way through `calls`. Failed calls are typed (`answers.Refusal`), so nothing
downstream parses prose.
"""

import asyncio
import hmac
import logging
import secrets
import socket
import stat
from pathlib import Path
from typing import Any, Self, cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from devtasks.execution.relay import short_address
from devtasks.openrouter import jsontext
from devtasks.openrouter.answers import Json, Refusal
from devtasks.openrouter.calls import Calls
from devtasks.openrouter.upstream import MAX_BODY
from devtasks.recovery import FailureKind

TOKEN_PREFIX = "devtasks-run-"  # noqa: S105
"""How a run's token begins, so that a search (ours, or a secret scanner's) finds one wherever it should not be."""

FORWARDED = frozenset(
    {
        *("messages", "tools", "tool_choice", "parallel_tool_calls", "response_format", "stop", "seed"),
        *("max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "min_p"),
        *("frequency_penalty", "presence_penalty", "repetition_penalty"),
        *("reasoning", "reasoning_effort", "include_reasoning", "verbosity"),
    }
)
"""What of a request reaches the service. Nothing else does: `models`, `route`, `provider` or `plugins` could move a
call to a model that costs money, or have the service do more than answer."""

BODY_SECONDS = 30.0
"""How long a request may take to arrive; it comes from this machine."""


def _is_readable(record: logging.LogRecord) -> bool:
    """Whether a record is not about a request that aiohttp could not read, whose bytes it would log: the token's."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


logger = logging.getLogger(__name__)
logger.addFilter(_is_readable)


class Gateway(Calls):
    """Serves one run's agent with the run's calls; `async with` starts and stops it.

    With `socket` it listens on that Unix socket too, which only its own user may open.
    """

    _runner: web.AppRunner | None = None
    _port = 0
    _token = ""

    def __init__(self, *, socket: Path | None = None, **calls: Any) -> None:
        super().__init__(**calls)
        self.socket = socket

    @property
    def base_url(self) -> str:
        """The address the agent's LLM is given."""
        return f"http://127.0.0.1:{self._port}/api/v1"

    @property
    def token(self) -> str:
        """The run's token, the only key the agent ever sees."""
        return self._token

    async def __aenter__(self) -> Self:
        """Listen on a free port of the loopback interface, with a new token."""
        self._token = TOKEN_PREFIX + secrets.token_urlsafe(32)
        app = web.Application(client_max_size=MAX_BODY, middlewares=[self._only_ours])
        app.router.add_post("/api/v1/chat/completions", self._chat)
        app.router.add_get("/api/v1/models", self._models, allow_head=False)
        # aiohttp bounds a request's lines and headers at 8 KiB each; a compressed body would be one bomb.
        self._runner = web.AppRunner(
            app, access_log=None, logger=logger, handler_cancellation=True, auto_decompress=False, shutdown_timeout=1
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self._port = cast("tuple[str, int]", self._runner.addresses[0])[1]
        if self.socket:
            await web.SockSite(self._runner, _listen(self.socket)).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner:
            await self._runner.cleanup()
        if self.socket:
            self.socket.unlink(missing_ok=True)
        await self.settled()

    @web.middleware
    async def _only_ours(self, request: web.Request, handler: Any) -> web.StreamResponse:
        given = request.headers.get("Authorization", "")
        expected = f"Bearer {self._token}".encode()
        if not hmac.compare_digest(given.encode(errors="surrogateescape"), expected):
            return _error(Refusal(FailureKind.AUTHENTICATION, 401, "this token does not open this gateway"))
        return await handler(request)

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": model} for model in self.lineup]})

    async def _chat(self, request: web.Request) -> web.Response:
        body = await _read(request)
        if isinstance(body, Refusal):
            self.refusal = body
            return _error(body)
        answer = await self.answer({name: value for name, value in body.items() if name in FORWARDED})
        if isinstance(answer, Refusal):
            return _error(answer)
        return web.Response(body=answer.content, content_type="application/json")


def _listen(path: Path) -> socket.socket:
    """Return a socket bound to a path, in place of one that a killed process left there."""
    path.parent.mkdir(mode=stat.S_IRWXU, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    bound = socket.socket(socket.AF_UNIX)
    with short_address(path) as address:
        bound.bind(address)
    path.chmod(stat.S_IRUSR | stat.S_IWUSR)
    return bound


async def _read(request: web.Request) -> Json | Refusal:
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body: Any = jsontext.read(await request.read(), finite=True)
    except TimeoutError:
        return Refusal(FailureKind.BAD_REQUEST, 408, f"the request did not arrive within {BODY_SECONDS:g} s")
    except web.HTTPRequestEntityTooLarge:
        return Refusal(FailureKind.CONTEXT_OVERFLOW, 413, f"the request is larger than {MAX_BODY} bytes")
    except ValueError:
        body = None
    if not isinstance(body, dict) or cast(Json, body).get("stream"):
        return Refusal(FailureKind.BAD_REQUEST, 400, "expected a JSON object that asks for no stream")
    return cast(Json, body)


def _error(refusal: Refusal) -> web.Response:
    return web.json_response(refusal.body(), status=refusal.status)
