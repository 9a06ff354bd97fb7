import threading

import pytest

from devtasks.errors import InvalidInput, WorkspaceError
from devtasks.workspace import Identity, deliver_branch, deliver_patch, diff, prepare, reset

AUTHOR = Identity("A Bot", "bot@example.org")


def message(run: str = "run-1") -> str:
    return f"Add tests for src/auth.py\n\nDevtasks-Run: {run}\n"


def deliver(workspace, patch, branch="devtasks/auth", run="run-1"):
    return deliver_branch(workspace, patch, branch=branch, message=message(run), author=AUTHOR)


@pytest.fixture
def patch(workspace):
    (workspace.path / "tests").mkdir()
    (workspace.path / "tests/test_auth.py").write_text("def test_login(): ...\n")
    return diff(workspace)


def branches(git, repository) -> set[str]:
    return set(git(repository, "for-each-ref", "--format=%(refname)").split())


def test_a_patch_file_replaces_an_earlier_one_and_leaves_no_other_file(patch, tmp_path):
    target = tmp_path / "results/auth.patch"
    target.parent.mkdir()
    target.write_text("earlier")
    assert deliver_patch(patch, target) == target
    assert target.read_bytes() == patch.content
    assert [path.name for path in target.parent.iterdir()] == ["auth.patch"]


def test_a_patch_that_cannot_be_written_is_reported_and_the_earlier_one_stays(patch, tmp_path):
    (tmp_path / "file").write_text("earlier")
    with pytest.raises(WorkspaceError, match="cannot be written"):
        deliver_patch(patch, tmp_path / "file/auth.patch")
    assert (tmp_path / "file").read_text() == "earlier"


def test_a_branch_gets_one_commit_on_the_base_and_all_else_stays(workspace, patch, repository, git, state_of):
    (repository / "staged.txt").touch()
    git(repository, "add", "staged.txt")
    (repository / "README.md").write_text("dirty\n")
    for hook in ("reference-transaction", "post-checkout", "post-merge", "post-rewrite"):
        (repository / ".git/hooks").mkdir(exist_ok=True)
        (repository / ".git/hooks" / hook).write_text('#!/bin/sh\ntouch "$(dirname "$0")/../hook-ran"\nexit 1\n')
        (repository / ".git/hooks" / hook).chmod(0o755)
    before, refs = state_of(repository), branches(git, repository)

    delivered = deliver(workspace, patch)

    assert delivered.branch == "devtasks/auth"
    assert state_of(repository) == before
    assert branches(git, repository) - refs == {"refs/heads/devtasks/auth"}
    facts = git(repository, "log", "-1", "--format=%H|%P|%T|%an <%ae>|%cn|%B", "devtasks/auth")
    assert facts == (
        f"{delivered.commit}|{workspace.base_commit}|{patch.tree}|A Bot <bot@example.org>|A Bot|{message().strip()}"
    )
    assert git(repository, "diff", "--name-status", "HEAD", "devtasks/auth") == "A\ttests/test_auth.py"


def test_the_branch_outlives_the_runs_folder(workspace, patch, repository, git):
    deliver(workspace, patch)
    reset(workspace)
    workspace.folder.rename(workspace.folder.with_name("gone"))
    git(repository, "fsck", "--full", "--strict")
    assert "test_login" in git(repository, "show", "devtasks/auth:tests/test_auth.py")


def test_a_second_delivery_of_the_same_run_is_the_first(workspace, patch, repository, git):
    first = deliver(workspace, patch)
    refs = branches(git, repository)
    assert deliver(workspace, patch) == first
    assert branches(git, repository) == refs


def test_a_changed_delivery_of_the_same_run_replaces_the_first(workspace, patch, repository, git):
    first = deliver(workspace, patch)
    (workspace.path / "more.py").touch()
    second = deliver(workspace, diff(workspace))
    assert second.branch == first.branch
    assert second.commit != first.commit
    assert git(repository, "rev-parse", "devtasks/auth") == second.commit
    assert git(repository, "rev-parse", "devtasks/auth^") == workspace.base_commit


def occupy_plainly(git, repository) -> None:
    git(repository, "branch", "devtasks/auth")


def occupy_with_another_run(git, repository) -> None:
    tree = git(repository, "rev-parse", "HEAD^{tree}")
    commit = git(repository, "commit-tree", tree, "-p", "HEAD", "-m", message("run-0"))
    git(repository, "branch", "devtasks/auth", commit)


def occupy_with_folder(git, repository) -> None:
    git(repository, "branch", "devtasks/auth/below")


@pytest.mark.parametrize("occupy", [occupy_plainly, occupy_with_another_run, occupy_with_folder])
def test_a_name_taken_by_something_else_is_left_alone(workspace, patch, repository, git, occupy):
    occupy(git, repository)
    before = git(repository, "show-ref")
    delivered = deliver(workspace, patch)
    assert delivered.branch == "devtasks/auth-2"
    assert before in git(repository, "show-ref").replace(f"{delivered.commit} refs/heads/devtasks/auth-2\n", "")
    assert deliver(workspace, patch) == delivered


def test_a_delivery_the_user_has_built_upon_or_checked_out_is_left_alone(workspace, patch, repository, git, tmp_path):
    first = deliver(workspace, patch)
    git(repository, "worktree", "add", "--quiet", str(tmp_path / "looking"), "devtasks/auth")
    (workspace.path / "more.py").touch()
    second = deliver(workspace, diff(workspace))
    git(tmp_path / "looking", "commit", "--quiet", "--allow-empty", "-m", "the user's own")
    third = deliver(workspace, diff(workspace))
    assert second.branch == "devtasks/auth-2"
    assert third == second
    assert git(repository, "rev-parse", "devtasks/auth^") == first.commit


def test_runs_that_deliver_the_same_name_at_once_all_get_a_branch(make_task, tmp_path, repository, git):
    barrier = threading.Barrier(3)
    delivered = []

    def run(number: int) -> None:
        workspace = prepare(make_task(), tmp_path / f"run-{number}")
        (workspace.path / f"{number}.py").touch()
        patch = diff(workspace)
        barrier.wait(timeout=30)
        delivered.append(deliver(workspace, patch, run=f"run-{number}"))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert {one.branch for one in delivered} == {"devtasks/auth", "devtasks/auth-2", "devtasks/auth-3"}
    assert all(git(repository, "rev-parse", one.branch) == one.commit for one in delivered)


@pytest.mark.parametrize("kind", ["bare", "shallow", "linked"])
def test_every_kind_of_local_repository_takes_a_branch(make_task, repository, run_folder, git, kind):
    source = repository.parent / kind
    git(repository, "commit", "--quiet", "--allow-empty", "-m", "second")
    commands = {
        "bare": ("clone", "--quiet", "--bare", f"file://{repository}", str(source)),
        "shallow": ("clone", "--quiet", "--depth=1", f"file://{repository}", str(source)),
        "linked": ("worktree", "add", "--quiet", "--detach", str(source)),
    }
    git(repository, *commands[kind])
    workspace = prepare(make_task(repository=str(source)), run_folder)
    (workspace.path / "new.py").touch()
    delivered = deliver(workspace, diff(workspace))
    assert git(source, "rev-parse", "devtasks/auth") == delivered.commit
    git(source, "fsck", "--full")


@pytest.mark.parametrize("name", ["-x", "a..b", "a b", "x.lock", "@{-1}", "", "a\nb"])
def test_a_name_git_does_not_allow_is_refused(workspace, patch, name):
    with pytest.raises(InvalidInput, match="branch"):
        deliver(workspace, patch, branch=name)


def test_a_repository_given_by_url_takes_a_patch_only(make_task, repository, run_folder):
    workspace = prepare(make_task(repository=f"file://{repository}"), run_folder)
    (workspace.path / "new.py").touch()
    with pytest.raises(InvalidInput, match="delivery: 'branch' is not allowed; expected patch"):
        deliver(workspace, diff(workspace))


def test_an_empty_patch_is_not_delivered_as_a_branch(workspace, repository, git):
    with pytest.raises(WorkspaceError, match="nothing to deliver"):
        deliver(workspace, diff(workspace))
    assert branches(git, repository) == {"refs/heads/main"}


def test_gits_own_words_reach_the_message_in_one_line(workspace, patch, repository, git):
    git(repository, "branch", "devtasks")
    with pytest.raises(WorkspaceError, match="git update-ref: ") as refused:
        deliver(workspace, patch)
    assert "\n" not in str(refused.value)
