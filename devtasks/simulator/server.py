"""The simulated OpenRouter: routes, authentication, and the decision what one chat request gets."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Self

from aiohttp import web
from pydantic import ValidationError

from devtasks.errors import InvalidInput
from devtasks.simulator import catalogue
from devtasks.simulator.conversation import ChatRequest
from devtasks.simulator.director import Director
from devtasks.simulator.faults import FaultKind
from devtasks.simulator.scenario import Scenario
from devtasks.simulator.shapes import NO_AUTH, USER_NOT_FOUND, Refused, error
from devtasks.simulator.wire import send

HOST = "127.0.0.1"
SIMULATED_HEADER = "X-Devtasks-Simulated"
MAX_BODY_BYTES = 8 * 1024 * 1024
SESSION_HEADERS = ("X-Session-Id", "X-LiteLLM-Session-Id")

Clock = Callable[[], datetime]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class ChatRecord:
    """One chat request as it was received and answered; `status` is None when the connection was dropped unanswered."""

    sequence: int
    time: str
    model: str | None
    messages: int
    session: str | None
    status: int | None
    fault: str | None


def utc_now() -> datetime:
    """Return the time in UTC."""
    return datetime.now(UTC)


class Simulator:
    """Serves a scenario on the loopback address for as long as the context is open; port 0 takes any free one.

    Entering raises InvalidInput where the port is taken.
    """

    def __init__(self, scenario: Scenario, *, port: int = 0, now: Clock = utc_now) -> None:
        self.scenario = scenario
        self._port = port
        self._now = now
        self._director = Director(scenario)
        self._records: list[ChatRecord] = []
        self._runner: web.AppRunner | None = None

    @property
    def base_url(self) -> str:
        """The address to give to a client, ending in /api/v1."""
        return f"http://{HOST}:{self._port}/api/v1"

    @property
    def requests(self) -> tuple[ChatRecord, ...]:
        """Every chat request received so far, in the order in which they were decided."""
        return tuple(self._records)

    async def __aenter__(self) -> Self:
        self._runner = web.AppRunner(self._application(), access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, HOST, self._port).start()
        except OSError as failure:
            await self._runner.cleanup()
            raise InvalidInput("port", self._port, f"a port that is free ({failure.strerror})") from None
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def _application(self) -> web.Application:
        application = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_errors])
        application.add_routes(
            [
                web.get("/api/v1/models", self._get_models),
                web.get("/api/v1/key", self._get_key),
                web.post("/api/v1/chat/completions", self._post_chat),
                web.get("/simulator/requests", self._get_requests),
                web.get("/simulator/health", self._get_health),
            ]
        )
        application.on_response_prepare.append(_mark_simulated)
        return application

    async def _get_models(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response(catalogue.models(self.scenario.models))

    async def _get_key(self, request: web.Request) -> web.StreamResponse:
        self._authorise(request)
        daily = self._director.quota.daily(self._now())
        return web.json_response(catalogue.key(self.scenario.limits, spent=self._director.spent, daily=daily))

    async def _get_requests(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response({"requests": [asdict(record) for record in self._records]})

    async def _get_health(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response({"status": "ok", "simulated": True, "scenario": self.scenario.name})

    async def _post_chat(self, request: web.Request) -> web.StreamResponse:
        now = self._now()
        chat: ChatRequest | None = None
        try:
            self._authorise(request)
            body = await _read(request)
            chat = _parse(body)
            plan = self._director.decide(chat, now, len(body))
        except Refused as refused:
            self._record(request, chat, now, refused.reply.status, None)
            raise
        kind = plan.fault.kind if plan.fault else None
        self._record(request, chat, now, None if kind is FaultKind.CONNECTION_DROPPED else plan.reply.status, kind)
        await asyncio.sleep(plan.seconds)
        return await send(request, plan.reply, stream=chat.stream, fault=plan.fault)

    def _authorise(self, request: web.Request) -> None:
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise Refused(NO_AUTH)
        if self.scenario.keys is not None and key.strip() not in self.scenario.keys:
            raise Refused(USER_NOT_FOUND)

    def _record(
        self, request: web.Request, chat: ChatRequest | None, now: datetime, status: int | None, fault: FaultKind | None
    ) -> None:
        session = next((request.headers[name] for name in SESSION_HEADERS if name in request.headers), None)
        self._records.append(
            ChatRecord(
                sequence=len(self._records) + 1,
                time=now.isoformat(),
                model=chat.model if chat else None,
                messages=len(chat.messages) if chat else 0,
                session=session,
                status=status,
                fault=fault,
            )
        )


async def _read(request: web.Request) -> bytes:
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise Refused(error(413, f"Request body larger than {MAX_BODY_BYTES} bytes")) from None


def _parse(body: bytes) -> ChatRequest:
    try:
        return ChatRequest.model_validate_json(body)
    except ValidationError as failure:
        first = failure.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "body"
        raise Refused(error(400, f"{place}: {first['msg']}", error_type="invalid_request")) from None


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error in OpenRouter's shape, those of the HTTP library included."""
    try:
        return await handler(request)
    except Refused as refused:
        return await send(request, refused.reply, stream=False)
    except web.HTTPException as failure:
        return await send(request, error(failure.status, failure.reason), stream=False)


async def _mark_simulated(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers[SIMULATED_HEADER] = "true"
