"""The command that judges a change, whoever made it."""

import sys
from json import dumps
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.markup import escape

from deployments.console import out, say, say_nothing, until_signal
from devtasks.errors import InvalidInput
from devtasks.task import DevTask, EnvironmentChoice, TaskCategory
from devtasks.validation.result import Finding, ValidationLevel

MAX_PATCH_BYTES = 20 << 20
"""As large as a task's own change may be."""

INTERRUPTED = 130

_STYLES = {ValidationLevel.ERROR: "bold red", ValidationLevel.WARNING: "yellow", ValidationLevel.INFO: "dim"}


def register(app: App) -> None:
    """Add the command to the command line."""
    app.command(validate)


def validate(
    *,
    category: Annotated[
        TaskCategory,
        Parameter(name=("--category", "--task-type"), name_transform=str.lower, help="The kind of work."),
    ] = TaskCategory.UNIT_TEST,
    target: Annotated[
        str, Parameter(name=("--target", "--target-file"), help="The file it is about, relative to the root.")
    ] = "",
    repository: Annotated[Path, Parameter(help="Path of the git repository; it is only read.")] = Path(),
    diff: Annotated[
        str | None,
        Parameter(
            allow_leading_hyphen=True,
            help="A patch file to judge, - for standard input, in place of the checkout's files.",
        ),
    ] = None,
    base: Annotated[str, Parameter(help="Branch, tag or commit before the change.")] = "HEAD",
    quality_threshold: Annotated[float, Parameter(help="The least score that passes, 0 to 1.")] = 0.7,
    allow_path: Annotated[
        list[str] | None,
        Parameter(negative="", help="A pattern as in .gitignore of files that may change, instead of the category's."),
    ] = None,
    environment: Annotated[
        EnvironmentChoice, Parameter(help="Make the project's environment, or use the interpreter of devtasks.")
    ] = EnvironmentChoice.AUTO,
    setup_command: Annotated[str, Parameter(help="A shell command that completes the environment, run once.")] = "",
    acceptance_test: Annotated[
        list[str] | None,
        Parameter(negative="", help="A test file of the repository that generated code has to pass."),
    ] = None,
    build_command: Annotated[str, Parameter(help="The shell command that a build script is run by, twice.")] = "",
    use_docker: Annotated[bool, Parameter(negative="", help="Run its tests in a container.")] = False,
    json: Annotated[bool, Parameter(name="--json", negative="", help="Print one JSON document for machines.")] = False,
) -> int:
    """Judge a change as a task's result would be, without an agent, a model or a server.

    The change is a patch file, or all that differs in the checkout from --base, committed or not. Exit code 1 where it
    does not pass.
    """
    from devtasks import workspace

    task = DevTask.parse(
        task_id="validate",
        category=category,
        description="judge a change",
        repository=str(repository.expanduser().resolve()),
        target_file=target or None,
        base_ref=base,
        quality_threshold=quality_threshold,
        allowed_paths=tuple(allow_path or ()),
        environment=environment,
        setup_command=setup_command or None,
        acceptance_tests=tuple(acceptance_test or ()),
        build_command=build_command or None,
    )
    workspace.check_repository(task)
    patch = None if diff is None else _read(diff)

    from deployments.judgement import judge

    judgement = until_signal(judge(task, patch, docker=use_docker, say=say_nothing if json else say))
    if judgement is None:
        return INTERRUPTED
    verdict = judgement.verdict
    if json:
        sys.stdout.write(dumps(judgement.document(), indent=2) + "\n")
    else:
        for finding in verdict.findings:
            _print(finding)
        word = "[bold green]passed[/]" if verdict.passed else "[bold red]not passed[/]"
        out.print(f"{word}: score {verdict.score:.2f}, {_files(len(judgement.patch.changes))} changed", soft_wrap=True)
    return 0 if verdict.passed else 1


def _read(diff: str) -> bytes:
    try:
        patch = sys.stdin.buffer.read(MAX_PATCH_BYTES + 1) if diff == "-" else Path(diff).read_bytes()
    except OSError as error:
        raise InvalidInput("--diff", diff, f"a patch file that can be read ({error.strerror})") from None
    if not patch.strip() or len(patch) > MAX_PATCH_BYTES:
        raise InvalidInput("--diff", diff, f"a patch of 1 byte to {MAX_PATCH_BYTES >> 20} MiB")
    return patch


def _files(count: int) -> str:
    return f"{count} file{'' if count == 1 else 's'}"


def _print(finding: Finding) -> None:
    from devtasks.terminal import harmless

    place = f" {finding.place}" if finding.place else ""
    style = _STYLES[finding.level]
    line = escape(harmless(f"{finding.rule}{place}: {finding.message}"))
    out.print(f"[{style}]{finding.level}[/] {line}", soft_wrap=True)
    if finding.evidence and finding.level is not ValidationLevel.INFO:
        out.print(f"[dim]{escape(harmless(finding.evidence))}[/]", soft_wrap=True)
