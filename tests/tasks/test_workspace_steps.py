"""The steps around the agent, with real git and a real runtime: what is made before it, and what is put back after."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from harness import commit_files
from prefect.logging import disable_run_logger

from devtasks.environments import ProjectEnvironment
from devtasks.errors import ProjectEnvironmentError
from devtasks.execution.local import LocalRuntime
from devtasks.redaction import Redactor
from devtasks.run_folder import RunFolder
from devtasks.task import DevTask
from devtasks.validation.result import ValidationLevel
from tasks.prepare_workspace import Prepared, prepare_workspace
from tasks.validate_result import validate_result

FILES = {"shop.py": "def double(x):\n    return 2 * x\n", ".github/workflows/ci.yml": "on: push\n", "uv.lock": ""}
TEST = "from shop import double\n\n\ndef test_double():\n    assert double(2) == 4\n"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEVTASKS_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def commit(tmp_path: Path) -> Callable[[Mapping[str, str]], Path]:
    return partial(commit_files, tmp_path / "project")


def with_run[T](tmp_path: Path, repository: str, work: Callable[[Any], Awaitable[T]], **values: Any) -> T:
    async def act() -> T:
        task = DevTask.parse(
            task_id="t", category="unit_test", description="d", repository=repository, target_file="shop.py", **values
        )
        folder = RunFolder.claim(tmp_path / "runs", "r")
        gateway = SimpleNamespace(refusal=None)
        async with LocalRuntime(folder.work) as runtime:
            with disable_run_logger():
                return await work(
                    SimpleNamespace(task=task, folder=folder, runtime=runtime, gateway=gateway, redactor=Redactor())
                )

    return asyncio.run(act())


def edit(prepared: Prepared, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = prepared.workspace.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_what_the_task_does_not_allow_is_put_back_and_reported_and_the_rest_is_judged(tmp_path, commit) -> None:
    repository = commit(FILES)

    async def work(run: Any) -> Any:
        prepared = await prepare_workspace.fn(run)
        assert prepared.environment == ProjectEnvironment(LocalRuntime.python)
        meddled = {"shop.py": "def double(x):\n    return 4\n", ".github/workflows/ci.yml": "evil", "uv.lock": "evil"}
        edit(prepared, {"test_shop.py": TEST, **meddled})
        return await validate_result.fn(run, prepared, 1), (prepared.workspace.path / "shop.py").read_text()

    (patch, verdict), source = with_run(tmp_path, str(repository), work)
    assert verdict.passed
    assert [change.path for change in patch.changes] == ["test_shop.py"]
    told = {finding.place: finding.level for finding in verdict.findings if finding.rule == "allowed_paths"}
    assert told == dict.fromkeys((".github/workflows/ci.yml", "shop.py", "uv.lock"), ValidationLevel.WARNING)
    assert source == FILES["shop.py"]
    assert "evil" not in (tmp_path / "runs/r/attempts/1/diff.patch").read_text()


def test_an_own_pattern_widens_what_a_task_may_change(tmp_path, commit) -> None:
    repository = commit(FILES)

    async def work(run: Any) -> Any:
        prepared = await prepare_workspace.fn(run)
        edit(prepared, {"test_shop.py": TEST, "data/one.json": "{}", "other.txt": "x"})
        return await validate_result.fn(run, prepared, 1)

    patch, verdict = with_run(tmp_path, str(repository), work, allowed_paths=("data/", "test_*.py"))
    assert verdict.passed
    assert {change.path for change in patch.changes} == {"test_shop.py", "data/one.json"}
    assert [change.path for change in patch.reverted] == ["other.txt"]


def test_an_attempt_with_nothing_but_forbidden_changes_changed_nothing(tmp_path, commit) -> None:
    repository = commit(FILES)

    async def work(run: Any) -> Any:
        prepared = await prepare_workspace.fn(run)
        edit(prepared, {"shop.py": "x = 1\n"})
        return await validate_result.fn(run, prepared, 1)

    patch, verdict = with_run(tmp_path, str(repository), work)
    assert not verdict.passed
    assert patch.content == b""
    assert "the agent changed nothing" in verdict.errors[0].message


def test_a_project_whose_dependencies_cannot_be_installed_fails_before_any_model_is_called(
    tmp_path, commit, monkeypatch
) -> None:
    for name in ("UV_OFFLINE", "UV_NO_INDEX"):
        monkeypatch.setenv(name, "1")
    repository = commit(FILES | {"uv.lock": "no lock", "pyproject.toml": '[project]\nname = "x"\nversion = "1"\n'})
    with pytest.raises(ProjectEnvironmentError, match="uv sync --frozen"):
        with_run(tmp_path, str(repository), prepare_workspace.fn)


def test_the_repository_of_a_url_is_cached_for_the_next_run(tmp_path, commit, home) -> None:
    repository = commit(FILES | {"uv.lock": ""})
    with_run(tmp_path, f"file://{repository}", prepare_workspace.fn)
    assert [path.suffix for path in sorted((home / "repositories").iterdir())] == ["", ".lock", ".users"]
