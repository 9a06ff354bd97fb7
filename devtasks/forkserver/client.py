"""A child of a preloaded server, as the one sees it who asked for it."""

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LOST = 1
"""The exit code of a child whose server was killed, so that nobody knows its own."""

ANSWER_SECONDS = 30.0
"""What a server may take to fork; 10 ms were measured, and it serves one request after the other."""


class CannotFork(Exception):
    """No child was forked; the message says why. The job has not begun and can be started another way."""


class ForkedProcess:
    """A child of a preloaded server; `returncode` is None until `wait` has returned."""

    def __init__(self, pid: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.pid = pid
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


async def fork(address: Path, request: Mapping[str, Any], streams: tuple[int, int, int]) -> ForkedProcess:
    """Ask the server that listens on a Unix socket for a child; raise CannotFork where it gave none.

    `streams` become the child's standard input, output and error; they stay open here.
    """
    connection = socket.socket(socket.AF_UNIX)
    connection.setblocking(False)
    forking = asyncio.ensure_future(_ask(connection, address, json.dumps(request).encode(), streams))
    try:
        return await asyncio.shield(forking)
    except asyncio.CancelledError:  # a child that nobody knows of must not be left behind
        with contextlib.suppress(CannotFork):
            (await forking).kill()
        raise


async def _ask(connection: socket.socket, address: Path, request: bytes, streams: tuple[int, ...]) -> ForkedProcess:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await asyncio.get_running_loop().sock_connect(connection, str(address))
            socket.send_fds(connection, [b"j"], list(streams))
            reader, writer = await asyncio.open_connection(sock=connection)
            writer.write(request)
            writer.write_eof()
            line = await reader.readline()
    except OSError as error:
        connection.close()
        raise CannotFork(f"the server did not fork: {error or type(error).__name__}") from error
    if not line:
        writer.close()
        raise CannotFork("the server did not fork: it closed the connection")
    return ForkedProcess(int(line), reader, writer)
