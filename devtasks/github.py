"""GitHub's REST API (version 2022-11-28), as far as a result needs it to become a draft pull request."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Annotated, Any, Self
from urllib.parse import quote, urlsplit

import httpx
from pydantic import BaseModel, ConfigDict, Field, SecretStr, TypeAdapter, ValidationError
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential_jitter

from devtasks.errors import GitHubRefused, ServiceUnreachable

API_URL = "https://api.github.com"

TRIES = 4
PATIENCE_SECONDS = 60.0
"""A limit that lasts longer is not waited for here: the run is queued again instead."""
UNNAMED_LIMIT_SECONDS = 60.0
"""What GitHub's documentation asks to wait after a secondary limit that names no time."""
MAX_BODY = 60_000
"""Characters of a pull request's text; GitHub takes 65,536."""

_BACKOFF = wait_exponential_jitter(initial=1, max=10)
_TODO: Mapping[int, str] = {
    401: "give the block a token that is valid",
    403: "give the token the permissions to read and write the repository's contents and pull requests",
    404: "name a repository that is there and that the token may see",
}


class Permissions(BaseModel):
    """What the token's owner may do in a repository."""

    model_config = ConfigDict(frozen=True)

    push: bool = False


class Repository(BaseModel):
    """A repository as GitHub describes it; a name that it had before leads to its present one."""

    model_config = ConfigDict(frozen=True)

    full_name: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
    default_branch: str
    archived: bool = False
    permissions: Permissions = Permissions()


class _PullRequest(BaseModel):
    html_url: str


class _Error(BaseModel):
    message: str = ""
    errors: list[Any] = []


class _Passing(Exception):
    """A refusal that passes by itself; `seconds` is how long it lasts, None where nobody has said."""

    def __init__(self, reason: str, seconds: float | None = None) -> None:
        super().__init__(reason)
        self.seconds = seconds


def web_url(api_url: str) -> str:
    """Return where the repositories of an API's GitHub are: those of GitHub Enterprise on the API's own host."""
    parts = urlsplit(api_url)
    host = parts.netloc if parts.path.strip("/") else parts.netloc.removeprefix("api.")
    return f"{parts.scheme}://{host}"


class GitHub:
    """A client of one GitHub; waits and tries again where a refusal passes.

    Every call raises ServiceUnreachable when there is no usable answer after TRIES tries or within a limit longer than
    PATIENCE_SECONDS, and GitHubRefused for what does not pass.
    """

    def __init__(
        self, api_url: str, token: SecretStr, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._api_url = api_url.rstrip("/")
        self._sleep = sleep
        headers = {
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {token.get_secret_value()}",
            "User-Agent": "devtasks",
            "X-GitHub-Api-Version": "2022-11-28",
        }
        self._client = httpx.AsyncClient(headers=headers, timeout=30, follow_redirects=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def repository(self, name: str) -> Repository:
        """Return a repository by `owner/name`."""
        response = await self._ask("GET", f"/repos/{name}", f"show {name}")
        return self._read(TypeAdapter(Repository), response)

    async def has(self, repository: Repository, kind: str, name: str) -> bool:
        """Tell whether a repository holds something of a kind, `branches` or `commits`, by its name."""
        path = f"/repos/{repository.full_name}/{kind}/{quote(name, safe='')}"
        try:
            await self._ask("GET", path, f"show {name} of {repository.full_name}")
        except GitHubRefused as error:
            if error.status in (HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY):
                return False
            raise
        return True

    async def open_draft(self, repository: Repository, *, head: str, base: str, title: str, body: str) -> str:
        """Return the address of a branch's pull request, which is opened as a draft where there never was one."""
        if found := await self._find(repository, head):
            return found
        wanted = {"title": title, "head": head, "base": base, "body": body[:MAX_BODY], "draft": True}
        what = f"open a draft pull request for {head} on {base}"
        try:
            response = await self._ask("POST", f"/repos/{repository.full_name}/pulls", what, json=wanted)
        except GitHubRefused:
            # An answer that was lost: the pull request is there.
            if found := await self._find(repository, head):
                return found
            raise
        return self._read(TypeAdapter(_PullRequest), response).html_url

    async def _find(self, repository: Repository, head: str) -> str | None:
        owner = repository.full_name.partition("/")[0]
        asked = {"head": f"{owner}:{head}", "state": "all", "per_page": "1"}
        what = f"list the pull requests of {repository.full_name}"
        response = await self._ask("GET", f"/repos/{repository.full_name}/pulls", what, params=asked)
        found = self._read(TypeAdapter(list[_PullRequest]), response)
        return found[0].html_url if found else None

    async def _ask(self, method: str, path: str, what: str, **request: Any) -> httpx.Response:
        async def once() -> httpx.Response:
            try:
                response = await self._client.request(method, f"{self._api_url}{path}", **request)
            except httpx.TransportError as error:
                raise _Passing(type(error).__name__) from error
            if not response.is_success:
                raise refusal(response, what, time.time())
            return response

        retrying = AsyncRetrying(
            retry=retry_if_exception_type(_Passing),
            stop=_stop,
            wait=_wait,
            sleep=self._sleep,
            reraise=True,
        )
        try:
            return await retrying(once)
        except (_Passing, httpx.HTTPError) as error:
            raise ServiceUnreachable("GitHub", self._api_url, str(error) or type(error).__name__) from error

    def _read[T](self, shape: TypeAdapter[T], response: httpx.Response) -> T:
        try:
            return shape.validate_json(response.content)
        except ValidationError:
            raise ServiceUnreachable("GitHub", self._api_url, "an answer that is not GitHub's") from None


def refusal(response: httpx.Response, what: str, now: float) -> Exception:
    """Return what an answer that refuses `what` means; `now` is in seconds since the epoch."""
    status, words = response.status_code, _words(response)
    limited = status == HTTPStatus.TOO_MANY_REQUESTS or (
        status == HTTPStatus.FORBIDDEN
        and ("rate limit" in words or "retry-after" in response.headers or _spent(response.headers))
    )
    if limited:
        return _Passing(f"HTTP {status}, {words}", _seconds(response.headers, now))
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _Passing(f"HTTP {status}")
    return GitHubRefused(what, status, words, _TODO.get(status))


def _spent(headers: httpx.Headers) -> bool:
    return headers.get("x-ratelimit-remaining") == "0"


def _seconds(headers: httpx.Headers, now: float) -> float:
    """Return how long a limit lasts, as the answer names it."""
    try:
        if "retry-after" in headers:
            return max(0.0, float(headers["retry-after"]))
        if _spent(headers):
            return max(1.0, float(headers["x-ratelimit-reset"]) - now)
    except (KeyError, ValueError):
        pass
    return UNNAMED_LIMIT_SECONDS


def _words(response: httpx.Response) -> str:
    """Return what GitHub says of a refusal, as one printable line."""
    try:
        error = _Error.model_validate_json(response.content)
    except ValidationError:
        return "no words"
    details = [each if isinstance(each, str) else str(each.get("message") or each.get("code")) for each in error.errors]
    line = ": ".join((error.message, *details))
    return "".join(char if char.isprintable() else " " for char in line)[:300]


def _stop(state: RetryCallState) -> bool:
    return state.attempt_number >= TRIES or (_named(state) or 0) > PATIENCE_SECONDS


def _wait(state: RetryCallState) -> float:
    seconds = _named(state)
    return _BACKOFF(state) if seconds is None else seconds


def _named(state: RetryCallState) -> float | None:
    error = state.outcome.exception() if state.outcome else None
    return error.seconds if isinstance(error, _Passing) else None
