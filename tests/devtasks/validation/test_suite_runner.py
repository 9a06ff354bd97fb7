import asyncio
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from devtasks.errors import InvalidInput
from devtasks.execution.runtime import CommandResult
from devtasks.validation.junit import CaseOutcome
from devtasks.validation.suite_runner import SuiteRunner, import_names

CODE = "import os\n\n\ndef one():\n    return 1\n"
LAYOUTS = {
    "a single module at the root": {"mod.py": CODE},
    "a module in a folder that is no package": {"lib/my-tool.py": CODE},
    "a relative import in a src package": {
        "src/pkg/__init__.py": "",
        "src/pkg/sub/__init__.py": "",
        "src/pkg/sub/mod.py": f"from . import __name__\n{CODE}",
    },
    "a relative import in a namespace package": {
        "src/space/other.py": "x = 1\n",
        "src/space/mod.py": f"from .other import x\n{CODE}",
    },
    "a package's own __init__.py": {"pkg/sub.py": "x = 1\n", "pkg/__init__.py": f"from .sub import x\n{CODE}"},
    "a name that the standard library has": {"tools/json.py": CODE},
}


@pytest.fixture
def suite(make_task, tmp_path, runner, scratch):
    def build(files: dict[str, str], target: str) -> SuiteRunner:
        for name, text in files.items():
            path = tmp_path / "project" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return SuiteRunner.of(make_task(target), tmp_path / "project", runner, scratch, Path(sys.executable))

    return build


@pytest.mark.parametrize("files", LAYOUTS.values(), ids=LAYOUTS)
def test_importing_runs_the_module_level_of_the_target_in_every_layout(suite, scratch, files):
    target = list(files)[-1]
    project = suite(files, target)
    data = scratch / "coverage.db"
    assert asyncio.run(project.import_target(data)) is None
    coverage = asyncio.run(project.coverage(data))
    lines = files[target].splitlines()
    assert [lines[line - 1] for line in coverage.executed_lines][-2:] == ["import os", "def one():"]
    assert [lines[line - 1] for line in coverage.missing_lines] == ["    return 1"]


@pytest.mark.parametrize(
    ("packages", "target", "root", "names"),
    [
        ((), "mod.py", "", ("mod",)),
        (("pkg",), "pkg/mod.py", "", ("pkg.mod",)),
        (("pkg",), "pkg/__init__.py", "", ("pkg",)),
        (("src/pkg", "src/pkg/sub"), "src/pkg/sub/mod.py", "src", ("pkg.sub.mod",)),
        ((), "src/space/mod.py", "src/space", ("mod", "space.mod")),
        ((), "scripts/my-tool.py", "scripts", ()),
    ],
)
def test_names_to_import_by(tmp_path, packages, target, root, names):
    for package in packages:
        (tmp_path / package).mkdir(parents=True, exist_ok=True)
        (tmp_path / package / "__init__.py").touch()
    assert import_names(tmp_path, target) == (str(tmp_path / root), *names)


def test_the_projects_own_way_of_importing_is_kept(suite):
    files = {
        "pytest.ini": "[pytest]\naddopts = --import-mode=importlib --cov -m 'not slow'\n",
        "a/test_same.py": "def test_a():\n    pass\n",
        "b/test_same.py": "import pytest\n\n\n@pytest.mark.slow\ndef test_b():\n    assert 0\n\n\n"
        "def test_c():\n    pass\n",
    }
    run = asyncio.run(suite(files, "mod.py").run())
    assert [(case.nodeid, case.outcome) for case in run.cases] == [
        ("a/test_same.py::test_a", CaseOutcome.PASSED),
        ("b/test_same.py::test_c", CaseOutcome.PASSED),
    ]


class Forger:
    """A sandbox whose pytest ends with this exit code and leaves this report."""

    def __init__(self, exit_code: int, report: str) -> None:
        self.exit_code = exit_code
        self.report = report

    async def run(self, command):
        (option,) = [part for part in command.argv if part.startswith("--junitxml=")]
        Path(option.partition("=")[2]).write_text(self.report)
        return CommandResult(self.exit_code, "said", 0.1)


def junit(*inner: str) -> str:
    cases = "".join(f'<testcase classname="t" name="test_{i}">{text}</testcase>' for i, text in enumerate(inner))
    return f"<testsuites><testsuite>{cases}</testsuite></testsuites>"


@pytest.mark.parametrize(
    ("exit_code", "report", "problem"),
    [
        (0, junit(""), None),
        (1, junit("", "<failure/>"), None),
        (2, junit("<error/>"), None),
        (5, junit(), None),
        (0, junit("<failure/>"), "contradicts"),
        (1, junit(""), "contradicts"),
        (0, junit(), "contradicts"),
        (3, junit("<error/>"), "contradicts"),
        (-11, junit(""), "contradicts"),
        (0, "<testsuites>", "wrote no report"),
        (0, "", "wrote no report"),
    ],
)
def test_exit_code_and_report_must_agree(suite, exit_code, report, problem):
    run = asyncio.run(replace(suite({}, "mod.py"), runner=Forger(exit_code, report)).run(["test_a.py"]))
    assert (problem or "") in (run.problem or "")
    assert bool(run.problem) is bool(problem)
    assert not (run.problem and run.cases)


@pytest.mark.parametrize("said", ["/x/python: No module named coverage\n", "No module named 'pytest'\n"])
def test_an_interpreter_without_the_tools_is_the_callers_mistake(suite, said):
    class Bare:
        async def run(self, command):
            return CommandResult(1, said, 0.1)

    with pytest.raises(InvalidInput, match="an interpreter that has pytest and coverage"):
        asyncio.run(replace(suite({}, "mod.py"), runner=Bare()).run(["test_a.py"]))


def test_a_test_that_says_it_lies_in_another_file_keeps_its_id(suite):
    files = {
        "mod.py": "def wrap(function):\n    def call():\n        function()\n\n    return call\n",
        "test_mod.py": "import mod\n\n\n@mod.wrap\ndef test_one():\n    assert 1\n",
    }
    project = suite(files, "mod.py")
    run = asyncio.run(project.run())
    assert [case.nodeid for case in run.cases] == ["test_mod.py::test_one"]
    assert not asyncio.run(project.run([run.cases[0].nodeid])).problem


def test_which_test_ran_a_line_is_told_in_little_room(suite, scratch):
    tests = "".join(f"def test_{number}():\n    mod.one()\n" for number in range(50))
    project = suite({"mod.py": CODE, "test_mod.py": f"import mod\n{tests}"}, "mod.py")
    data = scratch / "coverage.db"
    asyncio.run(project.run(data=data, tell_apart=True))
    coverage = asyncio.run(project.coverage(data))
    assert len(coverage.tests[5]) == 50
    assert max(len(path.read_bytes()) for path in scratch.rglob("coverage.json")) < 10_000


def test_the_settings_of_a_project_around_the_workspace_do_not_reach_into_it(suite, tmp_path):
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\npython_files = ["check_*.py"]\n')
    (tmp_path / "conftest.py").write_text("raise RuntimeError('not this project')\n")
    project = suite(
        {"mod.py": CODE, "test_mod.py": "import mod\n\n\ndef test_one():\n    assert mod.one() == 1\n"}, "mod.py"
    )
    run = asyncio.run(project.run())
    assert [case.nodeid for case in run.cases] == ["test_mod.py::test_one"]
    assert run.problem is None
