"""What GitHub's answers come to, and the pull request that is there once, over HTTP with GitHub's shapes."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from github_server import NAME, TOKEN, GitHubServer, github, problem, repository
from harness import commit_files
from pydantic import SecretStr
from services import Fault

from devtasks.errors import DevtasksError, GitHubRefused, ServiceUnreachable
from devtasks.github import MAX_BODY, TRIES, GitHub, Repository, web_url
from devtasks.workspace.remotes import read_remote


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        pytest.param("https://github.com/acme/shop.git", ("github.com", NAME), id="https"),
        pytest.param("https://GitHub.com/acme/shop/", ("github.com", NAME), id="no-suffix"),
        pytest.param("https://me:secret@github.com/acme/shop.git", ("github.com", NAME), id="user-and-password"),
        pytest.param("git@github.com:acme/shop.git", ("github.com", NAME), id="scp"),
        pytest.param("ssh://git@ghe.example.com:2222/acme/shop.git", ("ghe.example.com", NAME), id="ssh-with-port"),
        pytest.param("https://github.com/acme/shop.js", ("github.com", "acme/shop.js"), id="dot-in-name"),
        pytest.param("https://gitlab.com/group/sub/shop.git", None, id="three-parts"),
        pytest.param("/srv/git/shop.git", None, id="folder"),
        pytest.param("file:///srv/shop.git", None, id="file"),
    ],
)
def test_a_remote_is_read(url: str, expected: tuple[str, str] | None) -> None:
    assert read_remote(url) == expected


@pytest.mark.parametrize(
    ("api_url", "expected"),
    [
        ("https://api.github.com", "https://github.com"),
        ("https://api.acme.ghe.com/", "https://acme.ghe.com"),
        ("https://ghe.example.com/api/v3", "https://ghe.example.com"),
        ("http://127.0.0.1:8000/api/v3", "http://127.0.0.1:8000"),
    ],
)
def test_the_repositories_of_an_api_are_found(api_url: str, expected: str) -> None:
    assert web_url(api_url) == expected


def serve[T](
    tmp_path: Path, work: Callable[[GitHubServer, GitHub], Awaitable[T]], token: str = TOKEN
) -> tuple[T | DevtasksError, GitHubServer, list[float]]:
    """Return what came of work with a client, the server, and the seconds that were waited."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    async def act() -> tuple[T | DevtasksError, GitHubServer, list[float]]:
        async with (
            github(tmp_path, commit_files(tmp_path / "shop", {"a.py": ""})) as server,
            GitHub(server.api_url, SecretStr(token), sleep=sleep) as client,
        ):
            try:
                return await work(server, client), server, waited
            except DevtasksError as error:
                return error, server, waited

    return asyncio.run(act())


async def show(_: GitHubServer, client: GitHub) -> Repository:
    return await client.repository(NAME)


def meeting(*answers: httpx.Response | Fault) -> Callable[[GitHubServer, GitHub], Awaitable[Repository]]:
    async def work(server: GitHubServer, client: GitHub) -> Repository:
        server.answers = list(answers)
        return await client.repository(NAME)

    return work


SECONDARY = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        pytest.param(httpx.Response(502, text="<html>Bad Gateway</html>"), None, id="502"),
        pytest.param(Fault.DROPS, None, id="dropped"),
        pytest.param(problem(403, SECONDARY, Retry_After="7"), 7, id="secondary-limit-of-seven-seconds"),
        pytest.param(problem(429, SECONDARY), 60, id="secondary-limit-without-a-time"),
        pytest.param(problem(403, SECONDARY, X_RateLimit_Remaining="0", X_RateLimit_Reset="1"), 1, id="just-reset"),
    ],
)
def test_what_passes_is_waited_for(tmp_path: Path, answer: httpx.Response | Fault, seconds: float | None) -> None:
    found, server, waited = serve(tmp_path, meeting(answer))
    assert found == Repository.model_validate(repository())
    assert (len(server.requests), len(waited)) == (2, 1)
    assert seconds in (None, waited[0])


def test_what_does_not_pass_soon_is_a_service_that_cannot_be_reached(tmp_path: Path) -> None:
    broken, server, waited = serve(tmp_path, meeting(*[httpx.Response(503)] * TRIES))
    assert isinstance(broken, ServiceUnreachable)
    assert "HTTP 503" in str(broken)
    assert (len(server.requests), len(waited)) == (TRIES, TRIES - 1)


def test_a_limit_of_an_hour_is_not_waited_for(tmp_path: Path) -> None:
    limited, server, waited = serve(tmp_path, meeting(problem(403, "API rate limit exceeded", Retry_After="3600")))
    assert isinstance(limited, ServiceUnreachable)
    assert "API rate limit exceeded" in str(limited)
    assert (len(server.requests), waited) == (1, [])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param(problem(401, "Bad credentials"), "a token that is valid", id="401"),
        pytest.param(problem(403, "Resource not accessible by personal access token"), "permissions", id="403"),
        pytest.param(problem(404, "Not Found"), "that the token may see", id="404"),
        pytest.param(problem(422, "Validation Failed", "no commits"), "Validation Failed: no commits", id="422"),
        pytest.param(httpx.Response(418, text="<html>"), "no words", id="not-githubs-shape"),
    ],
)
def test_what_does_not_pass_is_told_once_with_what_to_do(tmp_path: Path, answer: httpx.Response, words: str) -> None:
    refused, server, waited = serve(tmp_path, meeting(answer))
    assert isinstance(refused, GitHubRefused)
    assert f"GitHub refuses to show {NAME} (HTTP {answer.status_code})" in str(refused)
    assert words in str(refused)
    assert (len(server.requests), waited) == (1, [])


def test_a_wrong_token_is_in_no_message(tmp_path: Path) -> None:
    refused, _, _ = serve(tmp_path, show, token="wrong-5ecret")
    assert "Bad credentials" in str(refused)
    assert "5ecret" not in f"{refused!r} {refused.__cause__!r}"


def test_an_answer_that_is_not_githubs_is_no_answer(tmp_path: Path) -> None:
    found, _, _ = serve(tmp_path, meeting(httpx.Response(200, json={"full_name": "../.."})))
    assert isinstance(found, ServiceUnreachable)


def test_what_a_repository_holds_is_told_apart_from_what_it_does_not(tmp_path: Path) -> None:
    async def work(_: GitHubServer, client: GitHub) -> list[bool]:
        found = await client.repository(NAME)
        asked = [("branches", "main"), ("branches", "a/b"), ("commits", "0" * 40)]
        return [await client.has(found, kind, name) for kind, name in asked]

    assert serve(tmp_path, work)[0] == [True, False, False]


async def open_draft(server: GitHubServer, client: GitHub) -> str:
    values: dict[str, Any] = {"head": "devtasks/x", "base": "main", "title": "T", "body": "b" * 70_000}
    return await client.open_draft(Repository.model_validate(repository()), **values)


def test_a_pull_request_is_a_draft_and_opened_once(tmp_path: Path) -> None:
    async def twice(server: GitHubServer, client: GitHub) -> list[str]:
        return [await open_draft(server, client), await open_draft(server, client)]

    addresses, server, _ = serve(tmp_path, twice)
    assert addresses == [f"{server.origin}/{NAME}/pull/1"] * 2
    (made,) = server.pulls
    assert (made["draft"], made["base"], len(made["body"])) == (True, {"ref": "main"}, MAX_BODY)
    assert server.posted() == 1


def test_an_answer_that_was_lost_makes_no_second_pull_request(tmp_path: Path) -> None:
    async def lost(server: GitHubServer, client: GitHub) -> str:
        server.lost = True
        return await open_draft(server, client)

    address, server, waited = serve(tmp_path, lost)
    assert address == f"{server.origin}/{NAME}/pull/1"
    assert (len(server.pulls), server.posted(), len(waited)) == (1, 2, 1)


def test_drafts_that_a_repository_does_not_have_are_told_in_githubs_words(tmp_path: Path) -> None:
    async def work(server: GitHubServer, client: GitHub) -> str:
        words = "Draft pull requests are not supported in this repository."
        server.answers = [httpx.Response(200, json=[]), problem(422, "Validation Failed", words)]
        return await open_draft(server, client)

    refused, server, _ = serve(tmp_path, work)
    assert "Draft pull requests are not supported" in str(refused)
    assert server.pulls == []
