"""A script for the sandbox: calls functions of one file with given arguments, and writes what each call came to.

Arguments: the job (`file`, `root`, the folder to import from, `names` to import it by, `calls`, literals
`(args, kwargs)` by function) and where the answer goes: by function a list of what came of each call, None where two
calls with the same arguments came to different things.
It is copied beside the run's reports, because the sandbox need not see this package: standard library only.
"""

import ast
import importlib
import importlib.util
import json
import re
import signal
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any, cast

SECONDS = 1.0
ITEMS = 1_000
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


class _TooLong(BaseException):
    """A call did not end in its second."""


def _load(file: str, names: list[str]) -> ModuleType:
    for name in names:
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        if Path(getattr(module, "__file__", None) or "").resolve() == Path(file).resolve():
            return module
    spec = importlib.util.spec_from_file_location("called", file)
    if spec is None or spec.loader is None:
        raise ImportError(file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _came_of(function: Callable[..., Any], call: str) -> str:
    args, kwargs = cast(tuple[list[object], dict[str, object]], ast.literal_eval(call))
    try:
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        result = function(*args, **kwargs)
        if isinstance(result, Iterator):
            result = list(islice(cast(Iterator[object], result), ITEMS))
        return f"returned {_shown(result)}, arguments {_shown((args, kwargs))}"
    except _TooLong:
        return "did not end"
    except BaseException as error:
        return f"raised {type(error).__name__}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _shown(value: Any) -> str:
    """Write a value so that equal ones look equal in every process."""
    kind = type(value).__name__
    match value:
        case set() | frozenset():
            return f"{kind}({sorted(_shown(each) for each in cast(Any, value))})"
        case list() | tuple():
            return f"{kind}({[_shown(each) for each in cast(Any, value)]})"
        case dict():
            return f"{kind}({[(_shown(key), _shown(each)) for key, each in cast(Any, value).items()]})"
        case _:
            return _ADDRESS.sub("", repr(value))


def _stop(*_: object) -> None:
    raise _TooLong


def main(given: str, answer: str) -> None:
    """Call everything twice and write the answer."""
    job = json.loads(Path(given).read_text())
    sys.path[0] = job["root"]
    signal.signal(signal.SIGALRM, _stop)
    module = _load(job["file"], job["names"])
    found: dict[str, list[str | None]] = {}
    for name, calls in job["calls"].items():
        function = getattr(module, name)
        ends = [(_came_of(function, call), _came_of(function, call)) for call in calls]
        found[name] = [first if first == second else None for first, second in ends]
    Path(answer).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
