"""What only the docker runtime does: what a container cannot reach, what it may use, and how it is refused."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from harness import git
from processes import until
from sandboxes import require_docker

from devtasks import workspace
from devtasks.errors import AgentCrashed, InvalidInput, ServiceUnreachable
from devtasks.execution.docker import DockerRuntime
from devtasks.execution.docker_engine import check_image, remove_containers
from devtasks.execution.image import default_image
from devtasks.execution.limits import ResourceLimits
from devtasks.execution.runtime import Command, CommandResult
from devtasks.task import DevTask

LOOK = """
import json, os, pathlib, socket
def denied(act):
    try:
        act()
    except OSError as error:
        return type(error).__name__
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "interfaces": os.listdir("/sys/class/net"),
    "address": denied(lambda: socket.create_connection(("192.0.2.1", 80), 3)),
    "root": denied(lambda: open("/usr/x", "w")),
    "engine": os.path.exists("/var/run/docker.sock") or os.path.exists("/run/docker.sock"),
    "uid": os.getuid(),
    "capabilities": [status[name].strip("\\t\\n 0") for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")],
    "no_new_privileges": status["NoNewPrivs"].strip(),
    "memory": int(next(p for p in map(pathlib.Path, (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.max")) if p.exists()).read_text()),
    "processes": int(next(p for p in map(pathlib.Path, (
        "/sys/fs/cgroup/pids/pids.max", "/sys/fs/cgroup/pids.max")) if p.exists()).read_text()),
    "devices": sorted(set(os.listdir("/dev")) & {"kmsg", "mem", "vda", "sda"}),
    "tests": os.path.exists(TESTS),
}))
"""


@pytest.fixture(autouse=True)
def _docker() -> None:
    require_docker()


def run(folder: Path, *argv: str, timeout: float = 60, **given: object) -> CommandResult:
    async def act() -> CommandResult:
        async with DockerRuntime(folder, **given) as runtime:  # pyright: ignore[reportArgumentType]
            return await runtime.run(Command(argv, folder, timeout))

    return asyncio.run(act())


def docker(*words: str, stdin: bytes = b"") -> str:
    return subprocess.run(["docker", *words], input=stdin, capture_output=True, check=True).stdout.decode().strip()


def containers(folder: Path) -> str:
    return docker("ps", "--all", "--quiet", "--filter", f"label=devtasks.run={folder}")


def test_a_container_reaches_nothing_but_the_run_and_may_use_what_it_was_given(tmp_path: Path) -> None:
    look = LOOK.replace("TESTS", repr(str(Path(__file__))))
    result = run(tmp_path, "python", "-c", look, limits=ResourceLimits(memory_mb=700, processes=77))
    seen = json.loads(result.output)
    assert seen.pop("uid") != 0
    assert seen == {
        "interfaces": ["lo"],
        "address": "OSError",
        "root": "OSError",
        "engine": False,
        "capabilities": ["", "", "", ""],
        "no_new_privileges": "1",
        "memory": 700 << 20,
        "processes": 4 * 77,
        "devices": [],
        "tests": False,
    }


def test_what_a_container_takes_too_much_of_is_refused_it_and_the_next_command_runs(tmp_path: Path) -> None:
    hog = "x = bytearray(2 << 30)"
    forks = "import os, time\nfor _ in range(500):\n if os.fork() == 0: time.sleep(60)"

    async def act() -> list[CommandResult]:
        limits = ResourceLimits(memory_mb=512, processes=16)
        async with DockerRuntime(tmp_path, limits=limits) as runtime:
            codes = (("python", "-c", hog), ("python", "-c", forks), ("echo", "on"))
            return [await runtime.run(Command(argv, tmp_path, 60)) for argv in codes]

    memory, processes, after = asyncio.run(act())
    assert memory.exit_code != 0
    assert "where 16 are allowed" in processes.exceeded or "BlockingIOError" in processes.output
    assert after.output == "on\n"


@pytest.fixture
def prepared(tmp_path: Path) -> workspace.Workspace:
    """A run's workspace of a repository that itself borrows objects of another."""
    lender = tmp_path / "lender"
    lender.mkdir()
    git(lender, "init", "--quiet")
    (lender / "a.py").write_text("a = 1\n")
    git(lender, "add", ".")
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    git(lender, *identity, "commit", "--quiet", "-m", "first")
    git(tmp_path, "clone", "--quiet", "--shared", str(lender), "user")
    (tmp_path / "user" / "b.py").write_text("b = 2\n")
    git(tmp_path / "user", "add", ".")
    git(tmp_path / "user", *identity, "commit", "--quiet", "-m", "second")
    values = {"category": "unit_test", "description": "d", "target_file": "a.py", "repository": str(tmp_path / "user")}
    return workspace.prepare(DevTask.parse(task_id="t", **values), tmp_path / "run")


def test_git_works_on_the_borrowed_objects_and_neither_they_nor_our_git_dir_can_be_changed(
    prepared: workspace.Workspace,
) -> None:
    objects = prepared.borrowed_objects
    script = f"""
        cd {prepared.path} && git log --format=%s && git show HEAD:a.py && git show HEAD:b.py
        echo more >> a.py && git -c user.name=x -c user.email=x@y commit -qam mine && git log --format=%s -1
        touch {objects}/x || echo refused
        ls {prepared.git_dir} || echo refused
        ls {objects.parent.parent} | wc -l
    """
    lines = run(prepared.folder, "sh", "-c", script).output.splitlines()
    said = [line for line in lines if ": " not in line]
    assert said == ["second", "first", "a = 1", "b = 2", "mine", "refused", "refused", "0"]
    assert [change.path for change in workspace.diff(prepared).changes] == ["a.py"]


def test_of_a_repository_only_its_objects_are_shown(prepared: workspace.Workspace) -> None:
    lender = prepared.folder.parent / "lender"
    assert set(workspace.seen_by_git(prepared.folder)) == {
        prepared.git_dir,
        prepared.borrowed_objects,
        lender / ".git" / "objects",
    }


@pytest.mark.parametrize("name", ["comma,here", "a'quote", 'two"quotes"', "co:lon", "sp ace", "ünïcode"])
def test_a_run_s_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    assert run(folder, "sh", "-c", "cd workspace && echo in > there && cat there").output == "in\n"
    assert (folder / "workspace" / "there").exists()


def test_a_container_that_was_left_behind_is_removed_and_another_s_is_not(tmp_path: Path) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    for folder in (mine, other):
        label = f"devtasks.run={folder}"
        docker("run", "--detach", "--rm", "--network=none", "--label", label, default_image(), "sleep", "600")
    try:
        assert asyncio.run(remove_containers([mine])) == 1
        assert (containers(mine), bool(containers(other))) == ("", True)
    finally:
        asyncio.run(remove_containers([mine, other]))
    assert asyncio.run(remove_containers([mine, other])) == 0


def test_a_container_that_does_not_hear_its_input_close_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devtasks.execution.supervised.GRACE_SECONDS", 1.0)

    async def act() -> None:
        async with DockerRuntime(tmp_path) as runtime:
            await runtime.run(Command(("true",), tmp_path, 60))
            docker("pause", containers(tmp_path))
        assert containers(tmp_path) == ""

    asyncio.run(act())


def test_a_container_outlives_neither_its_docker_command(tmp_path: Path) -> None:
    code = """
import asyncio, os, signal, sys
from pathlib import Path
import psutil
from devtasks.execution.docker import DockerRuntime
from devtasks.execution.runtime import Command
async def main():
    async with DockerRuntime(Path(sys.argv[1])) as runtime:
        await runtime.run(Command(("true",), Path(sys.argv[1]), 60))
        for each in psutil.Process().children(): each.kill()
        os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    until(lambda: not containers(tmp_path))


def test_what_docker_says_of_a_container_it_cannot_start_is_told(tmp_path: Path) -> None:
    with pytest.raises(AgentCrashed, match=r"the agent's supervisor .*: docker: .*memory"):
        run(tmp_path, "true", limits=ResourceLimits(memory_mb=1))


def foreign_image(label: str) -> str:
    name = f"devtasks-test:{label or 'none'}"
    change = ["--change", f"LABEL devtasks.recipe={label}"] if label else []
    docker("import", *change, "-", name, stdin=b"\0" * 1024)
    return name


@pytest.mark.parametrize("label", [pytest.param("", id="without-a-recipe"), pytest.param("0123456789ab", id="older")])
def test_an_image_of_another_version_is_refused_and_the_message_names_the_command(label: str) -> None:
    image = foreign_image(label)
    try:
        with pytest.raises(InvalidInput, match=r"image: .*`make image`.*this is (foreign|0123456789ab)"):
            asyncio.run(check_image(image))
    finally:
        docker("rmi", image)


def test_an_image_made_from_ours_is_taken(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {default_image()}\nENV MORE=1\n")
    docker("build", "--quiet", "--tag", "devtasks-test:derived", str(tmp_path))
    try:
        asyncio.run(check_image("devtasks-test:derived"))
    finally:
        docker("rmi", "devtasks-test:derived")


def test_a_missing_image_is_refused_and_the_message_names_the_command() -> None:
    with pytest.raises(InvalidInput, match=r"devtasks-test:absent.*`make image`.*none of this name"):
        asyncio.run(check_image("devtasks-test:absent"))


def test_an_engine_that_does_not_answer_is_told_with_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/engine.sock")
    with pytest.raises(ServiceUnreachable, match=r"Docker at unix:///nonexistent/engine.sock cannot be reached"):
        asyncio.run(check_image(default_image()))
    assert asyncio.run(remove_containers([Path("/anything")])) == 0
