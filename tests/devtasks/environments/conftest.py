from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from harness import commit_files
from wheels import TOOLS, packed, tiny_wheel

from devtasks.environments import ProjectEnvironment, project_environment
from devtasks.environments.builder import Builder
from devtasks.task import DevTask
from devtasks.workspace import Workspace, prepare

TINY = (("sweet", "1.0"), ("sweet", "2.0"), ("sour", "1.0"), ("pytest", "9.0"), ("coverage", "8.0"))


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of tiny wheels, two of which only bear the names of the validator's tools."""
    folder = tmp_path_factory.mktemp("wheels")
    folder.chmod(0o755)  # in a container another user reads it
    for name, version in TINY:
        tiny_wheel(folder, name, version)
    return folder


@pytest.fixture(scope="session")
def real_tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of wheels with pytest and coverage as installed here."""
    folder = tmp_path_factory.mktemp("tools")
    packed(folder, *TOOLS)
    tiny_wheel(folder, "sweet", "1.0")
    return folder


@pytest.fixture
def index(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let uv see these wheels and no network."""
    for name, value in {"UV_FIND_LINKS": str(wheels), "UV_NO_INDEX": "1", "UV_OFFLINE": "1"}.items():
        monkeypatch.setenv(name, value)
    return wheels


@pytest.fixture
def real_index(index: Path, real_tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_FIND_LINKS", str(real_tools))


@pytest.fixture
def project(tmp_path: Path) -> Callable[[Mapping[str, str]], Path]:
    """Commit these files as a project."""

    return partial(commit_files, tmp_path / "project")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "environments"


@pytest.fixture
def workspace_of(tmp_path: Path) -> Callable[..., tuple[DevTask, Workspace]]:
    def make(folder: Path, run: str = "run", **values: Any) -> tuple[DevTask, Workspace]:
        task = DevTask.parse(task_id="t", category="documentation", description="d", repository=str(folder), **values)
        return task, prepare(task, tmp_path / run)

    return make


@pytest.fixture
def make_environment(
    workspace_of: Callable[..., tuple[DevTask, Workspace]], cache: Path, tmp_path: Path
) -> Callable[..., Any]:
    """Return the coroutine that makes a project's environment, and what it logs."""
    logged: list[str] = []

    async def make(
        folder: Path, run: str = "run", builder: Builder | None = None, **values: Any
    ) -> tuple[ProjectEnvironment, list[str]]:
        task, workspace = workspace_of(folder, run, **values)
        made = await project_environment(
            task, workspace, cache, tmp_path / run / "home", logged.append, builder=builder
        )
        return made, logged

    return make
