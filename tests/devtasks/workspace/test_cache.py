"""Repositories given by URL, cloned once into a cache that runs share."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from devtasks import shared_folders
from devtasks.errors import InvalidInput, WorkspaceError
from devtasks.shared_folders import SharedFolder
from devtasks.workspace import diff, list_files, prepare, remove
from devtasks.workspace import git as git_module


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "repositories"


@pytest.fixture
def make_run(make_task, repository, tmp_path, cache):
    """Prepare a run on the repository's file URL, with the cache."""

    def make(name: str = "run", **values):
        return prepare(make_task(repository=f"file://{repository}", **values), tmp_path / name, cache)

    return make


@pytest.fixture
def commits(repository, git):
    """Three commits: the ids, oldest first."""
    for number in (2, 3):
        (repository / f"{number}.txt").touch()
        git(repository, "add", "--all")
        git(repository, "commit", "--quiet", "-m", str(number))
    return git(repository, "rev-list", "--reverse", "HEAD").split()


def cached(cache: Path) -> Path:
    (folder,) = SharedFolder.all(cache)
    return folder.path


def test_a_second_run_clones_nothing_anew_and_sees_what_is_new(make_run, commits, repository, cache, git):
    first = make_run("first")
    made = cached(cache).stat().st_ino
    (repository / "new.txt").touch()
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "-m", "new")
    second = make_run("second")
    assert (first.base_commit, cached(cache).stat().st_ino) == (commits[-1], made)
    assert "new.txt" in list_files(second)
    assert "new.txt" not in list_files(first)
    assert diff(first).changes == diff(second).changes == ()
    assert first.borrowed_objects == second.borrowed_objects == cached(cache) / "objects"


def test_a_commit_that_is_cached_needs_no_remote(make_run, commits, repository):
    make_run("first", base_ref=commits[0])
    repository.rename(repository.with_name("gone"))
    assert make_run("second", base_ref=commits[0]).base_commit == commits[0]
    with pytest.raises(WorkspaceError, match=r"does not appear to be a git repository|not found|no such"):
        make_run("third", base_ref="main")


def test_only_what_is_needed_is_fetched_until_history_is_asked_for(make_run, commits, cache, git):
    make_run("first")
    assert git(cached(cache), "rev-parse", "--is-shallow-repository") == "true"
    assert git(cached(cache), "rev-list", "--all", "--count") == "1"
    assert make_run("second", base_ref="HEAD~2").base_commit == commits[0]
    assert git(cached(cache), "rev-parse", "--is-shallow-repository") == "false"
    assert make_run("third", base_ref="main").base_commit == commits[-1]
    assert git(cached(cache), "rev-list", "refs/heads/main", "--count") == "3"


def test_a_branch_that_was_moved_or_deleted_is_seen_as_the_remote_has_it(make_run, commits, repository, git):
    git(repository, "branch", "side", commits[1])
    make_run("full", base_ref="HEAD~1")
    assert make_run("first", base_ref="side").base_commit == commits[1]
    git(repository, "branch", "--force", "side", commits[0])
    assert make_run("second", base_ref="side").base_commit == commits[0]
    git(repository, "branch", "--delete", "--force", "side")
    with pytest.raises(InvalidInput, match="base_ref"):
        make_run("third", base_ref="side")


def test_a_missing_ref_of_a_url_names_those_like_it(make_run, repository, git):
    git(repository, "branch", "release/2.0")
    with pytest.raises(InvalidInput, match=r"such as release/2\.0"):
        make_run(base_ref="release/2.1")


def test_what_a_killed_git_left_behind_hinders_nobody(make_run, commits, cache):
    make_run("first", base_ref=commits[0])
    for name in ("shallow.lock", "HEAD.lock", "refs/heads/main.lock", "objects/pack/tmp_pack_x"):
        (cached(cache) / name).parent.mkdir(parents=True, exist_ok=True)
        (cached(cache) / name).touch()
    assert make_run("second", base_ref="HEAD~1").base_commit == commits[1]
    assert not list(cached(cache).rglob("tmp_pack*"))


PREPARE = """\
import sys
from pathlib import Path
from devtasks.task import DevTask
from devtasks.workspace import prepare
task = DevTask.parse(task_id="t", category="documentation", description="d", repository=sys.argv[1])
prepare(task, Path(sys.argv[2]), Path(sys.argv[3]))
"""


def test_a_run_killed_in_the_middle_of_cloning_leaves_no_half_repository(make_run, repository, tmp_path, cache):
    # An ssh that never answers stands for a remote that is slow.
    (tmp_path / "bin").mkdir()
    started, ssh = tmp_path / "started", tmp_path / "bin/ssh"
    ssh.write_text(f"#!/bin/sh\necho $$ > '{started}'\nexec sleep 60\n")
    ssh.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    url = "ssh://host.example/x"
    killed = subprocess.Popen([sys.executable, "-c", PREPARE, url, tmp_path / "killed", cache], env=environment)
    wait_for(lambda: started.is_file() and started.read_text().strip())
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    (folder,) = SharedFolder.all(cache)
    assert not folder.path.exists()
    assert not folder.remove(), "the lock went with the run although its git still writes"
    os.kill(int(started.read_text()), signal.SIGKILL)
    wait_for(folder.remove)
    assert make_run().path.is_dir()


def wait_for(condition, seconds: float = 30):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value


def test_processes_that_start_at_once_share_one_clone(make_run, repository, tmp_path, cache, git):
    url = f"file://{repository}"
    runs = [
        subprocess.Popen([sys.executable, "-c", PREPARE, url, tmp_path / f"run-{number}", cache]) for number in range(4)
    ]
    assert [run.wait(120) for run in runs] == [0] * 4
    git(cached(cache), "fsck", "--connectivity-only")
    assert all((tmp_path / f"run-{number}/workspace/README.md").is_file() for number in range(4))


def test_a_cached_repository_goes_only_when_no_run_is_left_on_it(make_run, cache, tmp_path):
    workspace = make_run()
    later = time.time() + 1_000
    assert shared_folders.unused(cache, seconds=500, now=later) == ()
    assert not SharedFolder(cached(cache)).remove()
    assert diff(workspace).changes == ()
    remove(workspace)
    assert shared_folders.unused(cache, seconds=2_000, now=later) == ()
    (folder,) = shared_folders.unused(cache, seconds=500, now=later)
    assert folder.size() > 0
    assert folder.remove()
    assert list(cache.iterdir()) == []


def test_the_longest_unused_goes_first_where_space_is_short(cache):
    folders = [SharedFolder(cache / name) for name in ("old", "middle", "new")]
    for age, folder in zip((300, 200, 100), folders, strict=True):
        with folder.changed():
            folder.path.mkdir()
            (folder.path / "data").write_bytes(b"x" * 1_000)
        os.utime(folder.path.with_name(f"{folder.path.name}.lock"), (1_000 - age, 1_000 - age))
    named = shared_folders.unused(cache, seconds=10_000, keep_bytes=1_500, now=1_000)
    assert [folder.path.name for folder in named] == ["old", "middle"]
    assert [folder.path.name for folder in shared_folders.unused(cache, seconds=250, now=1_000)] == ["old"]


def test_who_waits_too_long_for_a_folder_is_told(cache):
    waiting = SharedFolder(cache / "x").changed(seconds=0.1)
    with SharedFolder(cache / "x").changed(), pytest.raises(WorkspaceError, match="another run has been"), waiting:
        pass


def test_no_password_that_git_was_configured_with_is_shown(make_task, tmp_path, cache, git):
    git(tmp_path, "config", "--global", "url.https://me:hunter2@127.0.0.1:9/.insteadOf", "https://host.example/")
    with pytest.raises(WorkspaceError) as failed:
        prepare(make_task(repository="https://host.example/x"), tmp_path / "run", cache)
    assert "hunter2" not in str(failed.value)
    assert not [path for path in cache.rglob("*") if "host.example" in path.name or "hunter2" in path.name]


@pytest.mark.skipif(shutil.which("ssh") is None, reason="OpenSSH's client is not installed")
@pytest.mark.parametrize("answers", [False, True], ids=["refused", "silent"])
def test_an_ssh_host_that_cannot_be_reached_is_refused_in_bounded_time_without_a_question(
    make_task, tmp_path, cache, monkeypatch, answers
):
    monkeypatch.setattr(git_module, "CONNECT_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        if not answers:
            listener.close()
        with pytest.raises(WorkspaceError, match=r"git ls-remote: .*(remote|ssh|onnect)"):
            prepare(make_task(repository=f"ssh://git@127.0.0.1:{port}/x"), tmp_path / "run", cache)
    assert list(cache.glob("*/")) == []


def test_the_users_own_ssh_command_stays_in_use(make_task, tmp_path, cache, git):
    theirs = tmp_path / "theirs" / "ssh"
    theirs.parent.mkdir()
    theirs.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/said\nexit 255\n')
    theirs.chmod(theirs.stat().st_mode | stat.S_IXUSR)
    git(tmp_path, "config", "--global", "core.sshCommand", f"{theirs} -i their-key")
    with pytest.raises(WorkspaceError):
        prepare(make_task(repository="git@host.example:x/y"), tmp_path / "run", cache)
    said = (tmp_path / "said").read_text()
    assert said.startswith("-i their-key -o BatchMode=yes -o ConnectTimeout=20")


def test_a_remote_of_sha256_objects_is_cached_as_such(make_task, tmp_path, cache, git):
    folder = tmp_path / "sha256"
    (folder / "src").mkdir(parents=True)
    (folder / "src/auth.py").touch()
    git(folder, "init", "--quiet", "--object-format=sha256")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "-m", "first")
    workspace = prepare(make_task(repository=f"file://{folder}"), tmp_path / "run", cache)
    assert len(workspace.base_commit) == 64


def test_an_empty_remote_is_refused_as_such(make_task, tmp_path, cache, git):
    (tmp_path / "empty").mkdir()
    git(tmp_path / "empty", "init", "--quiet", "--bare")
    with pytest.raises(InvalidInput, match="at least one commit"):
        prepare(make_task(repository=f"file://{tmp_path}/empty"), tmp_path / "run", cache)


def test_threads_that_wait_for_the_same_folder_come_one_after_the_other(cache):
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        with SharedFolder(cache / "x").changed():
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.01)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert most == [1] * 8
