"""What the text of a build script is refused for."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from devtasks.task import TaskCategory
from devtasks.validation import build_file_checks
from devtasks.validation.baseline import Baseline, SuiteState
from devtasks.validation.build_script_rules import Syntax
from devtasks.validation.result import ValidationLevel
from devtasks.validation.rule import RuleOutcome, ValidationContext
from devtasks.workspace import Change, ChangeStatus

Check = Callable[..., RuleOutcome]
WORKFLOW = ".github/workflows/ci.yml"
JOB = "on: push\njobs:\n  test:\n    runs-on: ubuntu-latest\n    steps:\n      - run: make\n"


@pytest.fixture
def check(tmp_path: Path, runner, make_task) -> Check:
    def run(path: str | None, text: str = "", before: str | None = None) -> RuleOutcome:
        root, scratch = tmp_path / "project", tmp_path / "scratch"
        (root / (path or "x")).parent.mkdir(parents=True)
        scratch.mkdir()
        if path:
            (root / path).write_text(text)
        context = ValidationContext(
            task=make_task(None, category=TaskCategory.BUILD_SCRIPT),
            workspace=root,
            changes=(Change(path, ChangeStatus.ADDED),) if path else (),
            baseline=Baseline(SuiteState.GREEN),
            runner=runner,
            scratch=scratch,
            python=Path(sys.executable),
            before=lambda _: before.encode() if before is not None else None,
        )
        return asyncio.run(Syntax().check(context))

    return run


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("build.sh", "#!/bin/sh\nset -eu\necho ready\n"),
        (".githooks/pre-commit", "#!/usr/bin/env bash\nset -e\nmake\n"),
        ("Dockerfile", 'FROM debian:13\nCMD ["true"]\n'),
        ("Makefile", "all:\n\t@echo done\n"),
        ("rules.mk", "A = 1\n"),
        (WORKFLOW, JOB),
        ("a.yaml", "a: 1\n---\nb: !Ref c\n"),
        ("a.toml", "a = 1\n"),
        ("a.json", "{}"),
        ("setup.cfg", "[a]\nb = %c\n"),
        ("build.py", "print(1)\n"),
    ],
)
def test_a_file_that_is_what_it_says_is_accepted(check: Check, path: str, text: str):
    assert check(path, text) == RuleOutcome(1)


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        ("build.sh", "if true; then\n  make\n", "SC1046"),
        ("hook", "#!/bin/sh\ncase x in\n", "SC"),
        ("Dockerfile", "FROM debian:13\nBAD x\n", "DL1000"),
        ("Makefile", "all:\n  echo done\n", "missing separator"),
        ("Makefile", "all: gone\n", "No rule to make target"),
        (WORKFLOW, JOB.replace("steps", "stepz"), "$.jobs.test"),
        ("a.yaml", "a: 1\na: 2\n", "twice"),
        ("a.yaml", "a: [\n", "expected"),
        ("a.toml", "a = \n", "Invalid value"),
        ("a.json", '{"a": }', "Expecting value"),
        ("setup.cfg", "a = 1\n", "no section headers"),
        ("build.py", "def f(:\n", "invalid syntax"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_and_placed(check: Check, path: str, text: str, said: str):
    outcome = check(path, text)

    wrong = [each for each in outcome.findings if each.level is ValidationLevel.ERROR]
    assert outcome.value == 0
    assert said in "\n".join(each.message for each in wrong)
    assert all(each.place and each.place.startswith(f"{path}:") for each in wrong)


def test_what_was_wrong_before_is_a_warning(check: Check):
    outcome = check("build.sh", "if true; then\n", before="if true; then\n")

    assert outcome.value == 1
    assert {each.level for each in outcome.findings} == {ValidationLevel.WARNING}


def test_no_written_file_is_refused(check: Check):
    assert check(None).stop


def test_a_missing_linter_is_a_warning_that_says_so(check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(build_file_checks.sysconfig, "get_path", lambda _: str(tmp_path))

    (finding,) = check("build.sh", "echo\n").findings
    assert finding.level is ValidationLevel.WARNING
    assert "was not checked, because shellcheck is not there" in finding.message
