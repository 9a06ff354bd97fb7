"""The packages of the proof: which source, which module lost its tests, and how its scenario has to end."""

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Package:
    """A release on PyPI, and the task it is made into.

    `sha256` is the source distribution's. `removed` are the files deleted before the task begins, `added` those the
    delivered branch must hold, and nothing else. `expected` is how each attempt has to end: `accepted`, or the
    failure's kind; a run whose last attempt is not accepted has to end as rejected.
    """

    name: str
    version: str
    sha256: str
    licence: str
    module: str
    removed: tuple[str, ...]
    added: tuple[str, ...]
    expected: tuple[str, ...]
    description: str
    shows: str

    @property
    def sdist(self) -> str:
        """The file name of the source distribution."""
        return f"{self.name}-{self.version}.tar.gz"

    @property
    def import_name(self) -> str:
        """The name the module is imported by."""
        return self.module.removeprefix("src/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def scenario(self) -> Path:
        """The file with what the simulated models answer."""
        return FOLDER / f"{self.name}.yaml"

    @property
    def outcome(self) -> str:
        """How the task has to end."""
        return "accepted" if self.expected[-1] == "accepted" else "rejected"


PACKAGES: tuple[Package, ...] = (
    Package(
        name="toolz",
        version="1.2.0",
        sha256="9667a038e9d6ecba37995e26cb2f59ec6420b6ad8dd9677de59db9b956b08490",
        licence="BSD-3-Clause",
        module="toolz/dicttoolz.py",
        removed=("toolz/tests/test_dicttoolz.py",),
        added=("toolz/tests/test_dicttoolz.py",),
        expected=("accepted",),
        description="Write unit tests for the dictionary functions: merging, mapping, filtering and nested access.",
        shows="tests inside the package, warnings are errors; accepted at the first attempt",
    ),
    Package(
        name="cachetools",
        version="8.0.1",
        sha256="deb1d376d4d28c2f33f3e3058043b005e0af75c35c094bd54053e27d2906ad95",
        licence="MIT",
        module="src/cachetools/func.py",
        removed=("tests/test_func.py",),
        added=("tests/test_func.py",),
        expected=("accepted",),
        description="Write unit tests for the decorators that are compatible with functools.lru_cache.",
        shows="src layout, another version of it installed beside; a wrong expectation is cut",
    ),
    Package(
        name="boltons",
        version="26.2.0",
        sha256="d39cfd15c1a1c3bd4d705c82252fa9edb8e4f5e8cc039f8e39afac7b1b47e92c",
        licence="BSD-3-Clause",
        module="boltons/mathutils.py",
        removed=("tests/test_mathutils.py",),
        added=("tests/test_mathutils.py",),
        expected=("accepted",),
        description="Write unit tests for clamp, ceil, floor and the bit strings of Bits.",
        shows="a conftest of its own; its provider limits the first model, the conversation goes on with the second",
    ),
    Package(
        name="inflection",
        version="0.5.1",
        sha256="1a29730d366e996aaacffb2f1f1cb9593dc38e2ddd30c91250c6dde09ea9b417",
        licence="MIT",
        module="inflection/__init__.py",
        removed=("test_inflection.py",),
        added=(),
        expected=("rejected", "rejected", "rejected", "rejected"),
        description="Write unit tests for the functions that change the form of words.",
        shows="no tests left at all; no model tests the module, so it ends as rejected and nothing is delivered",
    ),
)
