"""The releases on PyPI and their modules whose own tests are the good results.

Every release is pure Python, small, free software, and ships tests that need nothing but pytest.
"""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Release:
    """A source distribution, pinned; `neighbour` is a test file that stays, so that there are tests to harm."""

    name: str
    version: str
    sha256: str
    neighbour: str | None = None

    @property
    def folder(self) -> str:
        """The name of the one folder that the archive holds."""
        return f"{self.name.replace('-', '_')}-{self.version}"

    @property
    def sdist(self) -> str:
        """The archive's file name."""
        return f"{self.folder}.tar.gz"


@dataclass(frozen=True)
class Module:
    """A module and the files that test it, which cover enough of it for the default quality threshold."""

    release: Release
    target: str
    tests: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its name in reports, such as `boltons/boltons/mathutils.py`."""
        return f"{self.release.name}:{self.target}"


BOLTONS = Release(
    "boltons", "26.2.0", "d39cfd15c1a1c3bd4d705c82252fa9edb8e4f5e8cc039f8e39afac7b1b47e92c", "tests/test_namedutils.py"
)
CACHETOOLS = Release(
    "cachetools", "8.0.1", "deb1d376d4d28c2f33f3e3058043b005e0af75c35c094bd54053e27d2906ad95", "tests/test_fifo.py"
)
FUNCY = Release(
    "funcy", "2.1", "8979feb3de7120afd1d00e5a8eae810c1942e4bfbc91697151e9ee1e49f79284", "tests/test_types.py"
)
H11 = Release(
    "h11", "0.16.0", "4e35b956cf45792e4caa5885e69fba00bdbc6ffafbfa020300e549b208ee5ff1", "h11/tests/test_helpers.py"
)
INFLECTION = Release("inflection", "0.5.1", "1a29730d366e996aaacffb2f1f1cb9593dc38e2ddd30c91250c6dde09ea9b417")
PACKAGING = Release(
    "packaging", "26.3", "94edc256424af38762eb31306eed28beb9f0efc50a8837492c9d6fd6004aed79", "tests/test_errors.py"
)
TOOLZ = Release(
    "toolz", "1.2.0", "9667a038e9d6ecba37995e26cb2f59ec6420b6ad8dd9677de59db9b956b08490", "toolz/tests/test_recipes.py"
)

_TESTED_BY_SEVERAL = {
    "funcutils": ("funcutils", "funcutils_fb", "funcutils_fb_py3"),
    "statsutils": ("statsutils", "statsutils_histogram"),
    "tbutils": ("tbutils", "tbutils_parsed_exc"),
}
_BOLTONS = (
    *("cacheutils", "dictutils", "ecoutils", "fileutils", "formatutils", "funcutils", "ioutils"),
    *("iterutils", "jsonutils", "listutils", "mathutils", "pathutils", "queueutils", "setutils", "socketutils"),
    *("statsutils", "strutils", "tableutils", "tbutils", "timeutils", "typeutils", "urlutils"),
)
_FUNCY = ("calc", "debug", "decorators", "flow", "funcmakers", "objects", "strings")
_H11 = ("events", "headers", "receivebuffer", "state", "util")


def _modules() -> Iterator[Module]:
    for name in _BOLTONS:
        tests = tuple(f"tests/test_{each}.py" for each in _TESTED_BY_SEVERAL.get(name, (name,)))
        yield Module(BOLTONS, f"boltons/{name}.py", tests)
    for name in ("func", "keys"):
        yield Module(CACHETOOLS, f"src/cachetools/{name}.py", (f"tests/test_{name}.py",))
    for name in _FUNCY:
        yield Module(FUNCY, f"funcy/{name}.py", (f"tests/test_{name}.py",))
    for name in _H11:
        yield Module(H11, f"h11/_{name}.py", (f"h11/tests/test_{name}.py",))
    yield Module(INFLECTION, "inflection/__init__.py", ("test_inflection.py",))
    for name, test in (
        ("dependency_groups", "dependency_groups"),
        ("direct_url", "direct_url"),
        ("_elffile", "elffile"),
    ):
        yield Module(PACKAGING, f"src/packaging/{name}.py", (f"tests/test_{test}.py",))
    for name in ("dicttoolz", "functoolz", "itertoolz"):
        yield Module(TOOLZ, f"toolz/{name}.py", (f"toolz/tests/test_{name}.py",))


MODULES = tuple(_modules())
"""Of one release after the other."""
