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
from deployments.prefork.forked import LOST
from deployments.prefork.servers import CannotFork, Job, Servers

FAST = ("json",)


@asynccontextmanager
async def opened(preload: tuple[str, ...] = FAST, **options: Any) -> AsyncGenerator[Servers]:
    fresh = Servers(preload, **options)
    try:
        yield fresh
    finally:
        await fresh.close()


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let children run a program of the test's in place of the real one, from PYTHONPATH."""
    package = tmp_path / "deployments" / "prefork"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    (package / "child.py").write_text(
        "import time\n"
        "def main(request):\n"
        "    kind, arguments = request['kind'], request['arguments']\n"
        "    print('at work', flush=True)\n"
        "    while kind == 'wait':\n"
        "        time.sleep(1)\n"
        "    return int(arguments[0])\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def job(kind: str, *arguments: str) -> Job:
    return Job(kind, arguments, "/", {})


async def run(pool: Servers, number: int) -> tuple[int, int]:
    """Return a job's server and its exit code."""
    process = await pool.fork(job("exit", str(number)), with_output=False)
    assert pool._current
    server = pool._current.process.pid
    return server, await process.wait()


pytestmark = pytest.mark.usefixtures("child")


def test_a_child_returns_its_exit_code_and_output() -> None:
    async def main() -> tuple[int, bytes]:
        async with opened() as pool:
            process = await pool.fork(job("exit", "7"), with_output=True)
            assert process.stdout
            said = b"".join([chunk async for chunk in process.stdout])
            code = await process.wait()
            await process.aclose()
            return code, said

    assert asyncio.run(main()) == (7, b"at work\n")


def test_a_child_that_is_killed_ends_with_the_signal_and_leads_its_own_group() -> None:
    async def main() -> tuple[int, bool]:
        async with opened() as pool:
            process = await pool.fork(job("wait"), with_output=False)
            leads = os.getpgid(process.pid) == process.pid == os.getsid(process.pid)
            os.killpg(process.pid, signal.SIGTERM)
            return await process.wait(), leads

    assert asyncio.run(main()) == (-signal.SIGTERM, True)


def test_after_its_jobs_a_server_is_replaced_while_its_running_child_goes_on() -> None:
    async def main() -> None:
        async with opened(max_jobs=2) as pool:
            waiting = await pool.fork(job("wait"), with_output=False)
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
            waiting = await pool.fork(job("wait"), with_output=False)
            assert pool._current
            pool._current.process.kill()
            await pool._current.process.wait()
            assert (await run(pool, 5))[1] == 5
            assert psutil.pid_exists(waiting.pid)
            waiting.kill()
            assert await waiting.wait() == LOST

    asyncio.run(main())


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
