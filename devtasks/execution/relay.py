"""The way to the gateway out of a sandbox without a network: a port of its loopback, passed on to a Unix socket."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Generator
from pathlib import Path

CHUNK = 65_536


@contextlib.contextmanager
def short_address(path: Path) -> Generator[str]:
    """Yield an address of a Unix socket's path, which itself may be longer than the 107 bytes that Linux allows."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def listen() -> socket.socket:
    """Return a socket that listens on a free port of the loopback interface."""
    return socket.create_server(("127.0.0.1", 0))


def serve(listener: socket.socket, gateway: Path) -> None:
    """Pass every connection on to the gateway's socket, until this process is killed."""
    asyncio.run(_serve(listener, gateway))


async def _serve(listener: socket.socket, gateway: Path) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError):
            with short_address(gateway) as address:
                theirs, ours = await asyncio.open_unix_connection(address)
            with contextlib.closing(ours):
                await asyncio.gather(_pump(reader, ours), _pump(theirs, writer))

    async with await asyncio.start_server(connected, sock=listener) as server:
        await server.serve_forever()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(CHUNK):
        writer.write(chunk)
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()
