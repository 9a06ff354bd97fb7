"""What is wrong in the text of a build file: linters that only read it, and parsers."""

import ast
import configparser
import json
import re
import sysconfig
import tomllib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from devtasks.execution.runtime import Command
from devtasks.validation.build_file_kinds import BuildFileKind, schema_of, shell_of
from devtasks.validation.result import ValidationLevel
from devtasks.validation.rule import ValidationContext
from devtasks.validation.text_tools import SECONDS, NotChecked, read_by

_LEVELS = {"error": ValidationLevel.ERROR, "warning": ValidationLevel.WARNING}
_OPINIONS = frozenset({"DL3006", "DL3007", "DL3008", "DL3013", "DL3016", "DL3018", "DL3028", "DL3033", "DL3041"})
_MAKE_LINE = re.compile(r"^\S*?Makefile:(?P<line>\d+): \*\*\* (?P<message>.*)", re.MULTILINE)
_MAKE_ERROR = re.compile(r"^make: \*\*\* (?P<message>.*)", re.MULTILINE)
_MAKE_NO_TARGETS = "No targets"
_MISSING = 127


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong at a line."""

    level: ValidationLevel
    message: str
    line: int = 1


async def problems(context: ValidationContext, path: str, kind: BuildFileKind, content: bytes) -> list[Problem]:
    """Return what is wrong; raise NotChecked where that cannot be said."""
    if kind is BuildFileKind.SHELL:
        return await _shell(content)
    if kind is BuildFileKind.DOCKERFILE:
        return await _dockerfile(content)
    if kind is BuildFileKind.MAKEFILE:
        return await _makefile(context, content)
    found = _parsed(kind, content)
    schema = schema_of(path)
    return found if found or schema is None else await _schema(schema, content)


async def _shell(content: bytes) -> list[Problem]:
    shell = shell_of(content)
    output = await _linter("shellcheck", "--norc", "--format=json", f"--shell={shell}", "-", text=content)
    found = [
        Problem(_LEVELS[each["level"]], f"SC{each['code']}: {each['message']}", each["line"])
        for each in output
        if each["level"] in _LEVELS
    ]
    if shell == "bash":
        status, said = await read_by("bash", "-n", text=content)
        if status and not any(each.level is ValidationLevel.ERROR for each in found):
            found.append(Problem(ValidationLevel.ERROR, said.decode(errors="replace").strip()[:300]))
    return found


async def _dockerfile(content: bytes) -> list[Problem]:
    options = ("--disable-ignore-pragma", "--no-fail", "--format", "json", "-")
    output = await _linter("hadolint", *options, text=content)
    return [
        Problem(_LEVELS[each["level"]], f"{each['code']}: {' '.join(each['message'].split())[:300]}", each["line"])
        for each in output
        if each["level"] in _LEVELS and each["code"] not in _OPINIONS
    ]


async def _schema(schema: str, content: bytes) -> list[Problem]:
    options = ("--builtin-schema", f"vendor.{schema}", "--default-filetype", "yaml", "--output-format", "json", "-")
    output = await _linter("check-jsonschema", *options, text=content)
    found = [f"{each['path']}: {each['message']}" for each in output["errors"]]
    found += [each["message"] for each in output.get("parse_errors", ())]
    return [Problem(ValidationLevel.ERROR, each[:300]) for each in found]


async def _makefile(context: ValidationContext, content: bytes) -> list[Problem]:
    """Let the sandbox's make read a copy: what `$(shell …)` says is run by that."""
    copy = context.suite.new_folder() / "Makefile"
    copy.write_bytes(content)
    argv = ("make", "--dry-run", "--question", "-f", str(copy))
    try:
        result = await context.runner.run(Command(argv, context.workspace, min(SECONDS, context.suite.seconds)))
    except FileNotFoundError:
        raise NotChecked("make is not there") from None
    if result.exit_code == _MISSING:
        raise NotChecked("make is not there")
    if result.timed_out or result.exceeded or result.exit_code is None:
        return [
            Problem(ValidationLevel.ERROR, f"make does not come to the end of reading it {result.exceeded}".strip())
        ]
    if result.exit_code in (0, 1) or _MAKE_NO_TARGETS in result.output:
        return []
    at_line, anywhere = _MAKE_LINE.search(result.output), _MAKE_ERROR.search(result.output)
    if at_line:
        return [Problem(ValidationLevel.ERROR, at_line["message"], int(at_line["line"]))]
    return [Problem(ValidationLevel.ERROR, anywhere["message"] if anywhere else f"make ends with {result.exit_code}")]


async def _linter(name: str, *options: str, text: bytes) -> Any:
    status, output = await read_by(str(Path(sysconfig.get_path("scripts"), name)), *options, text=text)
    try:
        return json.loads(output)
    except ValueError:
        raise NotChecked(f"{name} gave no answer (exit code {status})") from None


def _parsed(kind: BuildFileKind, content: bytes) -> list[Problem]:
    try:
        with warnings.catch_warnings(action="ignore"):
            _PARSERS[kind](content)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        return [
            Problem(ValidationLevel.ERROR, str(getattr(error, "problem", None) or error), mark.line + 1 if mark else 1)
        ]
    except (ValueError, SyntaxError, configparser.Error, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None) or next(iter(re.findall(r"at line (\d+)", str(error))), 1)
        return [Problem(ValidationLevel.ERROR, str(error)[:300], int(line))]
    return []


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a mapping that has a key twice, and takes tags it does not know."""


def _mapping(loader: _UniqueKeys, node: yaml.MappingNode) -> dict[object, object]:
    keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
    if twice := {key for key in keys if keys.count(key) > 1}:
        raise yaml.MarkedYAMLError(problem=f"the key {min(twice)} is there twice", problem_mark=node.start_mark)
    loader.flatten_mapping(node)
    return cast(dict[object, object], loader.construct_mapping(node, deep=True))


def _unknown(_loader: _UniqueKeys, _suffix: str, _node: yaml.Node) -> None:
    """Take a value with a tag of another program's for nothing."""


_UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_UniqueKeys.add_multi_constructor("!", _unknown)  # pyright: ignore[reportUnknownMemberType]


def _ini(content: bytes) -> None:
    configparser.ConfigParser(interpolation=None).read_string(content.decode())


_PARSERS: dict[BuildFileKind, Callable[[bytes], object]] = {
    BuildFileKind.PYTHON: ast.parse,
    BuildFileKind.TOML: lambda content: tomllib.loads(content.decode()),
    BuildFileKind.YAML: lambda content: list(yaml.load_all(content, _UniqueKeys)),
    BuildFileKind.JSON: json.loads,
    BuildFileKind.INI: _ini,
}
