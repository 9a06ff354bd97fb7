"""Rules that find a batch's tasks in a project: what is not covered, changed, not documented, or complex."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from devtasks.errors import InvalidInput, WorkspaceError
from devtasks.task import TaskCategory
from devtasks.validation.conventions import MAX_SOURCE_BYTES, is_test_code
from devtasks.validation.docstrings import documented, parse
from devtasks.validation.linter import Linter
from devtasks.validation.reports import read_bounded
from devtasks.workspace.git import Git, names

_LISTED = 8


@dataclass(frozen=True)
class Found:
    """A file that something is to be done about: what kind of work, and what exactly."""

    path: str
    category: TaskCategory
    description: str


def modules(root: Path) -> tuple[str, ...]:
    """Return the Python files that git knows in a checkout, tests aside, by name."""
    listed = (name.decode(errors="replace") for name in names(Git.at(root).run("ls-files", "-z", "--", "*.py")))
    return tuple(sorted(path for path in listed if not is_test_code(path) and (root / path).is_file()))


def uncovered(covered: Mapping[str, float], threshold: float) -> tuple[Found, ...]:
    """Return the files whose covered part, 0 to 1, is under a threshold, the least covered first."""
    low = sorted((part, path) for path, part in covered.items() if part < threshold)
    return tuple(
        Found(
            path,
            TaskCategory.UNIT_TEST,
            f"Write unit tests for {path}, of whose lines and branches the tests run {int(part * 100)} % so far. "
            "Cover what is not run yet.",
        )
        for part, path in low
    )


def changed(root: Path, since: str) -> tuple[Found, ...]:
    """Return the modules that were changed since a ref while no test file of their name was; raise InvalidInput."""
    git = Git.at(root)
    try:
        base = git.line("rev-parse", "--verify", "--quiet", "--end-of-options", f"{since}^{{commit}}")
    except WorkspaceError:
        raise InvalidInput("--since", since, "a branch, tag or commit of the repository") from None
    listed = names(git.run("diff", "--name-only", "-z", "--no-renames", "--diff-filter=AM", base, "HEAD"))
    paths = {name.decode(errors="replace") for name in listed}
    tested = {PurePosixPath(path).name for path in paths if is_test_code(path)}
    return tuple(
        Found(
            path,
            TaskCategory.UNIT_TEST,
            f"Write unit tests for {path}, which was changed since {since} while its tests were not: "
            f"test what was changed (`git diff {base[:12]} -- {path}`).",
        )
        for path in modules(root)
        if path in paths and not tested & _test_names(path)
    )


def undocumented(root: Path) -> tuple[Found, ...]:
    """Return the modules with public names that have no docstring, those with most of them first."""
    missing = {path: _without_docstring(root, path) for path in modules(root)}
    worst = sorted(missing, key=lambda path: (-len(missing[path]), path))
    return tuple(
        Found(path, TaskCategory.DOCUMENTATION, f"Write the docstrings that {path} lacks: {_listed(missing[path])}.")
        for path in worst
        if missing[path]
    )


async def complex_functions(root: Path, above: int) -> tuple[Found, ...]:
    """Return the modules with functions of a higher cyclomatic complexity, the most complex first."""
    linter, worst = Linter(root), list[tuple[int, str, list[str]]]()
    for path in modules(root):
        source = read_bounded(root / path, MAX_SOURCE_BYTES) or b""
        found = await linter.complexity(path, source) or {}
        high = sorted(((number, name) for name, number in found.items() if number > above), reverse=True)
        if high:
            worst.append((-high[0][0], path, [f"`{name}` ({number})" for number, name in high]))
    return tuple(
        Found(
            path,
            TaskCategory.REFACTORING,
            f"Make {path} simpler without a change of behaviour. Its functions with a cyclomatic complexity over "
            f"{above}: {_listed(named)}.",
        )
        for _, path, named in sorted(worst)
    )


def _test_names(path: str) -> set[str]:
    stem = PurePosixPath(path).stem
    return {f"test_{stem}.py", f"{stem}_test.py"}


def _without_docstring(root: Path, path: str) -> list[str]:
    tree = parse(read_bounded(root / path, MAX_SOURCE_BYTES) or b"")
    if tree is None:
        return []
    named = documented(tree, public_module=not PurePosixPath(path).stem.startswith("_"))
    return [f"`{each.label}`" for each in named.values() if each.public and each.docstring is None]


def _listed(items: Sequence[str]) -> str:
    rest = len(items) - _LISTED
    return ", ".join(items[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")
