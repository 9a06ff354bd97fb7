"""What the end-to-end tests stand on: `devtasks up` as a process in a folder of its own, driven as a user would."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest

BIN = Path(sys.executable).parent
SIMULATED_KEY = "sk-or-simulated-5eCr3tKey"


def wait_for[T](what: Callable[[], T], seconds: float, meaning: str) -> T:
    """Return the first true value; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := what():
            return value
        time.sleep(0.2)
    pytest.fail(f"not within {seconds:g} s: {meaning}")


def clean_environment(home: Path) -> dict[str, str]:
    """Return an environment without Prefect's, OpenHands's or our own variables, where HOME holds nothing yet."""
    dropped = ("PREFECT", "OPENHANDS", "OPENROUTER", "DEVTASKS", "GIT_", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    home.mkdir(parents=True, exist_ok=True)
    return kept | {"HOME": str(home)}


@dataclass
class Up:
    """A `devtasks up` process and its folder; `start` may be called again after it ended."""

    folder: Path
    limit: int = 1
    process: subprocess.Popen[str] | None = None
    environment: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def stack(self) -> Path:
        return self.folder / "devtasks" / "stack"

    @property
    def log(self) -> str:
        return (self.folder / "up.log").read_text()

    def start(self) -> None:
        self.environment = clean_environment(self.folder / "home") | {"DEVTASKS_HOME": str(self.folder / "devtasks")}
        (self.folder / "up.log").unlink(missing_ok=True)
        with (self.folder / "up.log").open("w") as log:
            # As a script would start it in its background: SIGINT is ignored.
            self.process = subprocess.Popen(
                ["sh", "-c", 'trap "" INT; exec "$@"', "sh", BIN / "devtasks", "up", "--limit", str(self.limit)],
                env=self.environment,
                cwd=self.folder,
                stderr=log,
                stdout=log,
                text=True,
            )
        wait_for(lambda: self.process.poll() is not None or "ready:" in self.log, 240, "devtasks up is ready")
        assert self.process.poll() is None, self.log

    def stop(self) -> int:
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def processes(self) -> list[psutil.Process]:
        """Return every process that belongs to this folder, by its command line or working directory."""
        found: list[psutil.Process] = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                text = " ".join(process.cmdline())
                if process.status() != psutil.STATUS_ZOMBIE and str(self.folder) in f"{text} {process.cwd()}":
                    found.append(process)
        return found

    def worker(self) -> psutil.Process:
        assert self.process
        children = psutil.Process(self.process.pid).children()
        return next(child for child in children if "worker" in child.cmdline())

    def connection(self) -> dict[str, str]:
        lines = (self.stack / "client.env").read_text().split("export ")[1:]
        return {name: value.strip().strip("'") for name, _, value in (line.partition("=") for line in lines)}

    def api(self, method: str, path: str, **body: object) -> httpx.Response:
        variables = self.connection()
        user, _, password = variables["PREFECT_API_AUTH_STRING"].partition(":")
        json = {"json": body} if method == "POST" else {}
        response = httpx.request(
            method, f"{variables['PREFECT_API_URL']}{path}", auth=(user, password), timeout=30, **json
        )
        return response

    def run(self, *command: str | Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a console script as this stack's user; all but `devtasks` need the server's variables."""
        sourced = {} if command[0] == "devtasks" else self.connection()
        return subprocess.run(
            [BIN / command[0], *command[1:]],
            env=self.environment | sourced,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def state(self, flow_run_id: str) -> dict[str, object]:
        return self.api("GET", f"/flow_runs/{flow_run_id}").raise_for_status().json()

    def wait_ended(self, flow_run_id: str, seconds: float = 120) -> dict[str, object]:
        final = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}

        def ended() -> dict[str, object] | None:
            flow_run = self.state(flow_run_id)
            return flow_run if flow_run["state_type"] in final else None

        return wait_for(ended, seconds, f"flow run {flow_run_id} has ended")


@dataclass
class RunningSimulator:
    """A simulator process that plays a scenario, and the name of the credentials block that leads to it."""

    process: subprocess.Popen[str]
    base_url: str
    block: str

    def requests(self) -> list[dict[str, object]]:
        return httpx.get(self.base_url.replace("/api/v1", "/simulator/requests")).json()["requests"]


@contextlib.contextmanager
def simulating(up: Up, scenario: Path) -> Iterator[RunningSimulator]:
    """Play a scenario, and make a credentials block for it on a stack."""
    process = subprocess.Popen(
        [sys.executable, "-m", "devtasks.simulator", scenario], stdout=subprocess.PIPE, text=True, env=up.environment
    )
    try:
        assert process.stdout
        line = process.stdout.readline()
        assert line.startswith("simulated"), line
        base_url = line.split()[-1]
        block = f"simulated-{httpx.URL(base_url).port}"
        code = (
            "import sys; from blocks import OpenRouterCredentials as Block;"
            "Block(api_key=sys.argv[1], base_url=sys.argv[2]).save(sys.argv[3], overwrite=True)"
        )
        made = up.run("python", "-c", code, SIMULATED_KEY, base_url, block)
        assert made.returncode == 0, made.stderr
        yield RunningSimulator(process, base_url, block)
    finally:
        process.terminate()
        process.wait(20)


def example_repository(root: Path) -> Path:
    """Return a git repository with the example project, whose checkout is dirty: staged, unstaged and untracked."""
    example = Path(__file__).parents[2] / "examples" / "shop"
    shutil.copytree(example, root, ignore=shutil.ignore_patterns("__pycache__", ".pytest_cache"))
    git(root, "init", "-q", "-b", "main")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "The example project")
    (root / "README.md").write_text("staged\n")
    git(root, "add", "README.md")
    (root / "pyproject.toml").open("a").write("# not staged\n")
    (root / "notes.txt").write_text("untracked\n")
    return root


def commit_files(root: Path, files: Mapping[str, str]) -> Path:
    """Write these files into a folder and commit all there is; the folder becomes a git repository first."""
    root.mkdir(exist_ok=True)
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    git(root, "init", "-q", "-b", "main")
    git(root, "add", "-A")
    git(root, "commit", "-q", "--allow-empty", "-m", "files")
    return root


@contextlib.contextmanager
def running_up(folder: Path) -> Iterator[Up]:
    up = Up(folder)
    try:
        up.start()
        yield up
    finally:
        if up.process and up.process.poll() is None:
            up.stop()
        for process in up.processes():
            process.kill()


def git(root: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Test", "-c", "user.email=test@localhost")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=root, capture_output=True, text=True, check=True, env=environment
    )
    return done.stdout.strip()
