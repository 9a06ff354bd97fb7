"""The hooks for pre-commit: they start light, ask no server, and stop a commit by nothing but a verdict.

A program of its own, `devtasks-hook`, because pre-commit waits for it at every commit.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

LOG = "submit.log"


def main() -> None:
    """Run the hook that the first argument names; whatever goes wrong with it lets the commit pass, with a warning."""
    name, *files = sys.argv[1:] or [""]
    try:
        code = {"validate": _validate, "submit": _submit}[name](files)
    except KeyError:
        _say(f"there is no hook {name!r}, only validate and submit")
        code = 0
    except Exception as error:
        _say(f"{name}: nothing was done: {type(error).__name__}: {error}")
        code = 0
    sys.exit(code)


def _validate(files: Sequence[str]) -> int:
    """Fail where a staged test that is new or changed can never fail."""
    from devtasks.staged_tests import StagedTests

    staged = StagedTests(Path.cwd())
    hollow = [line for file in files for line in staged.hollow(file, _say)]
    for line in hollow:
        sys.stdout.write(f"{line}\n")
    if hollow:
        _say("these tests can never fail; SKIP=devtasks-validate git commit … commits them all the same")
    return 1 if hollow else 0


def _submit(_: Sequence[str]) -> int:
    """Keep a task for each module of the last commit that has no tests, and have them submitted in the background."""
    from devtasks.spool import Spool
    from devtasks.task import Delivery, DevTask, TaskCategory, TaskPriority
    from devtasks.untested import untested_modules
    from devtasks.workspace.git import Git

    here = Git.at(Path.cwd())
    root, commit = Path(here.line("rev-parse", "--show-toplevel")), here.line("rev-parse", "HEAD")
    untested = untested_modules(root, commit)
    if not untested:
        return 0
    spool = Spool.of(root)
    for path in untested:
        task = DevTask.parse(
            task_id="new",
            category=TaskCategory.UNIT_TEST,
            description=f"Write unit tests for {path}.",
            repository=str(root),
            target_file=path,
            base_ref=commit,
            priority=TaskPriority.LOW,
            delivery=Delivery.BRANCH,
        )
        spool.put(task)
    log = spool.folder.parent / LOG
    _start(root, log)
    _say(f"no tests yet: {', '.join(untested)}. A task for each is kept and being submitted (see {log}); what")
    _say("no server takes stays, and `devtasks submit-spooled` submits it later")
    return 0


def _start(root: Path, log: Path) -> None:
    command = (sys.executable, "-m", "devtasks.cli", "submit-spooled", "--repository", str(root))
    with log.open("ab") as stream:
        subprocess.Popen(
            command, cwd=root, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True
        )


def _say(line: str) -> None:
    sys.stderr.write(f"devtasks: {line}\n")


if __name__ == "__main__":
    main()
