"""A delivered branch becomes a draft pull request: real git over its own protocol, and a GitHub on loopback."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from builders import make_attempt
from github_server import NAME, TOKEN, GitHubServer, github, problem
from harness import commit_files, git
from prefect.logging import disable_run_logger
from pydantic import SecretStr

from blocks import GitHubCredentials
from devtasks import workspace
from devtasks.errors import DevtasksError, GitHubRefused, InvalidInput, ServiceUnreachable
from devtasks.redaction import Redactor
from devtasks.report import TaskReport
from devtasks.task import DevTask
from devtasks.validation.result import Finding, ValidationLevel
from tasks.open_pull_request import check_pull_request, open_pull_request

AUTHOR = workspace.Identity("devtasks", "devtasks@localhost")


def attempt(act: Callable[[], Awaitable[Any]]) -> Any:
    async def quietly() -> Any:
        try:
            with disable_run_logger():
                return await act()
        except DevtasksError as error:
            return error

    return quietly()


class Case:
    """A repository with a delivered branch, the GitHub that is its origin, and the run that asks for a pull request."""

    def __init__(self, folder: Path, server: GitHubServer, shop: Path, *, token: str = TOKEN, **task: Any) -> None:
        self.server, self.shop, self.folder = server, shop, folder / "run"
        values = {"task_id": "t", "category": "unit_test", "description": "d", "target_file": "shop.py"}
        self.task = DevTask.parse(**values, repository=str(shop), delivery="pull_request", **task)
        keys = GitHubCredentials(token=SecretStr(token), api_url=server.api_url)
        self.run: Any = SimpleNamespace(task=self.task, github=keys, redactor=Redactor({"token": token}))

    def deliver(self) -> tuple[workspace.Workspace, TaskReport]:
        made = workspace.prepare(self.task, self.folder)
        (made.path / "test_shop.py").write_text("def test_price():\n    assert True\n")
        patch = workspace.diff(made)
        named = {"branch": "devtasks/unit_test-1", "message": "Tests\n\nDevtasks-Run: r\n"}
        done = workspace.deliver_branch(made, patch, author=AUTHOR, **named)
        return made, report(branch=done.branch, commit=done.commit)

    async def check(self) -> Any:
        return await attempt(lambda: check_pull_request(self.run))

    async def open(self) -> Any:
        made, found = self.deliver()
        return await attempt(lambda: open_pull_request.fn(self.run, made, found))


def report(**changes: Any) -> TaskReport:
    bad = Finding("passes", ValidationLevel.ERROR, f"closes #7 and tells @someone ```` {TOKEN}", "a.py:1")
    values: dict[str, Any] = {
        "task_id": "t",
        "flow_run_id": "r",
        "title": "unit_test shop.py",
        "state": "Accepted",
        "outcome": "accepted",
        "reason": "a model passed validation with score 0.90 after 1 attempt",
        "repository": "/home/someone/shop",
        "evidence": "/home/someone/runs/r",
        "simulated": True,
        "attempts": (make_attempt(simulated=True, score=0.9, findings=(bad,)),),
    }
    return TaskReport(**values | changes)


def run[T](tmp_path: Path, work: Callable[[Case], Awaitable[T]], *, dirty: bool = False, **values: Any) -> T:
    async def act() -> T:
        shop = commit_files(tmp_path / "shop", {"shop.py": "PRICE = 1\n"})
        async with github(tmp_path, shop) as server:
            if dirty:
                commit_files(shop, {"more.py": ""})
            return await work(Case(tmp_path, server, shop, **values))

    return asyncio.run(act())


def test_the_branch_is_pushed_and_a_draft_is_opened_once_however_often_the_step_runs(tmp_path: Path) -> None:
    async def work(case: Case) -> None:
        assert await case.check() is None
        made, delivered = case.deliver()
        with disable_run_logger():
            addresses = {await open_pull_request.fn(case.run, made, delivered) for _ in range(2)}
        assert addresses == {f"{case.server.origin}/{NAME}/pull/1"}
        (pull,) = case.server.pulls
        assert (pull["draft"], pull["head"]["ref"], pull["base"]["ref"]) == (True, "devtasks/unit_test-1", "main")
        assert git(case.server.bare, "rev-parse", "devtasks/unit_test-1") == delivered.commit

    run(tmp_path, work)


def test_the_text_says_what_is_known_and_links_nobody_and_shows_no_secret_and_no_folder(tmp_path: Path) -> None:
    async def work(case: Case) -> None:
        await case.open()
        (pull,) = case.server.pulls
        assert pull["title"] == "unit_test shop.py (simulated)"
        body = pull["body"]
        assert "| 1 | acme/coder:free (simulated) | accepted | 0.90 |" in body
        assert "were **simulated**" in body
        _, fence, rest = body.partition("\n`````text\n")
        assert fence
        inside, fence, after = rest.partition("\n`````\n")
        assert fence
        assert "closes #7 and tells @someone" in inside
        assert "@" not in after
        assert TOKEN not in body
        assert "/home/someone" not in body

    run(tmp_path, work)


def exposed(token: str) -> list[str]:
    """Return the processes whose command line or environment shows a token."""
    found: list[str] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if token in " ".join((*process.cmdline(), *process.environ().values())):
                found.append(process.name())
    return found


def test_the_token_is_in_no_process_and_no_file_and_no_helper_of_the_user_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    told = home / "told"
    (home / ".gitconfig").write_text(f'[credential]\n\thelper = "!f() {{ cat >> {told}; }}; f"\n')
    monkeypatch.setenv("HOME", str(home))

    async def work(case: Case) -> None:
        seen: list[list[str]] = []
        pushing: list[bool] = []

        def look() -> None:
            seen.append(exposed(TOKEN))
            pushing.append(any(each.name().startswith("git") for each in psutil.Process().children(recursive=True)))

        case.server.seen = look
        assert str(await case.open()).endswith("/pull/1")
        assert pushing[:2] == [True, True], "git was asked for the token while we looked"
        assert [each for each in seen if each] == []
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert [path for path in files if TOKEN.encode() in path.read_bytes()] == []
        assert not told.exists()

    run(tmp_path, work)


def test_what_shows_a_token_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    child = psutil.Popen(["sleep", "60"], env={**os.environ, "SHOWN": "a-token-for-all"})
    try:
        assert exposed("a-token-for-all") == ["sleep"]
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize(
    ("spoil", "kind", "words"),
    [
        pytest.param({"token": "wrong"}, GitHubRefused, "Bad credentials", id="wrong-token"),
        pytest.param({"dirty": True}, InvalidInput, "push", id="base-commit-not-on-github"),
    ],
)
def test_what_cannot_become_a_pull_request_is_known_before_any_work(
    tmp_path: Path, spoil: dict[str, Any], kind: type[Exception], words: str
) -> None:
    error = run(tmp_path, Case.check, **spoil)
    assert isinstance(error, kind)
    assert words in str(error)


def test_a_repository_that_may_not_be_written_is_refused_before_any_work(tmp_path: Path) -> None:
    async def work(case: Case) -> Any:
        case.server.push = False
        return await case.check()

    assert "may not be written by the owner of the token" in str(run(tmp_path, work))


def test_a_repository_without_a_remote_on_the_blocks_github_is_refused_before_any_work(tmp_path: Path) -> None:
    async def work(case: Case) -> Any:
        case.run.github = case.run.github.model_copy(update={"api_url": "https://api.github.com"})
        git(case.shop, "remote", "set-url", "origin", "https://me:pass@example.org/acme/shop.git")
        return await case.check()

    error = run(tmp_path, work)
    assert isinstance(error, InvalidInput)
    assert "without a remote on github.com (origin https://…@example.org/acme/shop.git)" in str(error)


@pytest.mark.parametrize("remote", [None, "/srv/shop.git"], ids=["no-remote", "folder"])
def test_a_repository_without_any_such_remote_is_refused_where_it_is_submitted(
    tmp_path: Path, remote: str | None
) -> None:
    shop = commit_files(tmp_path / "shop", {"shop.py": ""})
    if remote:
        git(shop, "remote", "add", "origin", remote)
    values = {"task_id": "t", "category": "unit_test", "description": "d", "target_file": "shop.py"}
    task = DevTask.parse(**values, repository=str(shop), delivery="pull_request")
    with pytest.raises(InvalidInput, match="patch or branch for a repository without a remote on GitHub"):
        workspace.check_repository(task)


def test_the_base_is_the_branch_the_task_began_from_where_github_has_it_and_else_the_default(tmp_path: Path) -> None:
    async def work(case: Case) -> None:
        git(case.shop, "switch", "-q", "-c", "feature/a")
        await case.open()
        git(case.shop, "push", "-q", str(case.server.bare), "feature/a")
        case.server.pulls.clear()
        await case.open()
        assert case.server.pulls[0]["base"]["ref"] == "feature/a"

    run(tmp_path, work)


def test_a_branch_of_the_same_name_with_other_content_is_left_alone(tmp_path: Path) -> None:
    async def work(case: Case) -> None:
        git(case.shop, "commit", "-q", "--allow-empty", "-m", "other")
        git(case.shop, "push", "-q", str(case.server.bare), "HEAD:refs/heads/devtasks/unit_test-1")
        git(case.shop, "reset", "-q", "--hard", "HEAD~1")
        error = await case.open()
        assert isinstance(error, GitHubRefused)
        assert "whether that branch is there with other content" in str(error)
        assert case.server.pulls == []
        assert git(case.server.bare, "log", "-1", "--format=%s", "devtasks/unit_test-1") == "other"

    run(tmp_path, work)


def test_a_push_that_nobody_answers_may_be_tried_later(tmp_path: Path) -> None:
    async def work(case: Case) -> None:
        made, delivered = case.deliver()
        with pytest.raises(ServiceUnreachable):
            workspace.push(made, str(delivered.commit), "x", "http://127.0.0.1:9/acme/shop.git", SecretStr(TOKEN))

    run(tmp_path, work)


def test_a_refusal_after_the_push_leaves_the_branch(tmp_path: Path) -> None:
    async def work(case: Case) -> None:
        case.server.refused = [problem(403, "Resource not accessible by personal access token")]
        error = await case.open()
        assert isinstance(error, GitHubRefused)
        assert "not accessible" in str(error)
        there = [git(place, "rev-parse", "devtasks/unit_test-1") for place in (case.shop, case.server.bare)]
        assert there[0] == there[1]

    run(tmp_path, work)
