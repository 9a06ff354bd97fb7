import os
from pathlib import Path

import pytest

from devtasks.errors import InvalidInput
from devtasks.workspace import check_repository, list_files, prepare


def test_the_base_commit_is_returned_in_full(make_task, repository, git):
    git(repository, "tag", "-a", "v1", "-m", "annotated")
    head = git(repository, "rev-parse", "HEAD")
    assert {check_repository(make_task(base_ref=ref)) for ref in ("HEAD", "main", "v1", head[:8])} == {head}


def test_a_relative_path_and_a_home_path_are_understood(make_task, repository, monkeypatch):
    expected = check_repository(make_task())
    monkeypatch.chdir(repository.parent)
    assert check_repository(make_task(repository=repository.name)) == expected
    monkeypatch.setenv("HOME", str(repository.parent))
    assert check_repository(make_task(repository=f"~/{repository.name}")) == expected


@pytest.fixture
def odd_things(repository, git):
    """Commit a link and a folder that are named like Python files, and leave a new file uncommitted."""
    (repository / "link.py").symlink_to("/etc/passwd")
    (repository / "folder.py").mkdir()
    (repository / "folder.py/inside.txt").touch()
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "-m", "odd things")
    (repository / "src/new.py").touch()


@pytest.mark.usefixtures("odd_things")
@pytest.mark.parametrize(
    ("values", "field", "words"),
    [
        pytest.param({"repository": "/no/such/place"}, "repository", "expected a git repository", id="absent"),
        pytest.param({"repository": "ext::sh -c id"}, "repository", "git URL", id="remote-helper"),
        pytest.param({"repository": "http://host.example/x"}, "repository", "https://", id="plain-http"),
        pytest.param({"repository": "~nobody-of-that-name/x"}, "repository", "git repository", id="unknown-home"),
        pytest.param({"repository": "a\0b"}, "repository", "git repository", id="nul-in-path"),
        pytest.param({"base_ref": "nowhere"}, "base_ref", "branch, tag or commit", id="missing-ref"),
        pytest.param({"base_ref": "a\0b"}, "base_ref", "branch, tag or commit", id="nul-in-ref"),
        pytest.param({"base_ref": "HEAD:README.md"}, "base_ref", "branch, tag or commit", id="ref-of-a-file"),
        pytest.param({"target_file": "src/gone.py"}, "target_file", "of the repository at HEAD", id="target-absent"),
        pytest.param(
            {"target_file": "src/new.py"}, "target_file", "of the repository at HEAD", id="target-not-committed"
        ),
        pytest.param(
            {"target_file": ":(glob)src/*.py"}, "target_file", "of the repository at HEAD", id="target-is-no-pattern"
        ),
        pytest.param({"target_file": "link.py"}, "target_file", "symbolic link", id="target-is-a-link"),
        pytest.param({"target_file": "folder.py"}, "target_file", "a folder", id="target-is-a-folder"),
        pytest.param({"target_file": "README.md"}, "target_file", ".py", id="target-not-python"),
        pytest.param({"target_file": None}, "target_file", ".py", id="tests-without-target"),
        pytest.param({"context_files": ("README.md", "gone.md")}, "context_files", "gone.md", id="context-absent"),
        pytest.param({"context_files": ("link.py",)}, "context_files", "symbolic link", id="context-is-a-link"),
    ],
)
def test_a_mistake_is_refused_where_it_enters(make_task, values, field, words):
    with pytest.raises(InvalidInput) as refused:
        check_repository(make_task(**values))
    assert refused.value.field == field
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_folder_inside_a_repository_is_not_taken_for_it(make_task, repository):
    with pytest.raises(InvalidInput, match="not a git repository"):
        check_repository(make_task(repository=str(repository / "src")))


def test_a_repository_without_commits_is_refused_as_such(make_task, tmp_path, git):
    empty = tmp_path / "empty"
    empty.mkdir()
    git(empty, "init", "--quiet")
    with pytest.raises(InvalidInput, match="at least one commit"):
        check_repository(make_task(repository=str(empty)))


@pytest.mark.parametrize(
    "url", ["https://host.example/x.git", "ssh://git@host.example:22/x", "git@host.example:x/y.git", "file:///x"]
)
def test_of_a_url_nothing_is_resolved_but_its_form_is_checked(make_task, url):
    assert check_repository(make_task(repository=url, base_ref="main")) == "main"
    with pytest.raises(InvalidInput, match="patch"):
        check_repository(make_task(repository=url, delivery="branch"))


@pytest.mark.parametrize(
    "url", ["https://someone:pass@host.example/x", "https://pass@host.example/x", "ssh://u:pass@h/x"]
)
def test_a_url_with_a_secret_is_refused_without_showing_it(make_task, url):
    with pytest.raises(InvalidInput) as refused:
        check_repository(make_task(repository=url))
    assert "credential helper" in str(refused.value)
    assert "pass@" not in str(refused.value)


@pytest.mark.parametrize("ref", ["HEAD", "main", "v1", "HEAD~1", "full", "short"])
def test_a_url_is_cloned_at_any_kind_of_ref(make_task, repository, run_folder, git, ref):
    git(repository, "tag", "v1")
    (repository / "second.txt").touch()
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "-m", "second")
    first, head = git(repository, "rev-parse", "HEAD~1"), git(repository, "rev-parse", "HEAD")
    wanted = {"full": first, "short": first[:9]}.get(ref, ref)
    url = f"file://{repository}"
    workspace = prepare(make_task(repository=url, base_ref=wanted), run_folder)
    assert workspace.base_commit == (head if ref in ("HEAD", "main") else first)
    assert ("second.txt" in list_files(workspace)) == (ref in ("HEAD", "main"))
    assert workspace.repository == url
    assert workspace.borrowed_objects.is_relative_to(run_folder)


def test_the_files_of_a_url_are_checked_once_it_is_cloned(make_task, repository, run_folder):
    url = f"file://{repository}"
    with pytest.raises(InvalidInput, match=r"gone\.py"):
        prepare(make_task(repository=url, target_file="src/gone.py"), run_folder)
    with pytest.raises(InvalidInput, match="base_ref"):
        prepare(make_task(repository=url, base_ref="nowhere"), run_folder)


def test_git_variables_of_the_caller_lead_nowhere_else(make_task, repository, run_folder, tmp_path, monkeypatch):
    expected = check_repository(make_task())
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"):
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    workspace = prepare(make_task(), run_folder)
    assert workspace.base_commit == expected
    assert (workspace.path / "src/auth.py").read_bytes() == (repository / "src/auth.py").read_bytes()
    assert not (tmp_path / "elsewhere").exists()
    assert Path(os.environ["GIT_DIR"]) == tmp_path / "elsewhere"
