"""A script for the sandbox: looks up what files import, one name after the other.

Arguments: a JSON file, of the shape `Job`; and where the answer goes: a line of JSON for each name, with what is wrong
or null. It is copied beside the run's reports, because the sandbox need not see this package: standard library only.
"""

from __future__ import annotations  # the project's interpreter may be an older one

import importlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import TypedDict


class Name(TypedDict):
    """A module, and the name that is imported from it, if one is."""

    module: str
    name: str | None


class Job(TypedDict):
    """The names to look up, and folders to look in besides the import path."""

    roots: list[str]
    names: list[Name]


def _problem(module: str, name: str | None) -> str | None:
    """Return why an import would fail; None where it would not."""
    try:
        missing = _missing(module)
        if missing:
            return f"there is no module `{missing}`"
        if name in (None, "*") or hasattr(importlib.import_module(module), str(name)):
            return None
        return f"the module `{module}` has no `{name}`" if _missing(f"{module}.{name}") else None
    except BaseException as error:  # a module may also call sys.exit when it is imported
        return f"importing `{module}` fails: {type(error).__name__}: {error}"


def _missing(module: str) -> str | None:
    """Return the first part of a dotted name that there is no module for."""
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        name = ".".join(parts[:end])
        if name in sys.modules:
            continue
        inside = end == 1 or hasattr(importlib.import_module(".".join(parts[: end - 1])), "__path__")
        if not inside or importlib.util.find_spec(name) is None:
            return name
    return None


def _main(given: str, answer: str) -> int:
    job: Job = json.loads(Path(given).read_text())
    sys.path.extend(job["roots"])
    for each in job["names"]:
        problem = _problem(each["module"], each["name"])
        with Path(answer).open("a") as file:
            file.write(json.dumps({"problem": problem}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
