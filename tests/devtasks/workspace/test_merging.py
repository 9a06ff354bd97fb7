from collections.abc import Callable
from pathlib import Path

import pytest

from devtasks.errors import InvalidInput
from devtasks.task import DevTask
from devtasks.workspace import Contribution, Identity, Merge, merge_patches, prepare

RunGit = Callable[..., str]
AUTHOR = Identity("devtasks", "devtasks@localhost")


@pytest.fixture
def contribution(repository: Path, git: RunGit, tmp_path: Path) -> Callable[..., Contribution]:
    """What a task would contribute that writes this text to this file of the repository's commit."""

    def make(name: str, path: str, text: str) -> Contribution:
        clone = tmp_path / f"clone-{name}"
        git(tmp_path, "clone", "--quiet", str(repository), str(clone))
        (clone / path).parent.mkdir(parents=True, exist_ok=True)
        (clone / path).write_text(text)
        git(clone, "add", "--all")
        patch = git(clone, "diff", "--cached", "--binary", "--full-index") + "\n"
        return Contribution(name, patch.encode(), f"Do {name}\n\nDevtasks-Task: {name}\nDevtasks-Run: run-{name}\n")

    return make


@pytest.fixture
def merge(make_task: Callable[..., DevTask], tmp_path: Path) -> Callable[..., Merge]:
    def run(*contributions: Contribution, batch: str = "b1", branch: str = "night") -> Merge:
        workspace = prepare(make_task(), tmp_path / "run")
        return merge_patches(workspace, contributions, branch=branch, batch=batch, author=AUTHOR)

    return run


def test_each_patch_is_a_commit_and_the_checkout_stays(
    repository: Path, git: RunGit, contribution: Callable[..., Contribution], merge: Callable[..., Merge]
) -> None:
    (repository / "README.md").write_text("dirty\n")
    before = git(repository, "status", "--porcelain"), git(repository, "rev-parse", "HEAD")
    found = merge(contribution("a", "tests/test_a.py", "A = 1\n"), contribution("b", "tests/test_b.py", "B = 1\n"))
    assert (found.branch, found.merged, found.left_out) == ("night", ("a", "b"), {})
    assert git(repository, "log", "--format=%s", "main..night").splitlines() == ["Do b", "Do a"]
    trailers = git(repository, "log", "-1", "--format=%(trailers:only)", "night").strip().splitlines()
    assert trailers == ["Devtasks-Task: b", "Devtasks-Run: run-b", "Devtasks-Batch: b1"]
    assert git(repository, "log", "-1", "--format=%an", "night") == "devtasks"
    assert git(repository, "show", "night:tests/test_a.py") == "A = 1"
    assert (git(repository, "status", "--porcelain"), git(repository, "rev-parse", "HEAD")) == before


def test_patch_that_does_not_apply_on_top_is_left_out(
    repository: Path, git: RunGit, contribution: Callable[..., Contribution], merge: Callable[..., Merge]
) -> None:
    found = merge(
        contribution("a", "src/auth.py", "def login():\n    return False\n"),
        contribution("b", "src/auth.py", "def login():\n    return None\n"),
        contribution("c", "src/auth.py", "def login():\n    return False\n"),
        contribution("d", "tests/test_d.py", "D = 1\n"),
    )
    assert found.merged == ("a", "d")
    assert list(found.left_out) == ["b", "c"]
    assert "does not apply on top of the others" in found.left_out["b"]
    assert "return False" in git(repository, "show", "night:src/auth.py")


def test_same_batch_replaces_its_branch_and_leaves_every_other_alone(
    repository: Path, git: RunGit, contribution: Callable[..., Contribution], merge: Callable[..., Merge]
) -> None:
    a, b = contribution("a", "tests/test_a.py", "A = 1\n"), contribution("b", "tests/test_b.py", "B = 1\n")
    first = merge(a)
    again = merge(a, b)
    assert (first.branch, again.branch) == ("night", "night")
    assert git(repository, "rev-list", "--count", "main..night") == "2"
    assert merge(b, batch="b2").branch == "night-2"
    assert git(repository, "rev-parse", "night") == again.commit


def test_where_nothing_applies_there_is_no_branch(
    repository: Path, git: RunGit, contribution: Callable[..., Contribution], merge: Callable[..., Merge]
) -> None:
    found = merge(Contribution("x", b"no patch\n", "x"))
    assert (found.branch, list(found.left_out)) == (None, ["x"])
    assert git(repository, "branch", "--list", "night") == ""


def test_name_that_is_none_is_refused(contribution: Callable[..., Contribution], merge: Callable[..., Merge]) -> None:
    with pytest.raises(InvalidInput, match="branch"):
        merge(contribution("a", "a.py", "A = 1\n"), branch="no..name")
