"""How an answer travels: whole or as a stream of events, with keep-alives, cut off, or not at all."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress

from aiohttp import web

from devtasks.simulator.faults import Fault, FaultKind
from devtasks.simulator.shapes import Json, Reply

KEEP_ALIVE_SECONDS = 0.25
HANG_SECONDS = 600.0
SLOW_SECONDS = 3.0
PIECE = 24


class Sending:
    """One answer on its way to one client."""

    def __init__(self, request: web.Request, reply: Reply, *, stream: bool) -> None:
        self.request = request
        self.reply = reply
        self.streamed = stream and reply.status == 200
        self.keep_alive = b": OPENROUTER PROCESSING\n\n" if self.streamed else b"\n         "
        self.response = web.StreamResponse(status=reply.status, headers=reply.headers)
        self.response.content_type = "text/event-stream" if self.streamed else _content_type(reply)

    def data(self) -> bytes:
        """Return the whole answer as it is sent."""
        if isinstance(self.reply.body, str):
            return self.reply.body.encode()
        if self.streamed:
            return b"".join(_event(chunk) for chunk in _chunks(self.reply.body)) + b"data: [DONE]\n\n"
        return json.dumps(self.reply.body).encode()

    async def send(self, data: bytes) -> None:
        """Send some bytes, the headers first."""
        if not self.response.prepared:
            await self.response.prepare(self.request)
        await self.response.write(data)

    async def keep_alive_for(self, seconds: float) -> None:
        """Send a keep-alive at once, and then regularly for so many seconds."""
        while True:
            await self.send(self.keep_alive)
            pause = min(seconds, KEEP_ALIVE_SECONDS)
            if pause <= 0:
                return
            await asyncio.sleep(pause)
            seconds -= pause

    def drop(self) -> None:
        """Close the connection, whatever was sent."""
        if self.request.transport is not None:
            self.request.transport.close()


async def _whole(sending: Sending, _fault: Fault | None) -> None:
    data = sending.data()
    if not sending.streamed:
        sending.response.content_length = len(data)
    await sending.send(data)


async def _malformed_json(sending: Sending, _fault: Fault | None) -> None:
    first, *_ = sending.data().split(b"\n\n", 1)
    await sending.send(first[: len(first) // 2] + (b"\n\ndata: [DONE]\n\n" if sending.streamed else b""))


async def _answer_cut(sending: Sending, _fault: Fault | None) -> None:
    data = sending.data()
    await sending.send(data[: len(data) // 2])
    sending.drop()


async def _connection_dropped(sending: Sending, _fault: Fault | None) -> None:
    sending.drop()


async def _hang(sending: Sending, fault: Fault | None) -> None:
    seconds = fault.seconds if fault else None
    await sending.keep_alive_for(HANG_SECONDS if seconds is None else seconds)
    sending.drop()


async def _slow_keep_alive(sending: Sending, fault: Fault | None) -> None:
    seconds = fault.seconds if fault else None
    await sending.keep_alive_for(SLOW_SECONDS if seconds is None else seconds)
    await sending.send(sending.data())


WIRE: Mapping[FaultKind, Callable[[Sending, Fault | None], Awaitable[None]]] = {
    FaultKind.MALFORMED_JSON: _malformed_json,
    FaultKind.ANSWER_CUT: _answer_cut,
    FaultKind.CONNECTION_DROPPED: _connection_dropped,
    FaultKind.HANG: _hang,
    FaultKind.SLOW_KEEP_ALIVE: _slow_keep_alive,
}


async def send(request: web.Request, reply: Reply, *, stream: bool, fault: Fault | None = None) -> web.StreamResponse:
    """Send the reply the way this fault makes it travel; a client that leaves ends it quietly."""
    sending = Sending(request, reply, stream=stream)
    with suppress(ConnectionError):
        await (WIRE.get(fault.kind, _whole) if fault else _whole)(sending, fault)
    return sending.response


def _content_type(reply: Reply) -> str:
    return "text/html" if isinstance(reply.body, str) else "application/json"


def _event(chunk: Json) -> bytes:
    return f"data: {json.dumps(chunk)}\n\n".encode()


def _chunks(completion: Json) -> Iterator[Json]:
    """Yield the completion as OpenRouter streams it: role, pieces, finish reason, then the usage without choices."""
    failed = {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}
    if "error" in completion:
        yield completion | {"object": "chat.completion.chunk", "choices": [failed]}
        return
    head = {key: completion[key] for key in ("id", "created", "model", "provider")} | {
        "object": "chat.completion.chunk"
    }
    for choice in completion["choices"]:
        for delta in _deltas(choice["message"]):
            yield head | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        if "error" in choice:
            yield head | {"error": choice["error"], "choices": [failed]}
            return
        ending = {key: choice[key] for key in ("finish_reason", "native_finish_reason")}
        yield head | {"choices": [{"index": 0, "delta": {"content": ""}, **ending}]}
    yield head | {"choices": [], "usage": completion["usage"]}


def _deltas(message: Json) -> Iterator[Json]:
    yield {"role": "assistant", "content": ""}
    for piece in _pieces(message["content"] or ""):
        yield {"content": piece}
    for call in message.get("tool_calls", ()):
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        yield {"tool_calls": [call | {"function": {"name": name, "arguments": ""}}]}
        for piece in _pieces(arguments):
            yield {"tool_calls": [{"index": call["index"], "function": {"arguments": piece}}]}


def _pieces(text: str) -> Iterator[str]:
    return (text[start : start + PIECE] for start in range(0, len(text), PIECE))
