"""How a delivered branch reaches the repository's GitHub: by one push, whose token is seen by nobody else."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from urllib.parse import urlsplit

from pydantic import SecretStr

from devtasks.errors import GitHubRefused, ServiceUnreachable, WorkspaceError
from devtasks.workspace.checkout import Workspace
from devtasks.workspace.git import NETWORK_SECONDS


def push(workspace: Workspace, commit: str, branch: str, url: str, token: SecretStr) -> None:
    """Make a branch of the repository at a URL point to a commit; one that is there is only ever moved forward.

    Git runs without the user's configuration, credential helpers and hooks, and reads the token from a pipe: it is in
    no command line, environment, file or remote.

    Raises:
        ServiceUnreachable: nobody answers there.
        GitHubRefused: git's own words.
    """
    with _pipe(f"username=x-access-token\npassword={token.get_secret_value()}\n") as descriptor:
        settings = {
            "credential.helper": f"!cat /dev/fd/{descriptor}; :",
            "http.followRedirects": "false",
        }
        numbered = [pair for at, each in enumerate(settings.items()) for pair in _variables(at, *each)]
        git = replace(workspace.git, kept=(descriptor,)).having(
            GIT_ALLOW_PROTOCOL=urlsplit(url).scheme, GIT_CONFIG_COUNT=str(len(settings)), **dict(numbered)
        )
        try:
            git.run("push", "--quiet", "--", url, f"{commit}:refs/heads/{branch}", seconds=NETWORK_SECONDS)
        except WorkspaceError as error:
            said = str(error)
            if "unable to access" in said and "returned error: 4" not in said:
                raise ServiceUnreachable("GitHub", url, said) from None
            todo = "see whether the token may write, and whether that branch is there with other content"
            raise GitHubRefused(f"take the branch {branch}", 0, said, todo) from None


def _variables(at: int, key: str, value: str) -> tuple[tuple[str, str], tuple[str, str]]:
    return (f"GIT_CONFIG_KEY_{at}", key), (f"GIT_CONFIG_VALUE_{at}", value)


@contextmanager
def _pipe(text: str) -> Generator[int]:
    """Give the descriptor of a pipe that holds a text, which can be read once."""
    reading, writing = os.pipe()
    try:
        with os.fdopen(writing, "w") as pipe:
            pipe.write(text)
        yield reading
    finally:
        os.close(reading)
