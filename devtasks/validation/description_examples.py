"""The examples in a task's description, which the code has to make true."""

import doctest
import re
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from devtasks.execution.runtime import CommandResult
from devtasks.validation.reports import tail
from devtasks.validation.result import Finding, ValidationLevel
from devtasks.validation.rule import ValidationContext
from devtasks.validation.shown import Shown
from devtasks.validation.suite_runner import import_names

RUN_EXAMPLES = "run_examples.py"

_FENCE = re.compile(r"^\s*(?:```|~~~).*$", re.MULTILINE)


class _Answer(BaseModel):
    """What became of the example on a line, counted from 0."""

    line: int
    good: bool
    got: str


@dataclass(frozen=True)
class Examples:
    """The examples of a description; `problem` says why doctest cannot read them."""

    text: str
    examples: tuple[doctest.Example, ...] = ()
    problem: str | None = None

    @classmethod
    def of(cls, description: str) -> "Examples":
        """Read them as doctest does, where a fence of Markdown ends what is expected."""
        text = _FENCE.sub("", description)
        try:
            return cls(text, tuple(doctest.DocTestParser().get_examples(text)))
        except ValueError as error:
            return cls(text, problem=str(error))

    @property
    def demanding(self) -> bool:
        """Whether one of them says what it has to print or raise."""
        return any(each.want for each in self.examples)

    @property
    def asked(self) -> tuple[doctest.Example, ...]:
        """Those that are to be run."""
        return tuple(each for each in self.examples if not each.options.get(doctest.SKIP))


async def shown_by_examples(context: ValidationContext, examples: Examples, rule: str) -> Shown:
    """Run the examples in the sandbox, with the target's public names where the task has a target."""
    suite = context.suite
    root, module = str(suite.workspace), None
    if suite.target and suite.target.endswith(".py"):
        root, *names = import_names(suite.workspace, suite.target)
        module = next(iter(names), None)
    data = suite.new_folder() / "coverage.db"
    job = {"text": examples.text, "module": module, "root": root}
    result, answer = await suite.run_script(RUN_EXAMPLES, job, data=data, measured=context.sources)
    answers = {each.line: each for each in _answers(answer)}
    findings = list(_failing(examples, answers, rule))
    if result.exit_code != 0 or len(answers) < len(examples.asked):
        findings.append(_broken_off(examples, answers, result, rule))
    good = sum(each.good for each in answers.values())
    value = min(1.0, good / len(examples.asked)) if examples.asked else 0
    return Shown(value, tuple(findings), await suite.coverages(data, context.sources))


def _answers(answer: bytes) -> Iterator[_Answer]:
    for line in answer.splitlines():
        try:
            yield _Answer.model_validate_json(line)
        except ValidationError:
            return


def _failing(examples: Examples, answers: dict[int, _Answer], rule: str) -> Iterator[Finding]:
    for each in examples.asked:
        answer = answers.get(each.lineno)
        if answer and not answer.good:
            message = f"the example `{_source(each)}` of the task does not give what it says: make the code do so"
            expected = each.want or "nothing\n"
            evidence = f"expected:\n{expected}got:\n{answer.got or 'nothing'}"
            yield Finding(rule, ValidationLevel.ERROR, message, evidence=tail(evidence))


def _broken_off(examples: Examples, answers: dict[int, _Answer], result: CommandResult, rule: str) -> Finding:
    never = next((_source(each) for each in examples.asked if each.lineno not in answers), "the last one")
    if result.timed_out:
        how = "did not end in time: it, or the import of the code, loops or waits"
    elif result.exceeded:
        how = f"used too much: {result.exceeded}"
    else:
        how = f"was not reached or ended the process (exit code {result.exit_code})"
    message = f"of the task's examples, `{never}` {how}"
    return Finding(rule, ValidationLevel.ERROR, message, evidence=tail(result.output) or None)


def _source(example: doctest.Example) -> str:
    first, *rest = example.source.rstrip().splitlines()
    return f"{first} …" if rest else first
