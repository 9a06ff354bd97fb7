"""What a person would check by hand afterwards, in a fresh clone, with pytest, coverage and git alone."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from devtasks.report import TaskReport
from devtasks.workspace.git import Git
from examples.pypi.packages import Package

SECONDS = 300.0


@dataclass(frozen=True)
class Evidence:
    """What the clone showed; `problems` is empty where all is as the scenario expects.

    `before` and `after` are the parts of the module's lines and branches, as percentages cut to one decimal, that an
    import of it and the whole suite run on main and on the delivered branch; `after` is None where nothing was
    delivered. `tests` is pytest's last line.
    """

    before: str
    after: str | None
    tests: str | None
    problems: tuple[str, ...]


def gather(package: Package, repository: Path, report: TaskReport, folder: Path) -> Evidence:
    """Clone the repository into the folder, compare what was delivered with what was expected, and run it."""
    clone = folder / package.name
    shutil.rmtree(clone, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    Git.at(folder).run("clone", "--quiet", str(repository), str(clone))
    problems = [*_course(package, report), *_checkout(repository)]
    before = _coverage(package, clone)
    if report.branch is None:
        branches = Git.at(repository).line("for-each-ref", "--format=%(refname:short)", "refs/heads")
        problems += [] if branches == "main" else [f"the repository has the branches {branches.split()}"]
        return Evidence(before, None, None, tuple(problems))
    git = Git.at(clone)
    git.run("checkout", "--quiet", report.branch)
    problems += _delivered(package, report, git)
    code, output = _python(clone, "-m", "pytest", "-o", "addopts=-q", "-p", "no:cacheprovider", *package.added)
    tests = output.strip().rsplit("\n", 1)[-1]
    problems += [f"the delivered tests do not pass: {tests}"] if code else []
    after = _coverage(package, clone)
    problems += _claim(package, report, before, after)
    return Evidence(before, after, tests, tuple(problems))


def _course(package: Package, report: TaskReport) -> Iterator[str]:
    ends = tuple(attempt.failure or attempt.outcome for attempt in report.attempts)
    if (report.outcome, ends) != (package.outcome, package.expected):
        yield f"it ended as {report.outcome} after {ends}, not as {package.outcome} after {package.expected}"
    if not report.simulated:
        yield "the report does not say that its models were simulated"


def _checkout(repository: Path) -> Iterator[str]:
    """Say what the run changed in the checkout it was pointed at; it must leave that alone."""
    git = Git.at(repository)
    if git.line("symbolic-ref", "--short", "HEAD") != "main" or git.line("rev-list", "--count", "main") != "1":
        yield "the repository's checkout is no longer at the commit it began with"
    if changed := git.line("status", "--porcelain"):
        yield f"the repository's checkout was changed: {changed}"


def _delivered(package: Package, report: TaskReport, git: Git) -> Iterator[str]:
    if git.line("rev-parse", "HEAD") != report.commit or git.line("rev-list", "--count", "origin/main..") != "1":
        yield f"{report.branch} is not one commit on main, or not the one reported ({report.commit})"
    changes = git.line("diff", "--name-status", "origin/main", "HEAD").splitlines()
    if sorted(changes) != sorted(f"A\t{path}" for path in package.added):
        yield f"{report.branch} holds {changes}, not just the new files {package.added}"


def _claim(package: Package, report: TaskReport, before: str, after: str) -> Iterator[str]:
    """Compare what the validator said of the coverage with what was measured here without it."""
    said = [finding.message for finding in report.attempts[-1].findings if finding.rule == "coverage"]
    measured = f"coverage of {package.module} rose from {before} to {after}"
    if not any(message.startswith(measured) for message in said):
        yield f"measured in the clone: {measured}; the validator said: {said}"


def _coverage(package: Package, clone: Path) -> str:
    """Return which part of the module's lines and branches an import of it and the project's whole suite run."""
    data, document, script = (clone / ".git" / name for name in ("coverage.db", "coverage.json", "import_module.py"))
    script.write_text(f"import {package.import_name}\n")
    files = (f"--rcfile={os.devnull}", f"--data-file={data}", f"--include={package.module}")
    _python(clone, "-m", "coverage", "run", "--branch", *files, str(script))
    suite = ("-m", "pytest", "-q", "-p", "no:cacheprovider")
    _python(clone, "-m", "coverage", "run", "--branch", "--append", *files, *suite)
    _python(clone, "-m", "coverage", "json", "-q", *files, "-o", str(document))
    totals = json.loads(document.read_text())["totals"]
    covered = totals["covered_lines"] + totals["covered_branches"]
    return f"{int(1_000 * covered / (totals['num_statements'] + totals['num_branches'])) / 10:g}%"


def _python(clone: Path, *arguments: str) -> tuple[int, str]:
    roots = os.pathsep.join((str(clone), str(clone / "src")))
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=clone,
        env=os.environ | {"PYTHONPATH": roots, "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return done.returncode, done.stdout
