"""What the Docker engine is asked for: images, containers of ours, and what every one of them is denied."""

import asyncio
import contextlib
import csv
import io
import os
import shutil
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Iterable, Mapping
from pathlib import Path

from devtasks.errors import InvalidInput, ServiceUnreachable
from devtasks.execution.image import RECIPE_LABEL, recipe

RUN_LABEL = "devtasks.run"
"""The label with a container's run folder, by which one that was left behind is found."""

UNPRIVILEGED = 65_532
"""User and group in the container where the worker is root; elsewhere they are the worker's own."""

TEMPORARY_MB = 512
"""What /tmp in a container holds; it counts as memory. TMPDIR lies in the run's folder."""

ANSWER_SECONDS = 30.0
"""What the Docker engine may take to answer a question."""

_MAKE = "one that `make image` made from this version"


async def check_image(image: str) -> None:
    """Raise InvalidInput where no container of the image could run: no docker command, no or another image.

    Raises:
        InvalidInput: there is no `docker` command, no such image, or one made from another recipe than this version's.
        ServiceUnreachable: no engine answers.
    """
    if shutil.which("docker") is None:
        raise InvalidInput("runtime", "docker", "local, or a worker with Docker: there is no docker command here")
    code, found, words = await ask(
        "image", "inspect", "--format", f'{{{{index .Config.Labels "{RECIPE_LABEL}"}}}}', image
    )
    if code and "No such image" in words:
        raise InvalidInput("image", image, f"{_MAKE}; there is none of this name")
    if code:
        raise ServiceUnreachable("Docker", await _engine(), words)
    if found != recipe():
        raise InvalidInput(
            "image", image, f"{_MAKE} (recipe {recipe()}), or an image FROM it; this is {found or 'foreign'}"
        )


async def image_id(image: str) -> str:
    """Return the digest of an image's content; its name where the engine does not tell."""
    return (await ask("image", "inspect", "--format", "{{.Id}}", image))[1] or image


async def remove_containers(folders: Iterable[Path]) -> int:
    """Remove the containers that runs left behind in these folders; return how many."""
    wanted = set(folders)
    strays = [container for container, folder in await list_containers() if folder in wanted] if wanted else []
    if strays:
        await ask("rm", "--force", *strays)
    return len(strays)


async def list_containers() -> list[tuple[str, Path]]:
    """Return the id and the run's folder of every container of ours; none where there is no Docker."""
    if shutil.which("docker") is None:
        return []
    listed = await ask(
        "ps", "--all", "--format", f'{{{{.ID}}}}\t{{{{.Label "{RUN_LABEL}"}}}}', "--filter", f"label={RUN_LABEL}"
    )
    lines = (line.partition("\t") for line in listed[1].splitlines())
    return [(container, Path(folder)) for container, _, folder in lines]


async def _engine() -> str:
    return (await ask("context", "inspect", "--format", "{{.Endpoints.docker.Host}}"))[1] or "its socket"


async def ask(*arguments: str) -> tuple[int, str, str]:
    """Return a docker command's exit code and what it said on either stream; -1 where it took too long."""
    process = await asyncio.create_subprocess_exec(
        "docker", *arguments, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, start_new_session=True
    )
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            output, error = await process.communicate()
    except TimeoutError:
        return -1, "", f"no answer within {ANSWER_SECONDS:g} s"
    finally:
        if process.returncode is None:
            process.kill()
    return process.returncode or 0, output.decode().strip(), error.decode(errors="replace").strip()


def user() -> tuple[int, int]:
    """Return the user and the group that containers run as."""
    return (os.getuid(), os.getgid()) if os.getuid() else (UNPRIVILEGED, UNPRIVILEGED)


def hand_over(folder: Path) -> None:
    """Make a folder with all in it the container's user's, where the worker is another."""
    if os.getuid() == user()[0]:
        return
    give(folder)
    for _, folders, files, directory in os.fwalk(folder, follow_symlinks=False):
        for name in (*folders, *files):
            give(name, directory)


def give(path: str | Path, directory: int | None = None) -> None:
    """Make one file or folder the container's user's; a link itself, not what it leads to."""
    with contextlib.suppress(FileNotFoundError):
        os.chown(path, *user(), dir_fd=directory, follow_symlinks=False)


def mount(source: Path, target: str, *options: str) -> str:
    """Return the words of a bind mount; commas and quotes of a path are written as CSV has them."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(["type=bind", f"source={source}", f"target={target}", *options])
    return line.getvalue()


def shut_in(folder: Path, variables: Mapping[str, str | None], mounts: Iterable[str], **more: str) -> list[str]:
    """Return the options of `docker run` for a container of a run: no privilege, a read-only root, only these mounts.

    `folder` is the run's, which the container is labelled with. A variable without a value gets this process's, which
    is then on no command line. `more` are further options.
    """
    options = {
        "label": f"{RUN_LABEL}={folder}",
        "pull": "never",
        "log-driver": "none",  # what passes here is the protocol, and nothing that Docker is to keep
        "user": "{}:{}".format(*user()),
        "cap-drop": "ALL",
        "security-opt": "no-new-privileges",
        "tmpfs": f"/tmp:rw,exec,nosuid,nodev,mode=1777,size={TEMPORARY_MB}m",  # noqa: S108
        **{name.replace("_", "-"): value for name, value in more.items()},
    }
    return [
        *("--rm", "--read-only"),
        *(f"--{name}={value}" for name, value in options.items()),
        *(f"--mount={each}" for each in mounts),
        *(f"--env={name}" if value is None else f"--env={name}={value}" for name, value in variables.items()),
    ]
