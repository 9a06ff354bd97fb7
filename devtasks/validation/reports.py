"""Reading what a sandboxed run left behind: files and text that untrusted code may have written."""

import os
import re
import stat
from pathlib import Path

MAX_BYTES = 16 * 1024 * 1024
EVIDENCE_LINES = 30
EVIDENCE_CHARACTERS = 4_000

_TEST_TOOL_FRAME = re.compile(r'^\s*File ".*/(?:_pytest|pluggy|pytest|coverage)/|^\s*File "<frozen ')


def read_bounded(path: Path, limit: int = MAX_BYTES) -> bytes | None:
    """Return the bytes of a regular file; None where it is missing, a link, a device or longer than the limit."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(limit + 1)
    finally:
        os.close(descriptor)
    return content if len(content) <= limit else None


def leads_outside(workspace: Path, path: str) -> bool:
    """Whether a path of the workspace is a link, below one, or no plain file."""
    written = workspace.resolve() / path
    return written.resolve() != written or not written.is_file()


def tail(output: str) -> str:
    """Return the end of an output as evidence, without the stack frames of the test tools themselves."""
    lines = [line.rstrip() for line in output.splitlines() if not _TEST_TOOL_FRAME.match(line)]
    return "\n".join(lines[-EVIDENCE_LINES:]).strip()[-EVIDENCE_CHARACTERS:]
