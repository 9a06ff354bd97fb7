"""What a repository on this machine is called on GitHub."""

import re
from pathlib import Path

from devtasks.errors import InvalidInput
from devtasks.workspace.git import Git, without_user_info

_FETCH = " (fetch)"
_NAME = r"(?P<name>[\w.-]+/[\w.-]+?)(?:\.git)?/?"
_REMOTES = (
    re.compile(rf"(?:https?|ssh)://(?:[^/@]*@)?(?P<host>[\w.-]+)(?::\d+)?/{_NAME}"),
    re.compile(rf"(?:[\w.-]+@)?(?P<host>[\w.-]+):{_NAME}"),
)


def read_remote(url: str) -> tuple[str, str] | None:
    """Return the host and `owner/name` that a git remote's URL stands for, None where it has another form."""
    found = next((match for form in _REMOTES if (match := form.fullmatch(url))), None)
    return (found["host"].lower(), found["name"]) if found else None


def github_name(repository: Path, host: str | None = None) -> str:
    """Return the `owner/name` that a repository's remote stands for, one of this host where given; origin first.

    Raises InvalidInput for a repository without such a remote.
    """
    listed = Git.at(repository).run("remote", "--verbose").decode(errors="replace").splitlines()
    urls = dict(line.removesuffix(_FETCH).split("\t", 1) for line in listed if line.endswith(_FETCH))
    for name in sorted(urls, key=lambda name: name != "origin"):
        found = read_remote(urls[name])
        if found and host in (None, found[0]):
            return found[1]
    there = ", ".join(f"{name} {without_user_info(url)}" for name, url in urls.items()) or "it has none"
    allowed = f"patch or branch for a repository without a remote on {host or 'GitHub'} ({there})"
    raise InvalidInput("delivery", "pull_request", allowed)


def branch_name(repository: Path, ref: str) -> str | None:
    """Return the name that a ref has as a branch on its remote, None for a tag or a commit."""
    name = Git.at(repository).line("rev-parse", "--symbolic-full-name", ref)
    if name.startswith("refs/heads/"):
        return name.removeprefix("refs/heads/")
    return name.removeprefix("refs/remotes/").partition("/")[2] if name.startswith("refs/remotes/") else None
