"""Short runs on a real stack while their workers, agents and containers are killed (SIGKILL) at random moments.

At the end every run has ended; none was delivered twice; none has asked a model for more than its steps and, for each
kill that struck it, one again; and nothing is left: no process, container, work folder, temporary folder or lock.
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
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import psutil
import yaml
from cyclopts import App, Parameter
from harness import Up, example_repository, git, simulating
from rich.console import Console
from sandboxes import why_not

from devtasks.ledger import Ledger

DEMO = Path(__file__).parents[1] / "examples" / "demo.yaml"
TURNS = 3
"""The model's answers in a run that nobody kills."""

AT_ONCE = 3
PAUSE_SECONDS = (4.0, 12.0)
KINDS = ("agent",) * 6 + ("container",) * 3 + ("worker",)
UNSHUT = "without-a-sandbox"
"""The runtime block of every second run; of the others every second works in a container, where that is possible."""

PATIENCE_SECONDS = 1_800

app = App(help=__doc__)
say = Console(highlight=False).print


@dataclass
class Soak:
    """A stack with runs on it, and whom the kills have struck."""

    up: Up
    repository: Path
    rng: random.Random
    docker: bool
    runs: list[str] = field(default_factory=list[str])
    kills: Counter[str] = field(default_factory=Counter[str])
    struck: Counter[str] = field(default_factory=Counter[str])

    def submit(self, credentials: str, number: int) -> None:
        """Submit one run."""
        deployment = self.up.api("GET", "/deployments/name/development-task/normal").raise_for_status().json()
        parameters = {
            "category": "unit_test",
            "target_file": "shop/pricing.py",
            "description": "Test shop/pricing.py.",
            "repository": str(self.repository),
            "delivery": "branch",
            "credentials": credentials,
            "use_docker": self.docker and number % 4 == 0,
            "runtime_block": UNSHUT if number % 2 else "default",
        }
        path = f"/deployments/{deployment['id']}/create_flow_run"
        created = self.up.api("POST", path, parameters=parameters, state={"type": "SCHEDULED"})
        self.runs.append(created.raise_for_status().json()["id"])

    def states(self) -> dict[str, str]:
        """Return the type of each run's state."""
        found: dict[str, str] = {}
        for start in range(0, len(self.runs), 100):
            chosen = {"id": {"any_": self.runs[start : start + 100]}}
            answer = self.up.api("POST", "/flow_runs/filter", flow_runs=chosen, limit=200).raise_for_status()
            found |= {each["id"]: each["state_type"] for each in answer.json()}
        return found

    def strike(self, states: dict[str, str]) -> None:
        """Kill one thing of a random kind, if there is one."""
        kind = self.rng.choice(KINDS)
        at_work = [run for run, state in states.items() if state == "RUNNING"]
        if kind == "worker":
            with contextlib.suppress(StopIteration, psutil.Error):
                self.up.worker().kill()
                self._count(kind, at_work)
        elif kind == "container":
            if containers := self.containers():
                container, run = self.rng.choice(containers)
                _docker("kill", container)
                self._count(kind, [run])
        elif agents := list(self._agents()):
            run, process = self.rng.choice(agents)
            with contextlib.suppress(psutil.Error):
                process.kill()
                self._count(kind, [run])

    def containers(self) -> list[tuple[str, str]]:
        """Return this stack's containers, each with its run."""
        if not self.docker:
            return []
        listed = _docker(
            "ps", "--all", "--format", '{{.ID}} {{.Label "devtasks.run"}}', "--filter", "label=devtasks.run"
        )
        pairs = (line.split(" ", 1) for line in listed.splitlines())
        places = ((container, Path(folder)) for container, folder in pairs)
        return [(container, place.parent.name) for container, place in places if place.is_relative_to(self.up.stack)]

    def _agents(self) -> Iterator[tuple[str, psutil.Process]]:
        """Yield the processes that work in a run's folder: supervisors, conversations, shells, tests."""
        runs = self.up.stack / "runs"
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                place = Path(process.cwd())
                if place.is_relative_to(runs) and "work" in place.parts and process.name() != "bwrap":
                    yield place.relative_to(runs).parts[0], process

    def _count(self, kind: str, runs: list[str]) -> None:
        self.kills[kind] += 1
        self.struck.update(runs)


@app.default
def main(
    runs: Annotated[int, Parameter(help="How many runs.")] = 200,
    seed: Annotated[int, Parameter(help="Of the kills; what they meet is up to the machine.")] = 1,
) -> int:
    """Submit, kill, wait, look; exit with 1 where anything is not as it should be."""
    folder = Path(tempfile.mkdtemp(prefix="devtasks-kills-")).resolve()
    (folder / "tmp").mkdir()
    os.environ["TMPDIR"] = str(folder / "tmp")
    up = Up(folder / "up", limit=AT_ONCE)
    up.folder.mkdir()
    soak = Soak(up, example_repository(folder / "shop"), random.Random(seed), docker=not why_not())
    up.start()
    try:
        with simulating(up, _scenario(folder)) as simulator:
            code = f"from blocks import OpenHandsRuntime as Block; Block(sandbox='none').save('{UNSHUT}')"
            assert up.run("python", "-c", code).returncode == 0
            started = time.monotonic()
            for number in range(runs):
                soak.submit(simulator.block, number)
            while (states := soak.states()) and _open(states):
                if time.monotonic() - started > PATIENCE_SECONDS + 20 * runs:
                    break
                soak.strike(states)
                time.sleep(soak.rng.uniform(*PAUSE_SECONDS))
            seconds = time.monotonic() - started
        wrong = [*_not_ended(states), *asyncio.run(_calls(soak)), *_deliveries(soak, states)]
        collected = up.run("devtasks", "gc")
        wrong += [f"gc: {collected.stderr}"] if collected.returncode else []
        up.stop()
        wrong += _left(soak, folder)
    finally:
        for process in up.processes():
            process.kill()
    say(f"{len(states)} runs in {seconds:.0f} s: {dict(Counter(states.values()))}")
    most = max(soak.struck.values(), default=0)
    say(f"kills: {dict(soak.kills)}, which struck {len(soak.struck)} runs, one of them {most} times")
    for each in wrong:
        say(f"WRONG: {each}")
    if not wrong:
        say("nothing lost, nothing twice, nothing left")
        shutil.rmtree(folder)
    return int(bool(wrong))


def _scenario(folder: Path) -> Path:
    """Return the demo's scenario with the model that is accepted alone, and no delay to speak of."""
    scenario: dict[str, Any] = yaml.safe_load(DEMO.read_text())
    scenario["models"] = scenario["models"][1:]
    file = folder / "scenario.yaml"
    file.write_text(yaml.safe_dump(scenario))
    return file


def _open(states: dict[str, str]) -> list[str]:
    final = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
    return [run for run, state in states.items() if state not in final]


def _not_ended(states: dict[str, str]) -> Iterator[str]:
    for run in _open(states):
        yield f"{run} has not ended: {states[run]}"


async def _calls(soak: Soak) -> list[str]:
    """Name the runs that have paid for more than their steps, and one more for each kill."""
    sockets = (soak.up.stack / "postgres" / "data" / "postmaster.pid").read_text().splitlines()[4]
    wrong: list[str] = []
    async with Ledger.open(f"postgresql+asyncpg://postgres:@/devtasks?host={sockets}") as ledger:
        for run in soak.runs:
            calls = len(await ledger.calls(flow_run_id=run))
            attempts = max(1, len(await ledger.attempts(flow_run_id=run)))
            if calls > TURNS * attempts + soak.struck[run]:
                wrong.append(f"{run}: {calls} calls in {attempts} attempts with {soak.struck[run]} kills")
    return wrong


def _deliveries(soak: Soak, states: dict[str, str]) -> Iterator[str]:
    branches = git(soak.repository, "for-each-ref", "--format=%(refname:short)", "refs/heads/devtasks").splitlines()
    by_run = Counter(branch.rpartition("-")[2] for branch in branches)
    for run in states:
        if by_run[run[:8]] > 1:
            yield f"{run} was delivered {by_run[run[:8]]} times"
    for branch in branches:
        if (commits := git(soak.repository, "rev-list", "--count", f"main..{branch}")) != "1":
            yield f"{branch} has {commits} commits"


def _left(soak: Soak, folder: Path) -> Iterator[str]:
    yield from (f"process {each.pid} {each.cmdline()}" for each in soak.up.processes())
    yield from (f"container {each}" for each, _ in soak.containers())
    for pattern in ("runs/*/work", "runs/*/course.json", "runs/*/run.json"):
        yield from (f"{place}" for place in soak.up.stack.glob(pattern))
    yield from (f"{place}" for place in (folder / "tmp").iterdir())
    yield from (f"{place}" for place in (soak.repository / ".git").rglob("*.lock"))
    if len(git(soak.repository, "worktree", "list").splitlines()) != 1:
        yield "a worktree"


def _docker(*words: str) -> str:
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    sys.exit(app())
