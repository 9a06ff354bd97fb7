import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from devtasks.errors import InvalidInput, WorkspaceError
from devtasks.workspace import apply_patch, diff, list_files, prepare, read_file, remove, reset, take_over


def make_dirty(repository: Path, git) -> None:
    (repository / "staged.txt").write_text("staged\n")
    git(repository, "add", "staged.txt")
    (repository / "README.md").write_text("changed, not staged\n")
    (repository / "untracked.txt").write_text("untracked\n")


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".git" not in path.parts
    }


def as_ordinary_user(action, folder: Path) -> None:
    """Run the action in a process whose user rights are those of the folder's files, as root has too many."""
    if os.geteuid() != 0:
        action()
        return
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            action()
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.fixture
def ordinary_folder():
    folder = Path("/tmp") / f"devtasks-test-{os.getpid()}-{time.monotonic_ns()}"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_the_users_repository_is_only_read(make_task, repository, run_folder, git, state_of):
    make_dirty(repository, git)
    before, refs, count = state_of(repository), git(repository, "show-ref"), git(repository, "count-objects", "-v")
    workspace = prepare(make_task(), run_folder)
    (workspace.path / "new.txt").write_text("new\n")
    diff(workspace)
    reset(workspace)
    remove(workspace)
    assert state_of(repository) == before
    assert git(repository, "show-ref") == refs
    assert git(repository, "count-objects", "-v") == count


def test_the_workspace_holds_the_commit_and_not_the_dirty_checkout(make_task, repository, run_folder, git):
    committed = files_below(repository)
    make_dirty(repository, git)
    assert files_below(prepare(make_task(), run_folder).path) == committed


def test_an_agent_finds_a_repository_at_the_base_commit_without_a_remote(workspace, git):
    assert git(workspace.path, "rev-parse", "HEAD") == workspace.base_commit
    assert git(workspace.path, "status", "--porcelain") == ""
    assert git(workspace.path, "log", "--format=%s") == "first"
    assert git(workspace.path, "remote") == ""
    git(workspace.path, "commit", "--quiet", "--allow-empty", "-m", "an agent's own")


def test_no_object_is_copied(workspace, repository):
    assert workspace.borrowed_objects == repository / ".git/objects"
    assert not [
        path for path in (workspace.git_dir / "objects").rglob("*") if path.is_file() and path.name != "alternates"
    ]


def test_line_ends_and_lfs_pointers_are_checked_out_as_committed(make_task, repository, run_folder, git):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    (repository / "big.bin").write_bytes(pointer)
    (repository / "unix.txt").write_bytes(b"a\nb\n")
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "-m", "files")
    (repository / ".gitattributes").write_text("*.bin filter=lfs diff=lfs -text\n*.txt text eol=crlf\n")
    git(repository, "add", ".gitattributes")
    git(repository, "commit", "--quiet", "-m", "attributes")
    git(repository, "config", "--global", "filter.lfs.smudge", "echo smudged")
    workspace = prepare(make_task(), run_folder)
    assert (workspace.path / "big.bin").read_bytes() == pointer
    assert (workspace.path / "unix.txt").read_bytes() == b"a\nb\n"
    assert diff(workspace).changes == ()


def test_a_bare_repository_serves(make_task, repository, run_folder, tmp_path, git):
    bare = tmp_path / "bare.git"
    git(tmp_path, "clone", "--quiet", "--bare", str(repository), str(bare))
    workspace = prepare(make_task(repository=str(bare)), run_folder)
    assert "src/auth.py" in list_files(workspace)


def test_a_shallow_clone_serves(make_task, repository, run_folder, tmp_path, git):
    git(repository, "commit", "--quiet", "--allow-empty", "-m", "second")
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{repository}", str(shallow))
    workspace = prepare(make_task(repository=str(shallow)), run_folder)
    assert git(workspace.path, "log", "--format=%s") == "second"
    (workspace.path / "new.txt").touch()
    assert len(diff(workspace).changes) == 1


def test_a_linked_worktree_serves_with_its_own_head(make_task, repository, run_folder, git, state_of):
    linked = repository.parent / "linked"
    git(repository, "worktree", "add", "--quiet", "-b", "side", str(linked))
    (linked / "side.txt").touch()
    git(linked, "add", "--all")
    git(linked, "commit", "--quiet", "-m", "aside")
    before = state_of(repository)
    workspace = prepare(make_task(repository=str(linked)), run_folder)
    assert "side.txt" in list_files(workspace)
    remove(workspace)
    assert state_of(repository) == before


def test_a_repository_of_sha256_objects_serves(make_task, run_folder, tmp_path, git):
    folder = tmp_path / "sha256"
    (folder / "src").mkdir(parents=True)
    (folder / "src/auth.py").touch()
    git(folder, "init", "--quiet", "--object-format=sha256")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "-m", "first")
    workspace = prepare(make_task(repository=str(folder)), run_folder)
    assert len(workspace.base_commit) == 64
    assert git(workspace.path, "status", "--porcelain") == ""


def test_leftovers_of_a_crashed_try_are_replaced_and_other_files_stay(make_task, run_folder):
    first = prepare(make_task(), run_folder)
    (first.path / "src/auth.py").write_text("half done")
    (first.git_dir / "index.lock").touch()
    shutil.rmtree(first.git_dir / "objects")
    (run_folder / "events.jsonl").touch()
    second = prepare(make_task(), run_folder)
    assert second == first
    assert diff(second).changes == ()
    assert (run_folder / "events.jsonl").exists()


def test_two_runs_on_one_repository_do_not_meet(make_task, tmp_path):
    made, errors = [], []
    barrier = threading.Barrier(4)

    def run(number: int) -> None:
        try:
            barrier.wait(timeout=10)
            workspace = prepare(make_task(), tmp_path / f"run-{number}")
            (workspace.path / f"{number}.txt").touch()
            made.append([change.path for change in diff(workspace).changes])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert errors == []
    assert sorted(made) == [[f"{number}.txt"] for number in range(4)]


def ruin_git(path: Path) -> None:
    shutil.rmtree(path / ".git")


def lock_git(path: Path) -> None:
    (path / ".git/index.lock").touch()
    (path / ".git/HEAD").write_text("nonsense")


def replace_git(path: Path) -> None:
    shutil.rmtree(path / ".git")
    (path / ".git").symlink_to("/nowhere")


def empty_all(path: Path) -> None:
    for child in path.iterdir():
        shutil.rmtree(child) if child.is_dir() else child.unlink()


def leave_files(path: Path) -> None:
    (path / "src/auth.py").unlink()
    (path / "README.md").write_text("other")
    (path / "build").mkdir()
    (path / "build/ignored.o").touch()
    (path / "src/__pycache__").mkdir()
    (path / "src/__pycache__/auth.pyc").touch()


def link_folder_out(path: Path) -> None:
    shutil.rmtree(path / "src")
    (path / "src").symlink_to(path.parent.parent / "their project/src")


def nest_deeply(path: Path) -> None:
    here = os.open(path, os.O_RDONLY)
    for _ in range(2500):
        os.mkdir("deep", dir_fd=here)
        below = os.open("deep", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


def replace_root(path: Path) -> None:
    shutil.rmtree(path)
    path.symlink_to(path.parent.parent / "their project")


@pytest.mark.parametrize(
    "ruin", [ruin_git, lock_git, replace_git, empty_all, leave_files, link_folder_out, nest_deeply, replace_root]
)
def test_reset_brings_the_base_commit_back_whatever_was_done(workspace, repository, git, ruin):
    theirs = files_below(repository)
    ruin(workspace.path)
    reset(workspace)
    assert files_below(workspace.path) == files_below(repository) == theirs
    assert git(workspace.path, "status", "--porcelain", "--ignored") == ""
    assert git(workspace.path, "rev-parse", "HEAD") == workspace.base_commit
    assert diff(workspace).changes == ()


def test_reset_keeps_the_folder_that_a_sandbox_has_mounted(workspace):
    inode = workspace.path.stat().st_ino
    reset(workspace)
    assert workspace.path.stat().st_ino == inode


def test_remove_leaves_nothing_of_the_run_and_may_be_repeated(workspace, run_folder, repository):
    (workspace.path / "out").symlink_to(repository)
    remove(workspace)
    assert not run_folder.exists()
    remove(run_folder)
    assert (repository / "README.md").exists()


def test_remove_deletes_folders_without_any_right(ordinary_folder):
    run = ordinary_folder / "run"

    def build_and_remove() -> None:
        (run / "a/b").mkdir(parents=True)
        (run / "a/b/file").touch()
        for folder in (run / "a/b", run / "a", run):
            folder.chmod(0o500 if folder == run else 0)
        remove(run)

    as_ordinary_user(build_and_remove, ordinary_folder)
    assert not run.exists()


def test_a_folder_that_cannot_be_removed_is_reported(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "without-rm"))
    with pytest.raises(WorkspaceError, match="cannot be removed"):
        remove(tmp_path)


def test_files_are_listed_and_read_as_the_base_commit_has_them(workspace):
    (workspace.path / "README.md").write_text("changed by the agent")
    (workspace.path / "new.txt").touch()
    assert list_files(workspace) == (".gitignore", "README.md", "src/auth.py")
    assert read_file(workspace, "README.md") == "# Project\n"
    assert read_file(workspace, "./src//auth.py").startswith("def login")


@pytest.mark.parametrize("path", ["new.txt", "src", "link", "binary", "huge"])
def test_what_is_no_text_file_of_the_commit_reads_as_none(make_task, repository, run_folder, git, path):
    (repository / "link").symlink_to("README.md")
    (repository / "binary").write_bytes(b"\xff\xfe\0")
    (repository / "huge").write_bytes(b"x" * (1024 * 1024 + 1))
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "-m", "odd")
    assert read_file(prepare(make_task(), run_folder), path) is None


@pytest.mark.parametrize("path", ["/etc/passwd", "../their project/README.md", "src/../../x"])
def test_reading_refuses_to_leave_the_workspace(workspace, path):
    with pytest.raises(InvalidInput, match="inside the workspace"):
        read_file(workspace, path)


def test_a_small_repository_is_prepared_in_well_under_a_second(make_task, run_folder):
    started = time.process_time(), os.times()
    prepare(make_task(), run_folder)
    ended = os.times()
    children = ended.children_user + ended.children_system - started[1].children_user - started[1].children_system
    assert time.process_time() - started[0] + children < 0.7


def test_a_checkout_s_files_are_taken_over_as_they_are_and_it_is_only_read(
    make_task, repository, run_folder, git, state_of
):
    workspace = prepare(make_task(), run_folder)
    make_dirty(repository, git)
    (repository / ".gitignore").write_text("ignored.txt\n")
    (repository / "ignored.txt").write_text("ignored\n")
    (repository / "link").symlink_to("README.md")
    gone = list_files(workspace)[-1]
    (repository / gone).unlink()
    before = state_of(repository)
    take_over(workspace, repository)
    changed = {change.path: change.status for change in diff(workspace).changes}
    assert state_of(repository) == before
    assert {"staged.txt", "README.md", "untracked.txt", "link", ".gitignore", gone} == set(changed)
    assert changed[gone] == "deleted"
    assert (workspace.path / "link").is_symlink()


def test_a_patch_is_applied_or_refused(make_task, repository, run_folder):
    workspace = prepare(make_task(), run_folder)
    (workspace.path / "new.txt").write_text("new\n")
    patch = diff(workspace).content
    reset(workspace)
    apply_patch(workspace, patch)
    assert (workspace.path / "new.txt").read_text() == "new\n"
    with pytest.raises(WorkspaceError, match=r"new\.txt"):
        apply_patch(workspace, patch)
