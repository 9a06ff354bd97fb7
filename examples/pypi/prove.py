"""Run tasks on packages from PyPI through the real stack, with simulated models, and check what came of them.

Exit codes: 0 every package ended as its scenario expects and the checks in a fresh clone agree, 1 one did not,
2 wrong usage.
"""

import asyncio
import json as json_format
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter
from rich.markup import escape
from rich.table import Table

from deployments.console import err, out, print_report, say, say_nothing, show_progress, until_signal
from devtasks.cli import Json, stack_folder
from devtasks.config import OpenHandsConfig
from devtasks.errors import DevtasksError, InvalidInput
from devtasks.report import TaskReport
from devtasks.task import DevTask
from examples.pypi.evidence import Evidence, gather
from examples.pypi.packages import PACKAGES, Package
from examples.pypi.source import fetch, make_repository

if TYPE_CHECKING:
    from deployments.execution_engine import ExecutionEngine

HOME = "pypi"

app = App(name="prove.py", help="Run tasks on packages from PyPI through the real stack, with simulated models.")


@dataclass(frozen=True)
class Proof:
    """One package's run: what the task reported, what the clone showed, and the seconds of the whole run."""

    package: Package
    report: TaskReport
    evidence: Evidence
    seconds: float

    def document(self) -> dict[str, Any]:
        """Return it as values for JSON."""
        return {
            "package": self.package.name,
            "version": self.package.version,
            "module": self.package.module,
            "expected": self.package.outcome,
            "coverage_before": self.evidence.before,
            "coverage_after": self.evidence.after,
            "tests": self.evidence.tests,
            "problems": self.evidence.problems,
            "seconds": round(self.seconds, 1),
            "report": self.report.model_dump(mode="json"),
        }


@app.default
def main(
    *,
    package: Annotated[list[str] | None, Parameter(negative="", help="Only this package; repeatable.")] = None,
    json: Json = False,
) -> int:
    """Run the packages one after the other on one stack, and print each transcript and a table of them all."""
    names = [each.name for each in PACKAGES]
    for name in package or ():
        if name not in names:
            raise InvalidInput.unknown("--package", name, names)
    chosen = [each for each in PACKAGES if not package or each.name in package]
    config = OpenHandsConfig.from_env()
    folder = stack_folder(config, HOME)
    proofs = until_signal(prove_all(chosen, folder, config, quiet=json))
    if proofs is None:
        return 130
    if json:
        sys.stdout.write(json_format.dumps([proof.document() for proof in proofs], indent=2) + "\n")
    else:
        print_table(proofs)
    return 1 if any(proof.evidence.problems for proof in proofs) else 0


async def prove_all(packages: list[Package], folder: Path, config: OpenHandsConfig, *, quiet: bool) -> list[Proof]:
    """Bring every source, then run a task on each on one embedded stack with one worker."""
    from deployments.execution_engine import ExecutionEngine

    tell = say_nothing if quiet else say
    repositories: dict[Package, Path] = {}
    (folder / "sdists").mkdir(parents=True, exist_ok=True)
    for package in packages:
        tell(f"{package.name} {package.version} from PyPI, without {', '.join(package.removed)} …")
        sdist = await asyncio.to_thread(fetch, package, folder / "sdists")
        repositories[package] = await asyncio.to_thread(make_repository, package, sdist, folder / "repositories")
    async with ExecutionEngine(config, 1, folder=folder, say=tell) as engine:
        return [
            await prove(engine, package, repository, folder / "clones", quiet=quiet)
            for package, repository in repositories.items()
        ]


async def prove(engine: "ExecutionEngine", package: Package, repository: Path, clones: Path, *, quiet: bool) -> Proof:
    """Run the task on one package with its scenario's models, show it, and check the result by hand."""
    from deployments.demo import simulated_models

    block = f"simulated-{package.name}"
    task = DevTask.parse(
        task_id=package.name,
        category="unit_test",
        description=package.description,
        repository=str(repository),
        target_file=package.module,
        delivery="branch",
    )
    if not quiet:
        out.print(f"\n[bold]{package.name} {package.version}[/]: {escape(package.shows)}", soft_wrap=True)
    async with simulated_models(package.scenario, block):
        clock = time.monotonic()
        flow_run = (await engine.submit_task(task, name=package.name, force=True, credentials=block)).flow_run
        report = await show_progress(engine.queue.client, flow_run, quiet=quiet)
        seconds = time.monotonic() - clock
    if not quiet:
        print_report(report)
    evidence = await asyncio.to_thread(gather, package, repository, report, clones)
    if not quiet:
        _print_evidence(evidence, report)
    return Proof(package, report, evidence, seconds)


def _print_evidence(evidence: Evidence, report: TaskReport) -> None:
    if evidence.tests:
        out.print(f"in a fresh clone, on {report.branch}: {escape(evidence.tests)}", soft_wrap=True)
    for problem in evidence.problems:
        out.print(f"[bold red]not as expected:[/] {escape(problem)}", soft_wrap=True)
    if not evidence.problems:
        out.print(f"as expected: {report.outcome}", soft_wrap=True)


def print_table(proofs: list[Proof]) -> None:
    """Print one row for each package; coverage is what was measured in the fresh clone, before and after."""
    columns = ("package", "version", "module", "attempts", "outcome", "coverage", "seconds", "as expected")
    rows = [
        (
            proof.package.name,
            proof.package.version,
            proof.package.module,
            ", ".join(attempt.failure or attempt.outcome for attempt in proof.report.attempts),
            f"{proof.report.outcome}{proof.report.mark}",
            f"{proof.evidence.before} → {proof.evidence.after or '-'}",
            f"{proof.seconds:.0f}",
            "no" if proof.evidence.problems else "yes",
        )
        for proof in proofs
    ]
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    out.print()
    out.print(table)


if __name__ == "__main__":
    try:
        code = app()
    except DevtasksError as error:
        err.print(f"[bold red]prove.py:[/] {escape(str(error))}", soft_wrap=True)
        code = error.exit_code
    sys.exit(code)
