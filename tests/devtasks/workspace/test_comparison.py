import os
import shutil
import subprocess
from pathlib import Path

import pytest

from devtasks.errors import WorkspaceError
from devtasks.workspace import ChangeStatus, comparison, deliver_patch, diff, prepare, reset


def changed(patch) -> dict[str, str]:
    return {change.path: str(change.status) for change in patch.changes}


def apply_to_clean_clone(git, repository: Path, patch, tmp_path: Path) -> Path:
    clone = tmp_path / "clean clone"
    git(tmp_path, "clone", "--quiet", str(repository), str(clone))
    git(clone, "apply", "--index", str(deliver_patch(patch, tmp_path / "out/result.patch")))
    assert git(clone, "write-tree") == patch.tree
    return clone


def test_an_untouched_workspace_has_an_empty_patch(workspace, git):
    patch = diff(workspace)
    assert (patch.content, patch.changes, patch.left_out) == (b"", (), ())
    assert patch.tree == git(workspace.path, "rev-parse", "HEAD^{tree}")


def test_every_kind_of_change_is_named_and_applies_to_a_clean_clone(make_task, repository, run_folder, tmp_path, git):
    for name in ("gone.txt", "moved.txt", "tool.sh", "becomes_link", "becomes_folder"):
        (repository / name).write_text(f"the text of {name}\n")
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "-m", "more")
    workspace = prepare(make_task(), run_folder)
    path = workspace.path
    (path / "src/auth.py").write_text("def login():\n    return False")
    (path / "gone.txt").unlink()
    (path / "moved.txt").rename(path / "moved to.txt")
    (path / "tool.sh").chmod(0o755)
    (path / "becomes_link").unlink()
    (path / "becomes_link").symlink_to("README.md")
    (path / "becomes_folder").unlink()
    (path / "becomes_folder").mkdir()
    (path / "becomes_folder/x.py").write_text("x\n")
    (path / "tëst ünïcode 測試.py").write_text("# ✓\n")
    (path / "binary.dat").write_bytes(bytes(range(256)) * 40)
    (path / "latin1.txt").write_bytes("caf\u00e9\n".encode("latin-1"))
    (path / "empty.py").touch()
    (path / "new.sh").write_text("#!/bin/sh\n")
    (path / "new.sh").chmod(0o755)

    patch = diff(workspace)

    assert changed(patch) == {
        "src/auth.py": "modified",
        "gone.txt": "deleted",
        "moved.txt": "deleted",
        "moved to.txt": "added",
        "tool.sh": "modified",
        "becomes_link": "modified",
        "becomes_folder": "deleted",
        "becomes_folder/x.py": "added",
        "tëst ünïcode 測試.py": "added",
        "binary.dat": "added",
        "latin1.txt": "added",
        "empty.py": "added",
        "new.sh": "added",
    }
    assert patch.left_out == ()
    assert "tëst ünïcode 測試.py" in patch.text
    clone = apply_to_clean_clone(git, repository, patch, tmp_path)
    assert (clone / "latin1.txt").read_bytes() == b"caf\xe9\n"
    assert os.access(clone / "new.sh", os.X_OK)
    assert (clone / "becomes_link").is_symlink()


def test_ignored_files_and_caches_are_left_out_even_when_the_agent_unignores_them(workspace):
    for name in ("build/x.o", "src/__pycache__/a.txt", "src/.pytest_cache/x", "a/b.pyc", ".coverage"):
        (workspace.path / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace.path / name).write_text("x")
    (workspace.path / ".gitignore").write_text("build/\n!__pycache__/\n!*.pyc\n!.coverage\n!.pytest_cache/\n")
    patch = diff(workspace)
    assert changed(patch) == {".gitignore": "modified"}
    assert patch.left_out == ()


def test_the_agents_own_commits_branches_and_index_do_not_matter(workspace, git):
    (workspace.path / "committed.py").write_text("1\n")
    git(workspace.path, "checkout", "--quiet", "-b", "mine")
    git(workspace.path, "add", "--all")
    git(workspace.path, "commit", "--quiet", "-m", "mine")
    git(workspace.path, "update-index", "--assume-unchanged", "README.md")
    (workspace.path / "README.md").write_text("hidden change\n")
    before = diff(workspace)
    git(workspace.path, "reset", "--quiet", "--soft", workspace.base_commit)
    assert changed(before) == {"committed.py": "added", "README.md": "modified"}
    assert diff(workspace) == before


def test_a_diff_depends_on_the_files_alone_and_not_on_an_earlier_diff(workspace):
    (workspace.path / "note.log").write_text("x")
    assert changed(diff(workspace)) == {"note.log": "added"}
    (workspace.path / ".gitignore").write_text("build/\n*.log\n")
    assert changed(diff(workspace)) == {".gitignore": "modified"}


def test_a_changed_file_with_its_size_and_time_kept_is_seen(workspace):
    file = workspace.path / "README.md"
    facts = file.stat()
    file.write_text(file.read_text().swapcase())
    os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert changed(diff(workspace)) == {"README.md": "modified"}


@pytest.mark.parametrize(
    "configuration",
    [
        pytest.param({"core.fsmonitor": "touch {mark}"}, id="fsmonitor"),
        pytest.param({"core.hooksPath": "{hooks}"}, id="hooks-path"),
        pytest.param(
            {"filter.evil.clean": "touch {mark}; cat", "filter.evil.smudge": "touch {mark}; cat"}, id="filter"
        ),
        pytest.param({"diff.evil.textconv": "touch {mark}; cat", "diff.external": "touch {mark}"}, id="diff-driver"),
        pytest.param({"core.sshCommand": "touch {mark}", "core.editor": "touch {mark}"}, id="commands"),
    ],
)
def test_what_the_agent_plants_in_its_git_never_runs(workspace, git, tmp_path, configuration):
    mark, hooks = tmp_path / "it-ran", workspace.path / ".git/hooks"
    hooks.mkdir(exist_ok=True)
    for hook in ("post-checkout", "pre-commit", "post-index-change", "reference-transaction", "post-commit"):
        (hooks / hook).write_text(f"#!/bin/sh\ntouch '{mark}'\n")
        (hooks / hook).chmod(0o755)
    for name, value in configuration.items():
        git(workspace.path, "config", name, value.format(mark=mark, hooks=hooks))
    mark.unlink(missing_ok=True)
    (workspace.path / ".gitattributes").write_text("* filter=evil diff=evil\n")
    (workspace.path / "README.md").write_text("changed\n")
    patch = diff(workspace)
    assert changed(patch) == {".gitattributes": "added", "README.md": "modified"}
    assert "+changed" in patch.text
    assert not mark.exists()


def test_attributes_do_not_hide_or_convert_a_text(workspace):
    (workspace.path / ".gitattributes").write_text(
        "*.py binary\n*.md text eol=crlf ident working-tree-encoding=UTF-16\n"
    )
    (workspace.path / "src/auth.py").write_text("import os\n")
    (workspace.path / "README.md").write_bytes(b"$Id$ a\r\n")
    patch = diff(workspace)
    assert "+import os" in patch.text
    assert b"+$Id$ a\r\n" in patch.content


def test_repositories_inside_the_workspace_are_left_out_and_named(workspace, git):
    for name in ("with commit", "without", "src"):
        (workspace.path / name).mkdir(exist_ok=True)
        (workspace.path / name / "file.py").write_text("x\n")
        git(workspace.path / name, "init", "--quiet")
    for name in ("with commit", "src"):
        git(workspace.path / name, "add", "--all")
        git(workspace.path / name, "commit", "--quiet", "-m", "x")
    (workspace.path / "README.md").unlink()
    (workspace.path / "with commit").rename(workspace.path / "README.md")
    patch = diff(workspace)
    assert changed(patch) == {"src/file.py": "added"}
    assert set(patch.left_out) == {"README.md", "without/"}
    assert "Subproject" not in patch.text


def test_names_git_refuses_or_that_are_not_utf8_are_left_out_and_named(workspace):
    (workspace.path / ".GIT").mkdir()
    (workspace.path / ".GIT/config").touch()
    Path(os.fsdecode(bytes(workspace.path) + b"/caf\xe9.py")).touch()
    (workspace.path / "fine.py").touch()
    patch = diff(workspace)
    assert changed(patch) == {"fine.py": "added"}
    assert set(patch.left_out) == {".GIT/config", "caf\ufffd.py"}


def test_a_named_pipe_is_removed_and_named_instead_of_waited_for(workspace):
    (workspace.path / ".gitignore").unlink()
    os.mkfifo(workspace.path / ".gitignore")
    os.mkfifo(workspace.path / "src/pipe")
    os.mkfifo(workspace.path / ".git/pipe")
    patch = diff(workspace)
    assert set(patch.left_out) == {".gitignore", "src/pipe"}
    assert changed(patch) == {".gitignore": "deleted"}


def test_links_out_of_the_workspace_are_recorded_and_not_followed(workspace, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "auth.py").write_text("a secret of the user\n")
    (workspace.path / "file").symlink_to(outside / "auth.py")
    (workspace.path / "src/auth.py").unlink()
    (workspace.path / "src").rmdir()
    (workspace.path / "src").symlink_to(outside)
    patch = diff(workspace)
    assert changed(patch) == {"file": "added", "src": "added", "src/auth.py": "deleted"}
    assert "a secret" not in patch.text


def test_a_workspace_replaced_by_a_link_is_not_compared(workspace, repository):
    workspace.path.rename(workspace.folder / "aside")
    workspace.path.symlink_to(repository)
    with pytest.raises(WorkspaceError, match="no longer a folder"):
        diff(workspace)


def test_a_diff_works_without_the_agents_git(workspace):
    subprocess.run(["rm", "-rf", str(workspace.path / ".git")], check=True)
    (workspace.path / "new.py").touch()
    assert changed(diff(workspace)) == {"new.py": "added"}


def test_a_diff_that_is_too_large_is_refused(workspace, monkeypatch):
    monkeypatch.setattr(comparison, "MAX_DIFF_BYTES", 2_000)
    (workspace.path / "noise.bin").write_bytes(os.urandom(4_000))
    with pytest.raises(WorkspaceError, match="more than 2,000 bytes"):
        diff(workspace)


def test_huge_files_are_refused_before_git_reads_them(workspace):
    with (workspace.path / "sparse.bin").open("wb") as stream:
        stream.truncate(50 * 1024**3)
    with pytest.raises(WorkspaceError, match=r"sparse\.bin"):
        diff(workspace)
    (workspace.path / "sparse.bin").rename(workspace.path / ".gitattributes")
    with pytest.raises(WorkspaceError, match="too large to follow"):
        diff(workspace)


def test_every_status_git_reports_between_trees_is_known():
    assert set(comparison._STATUS) == set("AMTD")
    assert set(comparison._STATUS.values()) == set(ChangeStatus)


def test_a_diff_leaves_nothing_behind_in_the_runs_folder(workspace):
    before = sorted(path.name for path in workspace.folder.iterdir())
    diff(workspace)
    assert sorted(path.name for path in workspace.folder.iterdir()) == before


def only_tests(path: str) -> bool:
    return path.startswith("tests/")


def test_changes_that_are_not_allowed_are_left_out_and_put_back(workspace, git):
    for name, text in {"tests/test_a.py": "x", "src/auth.py": "changed", "new.txt": "new"}.items():
        (workspace.path / name).parent.mkdir(exist_ok=True)
        (workspace.path / name).write_text(text)
    (workspace.path / "README.md").unlink()
    patch = diff(workspace, only_tests)
    assert [change.path for change in patch.changes] == ["tests/test_a.py"]
    assert {(change.path, str(change.status)) for change in patch.reverted} == {
        ("src/auth.py", "modified"),
        ("new.txt", "added"),
        ("README.md", "deleted"),
    }
    assert patch.left_out == ()
    assert "auth" not in patch.text
    reset(workspace, patch.tree)
    assert (workspace.path / "src/auth.py").read_text().startswith("def login")
    assert (workspace.path / "README.md").exists()
    assert not (workspace.path / "new.txt").exists()
    assert git(workspace.path, "status", "--porcelain").split() == ["??", "tests/"]
    assert diff(workspace, only_tests).reverted == ()


def test_a_file_in_the_place_of_a_folder_that_must_stay_is_left_out_too(workspace):
    shutil.rmtree(workspace.path / "src")
    (workspace.path / "src").write_text("a file now")
    patch = diff(workspace, lambda path: path == "src")
    assert patch.changes == ()
    assert {change.path for change in patch.reverted} == {"src/auth.py"}
    reset(workspace, patch.tree)
    assert (workspace.path / "src/auth.py").is_file()


def test_a_folder_in_the_place_of_a_file_that_must_stay_is_left_out_too(workspace):
    (workspace.path / "README.md").unlink()
    (workspace.path / "README.md").mkdir()
    (workspace.path / "README.md/test_a.py").touch()
    patch = diff(workspace, lambda path: path.endswith(".py"))
    assert patch.changes == ()
    assert {change.path for change in patch.reverted} == {"README.md"}
    reset(workspace, patch.tree)
    assert (workspace.path / "README.md").is_file()
