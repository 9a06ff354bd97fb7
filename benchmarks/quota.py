"""Eight processes on one account, against a simulator that counts: what it received in its busiest minute and its day.

The minute is a true one. `DEVTASKS_DATABASE_URL` is not used: each database is fresh.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]  # the tests' own hammer

from hammer import Herd, Target, scenario  # noqa: E402

from benchmarks.report import Aim, finish, machine  # noqa: E402
from deployments.postgres import EmbeddedPostgres  # noqa: E402
from devtasks.simulator import Simulator  # noqa: E402
from devtasks.simulator.quota import busiest  # noqa: E402

PROCESSES = 8
PER_MINUTE, PER_DAY = 20, 50
MINUTE = 60
PATIENCE_SECONDS = 600


@dataclass(frozen=True)
class Sample:
    """One run: when each request arrived, how many the simulator refused, and the seconds of the whole."""

    database: str
    times: tuple[str, ...]
    refused: int
    exit_codes: tuple[int | None, ...]
    seconds: float

    @property
    def busiest(self) -> int:
        """The most requests in any minute, wherever it begins."""
        return busiest(map(datetime.fromisoformat, self.times), MINUTE)


def main() -> int:
    """Hammer on each database in turn, and print what was counted."""
    where = machine()
    with tempfile.TemporaryDirectory(prefix="devtasks-bench-") as folder, _postgres(Path(folder)) as postgresql:
        urls = {"SQLite": f"sqlite:///{folder}/ledger.db", "PostgreSQL": postgresql}
        samples = [_run(name, url) for name, url in urls.items()]
    rows = [("database", "received", "busiest minute", "refused", "seconds")]
    rows += [
        (each.database, str(len(each.times)), str(each.busiest), str(each.refused), f"{each.seconds:.0f}")
        for each in samples
    ]
    aims: list[Aim] = []
    for each in samples:
        aims += [
            Aim(f"requests in the busiest minute, {each.database}", each.busiest, PER_MINUTE, "at most"),
            Aim(f"requests of the day, {each.database}", len(each.times), PER_DAY, "at most"),
            Aim(f"requests of the day used, {each.database}", len(each.times), PER_DAY, "at least"),
            Aim(f"requests the simulator refused, {each.database}", each.refused, 0, "at most"),
            Aim(f"processes that failed, {each.database}", sum(code != 0 for code in each.exit_codes), 0, "at most"),
        ]
    return finish("quota", where, rows, [vars(each) for each in samples], aims)


def _run(database: str, url: str) -> Sample:
    herd, started = Herd(PROCESSES), time.monotonic()

    async def run() -> tuple[Simulator, list[int | None]]:
        async with Simulator(scenario(requests_per_minute=PER_MINUTE, free_requests_per_day=PER_DAY)) as simulator:
            herd.release(Target(simulator.base_url, url, MINUTE))
            return simulator, await herd.ended(PATIENCE_SECONDS)

    simulator, codes = asyncio.run(run())
    return Sample(
        database=database,
        times=tuple(each.time for each in simulator.requests),
        refused=sum(each.status == 429 for each in simulator.requests),
        exit_codes=tuple(codes),
        seconds=time.monotonic() - started,
    )


@contextmanager
def _postgres(folder: Path) -> Generator[str]:
    server = EmbeddedPostgres(folder / "postgres")
    server.start(("devtasks",))
    try:
        yield server.url("devtasks")
    finally:
        server.stop()


if __name__ == "__main__":
    sys.exit(main())
