"""The memory limit of flow runs' processes."""

import anyio
import psutil

MB = 1_000_000
CHECK_SECONDS = 0.25
"""How often a process is looked at; a look costs 0.1 ms while it is below its limit."""


def private_memory(pid: int, above: int) -> int:
    """Return the bytes that only this process holds, or 0 where all that it maps is no more than `above`.

    What it shares with the preloaded server does not count; telling it apart costs milliseconds, so it is only done
    where the whole is more. 0 also for a process that has ended.
    """
    try:
        process = psutil.Process(pid)
        if process.memory_info().rss <= above:
            return 0
        return process.memory_full_info().uss
    except psutil.Error:
        return 0


async def outgrown(pid: int, limit: int) -> int:
    """Wait until a process holds more than `limit` bytes of its own; return how many."""
    while (held := private_memory(pid, limit)) <= limit:  # noqa: ASYNC110 - memory tells nobody when it grows
        await anyio.sleep(CHECK_SECONDS)
    return held
