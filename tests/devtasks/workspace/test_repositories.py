"""Every kind of repository a person may name, and many runs on one at once."""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from devtasks.errors import InvalidInput
from devtasks.workspace import check_repository, diff, list_files, prepare, remove

Commit = Callable[..., None]


def commit(git, folder: Path) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "-m", "more")


def with_submodule(repository: Path, git) -> tuple[str, dict[str, str]]:
    inner = repository.with_name("inner")
    git(repository, "clone", "--quiet", str(repository), str(inner))
    git(repository, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner), "libs/inner")
    commit(git, repository)
    return str(repository), {".gitmodules": "libs/inner"}


def with_lfs(repository: Path, git) -> tuple[str, dict[str, str]]:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    (repository / "big.bin").write_text(pointer)
    (repository / ".gitattributes").write_text("*.bin filter=lfs diff=lfs merge=lfs -text\n")
    git(repository, "config", "filter.lfs.smudge", "false")
    git(repository, "-c", "filter.lfs.clean=cat", "add", "--all")
    commit_without_filter = ("-c", "filter.lfs.clean=cat", "commit", "--quiet", "-m", "lfs")
    git(repository, *commit_without_filter)
    return str(repository), {"big.bin": pointer}


def shallow(repository: Path, git) -> tuple[str, dict[str, str]]:
    commit(git, repository)
    git(repository, "clone", "--quiet", "--depth=1", f"file://{repository}", str(repository.with_name("shallow")))
    return str(repository.with_name("shallow")), {"README.md": "# Project"}


def dirty(repository: Path, git) -> tuple[str, dict[str, str]]:
    (repository / "README.md").write_text("not committed")
    (repository / "src/auth.py").unlink()
    git(repository, "rm", "--quiet", "--cached", "src/auth.py")
    return str(repository), {"README.md": "# Project", "src/auth.py": "def login"}


def bare(repository: Path, git) -> tuple[str, dict[str, str]]:
    git(repository, "clone", "--quiet", "--bare", str(repository), str(repository.with_name("b.git")))
    return str(repository.with_name("b.git")), {"README.md": "# Project"}


def inside_another(repository: Path, git) -> tuple[str, dict[str, str]]:
    inner = repository / "vendor" / "inner"
    git(repository, "clone", "--quiet", str(repository), str(inner))
    (inner / "README.md").write_text("inner\n")
    commit(git, inner)
    return str(inner), {"README.md": "inner"}


def odd_names(repository: Path, git) -> tuple[str, dict[str, str]]:
    folder = repository.with_name("Ünï cødé 'n\" \t$HOME 日本")
    repository.rename(folder)
    for name in ("mit leer.txt", "日本語/ü.txt", "tab\tname", '"quoted"', "-dash"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
    commit(git, folder)
    return str(folder), {"日本語/ü.txt": "日本語", "tab\tname": "tab", "-dash": "-dash", '"quoted"': '"quoted"'}


def file_url(repository: Path, git) -> tuple[str, dict[str, str]]:
    return f"file://{repository}", {"README.md": "# Project"}


def linked_worktree(repository: Path, git) -> tuple[str, dict[str, str]]:
    git(repository, "worktree", "add", "--quiet", "-b", "side", str(repository.with_name("linked")))
    return str(repository.with_name("linked")), {"README.md": "# Project"}


def detached_and_in_a_merge(repository: Path, git) -> tuple[str, dict[str, str]]:
    git(repository, "checkout", "--quiet", "--detach")
    (repository / ".git/MERGE_HEAD").write_text(git(repository, "rev-parse", "HEAD") + "\n")
    (repository / ".git/index.lock").touch()
    return str(repository), {"README.md": "# Project"}


KINDS = (with_submodule, with_lfs, shallow, dirty, bare, inside_another, odd_names, file_url, linked_worktree)


@pytest.mark.parametrize("make", [*KINDS, detached_and_in_a_merge], ids=lambda make: make.__name__)
def test_a_workspace_is_made_compared_and_removed_on(make, make_task, repository, tmp_path, git):
    name, expected = make(repository, git)
    workspace = prepare(make_task(repository=name, target_file=None, category="documentation"), tmp_path / "run")
    for path, start in expected.items():
        assert start in (workspace.path / path).read_text()
    assert diff(workspace).changes == ()
    (workspace.path / "new ü.txt").write_text("new\n")
    assert [change.path for change in diff(workspace).changes] == ["new ü.txt"]
    remove(workspace)
    assert not (tmp_path / "run").exists()


def test_a_submodule_is_an_empty_folder_whose_files_are_never_delivered(make_task, repository, tmp_path, git):
    name, _ = with_submodule(repository, git)
    workspace = prepare(make_task(repository=name), tmp_path / "run")
    assert not (workspace.path / "libs/inner/README.md").exists()
    assert "libs/inner" not in list_files(workspace)


@pytest.mark.parametrize(
    ("ref", "like"),
    [
        pytest.param("mian", "main", id="letters swapped"),
        pytest.param("release-1.1", "release/1.0", id="another number"),
        pytest.param("qqqqqq", "release/1.0", id="like nothing"),
    ],
)
def test_a_missing_ref_names_those_there_are(make_task, repository, git, ref, like):
    git(repository, "tag", "release/1.0")
    with pytest.raises(InvalidInput, match=f"such as .*{like}"):
        check_repository(make_task(base_ref=ref))


RUN = """\
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from devtasks.task import DevTask
from devtasks.workspace import diff, prepare, remove, reset

task = DevTask.parse(task_id="t", category="documentation", description="d", repository=sys.argv[1])

def run(number):
    workspace = prepare(task, Path(sys.argv[2]) / str(number))
    for _ in range(2):
        (workspace.path / f"{number}.txt").write_text(str(number))
        (workspace.path / ".git/hooks").mkdir(exist_ok=True)
        (workspace.path / ".git/hooks/pre-commit").write_text("exit 1")
        (workspace.path / ".git/config").write_text("[core]\\n\\tbare = true\\n")
        patch = diff(workspace)
        assert [change.path for change in patch.changes] == [f"{number}.txt"], patch.changes
        reset(workspace)
    remove(workspace)

start = int(sys.argv[3])
with ThreadPoolExecutor(4) as pool:
    list(pool.map(run, range(start, start + 4)))
"""


def every_byte(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


def test_sixteen_runs_at_once_leave_a_repository_byte_for_byte_as_it_was(repository, tmp_path, git):
    (repository / "README.md").write_text("not committed")
    git(repository, "worktree", "add", "--quiet", "-b", "side", str(repository.with_name("linked")))
    (repository / ".git/hooks").mkdir(exist_ok=True)
    (repository / ".git/hooks/post-checkout").write_text("#!/bin/sh\ntouch ../ran\n")
    (repository / ".git/hooks/post-checkout").chmod(0o755)
    before, worktrees = every_byte(repository), git(repository, "worktree", "list")
    processes = [
        subprocess.Popen([sys.executable, "-c", RUN, str(repository), str(tmp_path / "runs"), str(start)])
        for start in range(0, 16, 4)
    ]
    assert [process.wait(180) for process in processes] == [0] * 4
    assert every_byte(repository) == before
    assert git(repository, "worktree", "list") == worktrees
    assert list((tmp_path / "runs").iterdir()) == []
