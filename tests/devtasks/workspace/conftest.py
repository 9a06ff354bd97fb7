import hashlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devtasks.task import DevTask
from devtasks.workspace import Workspace, prepare

FILES = {"src/auth.py": "def login():\n    return True\n", "README.md": "# Project\n", ".gitignore": "build/\n"}

RunGit = Callable[..., str]


@pytest.fixture(autouse=True)
def _own_git_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(
        "[user]\n\tname = User\n\temail = user@example.org\n[init]\n\tdefaultBranch = main\n"
    )
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)


@pytest.fixture
def git() -> RunGit:
    """Git as a person or an agent runs it: `git(folder, *arguments)` returns what it printed."""

    def run(folder: Path, *arguments: str, check: bool = True) -> str:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        command = ["git", *arguments]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False, text=True)
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout.strip()

    return run


@pytest.fixture
def repository(tmp_path: Path, git: RunGit) -> Path:
    """A person's repository with one commit of FILES."""
    folder = tmp_path / "their project"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "-m", "first")
    return folder


@pytest.fixture
def make_task(repository: Path) -> Callable[..., DevTask]:
    def make(**values: Any) -> DevTask:
        given = {"category": "unit_test", "target_file": "src/auth.py", "repository": str(repository)} | values
        return DevTask.parse(task_id="t-1", description="write tests", **given)

    return make


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def workspace(make_task: Callable[..., DevTask], run_folder: Path) -> Workspace:
    return prepare(make_task(), run_folder)


@pytest.fixture
def state_of(git: RunGit) -> Callable[[Path], dict[str, str]]:
    """Return all that must stay as it is in a person's repository, refs apart: every file but the objects."""

    def state(folder: Path) -> dict[str, str]:
        files = {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and not {"objects", "refs", "logs"} & set(path.relative_to(folder).parts)
        }
        return files | {"status": git(folder, "--no-optional-locks", "status", "--porcelain=v2", "--branch")}

    return state
