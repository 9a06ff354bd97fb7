"""A GitHub on loopback: REST endpoints in GitHub's shapes, and one repository over git's protocol."""

import asyncio
import base64
import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from harness import Up, git
from services import Fault, service

NAME = "acme/shop"
TOKEN = "github_pat_11ABCDE_5eCr3tT0kenThatNobodyMaySee"


@dataclass
class GitHubServer:
    """`answers` come before the real ones, each once, as `refused` does where a pull request is opened.

    With `lost` one is opened and the answer is not sent; `seen` is called with each of git's requests.
    """

    bare: Path
    answers: list[httpx.Response | Fault] = field(default_factory=list)
    lost: bool = False
    refused: list[httpx.Response] = field(default_factory=list)
    push: bool = True
    seen: Callable[[], None] = lambda: None
    origin: str = ""
    requests: list[tuple[str, str]] = field(default_factory=list)
    pulls: list[dict[str, Any]] = field(default_factory=list)

    @property
    def api_url(self) -> str:
        return f"{self.origin}/api/v3"

    @property
    def remote(self) -> str:
        return f"{self.origin}/{NAME}.git"

    def posted(self) -> int:
        return sum(method == "POST" for method, _ in self.requests)

    async def answer(self, request: httpx.Request) -> httpx.Response | Fault:
        if request.url.path.startswith("/api/v3/"):
            self.requests.append((request.method, request.url.path.removeprefix("/api/v3")))
            return self.answers.pop(0) if self.answers else self._rest(request)
        return await self._git(request)

    def _rest(self, request: httpx.Request) -> httpx.Response | Fault:  # noqa: PLR0911 - one for each endpoint
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return problem(401, "Bad credentials")
        match request.method, request.url.path.removeprefix(f"/api/v3/repos/{NAME}").split("/")[1:]:
            case "GET", []:
                return httpx.Response(200, json=repository(push=self.push))
            case "GET", ["commits", sha]:
                return self._known(sha, 422, f"No commit found for SHA: {sha}")
            case "GET", ["branches", *parts]:
                return self._known(f"refs/heads/{'/'.join(parts)}", 404, "Branch not found")
            case "GET", ["pulls"]:
                head = request.url.params["head"].removeprefix("acme:")
                return httpx.Response(200, json=[each for each in self.pulls if each["head"]["ref"] == head])
            case "POST", ["pulls"]:
                return self._open(json.loads(request.content))
            case _:
                return problem(404, "Not Found")

    def _known(self, name: str, status: int, words: str) -> httpx.Response:
        try:
            return httpx.Response(200, json={"sha": git(self.bare, "rev-parse", "--verify", f"{name}^{{commit}}")})
        except Exception:
            return problem(status, words)

    def _open(self, wanted: dict[str, Any]) -> httpx.Response | Fault:
        if self.refused:
            return self.refused.pop(0)
        if any(each["head"]["ref"] == wanted["head"] for each in self.pulls):
            return problem(422, "Validation Failed", f"A pull request already exists for acme:{wanted['head']}.")
        number = len(self.pulls) + 1
        made = {**wanted, "number": number, "html_url": f"{self.origin}/{NAME}/pull/{number}"}
        made |= {"head": {"ref": wanted["head"]}, "base": {"ref": wanted["base"]}}
        self.pulls.append(made)
        if self.lost:
            return Fault.DROPS
        return httpx.Response(201, json=made)

    async def _git(self, request: httpx.Request) -> httpx.Response:
        self.seen()
        wanted = base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()
        if request.headers.get("authorization") != f"Basic {wanted}":
            return httpx.Response(401, headers={"WWW-Authenticate": 'Basic realm="GitHub"'})
        return await http_backend(self.bare, request)


def repository(*, push: bool = True, **changes: Any) -> dict[str, Any]:
    permissions = {"admin": False, "push": push, "pull": True}
    values = {"id": 1, "full_name": NAME, "default_branch": "main", "archived": False, "permissions": permissions}
    return values | changes


def problem(status: int, words: str, *details: str, **headers: str) -> httpx.Response:
    """Return a refusal in GitHub's shape; `headers` with _ for -."""
    body: dict[str, Any] = {
        "message": words,
        "documentation_url": "https://docs.github.com/rest",
        "status": str(status),
    }
    if details:
        body["errors"] = [{"resource": "PullRequest", "code": "custom", "message": each} for each in details]
    return httpx.Response(status, json=body, headers={name.replace("_", "-"): value for name, value in headers.items()})


async def http_backend(bare: Path, request: httpx.Request) -> httpx.Response:
    """Answer one request of git's with the program that git ships for servers."""
    variables = {
        "GIT_PROJECT_ROOT": str(bare),
        "GIT_HTTP_EXPORT_ALL": "1",
        "PATH_INFO": request.url.path.removeprefix(f"/{NAME}.git"),
        "REQUEST_METHOD": request.method,
        "QUERY_STRING": request.url.query.decode(),
        "CONTENT_TYPE": request.headers.get("content-type", ""),
        "CONTENT_LENGTH": str(len(request.content)),
        "HTTP_CONTENT_ENCODING": request.headers.get("content-encoding", ""),
        "REMOTE_USER": "x-access-token",
        "PATH": os.environ["PATH"],
    }
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec("git", "http-backend", env=variables, stdin=pipe, stdout=pipe)
    output, _ = await process.communicate(request.content)
    head, _, body = output.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
    return httpx.Response(int(headers.pop("Status", "200 OK").split()[0]), headers=headers, content=body)


@asynccontextmanager
async def github(folder: Path, repository: Path) -> AsyncGenerator[GitHubServer]:
    """Serve a GitHub that has all that a repository's `main` has, and make it that repository's origin."""
    bare = folder / "github.git"
    git(folder, "init", "-q", "--bare", "-b", "main", str(bare))
    git(repository, "push", "-q", str(bare), "HEAD:refs/heads/main")
    git(bare, "config", "http.receivepack", "true")
    server = GitHubServer(bare)
    async with service(server.answer) as address:
        server.origin = address.removesuffix("/api/v1")
        git(repository, "remote", "add", "origin", server.remote)
        yield server


@contextlib.contextmanager
def github_in_background(folder: Path, repository: Path) -> Generator[GitHubServer]:
    """The same in a thread, for tests that wait for other processes."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    serving = github(folder, repository)
    try:
        yield asyncio.run_coroutine_threadsafe(serving.__aenter__(), loop).result(30)
    finally:
        asyncio.run_coroutine_threadsafe(serving.__aexit__(None, None, None), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


def make_block(up: Up, server: GitHubServer, name: str) -> None:
    """Save the server's token on a stack, as the block of this name."""
    code = (
        "import sys; from blocks import GitHubCredentials as Block;"
        "Block(token=sys.stdin.read(), api_url=sys.argv[1]).save(sys.argv[2], overwrite=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, server.api_url, name],
        input=TOKEN,
        env=up.environment | up.connection(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
