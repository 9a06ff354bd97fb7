"""A script for the sandbox: runs the examples of a text as doctest does, and writes what each printed.

Arguments: a JSON file, of the shape `Job`; and where the answer goes, a line of JSON for each example that ran. It is
copied beside the run's reports, because the sandbox need not see this package: standard library only.
"""

from __future__ import annotations  # the project's interpreter may be an older one

import doctest
import importlib
import json
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any, TypedDict


class Job(TypedDict):
    """The text; the module whose public names its examples know, if any, and the folder its package lies in."""

    text: str
    module: str | None
    root: str


class _Runner(doctest.DocTestRunner):
    """Writes each result down at once, so that what ends the process hides nothing before it."""

    def __init__(self, answer: str) -> None:
        super().__init__(verbose=False)
        self._answer = answer

    def report_start(self, out: Any, test: doctest.DocTest, example: doctest.Example) -> None:
        """Say nothing."""

    def report_success(self, out: Any, test: doctest.DocTest, example: doctest.Example, got: str) -> None:
        """Write down an example that printed what it should."""
        self._write(example, got, good=True)

    def report_failure(self, out: Any, test: doctest.DocTest, example: doctest.Example, got: str) -> None:
        """Write down what an example printed instead."""
        self._write(example, got, good=False)

    def report_unexpected_exception(
        self,
        out: Any,
        test: doctest.DocTest,
        example: doctest.Example,
        exc_info: tuple[type[BaseException], BaseException, TracebackType],
    ) -> None:
        """Write down the exception that an example ended with."""
        self._write(example, "".join(traceback.format_exception(*exc_info)[-3:]), good=False)

    def _write(self, example: doctest.Example, got: str, *, good: bool) -> None:
        with Path(self._answer).open("a") as file:
            file.write(json.dumps({"line": example.lineno, "good": good, "got": got}) + "\n")


def _public(name: str) -> dict[str, Any]:
    names = vars(importlib.import_module(name))
    wanted = names.get("__all__") or [each for each in names if not each.startswith("_")]
    return {each: names[each] for each in wanted if each in names}


def _main(given: str, answer: str) -> int:
    job: Job = json.loads(Path(given).read_text())
    sys.path.append(job["root"])
    known = _public(job["module"]) if job["module"] else {}
    test = doctest.DocTestParser().get_doctest(job["text"], {"__name__": "__main__", **known}, "description", None, 0)
    _Runner(answer).run(test, clear_globs=False)
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
