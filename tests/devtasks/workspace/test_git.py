import os
import time

import pytest
from processes import alive, until

from devtasks.errors import WorkspaceError
from devtasks.workspace.git import Git


@pytest.fixture
def scripted_git(tmp_path, monkeypatch):
    """Put a shell script in the place of git; returns git at a temporary folder."""

    def script(body: str) -> Git:
        program = tmp_path / "bin/git"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        return Git.at(tmp_path)

    return script


def test_a_command_that_takes_too_long_is_stopped_with_all_it_started(scripted_git, tmp_path):
    git = scripted_git(f"echo > '{tmp_path}/child'; tail --follow '{tmp_path}/child' & wait")
    started = time.monotonic()
    with pytest.raises(WorkspaceError, match="git fetch was stopped after 1 seconds"):
        git.run("fetch", seconds=1)
    assert time.monotonic() - started < 20
    assert (tmp_path / "child").exists()
    until(lambda: not alive(f"tail --follow {tmp_path}"))


def test_a_long_complaint_becomes_one_bounded_line_of_what_tells(scripted_git):
    git = scripted_git("echo 'hint: noise' >&2; printf 'fatal: \\033[1mbad\\nerror: %0999d\\n' 0 >&2; exit 128")
    with pytest.raises(WorkspaceError) as refused:
        git.run("fetch")
    assert str(refused.value).startswith("git fetch: fatal: ?[1mbad; error: 000")
    assert len(str(refused.value)) < 450


def test_output_beyond_the_limit_is_refused(scripted_git):
    git = scripted_git("echo 123456789")
    assert git.run("log", limit=10) == b"123456789\n"
    with pytest.raises(WorkspaceError, match="more than 9 bytes"):
        git.run("log", limit=9)


def test_a_machine_without_git_gets_a_clear_message(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(WorkspaceError, match="git status cannot be started"):
        Git.at(tmp_path).run("status")


def test_no_git_variable_of_the_caller_and_no_prompt_reaches_git(scripted_git, monkeypatch):
    monkeypatch.setenv("GIT_DIR", "/elsewhere")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    environment = scripted_git("env").line("status").splitlines()
    assert "GIT_TERMINAL_PROMPT=0" in environment
    assert not [line for line in environment if line.startswith(("GIT_DIR=", "GIT_CONFIG_COUNT="))]
