"""The per-run LLM gateway: an OpenRouter-shaped API on loopback that alone holds the key.

The agent gets the gateway's address and a random token; every call passes through here, is checked against the run's
limits and the account's quota before it is sent, counted from the answer itself and recorded before and after. Failed
calls are typed (`answers.Refusal`), so nothing downstream parses prose.
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

from devtasks.errors import DevtasksError
from devtasks.metrics_collector import LlmCall
from devtasks.openrouter import price
from devtasks.openrouter.answers import Completion, Json, Refusal
from devtasks.openrouter.client import Pricing
from devtasks.openrouter.pacing import OnWait, Pacing, Permit, Request, Trip, Unpaced
from devtasks.openrouter.upstream import MAX_BODY, Exchange, Upstream
from devtasks.recovery import FailureKind
from devtasks.task import TaskLimits

logger = logging.getLogger(__name__)

CALL_SECONDS = 180.0
"""Wall-clock bound of one call to a model."""

TRIES = 3
"""How often one call is sent before a transient fault of the provider becomes the agent's failure."""

TOKEN_PREFIX = "devtasks-run-"  # noqa: S105
"""How a run's token begins, so that a search (ours, or a secret scanner's) finds one wherever it should not be."""

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
        pacing: Pacing | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        first_wait: float = 1.0,
        call_seconds: float = CALL_SECONDS,
    ) -> None:
        self._flow_run_id = flow_run_id
        self._limits = limits
        self._token = TOKEN_PREFIX + secrets.token_urlsafe(32)
        self._upstream = Upstream(base_url, key, call_seconds=call_seconds, transport=transport)
        self._pacing = pacing or Unpaced()
        self._first_wait = first_wait
        self._attempt = 0
        self._sequence = 0
        self._model = ""
        self._pricing: Pricing | None = None
        self._on_wait: OnWait = lambda _: None
        self._endings = set[asyncio.Task[None]]()
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

    @property
    def waited_seconds(self) -> float:
        """Seconds that calls have waited for the account's minute; they are not the agent's."""
        return self._pacing.waited_seconds

    def begin(self, attempt: int, model: str, pricing: Pricing | None = None, on_wait: OnWait = lambda _: None) -> None:
        """Start an attempt: `model` answers its calls, they are recorded under it, and `refusal` is forgotten.

        `pricing` is the model's, None where it is unknown; `on_wait` is told the seconds before each wait for the
        account's minute.
        """
        self._attempt, self._model, self.refusal = attempt, model, None
        self._pricing, self._on_wait = pricing, on_wait

    def calls_of(self, attempt: int) -> tuple[LlmCall, ...]:
        """Return the calls of one attempt in the order they were sent."""
        return tuple(sorted((call for call in self.calls if call.attempt == attempt), key=lambda call: call.sequence))

    async def settled(self) -> None:
        """Wait until the end of every call that was answered is in the ledger; no answer waits for that."""
        if self._endings:
            await asyncio.wait(self._endings)  # which, unlike gather, leaves them alone where the waiting is given up

    async def __aenter__(self) -> Self:
        """Listen on a free port of the loopback interface; what an earlier process of the run used counts on."""
        for call in await self._pacing.recorded(self._flow_run_id):
            self._sequence = max(self._sequence, call.sequence)
            self.usage.llm_calls += 1
            self.usage.tokens += call.prompt_tokens + call.completion_tokens
            self.usage.cost_usd += call.cost_usd
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
        await self.settled()
        await self._upstream.close()

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
            retry=retry_if_result(self._is_transient),
            stop=stop_after_attempt(TRIES),
            wait=wait_exponential_jitter(initial=self._first_wait, max=10, jitter=self._first_wait),
            retry_error_callback=lambda state: cast("Refusal", state.outcome and state.outcome.result()),
        )
        return await retrying(self._send, body)

    def _is_transient(self, answer: Completion | Refusal) -> bool:
        return isinstance(answer, Refusal) and answer.kind in TRANSIENT | self._pacing.retried

    async def _send(self, body: Json) -> Completion | Refusal:
        await self.settled()  # what the last call's end says to quota and breaker holds for this one
        if refusal := self._over_limit():
            return refusal
        self.usage.llm_calls += 1  # before the wait for a place, or calls that wait together would all pass the limit
        permit: Permit | Refusal = Refusal(FailureKind.INTERRUPTED, 499, "the agent left before the call was sent")
        try:
            permit = await self._pacing.admit(Request(self._model, self._pricing, body), self._on_wait)
        except DevtasksError as error:
            permit = Refusal(FailureKind.UNREACHABLE, 503, str(error))
        finally:
            if isinstance(permit, Refusal):
                self.usage.llm_calls -= 1
        return permit if isinstance(permit, Refusal) else await self._pass(body, permit)

    async def _pass(self, body: Json, permit: Permit) -> Completion | Refusal:
        draft, clock = self._draft(), time.monotonic()
        exchange = Exchange(Refusal(FailureKind.INTERRUPTED, draft.status, "the agent left before the answer came"))
        try:
            exchange = await self._upstream.send(body, lambda: self._pacing.depart(permit, draft))
        except DevtasksError as error:
            exchange = Exchange(Refusal(FailureKind.UNREACHABLE, 503, str(error)))
        finally:
            call = self._ended(draft, exchange, time.monotonic() - clock)
            ending = asyncio.create_task(self._write_down(permit, call, exchange))
            self._endings.add(ending)
            ending.add_done_callback(self._endings.discard)
        return exchange.answer

    async def _write_down(self, permit: Permit, call: LlmCall, exchange: Exchange) -> None:
        answer = exchange.answer
        refusal = answer if isinstance(answer, Refusal) else None
        known = call.cost_usd if exchange.whole and (refusal or call.cost_usd or call.prompt_tokens) else None
        try:
            await self._pacing.arrive(permit, call, Trip(refusal, exchange.answered, known))
        except DevtasksError as error:
            logger.warning("call %d is not settled, and counts as sent: %s", call.sequence, error)

    def _over_limit(self) -> Refusal | None:
        used, limits = self.usage, self._limits
        table = (
            (FailureKind.LIMIT_LLM_CALLS, used.llm_calls, limits.llm_calls),
            (FailureKind.LIMIT_TOKENS, used.tokens, limits.tokens),
            # At a limit of 0 free models still run: they cost nothing, so the limit is not exceeded.
            (FailureKind.LIMIT_COST, used.cost_usd, 1e-12 if limits.cost_usd == 0 else limits.cost_usd),
        )
        for kind, value, limit in table:
            if limit is not None and value >= limit:
                return Refusal(kind, 403, f"the task's limit is reached: {value:g} of {limit:g} ({kind})")
        return None

    def _draft(self) -> LlmCall:
        """Return the row of a call that is about to be sent, as it stays if this process dies meanwhile."""
        self._sequence += 1
        return LlmCall(
            flow_run_id=self._flow_run_id,
            attempt=self._attempt,
            sequence=self._sequence,
            model_requested=self._model,
            model_served=None,
            provider=None,
            generation_id=None,
            status=499,
            error=FailureKind.INTERRUPTED,
            prompt_tokens=0,
            completion_tokens=0,
            cost_usd=0.0,
            latency_seconds=0.0,
            started_at=datetime.now(UTC),
            simulated=False,
        )

    def _ended(self, draft: LlmCall, exchange: Exchange, seconds: float) -> LlmCall:
        """Count a call that has ended, and return its row."""
        call, answer = replace(draft, latency_seconds=seconds, simulated=exchange.simulated), exchange.answer
        if isinstance(answer, Refusal):
            call = replace(call, status=answer.status, error=answer.kind)
        else:
            cost = answer.cost_usd
            if cost is None:
                cost = price.cost_usd(self._pricing, answer.prompt_tokens, answer.completion_tokens)
            call = replace(
                call,
                model_served=answer.model,
                provider=answer.provider,
                generation_id=answer.generation_id,
                status=200,
                error=None,
                prompt_tokens=answer.prompt_tokens,
                completion_tokens=answer.completion_tokens,
                cost_usd=cost or 0.0,
            )
        self.calls.append(call)
        self.usage.tokens += call.prompt_tokens + call.completion_tokens
        self.usage.cost_usd += call.cost_usd
        logger.debug("call %d to %s: status %d, %.2f s", call.sequence, call.model_requested, call.status, seconds)
        return call


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


def _error(refusal: Refusal) -> web.Response:
    return web.json_response(refusal.body(), status=refusal.status)
