"""A batch on the real stack with one worker slot: submitted, worked, merged, summed up; and one that is cancelled."""

import json
from pathlib import Path
from xml.etree import ElementTree as Xml

from github_server import github_in_background, make_block
from harness import Up, commit_files, git, simulating, wait_for

TESTS = {
    "add": "from shop.add import add\n\n\ndef test_sum():\n    assert add(2, 3) == 5\n    assert add(-1, 0) == -1\n",
    "half": (
        "import pytest\n\nfrom shop.half import half\n\n\ndef test_half():\n    assert half(4) == 2\n\n\n"
        "def test_odd_is_refused():\n    with pytest.raises(ValueError, match='odd'):\n        half(3)\n"
    ),
}
FILES = {
    "shop/__init__.py": "",
    "shop/add.py": "def add(a, b):\n    return a + b\n",
    "shop/half.py": "def half(n):\n    if n % 2:\n        raise ValueError('odd')\n    return n // 2\n",
    "tests/README": "Here the tests go.\n",
    "shop/idle.py": "def idle(n):\n    return n * 3\n",
}

CONVERSATION = """
      - match: '{match}'
        turns:
          - tool_calls:
              - name: file_editor
                arguments: {{command: create, path: '${{workspace}}/tests/test_{name}.py', file_text: {text}}}
          - finish: The tests are written.
"""
SCENARIO = """
name: batch
variables: {workspace: 'Workspace: (\\S+)'}
models:
  - id: acme/coder-mini:free
    context_length: 262144
    supported_parameters: [tools, tool_choice, max_tokens]
    conversations:
"""
IDLE = """
      - match: 'Test idle\\.'
        turns:
          - finish: There is nothing to test.
          - finish: There really is nothing to test.
"""
BUSY = """
      - turns:
          - tool_calls: [{name: terminal, arguments: {command: sleep 3333}}]
"""


def conversations(asked: str) -> str:
    """Return what a model does where it is asked, by this pattern, to test one of the modules."""
    return "".join(
        CONVERSATION.format(match=asked.format(name), name=name, text=json.dumps(text)) for name, text in TESTS.items()
    )


def manifest(folder: Path, *names: str) -> Path:
    defaults = {"category": "unit_test", "repository": "project", "limits": {"attempts": 1}}
    tasks = [{"task_id": each, "target_file": f"shop/{each}.py", "description": f"Test {each}."} for each in names]
    (folder / "night.json").write_text(json.dumps({"defaults": defaults, "tasks": tasks}))
    return folder / "night.json"


def test_batch_on_one_slot_ends_with_what_came_of_each_task(up: Up, tmp_path: Path) -> None:
    repository = commit_files(tmp_path / "project", FILES)
    (tmp_path / "scenario.yaml").write_text(SCENARIO + conversations("Test {}\\.") + IDLE)
    file = manifest(tmp_path, "add", "idle", "half")
    with github_in_background(tmp_path, repository) as server, simulating(up, tmp_path / "scenario.yaml") as simulator:
        make_block(up, server, "night")
        branch_options = ("--one-branch", "night", "--pull-request", "--github", "night")
        options = ("--credentials", simulator.block, *branch_options, "--wait", "--json")
        done = up.run("devtasks", "batch", "submit", file, *options, timeout=400)
        assert done.returncode == 1, done.stderr
        (pull,) = server.pulls
        assert (pull["draft"], pull["head"]["ref"], pull["title"]) == (True, "night", "night (simulated)")
        assert git(server.bare, "rev-parse", "night") == git(repository, "rev-parse", "night")
        told = json.loads(done.stdout)
        assert told["state"] == "Finished"
        assert {each["task_id"]: each["standing"] for each in told["tasks"]} == {
            "add": "accepted",
            "idle": "rejected",
            "half": "accepted",
        }
        assert told["simulated"]
        assert told["llm_calls"] == len(simulator.requests())
    (branch,) = told["branches"]
    assert (branch["merged"], branch["left_out"]) == (["add", "half"], {})
    assert branch["pull_request"].endswith("/pull/1")
    assert branch["suite"] == "green (3 passed, 0 failed, 0 skipped)"
    subjects = git(repository, "log", "--format=%s", "main..night").splitlines()
    assert subjects == ["unit_test shop/half.py (simulated)", "unit_test shop/add.py (simulated)"]
    assert git(repository, "status", "--porcelain") == ""

    batch = told["batch_id"]
    shown = up.run("devtasks", "batch", "show", batch, "--format", "junit")
    assert (shown.returncode, Xml.fromstring(shown.stdout).attrib["failures"]) == (1, "1")
    html = next((up.folder / "devtasks").rglob(f"{batch}/batch.html")).read_text()
    assert "simulated" in html
    events = {"filter": {"event": {"name": ["devtasks.batch.finished"]}}}
    found = wait_for(
        lambda: up.api("POST", "/events/filter", **events).json()["events"], 60, "the batch's end is an event"
    )
    assert found[0]["payload"]["counts"] == {"accepted": 2, "rejected": 1}
    assert found[0]["resource"]["prefect.resource.id"] == f"devtasks.batch.{batch}"


def test_cancelled_batch_ends_what_runs_and_what_waits(up: Up, tmp_path: Path) -> None:
    commit_files(tmp_path / "project", FILES)
    (tmp_path / "scenario.yaml").write_text(SCENARIO + BUSY)
    with simulating(up, tmp_path / "scenario.yaml") as simulator:
        file = manifest(tmp_path, "add", "idle")
        done = up.run("devtasks", "batch", "submit", file, "--credentials", simulator.block)
        assert done.returncode == 0, done.stderr
        batch = done.stdout.strip()

        def states() -> dict[str, str]:
            shown = json.loads(up.run("devtasks", "batch", "show", batch, "--json").stdout)
            return {each["task_id"]: each["standing"] for each in shown["tasks"]}

        wait_for(lambda: simulator.requests() and states(), 180, "one of the tasks is at work")
        assert sorted(states().values()) == ["running", "waiting"]
        assert up.state(batch)["state_name"] in ("AwaitingTasks", "Late")
        cancelled = up.run("devtasks", "batch", "cancel", batch)
        assert cancelled.returncode == 0, cancelled.stderr
        wait_for(lambda: set(states().values()) == {"cancelled"}, 60, "all tasks are cancelled")
        assert up.state(batch)["state_name"] == "Cancelled"


def test_nightly_run_finds_what_is_covered_least_and_puts_the_accepted_tests_on_one_branch(
    up: Up, tmp_path: Path
) -> None:
    repository = commit_files(tmp_path / "project", {name: text for name, text in FILES.items() if "idle" not in name})
    (tmp_path / "scenario.yaml").write_text(SCENARIO + conversations("Write unit tests for shop/{}\\.py, of whose"))
    with simulating(up, tmp_path / "scenario.yaml") as simulator:
        nightly = up.api("GET", "/deployments/name/test-generation/nightly").raise_for_status().json()
        wanted = {"repositories": [str(repository)], "credentials": simulator.block, "branch": "night/tests"}
        created = up.api("POST", f"/deployments/{nightly['id']}/create_flow_run", parameters=wanted)
        flow_run_id = created.raise_for_status().json()["id"]
        key = {"idempotency_key": {"any_": [f"devtasks-scheduled:{flow_run_id}"]}}
        (batch,) = wait_for(
            lambda: up.api("POST", "/flow_runs/filter", flow_runs=key).raise_for_status().json(),
            180,
            "what was found is a batch",
        )
        assert up.wait_ended(batch["id"], 400)["state_name"] == "Finished"
    told = json.loads(up.run("devtasks", "batch", "show", batch["id"], "--json").stdout)
    assert {each["target_file"]: each["standing"] for each in told["tasks"]} == {
        "shop/add.py": "accepted",
        "shop/half.py": "accepted",
    }
    (branch,) = told["branches"]
    assert branch["branch"].startswith("night/tests-")
    files = git(repository, "diff", "--name-only", f"main..{branch['branch']}").split()
    assert files == ["tests/test_add.py", "tests/test_half.py"]
