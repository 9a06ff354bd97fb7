import asyncio
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from devtasks.execution import relay


@contextmanager
def relayed_to(gateway: Path) -> Generator[int]:
    with relay.listen() as listener:
        threading.Thread(target=relay.serve, args=(listener, gateway), daemon=True).start()
        yield listener.getsockname()[1]


def test_what_is_said_on_either_side_reaches_the_other_and_an_end_is_passed_on(tmp_path: Path) -> None:
    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())
        writer.close()

    async def say(port: int, text: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(text)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        return answer

    async def main(port: int) -> list[bytes]:
        async with await asyncio.start_unix_server(shout, tmp_path / "gateway.sock"), asyncio.timeout(10):
            return list(await asyncio.gather(say(port, b"hello"), say(port, b"x" * 500_000)))

    with relayed_to(tmp_path / "gateway.sock") as port:
        assert asyncio.run(main(port)) == [b"HELLO", b"X" * 500_000]


def test_where_no_gateway_listens_the_connection_is_closed(tmp_path: Path) -> None:
    async def main(port: int) -> bytes:
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            answer = await reader.read()
            writer.close()
            return answer

    with relayed_to(tmp_path / "nobody.sock") as port:
        assert asyncio.run(main(port)) == b""


def test_the_relay_listens_on_the_loopback_alone() -> None:
    with relay.listen() as listener:
        assert listener.getsockname()[0] == "127.0.0.1"
