"""Environments made in containers of the real image, from wheels in a folder, for runs in such containers."""

import asyncio
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from processes import until_async
from sandboxes import require_docker

from devtasks.environments import ProjectEnvironment
from devtasks.errors import ProjectEnvironmentError
from devtasks.execution.docker import DockerRuntime
from devtasks.execution.runtime import Command, CommandResult

pytestmark = pytest.mark.usefixtures("index")

REQUIREMENTS = {"requirements.txt": "sweet<2\n"}
LOOK = "import os, sweet, sys; print(sweet.VERSION, sys.version_info[:2], sys.prefix, os.getuid() == 0)"


@pytest.fixture(autouse=True)
def _docker() -> None:
    require_docker()


@pytest.fixture
def runtime(tmp_path: Path) -> DockerRuntime:
    """The runtime of the run called `run`."""
    return DockerRuntime(tmp_path / "run")


@pytest.fixture
def make(make_environment: Callable[..., Any], runtime: DockerRuntime, cache: Path) -> Callable[..., Any]:
    """Return the coroutine that makes an environment for this runtime."""
    return partial(make_environment, builder=runtime.builder(cache))


def containers(folder: Path) -> bytes:
    label = f"label=devtasks.run={folder}"
    return subprocess.run(["docker", "ps", "-aq", "--filter", label], capture_output=True, check=True).stdout


def test_a_run_in_a_container_has_the_project_s_dependencies_for_the_image_s_python(
    make: Callable[..., Any], project: Callable[..., Path], runtime: DockerRuntime, tmp_path: Path
) -> None:
    async def act() -> tuple[ProjectEnvironment, ProjectEnvironment, list[CommandResult]]:
        folder = project(REQUIREMENTS)
        made, _ = await make(folder)
        again, told = await make(folder, "second")
        assert told == ["making the project's environment from requirements.txt"], "once"
        workspace = tmp_path / "run" / "workspace"
        async with runtime:
            assert made.folder
            runtime.show(made.folder)
            commands = ((str(made.python), "-c", LOOK), ("touch", f"{made.folder}/venv/x"))
            return made, again, [await runtime.run(Command(argv, workspace, 60)) for argv in commands]

    made, again, (looked, written) = asyncio.run(act())
    assert made == again
    assert looked.output == f"1.0 (3, 13) {made.folder}/venv False\n"
    assert "Read-only file system" in written.output
    assert containers(tmp_path / "run") == b""


def test_the_set_up_command_runs_in_the_container_without_privilege_or_key(
    make: Callable[..., Any], project: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", "sk-secret")
    (tmp_path / "private").write_text("private")
    command = f"env > ~/env; grep CapEff /proc/self/status; cat a.txt; cat {tmp_path}/private; touch /usr/x; exit 3"
    with pytest.raises(ProjectEnvironmentError) as failed:
        asyncio.run(make(project({"a.txt": "content\n"}), setup_command=command))
    said = failed.value.output
    assert "CapEff:\t0000000000000000; content; " in said
    assert f"cat: {tmp_path}/private: No such file or directory" in said
    assert "'/usr/x': Read-only file system" in said
    shown = (tmp_path / "run" / "home" / "env").read_text()
    assert f"HOME={tmp_path}/run/home\n" in shown
    assert "sk-secret" not in shown


def test_a_run_that_is_cancelled_while_its_environment_is_made_leaves_no_container(
    make: Callable[..., Any], project: Callable[..., Path], tmp_path: Path
) -> None:
    async def act() -> None:
        making = asyncio.create_task(make(project({}), setup_command="touch ~/started; sleep 4321"))
        await until_async((tmp_path / "run" / "home" / "started").exists)
        making.cancel()
        with pytest.raises(asyncio.CancelledError):
            await making

    asyncio.run(act())
    assert containers(tmp_path / "run") == b""
