"""Programs that read a text from standard input, and say something of it: nothing of the text is run."""

import asyncio
from pathlib import Path

SECONDS = 30.0
"""What one call may take; it is killed then."""


class NotChecked(Exception):
    """A check that could not be made; the message says why."""


async def read_by(program: str, *options: str, text: bytes, cwd: Path = Path("/")) -> tuple[int, bytes]:
    """Return the exit code and what was printed to standard output; raise NotChecked where there is none in time."""
    name = Path(program).name
    try:
        process = await asyncio.create_subprocess_exec(
            *(program, *options),
            cwd=cwd,
            env={"LC_ALL": "C.UTF-8"},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT if program == "bash" else asyncio.subprocess.DEVNULL,
        )
    except OSError:
        raise NotChecked(f"{name} is not there") from None
    try:
        async with asyncio.timeout(SECONDS):
            output, _ = await process.communicate(text)
    except TimeoutError:
        raise NotChecked(f"{name} did not end within {SECONDS:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return await process.wait(), output
