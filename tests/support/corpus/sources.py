"""Brings a pinned source distribution here, and lays out the project as it was before its module was tested."""

import ast
import hashlib
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from corpus.modules import Module, Release
from corpus.results import Good
from devtasks.validation.conventions import is_test_file

CACHE = Path.home() / ".cache" / "devtasks-corpus"
_PIP_SECONDS = 300.0


class SourceFailed(Exception):
    """Pip could not bring a source distribution, or its hash is another; carries pip's last words."""


def fetch(release: Release, cache: Path) -> Path:
    """Return the source distribution; pip downloads it and checks its hash, unless it is in the cache already.

    Pip also asks the package's build backend for its metadata, which runs that package's build code.
    """
    sdist = cache / release.sdist
    if not _is_pinned(sdist, release):
        cache.mkdir(parents=True, exist_ok=True)
        requirements = cache / f"{release.name}.txt"
        requirements.write_text(f"{release.name}=={release.version} --hash=sha256:{release.sha256}\n")
        options = ("--quiet", "--no-deps", "--require-hashes", "--no-binary", release.name, "--dest", str(cache))
        _run(str(_pip(cache)), "-m", "pip", "download", *options, "--requirement", str(requirements))
    if not _is_pinned(sdist, release):
        raise SourceFailed(f"pip left no {sdist.name} whose SHA-256 is {release.sha256}")
    return sdist


def lay_out(module: Module, sdist: Path, folder: Path) -> Path:
    """Unpack the project below a folder without any test file but the release's neighbour; return its root.

    The other modules' tests are left out too: they would run the target, and take minutes at every verdict.
    """
    shutil.rmtree(folder, ignore_errors=True)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    root = folder / module.release.folder
    for path in [each for each in root.rglob("*.py") if is_test_file(each.name)]:
        if path.relative_to(root).as_posix() != module.release.neighbour:
            path.unlink()
    for name in ("docs", "property"):  # nothing there is imported, and each verdict copies the tree
        for found in [*root.glob(name), *root.glob(f"tests/{name}")]:
            shutil.rmtree(found)
    return root


def good(module: Module, sdist: Path, root: Path, workspace: Path) -> Good:
    """Return the module's own tests as a good result for the project that was laid out, to be judged there."""
    with tarfile.open(sdist) as archive:
        tests = {path: own_tests(_text(archive, f"{module.release.folder}/{path}")) for path in module.tests}
    kept = [path for path in root.rglob("*.py") if is_test_file(path.name) or path.name == "conftest.py"]
    existing = {path.relative_to(root).as_posix(): path.read_text() for path in sorted(kept)}
    return Good(module.target, (root / module.target).read_text(), tests, existing, str(workspace))


def own_tests(text: str) -> str:
    """Return a test file without the statements that import tests from elsewhere: what is made bad is its own alone."""
    lines = text.splitlines(keepends=True)
    for node in reversed(ast.parse(text).body):
        names = [alias.name for each in ast.walk(node) if isinstance(each, ast.ImportFrom) for alias in each.names]
        if any(name.startswith("test_") for name in names):
            del lines[node.lineno - 1 : node.end_lineno]
    return "".join(lines)


def _text(archive: tarfile.TarFile, name: str) -> str:
    member = archive.extractfile(name)
    if member is None:
        raise SourceFailed(f"{name} is not a file of the archive")
    return member.read().decode()


def _is_pinned(sdist: Path, release: Release) -> bool:
    return sdist.is_file() and hashlib.sha256(sdist.read_bytes()).hexdigest() == release.sha256


def _pip(cache: Path) -> Path:
    """Return a Python that has pip, the one its own distribution bundles: the project's environment has none."""
    python = cache / "pip" / "bin" / "python"
    if not python.exists():
        _run(sys.executable, "-m", "venv", str(cache / "pip"))
    return python


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PIP_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise SourceFailed(f"{' '.join(command[1:4])} had not ended after {_PIP_SECONDS:g} s") from None
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise SourceFailed(f"{' '.join(command[1:4])} failed: {' '.join(lines[-3:])}")
