"""From a release on PyPI to a git repository with one commit, in which one module has lost its tests."""

import hashlib
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from deployments.demo import commit_everything
from devtasks.errors import DevtasksError
from examples.pypi.packages import Package

PIP_SECONDS = 300.0


class DownloadFailed(DevtasksError):
    """Pip could not bring the source distribution, or its hash is another; carries pip's last words."""


def fetch(package: Package, folder: Path) -> Path:
    """Return the source distribution; pip downloads it and checks its hash, unless it is in the folder already.

    Pip also asks the package's build backend for its metadata, which runs that package's build code.
    """
    sdist = folder / package.sdist
    if not _is_pinned(sdist, package):
        pip = _pip(folder)
        requirements = folder / f"{package.name}.txt"
        requirements.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
        options = ("--no-deps", "--require-hashes", "--no-binary", package.name, "--dest", str(folder))
        _run(str(pip), "-m", "pip", "download", "--quiet", *options, "--requirement", str(requirements))
    if not _is_pinned(sdist, package):
        raise DownloadFailed(f"pip left no {sdist.name} whose SHA-256 is {package.sha256}")
    return sdist


def make_repository(package: Package, sdist: Path, folder: Path) -> Path:
    """Return a new git repository of the source without the module's tests, in place of an earlier one."""
    repository = folder / package.name
    shutil.rmtree(repository, ignore_errors=True)
    unpacked = folder / f"{package.name}-{package.version}"
    shutil.rmtree(unpacked, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    unpacked.rename(repository)
    for path in package.removed:
        (repository / path).unlink()
    commit_everything(repository, f"{package.name} {package.version} without the tests of {package.module}")
    return repository


def _is_pinned(sdist: Path, package: Package) -> bool:
    return sdist.is_file() and hashlib.sha256(sdist.read_bytes()).hexdigest() == package.sha256


def _pip(folder: Path) -> Path:
    """Return a Python that has pip, the one its own distribution bundles: the project's environment has none."""
    environment = folder / "pip"
    python = environment / "bin" / "python"
    if not python.exists():
        _run(sys.executable, "-m", "venv", str(environment))
    return python


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise DownloadFailed(f"{' '.join(command[1:4])} had not ended after {PIP_SECONDS:g} s") from None
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise DownloadFailed(f"{' '.join(command[1:4])} failed: {' '.join(lines[-3:])}")
