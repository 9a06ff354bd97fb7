"""A forked process, as the worker sees it: what Prefect needs of a process, over the job's socket."""

import asyncio
import contextlib
import os
import signal
import socket

import anyio
from anyio.abc import ByteReceiveStream

LOST = 1
"""The exit code of a child whose server was killed, so that nobody knows its own."""


class ForkedProcess:
    """A child of the preloaded server; `returncode` is None until `wait` has returned."""

    def __init__(self, pid: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.pid = pid
        self.stdin = None
        self.stdout: ByteReceiveStream | None = None
        self.stderr: ByteReceiveStream | None = None
        self.returncode: int | None = None
        self._reader = reader
        self._writer = writer
        self._given: int | None = None

    async def wait(self) -> int:
        """Wait for the end and return the exit code, negative for a signal."""
        if self.returncode is None:
            line = await self._reader.readline()  # empty only when both the server and the child are gone
            self._writer.close()
            code = int(line) if line else LOST
            self.returncode = code if self._given is None else self._given
        return self.returncode

    def end_as(self, code: int) -> None:
        """Kill the process and all of its group; it counts as ended with this exit code."""
        self._given = code
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def kill(self) -> None:
        """Kill the process where it has not ended yet."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    async def aclose(self) -> None:
        """Close the output; an unfinished process is killed first, as one that a worker started itself would be."""
        for stream in (self.stdout, self.stderr):
            if stream:
                await stream.aclose()
        with anyio.CancelScope(shield=True):
            self.kill()
            await self.wait()


class Output(ByteReceiveStream):
    """The reading end of a child's output."""

    def __init__(self, reader: asyncio.StreamReader, transport: asyncio.ReadTransport) -> None:
        self._reader = reader
        self._transport = transport

    @classmethod
    async def over(cls, descriptor: int) -> "Output":
        """Return the stream of a pipe, which it owns from now on."""
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        pipe = os.fdopen(descriptor, "rb", buffering=0)
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        return cls(reader, transport)

    async def receive(self, max_bytes: int = 65_536) -> bytes:
        """Return the next bytes; raise EndOfStream when all writers are gone."""
        if data := await self._reader.read(max_bytes):
            return data
        raise anyio.EndOfStream

    async def aclose(self) -> None:
        """Close the pipe."""
        self._transport.close()


async def over_socket(job: socket.socket, request: bytes) -> ForkedProcess:
    """Send a request over its job's socket and return the child; raise ConnectionError where none was forked."""
    reader, writer = await asyncio.open_connection(sock=job)
    try:
        writer.write(request)
        writer.write_eof()
        line = await reader.readline()
    except BaseException:
        writer.close()
        raise
    if not line:
        writer.close()
        raise ConnectionResetError("the server closed the job's socket")
    return ForkedProcess(int(line), reader, writer)
