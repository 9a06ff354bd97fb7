"""Tasks of every category and priority on three workers, while models fail at a rate of 15 % and processes are killed.

A worker is killed (SIGKILL) every 20 seconds, and the Prefect server twice. At the end every task has come to one final
state, what was accepted was delivered once, and nothing else was delivered.
"""

import asyncio
import contextlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import psutil
import yaml
from cyclopts import App, Parameter
from harness import BIN, Up, example_repository, git, simulating
from httpx import HTTPError
from report import Aim, finish, machine

from devtasks.ledger import Ledger
from devtasks.task import TaskCategory, TaskPriority

FAULTS = (
    "upstream_429",
    "http_500",
    "http_502",
    "http_503",
    "connection_dropped",
    "malformed_json",
    "empty_choices",
    "error_in_200",
    "finish_reason_error",
    "answer_cut",
)
FAULT_RATE = 0.15
"""The share of the models' answers that one of the faults strikes, each as often as the others."""

ENGINES = 2
"""Workers besides that of `devtasks up`, each of a `devtasks run-engine` with a folder of its own."""

KILL_SECONDS = 20.0
SERVER_KILLS = (1 / 3, 2 / 3)
"""After which parts of the tasks have ended the server is killed."""

PATIENCE_SECONDS = 1_200
FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")

REPORT = (
    "# Pricing\n\n## Summary\n\n`shop/pricing.py` adds shipping to what is left after discounts.\n\n"
    "## Findings\n\n`shop/pricing.py` refuses negative amounts.\n\n"
    "## Recommendations\n\nTest `shop/pricing.py`.\n\n## Limits\n\nNothing was run.\n"
)
TESTS = (
    "from shop.pricing import bulk_discount, code_discount\n\n\n"
    "def test_bulk():\n    assert [bulk_discount(x) for x in (0, 9_999, 10_000, 20_000)] == [0, 0, 5, 10]\n\n\n"
    "def test_code():\n    assert [code_discount(x) for x in (None, ' welcome10 ')] == [0, 10]\n"
)
WORK = {
    TaskCategory.UNIT_TEST: ("shop/pricing.py", f"cat > tests/test_pricing.py <<'PY'\n{TESTS}PY"),
    TaskCategory.REFACTORING: (
        "shop/pricing.py",
        r"sed -i '/>= 10_000:$/,/^    return 0$/c\    return 5 if subtotal >= 10_000 else 0' shop/pricing.py",
    ),
    TaskCategory.DOCUMENTATION: ("README.md", r"printf '\nAll prices are in cents.\n' >> README.md"),
    TaskCategory.CODE_GENERATION: (
        "",
        r"printf 'def wrapping(pieces: int) -> int:\n    return pieces * 150\n' > shop/gift.py",
    ),
    TaskCategory.ANALYSIS: ("shop/pricing.py", f"cat > report.md <<'MD'\n{REPORT}MD"),
    TaskCategory.BUILD_SCRIPT: (
        "",
        r"printf '#!/bin/sh\nset -eu\nmkdir -p dist\ncp shop/*.py dist/\n' > build.sh",
    ),
}
"""What a task of each category is about, and the command by which a model does its work."""

EXAMPLE = "\n\n>>> from shop.gift import wrapping\n>>> wrapping(3)\n450\n"

app = App(help=__doc__)


@dataclass(frozen=True)
class Sample:
    """How one task went; `deliveries` are branches of it."""

    run: str
    category: str
    priority: str
    state: str
    starts: int
    attempts: int
    deliveries: int


@dataclass
class Soak:
    """A stack, engines beside it, and the tasks that were submitted."""

    up: Up
    repository: Path
    rng: random.Random
    engines: list[subprocess.Popen[bytes]] = field(default_factory=list[subprocess.Popen[bytes]])
    tasks: dict[str, tuple[TaskCategory, TaskPriority]] = field(default_factory=dict[str, Any])
    kills: Counter[str] = field(default_factory=Counter[str])

    def start_engine(self, number: int) -> None:
        """Start a worker in a folder of its own, as another machine would have it."""
        home = self.up.folder / f"engine{number}"
        own = {"DEVTASKS_HOME": str(home), "DEVTASKS_DATABASE_URL": self.ledger_url}
        with (self.up.folder / f"engine{number}.log").open("wb") as log:
            command = [BIN / "devtasks", "run-engine", "--max-concurrent-tasks", "1"]
            environment = self.up.environment | self.up.connection() | own
            self.engines.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))

    @property
    def ledger_url(self) -> str:
        """The stack's ledger."""
        sockets = (self.up.stack / "postgres" / "data" / "postmaster.pid").read_text().splitlines()[4]
        return f"postgresql+asyncpg://postgres:@/devtasks?host={sockets}"

    def submit(self, credentials: str, number: int) -> None:
        """Submit one task."""
        category = list(TaskCategory)[number % len(TaskCategory)]
        priority = self.rng.choice(list(TaskPriority))
        deployment = self.up.api("GET", f"/deployments/name/development-task/{priority}").raise_for_status().json()
        example = EXAMPLE if category is TaskCategory.CODE_GENERATION else ""
        parameters = {
            "category": category,
            "target_file": WORK[category][0],
            "description": f"Soak {category}, number {number}.{example}",
            "repository": str(self.repository),
            "delivery": "branch",
            "credentials": credentials,
            "runtime_block": UNSHUT,
        }
        path = f"/deployments/{deployment['id']}/create_flow_run"
        created = self.up.api("POST", path, parameters=parameters, state={"type": "SCHEDULED"})
        self.tasks[created.raise_for_status().json()["id"]] = category, priority

    def runs(self) -> list[dict[str, Any]]:
        """Return the tasks' flow runs."""
        found: list[dict[str, Any]] = []
        for start in range(0, len(self.tasks), 100):
            chosen = {"id": {"any_": list(self.tasks)[start : start + 100]}}
            answer = self.up.api("POST", "/flow_runs/filter", flow_runs=chosen, limit=200)
            found += answer.raise_for_status().json()
        return found

    def ended(self) -> int:
        """Return how many tasks have ended; 0 while the server is away."""
        chosen = {"id": {"any_": list(self.tasks)}, "state": {"type": {"any_": FINAL}}}
        with contextlib.suppress(HTTPError):
            return int(self.up.api("POST", "/flow_runs/count", flow_runs=chosen).raise_for_status().json())
        return 0

    def kill_worker(self) -> None:
        """Kill one of the workers that there are."""
        owners = [self.up.process, *self.engines]
        workers = [child for owner in owners if owner for child in _children(owner.pid, "worker")]
        if workers:
            self._kill("worker", self.rng.choice(workers))

    def kill_server(self) -> None:
        """Kill the Prefect server."""
        if self.up.process and (servers := _children(self.up.process.pid, "server")):
            self._kill("server", servers[0])

    def _kill(self, kind: str, process: psutil.Process) -> None:
        with contextlib.suppress(psutil.Error):
            process.kill()
            self.kills[kind] += 1


UNSHUT = "without-a-sandbox"
"""The runtime block of the tasks: an agent without a sandbox is forked from the worker's server, which costs least."""


@app.default
def main(
    tasks: Annotated[int, Parameter(help="How many tasks.")] = 300,
    seed: Annotated[int, Parameter(help="Of priorities and kills; what they meet is up to the machine.")] = 1,
) -> int:
    """Submit, kill, wait, look; exit with 1 where anything is not as it should be."""
    folder = Path(tempfile.mkdtemp(prefix="devtasks-soak-")).resolve()
    (folder / "tmp").mkdir()
    os.environ["TMPDIR"] = str(folder / "tmp")
    where = machine()
    soak = Soak(Up(folder / "up", limit=1), example_repository(folder / "shop"), random.Random(seed))
    soak.up.folder.mkdir()
    soak.up.start()
    try:
        with simulating(soak.up, _scenario(folder)) as simulator:
            code = f"from blocks import OpenHandsRuntime as Block; Block(sandbox='none').save('{UNSHUT}')"
            assert soak.up.run("python", "-c", code).returncode == 0
            started = time.monotonic()
            for number in range(tasks):
                soak.submit(simulator.block, number)
            for number in range(ENGINES):
                soak.start_engine(number)
            runs = _endure(soak, started)
            seconds = time.monotonic() - started
        samples = list(asyncio.run(_samples(soak, runs)))
    finally:
        _stop(soak)
    missed = _report(where, soak, samples, seconds)
    if not missed:
        shutil.rmtree(folder)
    return missed


def _endure(soak: Soak, started: float) -> list[dict[str, Any]]:
    """Kill until all tasks have ended, or patience has; return their flow runs."""
    server_kills = [part * len(soak.tasks) for part in SERVER_KILLS]
    killed = time.monotonic()
    while (ended := soak.ended()) < len(soak.tasks):
        if time.monotonic() - started > PATIENCE_SECONDS + 30 * len(soak.tasks):
            break
        if server_kills and ended >= server_kills[0]:
            server_kills.pop(0)
            soak.kill_server()
        if time.monotonic() - killed >= KILL_SECONDS:
            killed = time.monotonic()
            soak.kill_worker()
        time.sleep(2)
    return soak.runs()


async def _samples(soak: Soak, runs: list[dict[str, Any]]) -> list[Sample]:
    branches = git(soak.repository, "for-each-ref", "--format=%(refname:short)", "refs/heads/devtasks").splitlines()
    delivered = Counter(branch.rpartition("-")[2] for branch in branches)
    samples: list[Sample] = []
    async with Ledger.open(soak.ledger_url) as ledger:
        for each in runs:
            category, priority = soak.tasks[each["id"]]
            attempts = len(await ledger.attempts(flow_run_id=each["id"]))
            state, starts = each["state"]["name"], each["run_count"]
            samples.append(Sample(each["id"], category, priority, state, starts, attempts, delivered[each["id"][:8]]))
    return samples


def _report(where: dict[str, Any], soak: Soak, samples: list[Sample], seconds: float) -> int:
    rows: list[tuple[str, ...]] = [("category", "tasks", "accepted", "rejected", "crashed", "other", "started again")]
    for category in TaskCategory:
        states = Counter(each.state for each in samples if each.category == category)
        again = sum(each.starts > 1 for each in samples if each.category == category)
        named = [states[name] for name in ("Accepted", "Rejected", "Crashed")]
        rows.append((category, *map(str, (states.total(), *named, states.total() - sum(named), again))))
    print(f"{len(samples)} tasks in {seconds:.0f} s; killed: {dict(soak.kills)}")
    accepted = [each for each in samples if each.state == "Accepted"]
    ended = {"Accepted", "Rejected", "Failed", "Crashed"}
    aims = [
        Aim("tasks lost", len(soak.tasks) - sum(each.state in ended for each in samples), 0, "at most"),
        Aim("accepted, not delivered once", sum(each.deliveries != 1 for each in accepted), 0, "at most"),
        Aim(
            "delivered, not accepted",
            sum(bool(each.deliveries) for each in samples if each.state != "Accepted"),
            0,
            "at most",
        ),
        Aim("workers killed", soak.kills["worker"], 1, "at least"),
        Aim("servers killed", soak.kills["server"], len(SERVER_KILLS), "at least"),
    ]
    finish("soak", where, rows, [asdict(each) for each in samples], aims)
    return int(not all(aim.met for aim in aims))


def _scenario(folder: Path) -> Path:
    """Return a scenario with three models that can do all the work."""
    conversations = [
        {
            "match": f"Soak {category},",
            "turns": [
                {"tool_calls": [{"name": "terminal", "arguments": {"command": command}}]},
                {"finish": "It is done."},
                {"finish": "There is nothing to mend."},
            ],
        }
        for category, (_, command) in WORK.items()
    ]
    models = [
        {
            "id": f"acme/coder-{number}:free",
            "context_length": 262_144,
            "faults": [{"kind": kind, "rate": FAULT_RATE / len(FAULTS)} for kind in FAULTS],
            "conversations": conversations,
        }
        for number in range(3)
    ]
    file = folder / "scenario.yaml"
    file.write_text(yaml.safe_dump({"name": "soak", "models": models}))
    return file


def _children(pid: int, word: str) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(pid).children():
            with contextlib.suppress(psutil.Error):
                if word in child.cmdline():
                    found.append(child)
    return found


def _stop(soak: Soak) -> None:
    for engine in soak.engines:
        engine.terminate()
    for engine in soak.engines:
        with contextlib.suppress(subprocess.TimeoutExpired):
            engine.wait(60)
    with contextlib.suppress(subprocess.TimeoutExpired):
        soak.up.stop()
    for process in soak.up.processes():
        process.kill()


if __name__ == "__main__":
    sys.exit(app())
