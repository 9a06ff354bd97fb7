"""The preloaded servers, without Prefect: they preload next to nothing, and their children run a small program."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from deployments.prefork import installed, servers
from deployments.prefork.servers import Preload, Servers
from devtasks.forkserver.client import LOST, CannotFork, ForkedProcess, fork

FAST = ("json",)

PROGRAM = """
import os, time

def flow(request):
    print("at work", flush=True)
    while request["seconds"] is None:
        time.sleep(1)
    return request["code"]

def agent(request):
    return os.getppid() % 256
"""


@pytest.fixture(autouse=True)
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let children run a small program in place of the real ones, from PYTHONPATH."""
    (tmp_path / "program.py").write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@asynccontextmanager
async def opened(modules: tuple[str, ...] = FAST, **options: Any) -> AsyncGenerator[Servers]:
    environment = dict(os.environ)
    flows, agents = Preload("program:flow", modules, environment), Preload("program:agent", FAST, environment)
    fresh = Servers(flows, agents, **options)
    try:
        yield fresh
    finally:
        await fresh.close()


async def start(pool: Servers, code: int | None) -> ForkedProcess:
    """Fork a child that ends with a code at once, or never."""
    request = {"code": code, "seconds": None if code is None else 0, "environment": {}}
    return await pool.fork(request, with_output=False)


async def run(pool: Servers, number: int) -> tuple[int, int]:
    """Return a job's server and its exit code."""
    process = await start(pool, number)
    assert pool._current
    server = pool._current.flows.process.pid
    return server, await process.wait()


def test_a_child_returns_its_exit_code_and_writes_to_the_workers_output(capfd: pytest.CaptureFixture[str]) -> None:
    async def main() -> int:
        async with opened() as pool:
            process = await pool.fork({"code": 7, "seconds": 0, "environment": {}}, with_output=True)
            return await process.wait()

    assert asyncio.run(main()) == 7
    assert capfd.readouterr().out == "at work\n"


def test_a_child_that_is_killed_ends_with_the_signal_and_leads_its_own_group() -> None:
    async def main() -> tuple[int, bool]:
        async with opened() as pool:
            process = await start(pool, None)
            leads = os.getpgid(process.pid) == process.pid == os.getsid(process.pid)
            os.killpg(process.pid, signal.SIGTERM)
            return await process.wait(), leads

    assert asyncio.run(main()) == (-signal.SIGTERM, True)


def test_after_its_jobs_a_server_is_replaced_while_its_running_child_goes_on() -> None:
    async def main() -> None:
        async with opened(max_jobs=2) as pool:
            waiting = await start(pool, None)
            first, code = await run(pool, 3)
            assert code == 3
            seen = {first}
            async with asyncio.timeout(60):
                while len(seen) < 2:
                    seen.add((await run(pool, 0))[0])
            assert psutil.pid_exists(first)
            assert psutil.pid_exists(waiting.pid)
            waiting.kill()
            assert await waiting.wait() == -signal.SIGKILL
            async with asyncio.timeout(60):
                while psutil.pid_exists(first):
                    await asyncio.sleep(0.05)

    asyncio.run(main())


def test_when_libraries_change_the_next_job_runs_on_a_new_server(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with opened() as pool:
            before, _ = await run(pool, 0)
            same, _ = await run(pool, 0)
            assert same == before
            monkeypatch.setattr(servers, "installed", lambda: frozenset({("a new library", 1)}))
            after, code = await run(pool, 4)
            assert (after != before, code) == (True, 4)

    asyncio.run(main())


def test_a_server_that_was_killed_is_replaced_and_its_child_counts_as_lost_when_it_ends() -> None:
    async def main() -> None:
        async with opened() as pool:
            waiting = await start(pool, None)
            assert pool._current
            pool._current.flows.process.kill()
            await pool._current.flows.process.wait()
            assert (await run(pool, 5))[1] == 5
            assert psutil.pid_exists(waiting.pid)
            waiting.kill()
            assert await waiting.wait() == LOST

    asyncio.run(main())


def test_a_flow_run_is_told_the_server_for_agents_of_its_own_generation() -> None:
    async def main() -> tuple[int, int]:
        async with opened() as pool:
            await run(pool, 0)
            assert pool._current
            agents = pool._current.agents
            nowhere = os.open(os.devnull, os.O_RDWR)
            child = await fork(agents.address, {}, (nowhere, nowhere, nowhere))
            os.close(nowhere)
            return await child.wait(), agents.process.pid % 256

    code, expected = asyncio.run(main())
    assert code == expected


def test_the_server_for_agents_stays_until_the_last_flow_run_of_its_generation_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        async with opened() as pool:
            waiting = await start(pool, None)
            assert pool._current
            agents = pool._current.agents
            monkeypatch.setattr(servers, "installed", lambda: frozenset({("a new library", 1)}))
            await run(pool, 0)
            assert pool._current.agents is not agents
            assert agents.alive
            waiting.kill()
            async with asyncio.timeout(60):
                await agents.process.wait()

    asyncio.run(main())


def test_when_the_server_for_agents_was_killed_the_next_job_has_a_new_one() -> None:
    async def main() -> None:
        async with opened() as pool:
            await run(pool, 0)
            assert pool._current
            killed = pool._current.agents
            killed.process.kill()
            await killed.process.wait()
            await run(pool, 0)
            assert pool._current.agents.alive

    asyncio.run(main())


def test_a_server_takes_no_garbage_and_goes_on() -> None:
    async def main() -> int:
        async with opened() as pool:
            await run(pool, 0)
            assert pool._current
            for garbage in (b"", b"j", b"j{"):
                _, writer = await asyncio.open_unix_connection(pool._current.flows.address)
                writer.write(garbage)
                writer.close()
                await writer.wait_closed()
            return (await run(pool, 6))[1]

    assert asyncio.run(main()) == 6


def test_libraries_that_do_not_load_are_a_reason_not_to_fork_and_are_tried_again_later() -> None:
    now = [0.0]

    async def main() -> list[str]:
        async with opened(("no_such_module",), clock=lambda: now[0]) as pool:
            starts: list[str] = []
            for _ in range(2):
                with pytest.raises(CannotFork, match="ended with 1") as failed:
                    await run(pool, 0)
                starts.append(str(id(failed.value)))
            now[0] += servers.RETRY_SECONDS
            with pytest.raises(CannotFork, match="ended with 1") as failed:
                await run(pool, 0)
            return [*starts, str(id(failed.value))]

    first, second, third = asyncio.run(main())
    assert first == second
    assert third != second


def test_nothing_is_left_when_the_servers_are_closed() -> None:
    before = set(psutil.Process().children(recursive=True))

    async def main() -> None:
        async with opened() as pool:
            await asyncio.gather(*(run(pool, 0) for _ in range(20)))
            assert set(psutil.Process().children(recursive=True)) - before

    asyncio.run(main())
    assert set(psutil.Process().children(recursive=True)) - before == set()


def test_a_library_that_starts_threads_makes_forking_impossible(tmp_path: Path) -> None:
    (tmp_path / "threaded.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    )

    async def main() -> None:
        async with opened(("threaded",)) as pool:
            with pytest.raises(CannotFork):
                await run(pool, 0)

    asyncio.run(main())


def test_installing_a_library_or_locking_anew_changes_the_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "uv.lock"
    lock.write_text("1")
    monkeypatch.setattr(installed, "LOCK", lock)
    monkeypatch.setattr(installed.sysconfig, "get_paths", lambda: {"purelib": tmp_path, "platlib": tmp_path})
    states = [installed.installed()]
    (tmp_path / "some-1.0.dist-info").mkdir()
    states.append(installed.installed())
    os.utime(lock, ns=(1, 1))
    states.append(installed.installed())
    os.utime(tmp_path / "some-1.0.dist-info", ns=(1, 1))
    states.append(installed.installed())
    assert len(set(states)) == 4
    assert installed.installed() == states[-1]
