"""Makes projects' environments in containers, for the runs that work in containers of the same image."""

import asyncio
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

from devtasks.environments.builder import DOWNLOADS, Step
from devtasks.execution.docker_engine import ask, hand_over, image_id, mount, shut_in
from devtasks.execution.image import PATH, PYTHON

_NAMING_FILES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "UV_CONFIG_FILE", "UV_FIND_LINKS")
"""The variables by which a step may be shown certificates, uv's settings and wheels."""


class DockerBuilder:
    """Runs each step in a container of `image` as the same user and as denied of all else as a run, but with a network.

    It is the machine's own network: an index is reached, through a proxy or a tunnel, as any program here reaches it.
    `folder` is the run's, `cache` the folder that the environments are in; uv's downloads are kept there apart from the
    host's, whose owner can be another.
    """

    python = Path(PYTHON)
    uv = "uv"

    def __init__(self, image: str, folder: Path, cache: Path) -> None:
        self._image = image
        self._folder = folder
        self._downloads = cache / f"{DOWNLOADS}-docker"
        self._name = ""

    def path(self, own: str) -> str:
        """Return the image's."""
        return PATH

    async def identity(self) -> tuple[str, ...]:
        """Return the image's digest, with which its Python and its uv are told."""
        return (await image_id(self._image),)

    async def start(self, step: Step) -> tuple[tuple[str, ...], None]:
        """Return the `docker run` of a step."""
        writable = (*step.writable, self._downloads)
        await asyncio.to_thread(_hand_over, writable)
        # The address of an index or of a proxy may hold a password, which is for no command line.
        given = {name: None if value == os.environ.get(name) else value for name, value in step.environment.items()}
        variables = given | {"UV_CACHE_DIR": str(self._downloads), "UV_LINK_MODE": "copy"}
        mounts = [*(mount(path, str(path)) for path in writable), *_settings(step.environment)]
        self._name = f"devtasks-{secrets.token_hex(8)}"
        options = shut_in(self._folder, variables, mounts, network="host", workdir=str(step.cwd))
        return ("docker", "run", "--name", self._name, "--init", *options, self._image, *step.argv), None

    async def kill(self) -> None:
        """Remove the container of the step that was started last."""
        await ask("rm", "--force", self._name)


def _settings(environment: Mapping[str, str]) -> Iterator[str]:
    """Yield the mounts of the files that the variables name, where there are any."""
    named = [part for name in _NAMING_FILES for part in re.split("[,:]", environment.get(name, ""))]
    for path in map(Path, (*named, f"{environment['XDG_CONFIG_HOME']}/uv")):
        if path.is_absolute() and path.exists():
            yield mount(path, str(path), "readonly")


def _hand_over(folders: tuple[Path, ...]) -> None:
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        if folder.stat().st_uid == os.getuid():  # and not handed over before
            hand_over(folder)
