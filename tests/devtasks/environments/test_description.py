from collections.abc import Mapping
from pathlib import Path

import pytest

from devtasks.environments import describe

PYPROJECT = '[project]\nname = "shop"\nversion = "1"\ndependencies = ["sweet"]\n'
LOCK = (
    'version = 1\n[[package]]\nname = "shop"\nsource = {{ virtual = "." }}\n[[package]]\nname = "sweet"\nsource = {}\n'
)
REGISTRY = LOCK.format('{ registry = "https://pypi.org/simple" }')


def write(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


FOUND = {
    "a lock before all else": (
        {"uv.lock": REGISTRY, "pyproject.toml": PYPROJECT, "requirements.txt": "sour\n", "tox.ini": ""},
        ("uv.lock", ["sync", "--frozen"], False),
    ),
    "a lock with the extra for tests": (
        {"uv.lock": REGISTRY, "pyproject.toml": f"{PYPROJECT}[project.optional-dependencies]\ntest = ['sour']\n"},
        ("uv.lock", ["--extra", "test"], False),
    ),
    "a lock with a folder of the project": (
        {"uv.lock": LOCK.format('{ directory = "libs/sweet" }'), "pyproject.toml": PYPROJECT},
        ("uv.lock", ["sync"], True),
    ),
    "all requirements that are there": (
        {"requirements.txt": "sweet\n", "requirements-dev.txt": "sour\n", "pyproject.toml": PYPROJECT},
        ("requirements.txt and requirements-dev.txt", ["-r", "requirements.txt", "-r", "requirements-dev.txt"], False),
    ),
    "requirements for tests beside declared dependencies": (
        {"requirements-test.txt": "sour\n", "pyproject.toml": PYPROJECT},
        ("requirements-test.txt", ["-r", "requirements-test.txt", "-r", "pyproject.toml"], False),
    ),
    "the project itself among the requirements": ({"requirements.txt": "-e .\n"}, ("requirements.txt", [], True)),
    "declared dependencies": ({"pyproject.toml": PYPROJECT}, ("pyproject.toml", ["-r", "pyproject.toml"], False)),
    "a group for tests alone": (
        {"pyproject.toml": "[project]\nname = 'x'\n[dependency-groups]\ndev = ['sour']\ndocs = ['x']\n"},
        ("pyproject.toml", ["--group", "dev"], False),
    ),
    "dependencies only a build can tell": (
        {"pyproject.toml": "[build-system]\nrequires = []\n[project]\nname = 'x'\ndynamic = ['dependencies']\n"},
        ("pyproject.toml", ["-r", "pyproject.toml"], True),
    ),
    "an old project": ({"setup.py": "setup()"}, ("setup.py", ["-r", "setup.py"], True)),
    "tox where nothing else is": (
        {"pyproject.toml": "[project]\nname = 'x'\n", "tox.ini": "[testenv]\ndeps =\n  sweet\n  py27: sour\n"},
        ("tox.ini", [], False),
    ),
}


@pytest.mark.parametrize(("files", "expected"), FOUND.values(), ids=FOUND)
def test_the_first_that_names_dependencies_describes_the_environment(tmp_path, files, expected):
    source, words, local = expected
    found = describe(write(tmp_path, files))
    assert (found.source, found.local) == (source, local)
    assert " ".join(words) in " ".join(found.arguments)


NOTHING = {
    "an empty folder": {},
    "a project without dependencies": {"pyproject.toml": '[project]\nname = "x"\nversion = "1"\n'},
    "requirements that are comments": {"requirements.txt": "# none\n\n--index-url https://x\n"},
    "a lock of nothing but the project": {
        "uv.lock": 'version = 1\n[[package]]\nname = "x"\nsource = { virtual = "." }\n',
        "pyproject.toml": "[project]\nname = 'x'\n",
    },
    "only settings of tools": {"pyproject.toml": "[tool.ruff]\n", "tox.ini": "[pytest]\n"},
    "a tox file that cannot be read": {"tox.ini": "deps = [\n"},
    "a pyproject file that cannot be read": {"pyproject.toml": "[project\n"},
}


@pytest.mark.parametrize("files", NOTHING.values(), ids=NOTHING)
def test_a_project_without_dependencies_has_no_description(tmp_path, files):
    assert describe(write(tmp_path, files)) is None


def test_files_that_requirements_include_count_and_those_outside_are_not_read(tmp_path):
    (tmp_path / "secret.txt").write_text("sour\n")
    files = {"requirements.txt": "-r more/base.txt\n-r ../secret.txt\n", "more/base.txt": "-c limits.txt\nsweet\n"}
    found = describe(write(tmp_path / "project", files | {"more/limits.txt": "sweet<2\n"}))
    assert set(found.files) == {"requirements.txt", "more/base.txt", "more/limits.txt"}


def test_tox_deps_for_some_factors_only_are_left_out(tmp_path):
    deps = "deps =\n  sweet  # why\n  py27,py38: sour\n  {env:MORE}\n  -rmore.txt\n"
    assert describe(write(tmp_path, {"tox.ini": f"[testenv]\n{deps}"})).requirements == ("sweet", "-rmore.txt")
