"""The per-run LLM gateway: an OpenRouter-shaped API on loopback that alone holds the key.

The agent gets the gateway's address and a random token; every call passes through here, is checked against the run's
limits before it is sent, bounded by a real deadline (OpenRouter's keep-alive whitespace defeats read timeouts), counted
from the answer itself and recorded. Failed calls are typed (`answers.Refusal`), so nothing downstream parses prose.
"""

import asyncio
import hmac
import logging
import secrets
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Self, cast

import httpx
from aiohttp import web
from pydantic import SecretStr
from tenacity import AsyncRetrying, retry_if_result, stop_after_attempt, wait_exponential_jitter

from devtasks.metrics_collector import LlmCall
from devtasks.openrouter.answers import Completion, Json, Refusal, read_answer
from devtasks.openrouter.client import SIMULATED_HEADER, attribution
from devtasks.recovery import FailureKind
from devtasks.task import TaskLimits

logger = logging.getLogger(__name__)

CALL_SECONDS = 180.0
"""Wall-clock bound of one call to a model."""

TRIES = 3
"""How often one call is sent before a transient fault of the provider becomes the agent's failure."""

TOKEN_PREFIX = "devtasks-run-"  # noqa: S105
"""How a run's token begins, so that a search (ours, or a secret scanner's) finds one wherever it should not be."""

MAX_BODY = 16 << 20
"""Bytes of a request or an answer."""

TRANSIENT = {
    FailureKind.PROVIDER_ERROR,
    FailureKind.UNREACHABLE,
    FailureKind.MALFORMED_ANSWER,
    FailureKind.EMPTY_ANSWER,
}
"""Kinds that are sent again to the same model; rate limits are not, they would cost quota."""


@dataclass
class Usage:
    """What the run has used so far, over all attempts."""

    llm_calls: int = 0
    tokens: int = 0
    cost_usd: float = 0.0


class Gateway:
    """Serves one run's agent; `async with` starts and stops it, `begin` says which attempt and model is on.

    The run's limits count over all attempts; a call beyond one is refused with status 403 and the limit's kind.
    """

    def __init__(
        self,
        *,
        flow_run_id: str,
        base_url: str,
        key: SecretStr,
        limits: TaskLimits,
        transport: httpx.AsyncBaseTransport | None = None,
        first_wait: float = 1.0,
        call_seconds: float = CALL_SECONDS,
    ) -> None:
        self._flow_run_id = flow_run_id
        self._key = key
        self._limits = limits
        self._token = TOKEN_PREFIX + secrets.token_urlsafe(32)
        self._upstream = httpx.AsyncClient(
            base_url=base_url,
            headers={"Authorization": f"Bearer {key.get_secret_value()}", **attribution()},
            timeout=httpx.Timeout(call_seconds, connect=10),
            transport=transport,
        )
        self._first_wait = first_wait
        self._call_seconds = call_seconds
        self._attempt = 0
        self._model = ""
        self._runner: web.AppRunner | None = None
        self._port = 0
        self.usage = Usage()
        self.calls: list[LlmCall] = []
        self.refusal: Refusal | None = None

    @property
    def base_url(self) -> str:
        """The address the agent's LLM is given."""
        return f"http://127.0.0.1:{self._port}/api/v1"

    @property
    def token(self) -> str:
        """The run's token, the only key the agent ever sees."""
        return self._token

    def begin(self, attempt: int, model: str) -> None:
        """Start an attempt: `model` answers its calls, they are recorded under it, and `refusal` is forgotten."""
        self._attempt, self._model, self.refusal = attempt, model, None

    def calls_of(self, attempt: int) -> tuple[LlmCall, ...]:
        """Return the calls of one attempt in the order they were sent."""
        return tuple(call for call in self.calls if call.attempt == attempt)

    async def __aenter__(self) -> Self:
        """Listen on a free port of the loopback interface."""
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_post("/api/v1/chat/completions", self._chat)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self._port = cast("tuple[str, int]", self._runner.addresses[0])[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner:
            await self._runner.cleanup()
        await self._upstream.aclose()

    async def _chat(self, request: web.Request) -> web.Response:
        if not self._is_ours(request):
            return _error(Refusal(FailureKind.AUTHENTICATION, 401, "this token does not open this gateway"))
        body = await _read(request)
        answer = body if isinstance(body, Refusal) else await self._answer({**body, "model": self._model})
        if isinstance(answer, Completion):
            return web.json_response(answer.body)
        self.refusal = answer
        return _error(answer)

    def _is_ours(self, request: web.Request) -> bool:
        given = request.headers.get("Authorization", "")
        return hmac.compare_digest(given.encode(errors="surrogateescape"), f"Bearer {self._token}".encode())

    async def _answer(self, body: Json) -> Completion | Refusal:
        retrying = AsyncRetrying(
            retry=retry_if_result(_is_transient),
            stop=stop_after_attempt(TRIES),
            wait=wait_exponential_jitter(initial=self._first_wait, max=10, jitter=self._first_wait),
            retry_error_callback=lambda state: cast("Refusal", state.outcome and state.outcome.result()),
        )
        return await retrying(self._send, body)

    async def _send(self, body: Json) -> Completion | Refusal:
        if refusal := self._over_limit():
            return refusal
        self.usage.llm_calls += 1
        started, clock = datetime.now(UTC), time.monotonic()
        answer, simulated = Refusal(FailureKind.INTERRUPTED, 499, "the agent left before the answer came"), False
        try:
            answer, simulated = await self._exchange(body)
        finally:
            self._record(answer, started, time.monotonic() - clock, simulated=simulated)
        return answer

    async def _exchange(self, body: Json) -> tuple[Completion | Refusal, bool]:
        simulated, content = False, bytearray()
        try:
            async with (
                asyncio.timeout(self._call_seconds),
                self._upstream.stream("POST", "/chat/completions", json=body) as response,
            ):
                simulated = SIMULATED_HEADER in response.headers
                async for chunk in response.aiter_bytes():
                    content += chunk
                    if len(content) > MAX_BODY:
                        return Refusal(FailureKind.MALFORMED_ANSWER, 502, "the answer is too large"), simulated
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            return Refusal(FailureKind.UNREACHABLE, 502, f"no connection: {type(error).__name__}"), simulated
        except (TimeoutError, httpx.TimeoutException):
            return Refusal(FailureKind.LLM_TIMEOUT, 504, f"no answer within {self._call_seconds:g} s"), simulated
        except httpx.HTTPError as error:
            return Refusal(FailureKind.PROVIDER_ERROR, 502, f"no answer: {type(error).__name__}"), simulated
        return self._without_key(read_answer(response.status_code, bytes(content))), simulated

    def _without_key(self, answer: Completion | Refusal) -> Completion | Refusal:
        """Return the answer; a service that quotes the key it refuses does not hand it to the agent or a log."""
        if isinstance(answer, Completion):
            return answer
        return replace(answer, message=answer.message.replace(self._key.get_secret_value(), "[the key]"))

    def _over_limit(self) -> Refusal | None:
        used, limits = self.usage, self._limits
        table = (
            (FailureKind.LIMIT_LLM_CALLS, used.llm_calls, limits.llm_calls),
            (FailureKind.LIMIT_TOKENS, used.tokens, limits.tokens),
            # At a limit of 0 free models still run: they cost nothing, so the limit is not exceeded.
            (FailureKind.LIMIT_COST, used.cost_usd, limits.cost_usd or 1e-12),
        )
        for kind, value, limit in table:
            if value >= limit:
                return Refusal(kind, 403, f"the task's limit is reached: {value:g} of {limit:g} ({kind})")
        return None

    def _record(self, answer: Completion | Refusal, started: datetime, seconds: float, *, simulated: bool) -> None:
        done = answer if isinstance(answer, Completion) else None
        call = LlmCall(
            flow_run_id=self._flow_run_id,
            attempt=self._attempt,
            sequence=len(self.calls) + 1,
            model_requested=self._model,
            model_served=done.model if done else None,
            provider=done.provider if done else None,
            generation_id=done.generation_id if done else None,
            status=200 if isinstance(answer, Completion) else answer.status,
            error=None if isinstance(answer, Completion) else answer.kind,
            prompt_tokens=done.prompt_tokens if done else 0,
            completion_tokens=done.completion_tokens if done else 0,
            cost_usd=done.cost_usd if done else 0.0,
            latency_seconds=seconds,
            started_at=started,
            simulated=simulated,
        )
        self.calls.append(call)
        self.usage.tokens += call.prompt_tokens + call.completion_tokens
        self.usage.cost_usd += call.cost_usd
        logger.debug("call %d to %s: status %d, %.2f s", call.sequence, self._model, call.status, seconds)


async def _read(request: web.Request) -> Json | Refusal:
    try:
        body: Any = await request.json()
    except web.HTTPRequestEntityTooLarge:
        return Refusal(FailureKind.CONTEXT_OVERFLOW, 413, f"the request is larger than {MAX_BODY} bytes")
    except (ValueError, LookupError, RecursionError):  # no JSON, an unknown charset, nested beyond reason
        body = None
    if not isinstance(body, dict) or cast(Json, body).get("stream"):
        return Refusal(FailureKind.BAD_REQUEST, 400, "expected a JSON object that asks for no stream")
    return cast(Json, body)


def _is_transient(answer: Completion | Refusal) -> bool:
    return isinstance(answer, Refusal) and answer.kind in TRANSIENT


def _error(refusal: Refusal) -> web.Response:
    return web.json_response(refusal.body(), status=refusal.status)
