"""The programs that other people's code begins from: the example of the Python API, and the GitHub Action's script."""

import json
import os
import subprocess
import sys
from pathlib import Path

from harness import SIMULATED_KEY, Up, clean_environment, commit_files, git, simulating
from small_task import CODE, TARGET, TEST, small_repository, small_scenario

ROOT = Path(__file__).parents[2]


def test_the_example_of_the_python_api_submits_follows_and_reads_the_report(up: Up, tmp_path: Path) -> None:
    repository = small_repository(tmp_path)
    code = (
        "import asyncio, sys; sys.path.insert(0, sys.argv[1]); from python_api import write_tests;"
        "r = asyncio.run(write_tests(sys.argv[2], 'shop.py', credentials=sys.argv[3])); print(r.branch)"
    )
    with simulating(up, small_scenario(tmp_path)) as simulator:
        done = up.run("python", "-c", code, ROOT / "examples", str(repository), simulator.block, timeout=900)
    assert done.returncode == 0, done.stderr
    *shown, branch = done.stdout.splitlines()
    assert any("verdict: passed" in line for line in shown)
    assert git(repository, "diff", "--name-only", "main", branch) == TEST


def test_the_actions_script_writes_tests_for_what_changed_and_tells_github(tmp_path: Path) -> None:
    repository = small_repository(tmp_path)
    base = git(repository, "rev-parse", "HEAD")
    zone = "def zone(code):\n    return code[:1]\n"
    commit_files(repository, {TARGET: f"{CODE}\n# changed\n", "zone.py": zone, "README.md": "changed\n"})
    given, environment = job(tmp_path, repository, base)
    simulator = subprocess.Popen(
        [sys.executable, "-m", "devtasks.simulator", small_scenario(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        assert simulator.stdout
        address = simulator.stdout.readline().split()[-1]
        done = subprocess.run(
            [ROOT / "scripts/github-action"],
            env=environment | given | {"OPENHANDS_BASE_URL": address},
            capture_output=True,
            text=True,
            check=False,
            timeout=1_500,
        )
    finally:
        simulator.terminate()
        simulator.wait(20)
    assert done.returncode == 0, done.stdout + done.stderr
    results = tmp_path / "temp" / "devtasks-results"
    assert (tmp_path / "output").read_text() == f"folder={results}\naccepted=1\ntasks=1\n"
    (report,) = json.loads((results / "reports.json").read_text())
    assert (report["state"], report["simulated"], report["base_commit"]) == ("Accepted", True, rev(repository))
    git(repository, "apply", str(results / "1-shop.py.patch"))
    assert git(repository, "status", "--porcelain") == f"?? {TEST}"
    comment = (results / "comment.md").read_text()
    assert "wrote tests for 1 of 2 changed modules" in comment
    assert "`zone.py` was left out" in comment
    assert "**simulated**" in comment
    assert f"# Accepted (simulated): unit_test {TARGET}" in (tmp_path / "summary").read_text()
    written = [path for path in results.iterdir() if SIMULATED_KEY in path.read_text()]
    assert (written, SIMULATED_KEY in done.stdout + done.stderr) == ([], False)


def rev(repository: Path) -> str:
    return git(repository, "rev-parse", "HEAD")


def job(folder: Path, repository: Path, base: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return the variables that GitHub and action.yml give the script, and the environment of a fresh machine."""
    (folder / "temp").mkdir()
    given = {
        "GITHUB_WORKSPACE": str(repository),
        "GITHUB_STEP_SUMMARY": str(folder / "summary"),
        "GITHUB_OUTPUT": str(folder / "output"),
        "RUNNER_TEMP": str(folder / "temp"),
        "OPENROUTER_API_KEY": SIMULATED_KEY,
        "BASE": base,
        "MAX_TASKS": "1",
        "MAX_COST_USD": "0.50",
    }
    return given, clean_environment(folder / "home") | {"PATH": os.environ["PATH"]}
