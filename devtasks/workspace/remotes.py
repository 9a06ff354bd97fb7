"""What a repository on this machine is called on GitHub."""

from pathlib import Path

from devtasks.errors import InvalidInput
from devtasks.github import read_remote
from devtasks.workspace.git import Git, without_user_info

_FETCH = " (fetch)"


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
