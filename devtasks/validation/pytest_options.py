"""The part of a project's pytest options that decides which tests there are and how they are imported."""

import configparser
import os
import shlex
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from devtasks.validation.reports import read_bounded

KEPT_LONG = ("--import-mode", "--ignore", "--ignore-glob", "--deselect")
KEPT_SHORT = ("-m", "-k")


def kept_options(workspace: Path) -> tuple[str, ...]:
    """Return the kept options of the `addopts` that pytest would use at the workspace's root.

    The others (reports, coverage, parallel runs, options of plugins that the sandbox need not have) are left out.
    """
    return tuple(_kept(_addopts(workspace) or []))


def own_settings(workspace: Path) -> tuple[str, ...]:
    """Return the options that keep pytest from settings, conftest.py files and caches of the folders above."""
    here = ("-p", "no:cacheprovider", f"--rootdir={workspace}", f"--confcutdir={workspace}")
    return here if _addopts(workspace) is not None else (*here, "-c", os.devnull)


def pytest_settings(name: str, content: bytes) -> Mapping[str, Any] | None:
    """Return what a file of this name says of pytest; None where it configures something else."""
    read = _READERS.get(name)
    return read(content.decode(errors="replace")) if read else None


def _addopts(workspace: Path) -> list[str] | None:
    """Return the `addopts` of the first file that configures pytest; None where none does."""
    for name in _READERS:
        content = read_bounded(workspace / name)
        settings = pytest_settings(name, content) if content is not None else None
        if settings is not None:
            return _split(settings.get("addopts", ()))
    return None


def _kept(addopts: list[str]) -> Iterator[str]:
    remaining = iter(addopts)
    for option in remaining:
        if option in KEPT_LONG + KEPT_SHORT:
            yield from (option, next(remaining, ""))
        elif option.partition("=")[0] in KEPT_LONG or option[:2] in KEPT_SHORT:
            yield option


def _split(addopts: Any) -> list[str]:
    try:
        return shlex.split(addopts) if isinstance(addopts, str) else [str(option) for option in addopts]
    except ValueError:
        return []


def _ini(section: str) -> Callable[[str], Mapping[str, Any] | None]:
    def read(text: str) -> Mapping[str, Any] | None:
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        try:
            parser.read_string(text)
        except configparser.Error:
            return None
        return dict(parser[section]) if parser.has_section(section) else None

    return read


def _toml(*tables: str) -> Callable[[str], Mapping[str, Any] | None]:
    def read(text: str) -> Mapping[str, Any] | None:
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError:
            return None
        found = (_table(document, name.split(".")) for name in tables)
        return next((table for table in found if table), None)

    return read


def _table(document: Mapping[str, Any], path: list[str]) -> Mapping[str, Any] | None:
    for part in path:
        value = document.get(part)
        if not isinstance(value, Mapping):
            return None
        document = cast(Mapping[str, Any], value)
    return document


_READERS: Mapping[str, Callable[[str], Mapping[str, Any] | None]] = {
    "pytest.toml": _toml("pytest"),
    ".pytest.toml": _toml("pytest"),
    "pytest.ini": _ini("pytest"),
    ".pytest.ini": _ini("pytest"),
    "pyproject.toml": _toml("tool.pytest.ini_options", "tool.pytest"),
    "tox.ini": _ini("pytest"),
    "setup.cfg": _ini("tool:pytest"),
}
