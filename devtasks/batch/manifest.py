"""Manifests: files that list a batch's tasks, in YAML, JSON, JSON Lines or CSV; every mistake is told at once."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from devtasks import workspace
from devtasks.errors import InvalidEntries, InvalidInput
from devtasks.task import DevTask, TaskLimits, refusals
from devtasks.workspace.source import is_url

MAX_BYTES = 5 << 20
"""Ten times what a batch may have: comments and spaces cost nothing there."""

_LISTS = ("context_files", "allowed_paths", "acceptance_tests")
"""Fields of which a cell of a CSV file holds several values, separated by semicolons."""

_SHOWN = 50
_UNALIKE = {"task_id", "priority", "batch", "metadata"}
"""Fields by which two entries do not ask for different work."""


@dataclass(frozen=True)
class Entry:
    """One entry as a file has it, and where: such as `line 3`."""

    place: str
    values: Any


@dataclass(frozen=True)
class Entries:
    """A file's entries, and the values of those fields that an entry does not have itself."""

    entries: Sequence[Entry]
    defaults: Mapping[str, Any] = field(default_factory=dict[str, Any])


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")

    tasks: list[Any]
    defaults: dict[str, Any] = {}


_MAPPING = TypeAdapter(dict[str, Any])


def read_manifest(path: Path) -> tuple[DevTask, ...]:
    """Return the tasks of a file, read as its name ends; their repositories are relative to the file's folder.

    Raises InvalidInput for a file that cannot be read, and InvalidEntries for mistakes in its entries.
    """
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise InvalidInput("manifest", str(path), f"a file whose name ends with {', '.join(_READERS)}")
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise InvalidInput("manifest", str(path), f"a file that can be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise InvalidInput("manifest", str(path), f"text in UTF-8 ({error.reason} at byte {error.start})") from None
    if len(content) > MAX_BYTES:
        raise InvalidInput("manifest", f"{path} of {len(content):,} bytes", f"a file of at most {MAX_BYTES:,} bytes")
    try:
        entries = read(text)
    except (ValueError, yaml.YAMLError, csv.Error, RecursionError) as error:
        raise InvalidInput("manifest", str(path), f"a well-formed file: {' '.join(str(error).split())}") from None
    return parse_entries(str(path), entries, path.absolute().parent)


def parse_entries(source: str, given: Entries, folder: Path) -> tuple[DevTask, ...]:
    """Return the tasks of entries, numbered where they name no `task_id`; `source` is what messages call the file.

    Raises InvalidEntries naming every mistake with its place, and InvalidInput where there is no entry.
    """
    if not given.entries:
        raise InvalidInput("manifest", source, "at least one entry")
    tasks: list[DevTask] = []
    mistakes = [f"defaults: {each}" for each in _unknown(given.defaults)]
    places: dict[str, str] = {}
    for number, entry in enumerate(given.entries, 1):
        found = _task(entry, number, {} if mistakes else given.defaults, folder)
        if not isinstance(found, DevTask):
            mistakes += [f"{entry.place}: {each}" for each in found]
            continue
        tasks.append(found)
        for same in (f"task_id {found.task_id}", f"work {found.model_dump_json(exclude=_UNALIKE)}"):
            first = places.setdefault(same, entry.place)
            if first != entry.place:
                mistakes.append(f"{entry.place}: the same {same.partition(' ')[0]} as {first}")
    if mistakes:
        more = [f"… and {len(mistakes) - _SHOWN} more"] if len(mistakes) > _SHOWN else []
        raise InvalidEntries(source, [*mistakes[:_SHOWN], *more])
    return tuple(tasks)


def check_repositories(source: str, tasks: Sequence[DevTask]) -> None:
    """Raise InvalidEntries naming every task whose repository, commit or files are not there."""
    mistakes: list[str] = []
    for task in tasks:
        try:
            workspace.check_repository(task)
        except InvalidInput as error:
            mistakes.append(f"task {task.task_id}, {task.title}: {error}")
    if mistakes:
        raise InvalidEntries(source, mistakes[:_SHOWN])


def _unknown(defaults: Mapping[str, Any]) -> list[InvalidInput]:
    known = list(DevTask.model_fields)
    return [InvalidInput.unknown("parameter", name, known) for name in defaults if name not in known]


def _task(entry: Entry, number: int, defaults: Mapping[str, Any], folder: Path) -> DevTask | list[InvalidInput]:
    """Return an entry's task, or what is wrong with it."""
    try:
        own = _MAPPING.validate_python(entry.values)
    except ValidationError:
        return [InvalidInput("entry", entry.values, "a mapping of fields to values")]
    values: dict[str, Any] = {"task_id": str(number)} | dict(defaults) | own
    limits, general = values.get("limits"), defaults.get("limits")
    if isinstance(limits, dict) and isinstance(general, dict):
        values["limits"] = {**general, **limits}
    values["task_id"] = str(values["task_id"])
    if isinstance(repository := values.get("repository"), str) and repository.strip() and not is_url(repository):
        values["repository"] = str((folder / Path(repository.strip()).expanduser()).resolve())
    try:
        DevTask.model_validate(values)
        return DevTask.parse(**values)
    except ValidationError as error:
        return refusals(error)
    except InvalidInput as error:
        return [error]


def _listed(document: Any) -> Entries:
    """Return the entries of a list, or of a mapping with `tasks` and `defaults`."""
    try:
        found = _Document.model_validate({"tasks": document} if isinstance(document, list) else document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the document"
        allowed = "a list of entries, or a mapping with the list `tasks` and where wanted the mapping `defaults`"
        raise ValueError(f"{allowed}; {where}: {first['msg']}") from None
    return Entries([Entry(f"entry {number}", each) for number, each in enumerate(found.tasks, 1)], found.defaults)


def _yaml(text: str) -> Entries:
    return _listed(yaml.safe_load(text))


def _json(text: str) -> Entries:
    return _listed(json.loads(text))


def _json_lines(text: str) -> Entries:
    entries: list[Entry] = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            entries += [Entry(f"line {number}", json.loads(line))] if line.strip() else []
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    return Entries(entries)


def _csv(text: str) -> Entries:
    reader = csv.DictReader(StringIO(text), strict=True)
    return Entries([Entry(f"line {reader.line_num}", _cells(row)) for row in reader])


def _cells(row: Mapping[str | None, Any]) -> Any:
    """Return a row's values: empty cells are not given, `limits.NAME` is a limit."""
    if None in row or None in row.values():
        return "a row with more or fewer cells than the first line"
    values: dict[str, Any] = {}
    for name, cell in row.items():
        group, _, limit = str(name).strip().partition(".")
        if not cell.strip():
            continue
        if group == "limits" and limit in TaskLimits.model_fields:
            values.setdefault("limits", {})[limit] = cell
        else:
            values[str(name).strip()] = [part.strip() for part in cell.split(";")] if group in _LISTS else cell
    return values


_READERS: Mapping[str, Callable[[str], Entries]] = {
    ".yaml": _yaml,
    ".yml": _yaml,
    ".json": _json,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".csv": _csv,
}
