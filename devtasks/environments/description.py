"""What describes a project's dependencies: the first of these that names any.

    uv.lock                 with pyproject.toml beside it: exactly the versions locked
    requirements*.txt       all of REQUIREMENTS that are there, and pyproject.toml's own where the plain one is not
    pyproject.toml          [project], or a build system that can be asked; setup.py and setup.cfg likewise
    tox.ini                 the deps of [testenv], but those for some factors only

Of extras and dependency groups those are taken that are named like tests (TEST_NAMES). Nothing is run here.
"""

import configparser
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from devtasks.validation.reports import read_bounded

TEST_NAMES = ("dev", "test", "tests", "testing")

REQUIREMENTS = (
    "requirements.txt",
    *(f"requirements{mark}{name}.txt" for name in TEST_NAMES for mark in ("-", "_")),
    *(f"{name}{mark}requirements.txt" for name in TEST_NAMES for mark in ("-", "_")),
    *(f"requirements/{name}.txt" for name in ("base", "main", "requirements", *TEST_NAMES)),
)

_INCLUDED = re.compile(r"^\s*(?:-r|-c|--requirement|--constraint)[\s=]*(\S+)", re.MULTILINE)
_HERE = re.compile(r"^\s*(?:-e\b|--editable\b|\.|/)|\bfile:", re.MULTILINE)
_ENTRY = re.compile(r"^\s*(?![#\s]|-(?!e\b)|--(?!editable\b))\S", re.MULTILINE)


@dataclass(frozen=True)
class Description:
    """What an environment is made from.

    Attributes:
        source: the file it was found in, for people.
        files: name and content of every file that was read; they decide which runs share an environment.
        arguments: uv's arguments, run where the files are.
        requirements: lines to install besides.
        local: whether it refers to folders of the project, so that any file may matter.
    """

    source: str
    files: Mapping[str, bytes]
    arguments: tuple[str, ...]
    requirements: tuple[str, ...] = ()
    local: bool = False


@dataclass
class _Project:
    """A project's folder; what is read of it is kept in `files`."""

    folder: Path
    files: dict[str, bytes] = field(default_factory=dict[str, bytes])

    def text(self, name: str) -> str | None:
        """Return a file's text; None where it is missing, leads out of the project, or is not a plain file."""
        path = self.folder / name
        if not path.resolve().is_relative_to(self.folder.resolve()):
            return None
        content = read_bounded(path)
        if content is None:
            return None
        self.files[name] = content
        return content.decode(errors="replace")

    def toml(self, name: str) -> dict[str, Any]:
        """Return a TOML file's tables; none where it is missing or broken, which is left to uv to say."""
        try:
            return tomllib.loads(self.text(name) or "")
        except tomllib.TOMLDecodeError:
            return {}


def describe(folder: Path) -> Description | None:
    """Return what describes the dependencies of the project in a folder; None where it has none."""
    for find in (_locked, _requirements, _declared, _tox):
        if found := find(_Project(folder)):
            return found
    return None


def is_installable(folder: Path) -> bool:
    """Tell whether the project itself can be built, so that its metadata and entry points can be installed."""
    document = _Project(folder).toml("pyproject.toml")
    return "build-system" in document or (folder / "setup.py").is_file()


def _locked(project: _Project) -> Description | None:
    lock, document = project.toml("uv.lock"), project.toml("pyproject.toml")
    packages = cast(list[Mapping[str, Any]], lock.get("package", []))
    sources = [_table(each, "source") for each in packages]
    paths = [place for each in sources for kind, place in each.items() if kind in _LOCAL_SOURCES]
    readable = bool(lock) or project.text("uv.lock") is None  # what is not is left to uv to say
    if not document or (readable and len(sources) == paths.count(".")):
        return None
    arguments = ("sync", "--frozen", "--no-install-project", "--no-editable", *_for_tests(document))
    return Description("uv.lock", project.files, arguments, local=len(paths) > paths.count("."))


_LOCAL_SOURCES = ("editable", "directory", "virtual", "path")


def _requirements(project: _Project) -> Description | None:
    texts = {name: text for name in REQUIREMENTS if (text := project.text(name)) is not None}
    names = list(texts)
    for name, text in texts.items():
        _read_included(project, Path(name).parent, text)
    texts |= {name: content.decode(errors="replace") for name, content in project.files.items()}
    if not any(_ENTRY.search(text) for text in texts.values()):
        return None
    arguments = ("pip", "install", *(word for name in names for word in ("-r", name)))
    local = any(_HERE.search(text) for text in texts.values())
    declared = _declared(project) if "requirements.txt" not in names else None
    if declared:
        arguments, local = (*arguments, *declared.arguments[2:]), local or declared.local
    return Description(" and ".join(names), project.files, arguments, local=local)


def _read_included(project: _Project, folder: Path, text: str) -> None:
    for name in _INCLUDED.findall(text):
        path = (folder / name).as_posix()
        if path not in project.files and (more := project.text(path)) is not None:
            _read_included(project, (folder / name).parent, more)


def _declared(project: _Project) -> Description | None:
    document = project.toml("pyproject.toml")
    table = _table(document, "project")
    asks = "dependencies" in table.get("dynamic", ()) or ("build-system" in document and not table)
    legacy = [name for name in ("setup.py", "setup.cfg") if project.text(name) is not None and not table]
    chosen = _for_tests(document)
    if table.get("dependencies") or asks or chosen:
        return Description("pyproject.toml", project.files, (*_INSTALL, "pyproject.toml", *chosen), local=asks)
    if legacy and "build-system" not in document:
        return Description(legacy[0], project.files, (*_INSTALL, legacy[0]), local=True)
    return None


_INSTALL = ("pip", "install", "-r")


def _for_tests(document: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the options that take the extras and dependency groups for tests."""
    extras = _table(_table(document, "project"), "optional-dependencies")
    groups = _table(document, "dependency-groups")
    wanted = [("--extra", name) for name in TEST_NAMES if extras.get(name)]
    wanted += [("--group", name) for name in TEST_NAMES if groups.get(name)]
    return tuple(word for option in wanted for word in option)


def _tox(project: _Project) -> Description | None:
    text = project.text("tox.ini")
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(text or "")
    except configparser.Error:
        return None
    lines = tuple(_unconditional(parser.get("testenv", "deps", fallback="")))
    if not lines:
        return None
    _read_included(project, Path(), "\n".join(lines))
    local = any(_HERE.search(line) for line in lines)
    return Description("tox.ini", project.files, (), lines, local)


def _unconditional(deps: str) -> Iterator[str]:
    for line in deps.splitlines():
        text = line.partition(" #")[0].strip()
        if text and not re.match(r"[\w,!.-]+:\s", text) and "{" not in text:
            yield text


def _table(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = document.get(name)
    return cast(Mapping[str, Any], value) if isinstance(value, Mapping) else {}
