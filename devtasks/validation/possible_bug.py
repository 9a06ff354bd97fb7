"""Tests that fail because the code under test breaks down: not the test's fault until a person has looked."""

import re

from devtasks.validation.junit import Case
from devtasks.validation.result import Finding, ValidationLevel

POSSIBLE_BUG = "possible_bug"
"""The rule that these findings name."""

_FRAME = re.compile(r"^(?P<path>\S+):(?P<line>\d+): in (?P<function>\S+)\n(?:    (?P<code>\S.*)\n)?", re.MULTILINE)
_ON_PURPOSE = ("raise", "assert")


def possible_bug(case: Case, target: str) -> Finding | None:
    """Return what the failed test may have found: an error out of the target's own lines that none of them raises.

    A value other than expected is no such find: there the test is as likely to be wrong as the code.
    """
    frames = list(_FRAME.finditer(case.detail))
    if not frames or frames[-1]["path"] != target or (frames[-1]["code"] or "").split(" ")[0] in _ON_PURPOSE:
        return None
    line, function = frames[-1]["line"], frames[-1]["function"]
    error = next(iter(case.message.splitlines()), "an error")[:300]
    message = (
        f"{case.nodeid} may have found a bug: {function} at {target}:{line} breaks down with {error}. If the call is "
        "allowed, leave the test out and name the bug in your last words; if it is not, call it as it is meant"
    )
    return Finding(POSSIBLE_BUG, ValidationLevel.WARNING, message, f"{target}:{line}", case.detail, case.nodeid)
