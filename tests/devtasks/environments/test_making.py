"""Environments made for real with uv, from wheels in a folder."""

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import uv

from devtasks import shared_folders
from devtasks.environments import ProjectEnvironment, describe
from devtasks.environments.making import environment_key
from devtasks.errors import InvalidInput, ProjectEnvironmentError
from devtasks.execution.local import LocalRuntime
from devtasks.task import DevTask
from devtasks.validation.baseline import Baseline, SuiteState, measure_baseline

pytestmark = pytest.mark.usefixtures("index")

OWN = ProjectEnvironment(Path(sys.executable))
REQUIREMENTS = {"requirements.txt": "sweet<2\n"}
PACKAGE = """\
[project]
name = "shop"
version = "3.1"
dependencies = ["sweet"]
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
BACKEND = '''\
"""Builds an editable wheel without any package."""
import sys, zipfile
from pathlib import Path

def get_requires_for_build_editable(config_settings=None):
    return []

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    name = "shop-3.1-py3-none-any.whl"
    texts = {
        "shop.pth": str(Path.cwd()),
        "shop-3.1.dist-info/METADATA": "Metadata-Version: 2.1\\nName: shop\\nVersion: 3.1\\n",
        "shop-3.1.dist-info/WHEEL": "Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        "shop-3.1.dist-info/RECORD": "",
    }
    with zipfile.ZipFile(Path(wheel_directory) / name, "w") as archive:
        for path, text in texts.items():
            archive.writestr(path, text)
    return name
'''


def python(environment, code: str) -> str:
    ran = subprocess.run([environment.python, "-c", code], capture_output=True, text=True, check=True)
    return ran.stdout.strip()


def made(make, *arguments, **values):
    return asyncio.run(make(*arguments, **values))[0]


def test_the_tests_of_a_project_run_with_its_own_dependencies_and_the_validators_tools(make_environment, project):
    environment = made(make_environment, project(REQUIREMENTS))
    assert environment.described_by == "requirements.txt"
    assert python(environment, "import sweet, pytest, coverage; print(sweet.VERSION)") == "1.0"
    assert not (environment.folder.parent.parent / "run" / "setup").exists()


def test_a_lock_file_decides_the_versions(make_environment, project):
    files = {"pyproject.toml": '[project]\nname = "x"\nversion = "1"\nrequires-python = ">=3.12"\n'}
    files["pyproject.toml"] += 'dependencies = ["sweet"]\n[dependency-groups]\ndev = ["sour"]\n'
    folder = project(files)
    pinned = ("--python", sys.executable, "--upgrade-package", "sweet==1.0")
    subprocess.run([uv.find_uv_bin(), "lock", "-q", *pinned], cwd=folder, check=True)
    environment = made(make_environment, project({}))
    assert environment.described_by == "uv.lock"
    assert python(environment, "import sweet, sour; print(sweet.VERSION)") == "1.0"


@pytest.mark.usefixtures("real_index")
def test_a_suite_that_needs_a_dependency_is_green_in_the_environment_alone(
    make_environment, workspace_of, project, tmp_path
):
    test = "import subprocess, sweet\n\n"
    test += "def test_one():\n    subprocess.run(['python', '-c', 'import sweet'], check=True)\n"
    folder = project(REQUIREMENTS | {"shop.py": "X = 1\n", "test_shop.py": test})
    environment = made(make_environment, folder)
    task, workspace = workspace_of(folder, "measured", target_file="shop.py")

    async def baseline(interpreter: Path) -> Baseline:
        async with LocalRuntime(tmp_path / "measured") as runtime:
            return await measure_baseline(task, workspace.path, runtime, tmp_path / "measured", interpreter)

    assert asyncio.run(baseline(environment.python)).suite is SuiteState.GREEN
    assert asyncio.run(baseline(OWN.python)).suite is SuiteState.RED


@pytest.mark.parametrize(
    ("files", "values"),
    [
        pytest.param({"a.py": ""}, {}, id="nothing-described"),
        pytest.param(REQUIREMENTS, {"environment": "none"}, id="not-wanted"),
    ],
)
def test_without_an_environment_the_interpreter_is_that_of_devtasks(make_environment, project, cache, files, values):
    assert made(make_environment, project(files), **values) == OWN
    assert not cache.exists()


def test_runs_that_need_the_same_share_one_environment_made_once(make_environment, project):
    folder = project(REQUIREMENTS)

    async def all_at_once():
        return await asyncio.gather(*(make_environment(folder, f"run-{number}") for number in range(6)))

    results = asyncio.run(all_at_once())
    assert len({environment for environment, _ in results}) == 1
    assert Counter(results[0][1]) == {"making the project's environment from requirements.txt": 1}


def test_a_half_made_environment_is_made_anew(make_environment, project):
    folder = project(REQUIREMENTS)
    first = made(make_environment, folder)
    (first.folder / "complete.json").unlink()
    shared_folders.removal.remove(first.folder / "venv/lib")
    assert made(make_environment, folder, "second") == first
    assert python(first, "import sweet; print(sweet.VERSION)") == "1.0"


def test_a_run_that_is_cancelled_leaves_no_process_and_the_next_one_makes_it(make_environment, project, tmp_path):
    folder, started = project(REQUIREMENTS), tmp_path / "started"
    command = f"test -e {started} || {{ touch {started}; exec sleep 4321; }}"

    async def cancelled():
        making = asyncio.create_task(make_environment(folder, setup_command=command))
        deadline = time.monotonic() + 60
        while not started.exists() and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        making.cancel()
        with pytest.raises(asyncio.CancelledError):
            await making

    asyncio.run(cancelled())
    assert subprocess.run(["pgrep", "-f", "sleep 4321"], check=False).returncode == 1
    environment = made(make_environment, folder, "second", setup_command=command)
    assert json.loads((environment.folder / "complete.json").read_text())["setup_command"] == command


def test_the_set_up_command_completes_the_environment_in_a_copy_of_the_project(
    make_environment, project, tmp_path, monkeypatch
):
    monkeypatch.setenv("OPENROUTER_API_KEY", "sk-secret")
    out = tmp_path / "out"
    command = f"cat a.txt > {out}; env >> {out}; touch left; uv pip install --quiet sour"
    environment = made(make_environment, project({"a.txt": "content\n"}), setup_command=command)
    shown = out.read_text()
    assert shown.startswith("content\n")
    assert "sk-secret" not in shown
    assert f"VIRTUAL_ENV={environment.folder}/venv" in shown
    assert f"HOME={tmp_path}/run/home" in shown
    assert python(environment, "import sour; print(sour.VERSION)") == "1.0"
    assert not (tmp_path / "run/workspace/left").exists()
    assert environment.described_by == "the set-up command"


BROKEN = {
    "a package that is not there": (
        {"requirements.txt": "bitter\n"},
        {},
        ("uv pip install -r requirements.txt", "bitter"),
    ),
    "a set-up command that fails": ({}, {"setup_command": "echo no gcc >&2; exit 3"}, ("status 3", "no gcc")),
    "a lock that is broken": (
        {"uv.lock": "version = [\n", "pyproject.toml": "[project]\nname = 'x'\nversion = '1'\n"},
        {},
        ("uv sync --frozen", "uv.lock"),
    ),
}


@pytest.mark.parametrize(("files", "values", "expected"), BROKEN.values(), ids=BROKEN)
def test_a_project_that_cannot_be_installed_is_one_message(make_environment, project, files, values, expected):
    with pytest.raises(ProjectEnvironmentError) as failed:
        made(make_environment, project({"a.py": "", **files}), **values)
    command, said = expected
    message = str(failed.value)
    assert command in message
    assert said in failed.value.output
    assert "environment none" in message
    assert "\n" not in message


def test_no_password_of_an_index_is_shown(make_environment, project, monkeypatch):
    monkeypatch.delenv("UV_NO_INDEX")
    monkeypatch.delenv("UV_OFFLINE")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://me:hunter2@127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(ProjectEnvironmentError) as failed:
        made(make_environment, project({"requirements.txt": "--index-url https://me:hunter2@127.0.0.1:9/x\nbitter\n"}))
    assert "hunter2" not in str(failed.value)


def test_the_projects_own_metadata_is_there_and_its_code_is_the_workspaces(make_environment, project, tmp_path):
    folder = project({"pyproject.toml": PACKAGE, "backend.py": BACKEND, "shop.py": "", "stale.py": ""})
    environment = made(make_environment, folder)
    assert python(environment, "from importlib.metadata import version; print(version('shop'))") == "3.1"
    ran = subprocess.run([environment.python, "-c", "import stale"], cwd=tmp_path, capture_output=True, check=False)
    assert b"No module named 'stale'" in ran.stderr


def test_the_packages_of_an_environment_cannot_be_written(make_environment, project):
    environment = made(make_environment, project(REQUIREMENTS))
    module = next(environment.folder.glob("venv/lib/*/site-packages/sweet.py"))
    assert not any(place.stat().st_mode & 0o222 for place in (module, module.parent))


@pytest.mark.parametrize(
    ("files", "setup", "tree"),
    [
        pytest.param({"requirements.txt": "sweet\n"}, None, None, id="content"),
        pytest.param(REQUIREMENTS, "make", None, id="set-up-command"),
        pytest.param(REQUIREMENTS, None, "0" * 40, id="tree"),
    ],
)
def test_what_would_come_out_otherwise_has_another_name(tmp_path, files, setup, tree):
    (tmp_path / "requirements.txt").write_text(REQUIREMENTS["requirements.txt"])
    before = environment_key(describe(tmp_path), None, None, ())
    assert environment_key(describe(tmp_path), None, None, ()) == before
    (tmp_path / "requirements.txt").write_text(files["requirements.txt"])
    assert environment_key(describe(tmp_path), setup, tree, ()) != before


def test_an_environment_goes_when_no_run_needs_it(make_environment, project, cache, tmp_path):
    environment = made(make_environment, project(REQUIREMENTS))
    later = time.time() + 3600
    assert shared_folders.unused(cache, seconds=60, now=later) == ()
    shared_folders.removal.remove(tmp_path / "run")
    (shared,) = shared_folders.unused(cache, seconds=60, now=later)
    assert shared.remove()
    assert not environment.folder.exists()
    assert {path.name for path in cache.iterdir()} == {"uv-cache"}


def test_a_set_up_command_without_an_environment_is_refused():
    with pytest.raises(InvalidInput, match="asks for no environment"):
        DevTask.parse(
            task_id="t", category="analysis", description="d", repository="/x", environment="none", setup_command="make"
        )


def test_the_environment_has_this_python(make_environment, project):
    environment = made(make_environment, project(REQUIREMENTS))
    assert python(environment, "import sys; print(sys.version)") == sys.version
    assert Path(environment.python).is_relative_to(environment.folder)
