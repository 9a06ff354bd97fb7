"""The prompts: what the agent is told up front, so that it spends few calls on finding out."""

import re
from collections.abc import Callable, Sequence
from functools import cache
from itertools import chain, count
from pathlib import Path, PurePosixPath

from jinja2 import Environment, PackageLoader, StrictUndefined

from devtasks.allowed_paths import AllowedPaths
from devtasks.task import DevTask, TaskCategory
from devtasks.validation.result import Finding, ValidationLevel

MAX_SOURCE = 60_000
"""Characters of one file that go into a prompt (about 15,000 tokens); the agent can read the rest itself."""

MAX_SAMPLE = 4_000
"""Characters of the existing test file shown as an example of the project's style."""

CONVENTION_FILES = ("pytest.ini", "tox.ini", "setup.cfg", "pyproject.toml")

RULES: dict[TaskCategory, tuple[str, ...]] = {
    TaskCategory.UNIT_TEST: (
        "tests were added to test files (`test_*.py`, `*_test.py`), and none that existed was removed",
        "every new file compiles, and pytest collects at least one new test",
        "every new test passes each time, alone, in any order, and no test that passed before fails",
        "no new test sleeps, asks another host, or leaves files, variables or another working folder behind",
        "every new test holds assertions that fail when the code under test returns or does something else: small "
        "mistakes are made in it, and the new tests have to notice them",
        "the new tests execute lines or branches of the target that were not executed before; importing does not count",
        "the score, which grows with the target's line and branch coverage, reaches the threshold",
    ),
    TaskCategory.REFACTORING: (
        "the existing tests stay green and unchanged, and run no smaller part of the code",
        "public names and signatures stay; what moves is still imported where it was",
        "functions return, raise and change the same as before: pure ones are called with generated arguments",
        "the project's linter and type checker find nothing new",
        "something that can be measured gets better: complexity, duplicate lines, length, findings of the linter",
    ),
    TaskCategory.DOCUMENTATION: (
        "the code is unchanged but for docstrings and comments",
        "more public modules, classes and functions have a docstring that says more than their name",
        "parameters, returns and raises that a docstring names exist",
        "examples in docstrings run and print what they say; links lead somewhere, and blocks of code parse",
    ),
    TaskCategory.CODE_GENERATION: (
        "the acceptance tests and the examples in the task pass; where there are none, new tests of yours run at least "
        "60 % of the lines you write and would fail if these were wrong",
        "the existing tests stay green, and none is changed to check less",
        "imports resolve in the project's environment, and every written module can be imported",
        "nothing decides how tests end: no conftest.py, hook or setting of pytest",
        "the project's linter and type checker find nothing new",
    ),
    TaskCategory.ANALYSIS: (
        "nothing changed but the report, and it has all the sections",
        "every file, line and name the report cites exists, and it cites some",
    ),
    TaskCategory.BUILD_SCRIPT: (
        "every file parses and keeps to its schema; shellcheck and hadolint find no error",
        "the build runs to its end without a network, and a second time with the same files",
        "the existing tests stay green, and no secrets are written",
    ),
}
"""The acceptance rules as the agent is told them, by category."""

ReadFile = Callable[[str], str | None]


def task_prompt(task: DevTask, workspace: Path, files: Sequence[str], read: ReadFile) -> str:
    """Return the first message of a conversation; `files` are the repository's, `read` gives a file's text or None."""
    tests = _nearest_first(task, [name for name in files if _is_test(name)])
    sample_name = _nearest_test(task, tests)
    return (
        _environment()
        .get_template(f"{task.category}.md")
        .render(
            task=task,
            workspace=workspace,
            source=_text(read, task.target_file, MAX_SOURCE),
            context={
                name: _text(read, name, MAX_SOURCE, "(not readable)")
                for name in (*task.context_files, *task.acceptance_tests)
            },
            conventions=_conventions(files, read),
            tests=tests,
            sample_name=sample_name,
            sample=_text(read, sample_name, MAX_SAMPLE),
            suggestion=suggest_test_file(task, tests),
            rules=RULES[task.category],
            allowed=AllowedPaths.of(task),
        )
    )


def repair_prompt(workspace: Path, findings: Sequence[Finding]) -> str:
    """Return the message that hands a rejected attempt's findings back to the agent."""
    told = [finding for finding in findings if finding.level is not ValidationLevel.INFO]
    return _environment().get_template("repair.md").render(workspace=workspace, findings=told)


def hinted(prompt: str, hints: Sequence[str]) -> str:
    """Return a first message with what people who looked at earlier attempts want the model to know."""
    return prompt + "".join(f"\n\n# A hint from a person who looked at earlier attempts\n\n{hint}" for hint in hints)


def resume_prompt(workspace: Path) -> str:
    """Return the message that an agent goes on with whose process was killed."""
    return _environment().get_template("resume.md").render(workspace=workspace)


def suggest_test_file(task: DevTask, tests: Sequence[str]) -> str:
    """Return a path for the new tests: beside the first of the existing ones, in `tests/` where there are none.

    Its name is a module's, and in use nowhere: pytest refuses a second file of a name where folders are no packages.
    """
    folder = PurePosixPath(tests[0]).parent if tests else PurePosixPath("tests")
    target = PurePosixPath(task.target_file or "target.py")
    stem = _module_name(target.parent.name if target.stem == "__init__" else target.stem)
    used = {PurePosixPath(test).name for test in tests}
    endings = chain(("", "_more", f"_{_module_name(task.task_id[:8])}"), (f"_{number}" for number in count(2)))
    return str(folder / next(name for ending in endings if (name := f"test_{stem}{ending}.py") not in used))


@cache
def _environment() -> Environment:
    # The prompts are plain text for a model, not HTML.
    loader = PackageLoader("devtasks", "prompts")
    return Environment(loader=loader, undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True)  # noqa: S701


def _is_test(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix == ".py" and (path.name.startswith("test_") or path.stem.endswith("_test"))


def _module_name(text: str) -> str:
    return re.sub(r"\W", "_", text).strip("_") or "more"


def _nearest_first(task: DevTask, tests: Sequence[str]) -> list[str]:
    """Return the tests ordered by how many folders they share with the target, then by how deep they lie."""
    folders = set(PurePosixPath(task.target_file or "").parent.parts)

    def distance(name: str) -> tuple[int, int, str]:
        parts = PurePosixPath(name).parent.parts
        return -len(folders.intersection(parts)), len(parts), name

    return sorted(tests, key=distance)


def _nearest_test(task: DevTask, tests: Sequence[str]) -> str | None:
    stem = PurePosixPath(task.target_file).stem if task.target_file else ""
    return next((name for name in tests if stem and stem in name), tests[0] if tests else None)


def _conventions(files: Sequence[str], read: ReadFile) -> str:
    """Return the parts of the project's settings that concern its tests."""
    parts: list[str] = []
    for name in CONVENTION_FILES:
        if name in files and (text := read(name)):
            sections = _sections(text) if name != "pytest.ini" else [text]
            parts += [f"# {name}\n{section.strip()}" for section in sections]
    return "\n\n".join(parts)[:MAX_SAMPLE]


def _sections(text: str) -> list[str]:
    """Return the INI or TOML sections whose header names pytest, without interpreting them."""
    sections: list[list[str]] = [[]]
    for line in text.splitlines():
        if line.startswith("["):
            sections.append([])
        sections[-1].append(line)
    return ["\n".join(lines) for lines in sections if lines and lines[0].startswith("[") and "pytest" in lines[0]]


def _text(read: ReadFile, name: str | None, limit: int, otherwise: str | None = None) -> str | None:
    text = read(name) if name else None
    if text is None:
        return otherwise
    if len(text) <= limit:
        return text
    return f"{text[:limit]}\n… [{len(text) - limit} characters cut; read the file for the rest]"
