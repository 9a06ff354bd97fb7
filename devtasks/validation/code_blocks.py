"""Whether a fenced block is code of the language it says, found out without running it."""

import ast
import doctest
import json
import re
import textwrap
import tomllib
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from typing import cast

import yaml

from devtasks.execution.runtime import Command
from devtasks.validation.markdown import Fence
from devtasks.validation.rule import ValidationContext

Problem = tuple[int, str]
"""The line counted from 0 at the block's first, and what is wrong there."""

_SHELL = frozenset({"sh", "bash", "shell"})
_PROMPT = re.compile(r"^\s*\$ (.*)$", re.MULTILINE)
_PLACEHOLDER = re.compile(r"<[\w][\w .:/|-]*>")
_SHELL_LINE = re.compile(r"line (\d+): (.*)")
_SHELL_MISSING = 127


async def problem_of(context: ValidationContext, fence: Fence) -> Problem | None:
    """Return what is wrong with a block; None for one that holds, or whose language is not read."""
    if fence.language in _SHELL:
        return await _shell(context, fence.content)
    read = _READERS.get(fence.language)
    return read(textwrap.dedent(fence.content)) if read else None


def _python(text: str) -> Problem | None:
    if text.lstrip().startswith(">>>"):
        return _session(text)
    try:
        with warnings.catch_warnings(action="ignore"):
            compile(text, "<block>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    except SyntaxError as error:
        return (error.lineno or 1) - 1, error.msg
    except (ValueError, RecursionError, MemoryError) as error:
        return 0, str(error)
    return None


def _session(text: str) -> Problem | None:
    try:
        examples = doctest.DocTestParser().get_examples(text)
    except ValueError as error:
        return 0, str(error)
    problems = ((example.lineno, _python(example.source)) for example in examples)
    return next(((start + problem[0], problem[1]) for start, problem in problems if problem), None)


def _json(text: str) -> Problem | None:
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return error.lineno - 1, error.msg
    except RecursionError as error:
        return 0, str(error)
    return None


def _toml(text: str) -> Problem | None:
    try:
        tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        line = re.search(r"at line (\d+)", str(error))
        return int(line[1]) - 1 if line else 0, str(error)
    return None


def _yaml(text: str) -> Problem | None:
    try:
        deque(cast(Iterator[object], yaml.parse(text, yaml.SafeLoader)), maxlen=0)  # pyright: ignore[reportUnknownMemberType]
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        return mark.line if mark else 0, str(getattr(error, "problem", None) or error)
    return None


async def _shell(context: ValidationContext, text: str) -> Problem | None:
    """Let the sandbox's bash read the commands; the output shown after `$ ` prompts and `<placeholders>` are none."""
    commands = "\n".join(_PROMPT.findall(text)) if _PROMPT.search(text) else text
    script = context.suite.new_folder() / "block.sh"
    script.write_text(_PLACEHOLDER.sub("placeholder", commands))
    result = await context.runner.run(Command(("bash", "-n", str(script)), context.workspace, context.suite.seconds))
    if result.exit_code in (0, None, _SHELL_MISSING):
        return None
    found = _SHELL_LINE.search(result.output)
    return (int(found[1]) - 1, found[2]) if found else (0, result.output.strip()[:300])


_READERS: dict[str, Callable[[str], Problem | None]] = {
    **dict.fromkeys(("python", "py", "python3", "pycon"), _python),
    **dict.fromkeys(("json",), _json),
    **dict.fromkeys(("toml",), _toml),
    **dict.fromkeys(("yaml", "yml"), _yaml),
}
