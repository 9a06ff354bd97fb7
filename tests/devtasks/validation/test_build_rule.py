"""What a build has to come to: its end, twice, with the same files."""

import asyncio

import pytest

from devtasks.task import TaskCategory
from devtasks.validation.build_rule import NOT_RUN, Builds
from devtasks.validation.result import ValidationLevel
from devtasks.validation.validator import ResultValidator

SCRIPT = "build.sh"


@pytest.fixture
def build(change):
    """Return what the rule says of a build script, or of these files."""

    def run(script: str | dict[str, str], **task: object):
        files = {SCRIPT: f"#!/bin/sh\nset -eu\n{script}\n"} if isinstance(script, str) else script
        task = {"category": TaskCategory.BUILD_SCRIPT, "target": None, **task}
        return asyncio.run(Builds().check(change(files, **task)))

    return run


GOOD = {
    "a script": "mkdir -p out && echo built > out/result",
    "a script that says nothing": "true",
    "what it makes is made anew": "rm -rf out; mkdir out; cp src/shop/price.py out/",
}


@pytest.mark.parametrize("script", GOOD.values(), ids=GOOD)
def test_a_build_that_comes_to_the_same_twice_is_good(build, shop, script):
    before = sorted(shop.rglob("*"))
    outcome = build(script)
    assert (outcome.value, outcome.findings) == (1, ())
    assert {path.name for path in shop.rglob("*")} - {path.name for path in before} == {SCRIPT}


BAD = {
    "it fails": ("echo no compiler >&2; exit 3", "ends with exit code 3"),
    "it asks for a network": ("echo 'curl: (6) Could not resolve host: x.invalid'; exit 6", "there is none"),
    "it fails the second time": ("mkdir out", "when it is run a second time"),
    "files pile up": ("touch out-$$", "a second run of the build adds out-"),
    "files go away": ("test -e a && rm b || touch a b", "a second run of the build removes b"),
    "it adds to the project's files": ("echo 'X = 1' >> src/shop/price.py", "src/shop/price.py"),
    "a right that changes": (
        "test -x src/shop/price.py && chmod -x src/shop/price.py || chmod +x src/shop/price.py",
        "changes files of the project again",
    ),
}


@pytest.mark.parametrize(("script", "said"), BAD.values(), ids=BAD)
def test_one_that_does_not_is_refused_and_says_why(build, script, said):
    outcome = build(script)
    (finding,) = outcome.findings
    assert (outcome.value, finding.level) == (0, ValidationLevel.ERROR)
    assert said in finding.message


def test_a_build_that_never_ends_is_stopped(build):
    outcome = build("while :; do :; done", seconds=0.5)
    assert "does not end within 0.5 s" in outcome.findings[0].message


def test_what_it_makes_may_hold_the_time(build):
    outcome = build("mkdir -p out; date +%N > out/stamp")
    assert (outcome.value, outcome.findings[0].level) == (1, ValidationLevel.WARNING)
    assert "out/stamp" in outcome.findings[0].message


COMMANDS = {
    "the task's command": ({"x.txt": "a"}, {"build_command": "test -e x.txt && exit 7"}, "exit code 7"),
    "a Makefile": ({"Makefile": "all:\n\t@exit 1\n"}, {}, "exit code 2"),
    "a Python file": ({"tools/make.py": "raise SystemExit(9)\n"}, {}, "exit code 9"),
    "the target of two": ({"a.sh": "exit 4\n", "b.sh": "exit 5\n"}, {"target": "b.sh"}, "exit code 5"),
}


@pytest.mark.parametrize(("files", "task", "said"), COMMANDS.values(), ids=COMMANDS)
def test_the_task_s_command_or_the_file_itself_is_run(build, files, task, said):
    (finding,) = build(files, **task).findings
    assert said in finding.message


@pytest.mark.parametrize(
    "files",
    [
        {"Dockerfile": "FROM scratch\n"},
        {"a.sh": "exit 4\n", "b.sh": "exit 5\n"},
        {".github/workflows/ci.yml": "on: push\n"},
    ],
    ids=["an image", "two scripts", "a workflow"],
)
def test_what_cannot_be_run_alone_earns_half(build, files):
    outcome = build(files)
    assert (outcome.value, outcome.findings[0].level) == (NOT_RUN, ValidationLevel.WARNING)


def test_the_category_is_judged_by_all_its_rules(change):
    task = {"category": TaskCategory.BUILD_SCRIPT, "target": None, "quality_threshold": 0.7}
    good = change({SCRIPT: "#!/bin/sh\nset -eu\nmkdir -p out\n"}, **task)
    assert asyncio.run(ResultValidator().validate(good)).passed
    bad = asyncio.run(ResultValidator().validate(change({SCRIPT: "#!/bin/sh\nif true; then\n"}, **task)))
    assert {finding.rule for finding in bad.errors} >= {"syntax", "build"}
