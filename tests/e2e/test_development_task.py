"""The whole picture with real parts: Prefect server and worker, the OpenHands agent, git, pytest, and a simulator."""

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from harness import BIN, SIMULATED_KEY, RunningSimulator, Up, example_repository, git, running_up, simulating, wait_for
from processes import alive
from sandboxes import require_docker

from deployments.postgres import PROGRAMS
from devtasks.ledger import Ledger
from devtasks.metrics_collector import ExecutionMetrics, LlmCall
from devtasks.openrouter.gateway import TOKEN_PREFIX

DEMO = Path(__file__).parents[2] / "examples" / "demo.yaml"
CANCEL_SECONDS = 15.0
"""Within which all that a cancelled run has started is to be gone: three times what is promised, for a busy machine."""

TASK = {"category": "unit_test", "target_file": "shop/pricing.py", "description": "Test shop/pricing.py."}

OF_UNKNOWN_MODELS = DEMO.read_text().replace("coder-mini", "coder-new").replace("coder-large", "coder-new")
"""The demo's scenario, with models of which the stack has learned nothing from other tests."""

BUSY = """
name: busy
models:
  - id: acme/coder-mini:free
    context_length: 262144
    supported_parameters: [tools, tool_choice, max_tokens]
    conversations:
      - turns:
          - tool_calls:
              - name: terminal
                arguments: {command: "echo '# half' > tests/test_half.py; setsid sleep 3333 & env; sleep 3333"}
"""
"""A model whose one command never ends and leaves half a test and a daemon behind."""

DOCUMENTING = """
name: documenting
variables: {workspace: 'Workspace: (\\S+)'}
models:
  - id: acme/coder-mini:free
    context_length: 262144
    supported_parameters: [tools, tool_choice, max_tokens]
    conversations:
      - turns:
          - tool_calls:
              - name: file_editor
                arguments:
                  command: str_replace
                  path: ${workspace}/shop/pricing.py
                  old_str: that an amount in cents earns.
                  new_str: |-
                    that an amount in cents earns.

                        >>> bulk_discount(10_000)
                        4
                        
          - finish: An example is there.
          - tool_calls:
              - name: terminal
                arguments: {command: "sed -i 's/^    4$/    5/' shop/pricing.py"}
          - finish: The example shows what the code returns.
"""
"""A model that documents a function by an example, which is true only after a repair."""

WORKING = """
name: working
variables: {workspace: 'Workspace: (\\S+)'}
models:
  - id: acme/coder-mini:free
    context_length: 262144
    supported_parameters: [tools, tool_choice, max_tokens]
    conversations:
      - turns:
          - tool_calls: [{name: terminal, arguments: {command: FIRST}}]
          - finish: It is done.
          - tool_calls: [{name: terminal, arguments: {command: SECOND}}]
          - finish: It is mended.
"""
"""A model that does its work by one command, and mends it by another."""

WORK = {
    "refactoring": (
        {"description": "Write bulk_discount shorter."},
        r"sed -i '/>= 10_000:$/,/^    return 0$/c\    return 5 if subtotal > 10_000 else 0' shop/pricing.py",
        "sed -i 's/subtotal > 10_000/subtotal >= 10_000/' shop/pricing.py",
        "behaviour",
    ),
    "code_generation": (
        {"description": "Wrapping costs 1.50 a piece:\n\n>>> from shop.gift import wrapping\n>>> wrapping(3)\n450\n"},
        r"printf 'def wrapping(pieces: int) -> int:\n    return pieces * 100\n' > shop/gift.py",
        "sed -i 's/100/150/' shop/gift.py",
        "acceptance",
    ),
    "build_script": (
        {"description": "Write build.sh, which copies the shop into dist.", "target_file": ""},
        r"printf '#!/bin/sh\nset -eu\nmkdir dist\ncp shop/*.py dist/\n' > build.sh",
        "sed -i 's/mkdir dist/mkdir -p dist/' build.sh",
        "build",
    ),
}
"""By category: what is asked, the work, its repair, and the rule that asks for the repair."""

ACCEPTED_THIRD_TIME = DEMO.read_text().replace(
    "    latency: {distribution: lognormal, median: 0.25, sigma: 0.3}\n",
    "    faults: [{kind: hang, calls: [1, 2], seconds: 300}, {kind: bad_model_400}]\n",
)
"""The demo's scenario, but the first model answers its first two calls never, and refuses all that follow."""


def submit(up: Up, priority: str, **parameters: object) -> str:
    """Submit through Prefect's API; return the flow run's id."""
    deployment = up.api("GET", f"/deployments/name/development-task/{priority}").raise_for_status().json()
    path = f"/deployments/{deployment['id']}/create_flow_run"
    created = up.api("POST", path, parameters=TASK | parameters, state={"type": "SCHEDULED"})
    return created.raise_for_status().json()["id"]


def below(root: psutil.Process) -> list[psutil.Process]:
    return [root, *root.children(recursive=True)]


def at_work() -> int:
    """Return how many of an agent's endless command and its daemon run, on this machine or in a container."""
    return sum("3333" in command_line(process) for process in psutil.process_iter())


def command_line(process: psutil.Process) -> list[str]:
    """Return a process's words; none for one that has ended meanwhile."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@dataclass
class Ended:
    """A task that ran to its end, with what the user's repository looked like before."""

    up: Up
    repository: Path
    before: dict[str, str]
    simulator: RunningSimulator
    requests: list[dict[str, Any]]
    flow_run_id: str
    report: dict[str, Any]


def look_at(repository: Path) -> dict[str, str]:
    """Return what must not change in a user's repository: status, HEAD, index, refs but ours, worktrees."""
    return {
        "status": git(repository, "status", "--porcelain=v2", "--branch"),
        "head": (repository / ".git" / "HEAD").read_text(),
        "index": git(repository, "ls-files", "--stage"),
        "refs": "\n".join(ref for ref in git(repository, "for-each-ref").splitlines() if "/devtasks/" not in ref),
        "worktrees": git(repository, "worktree", "list"),
    }


@pytest.fixture(scope="module")
def accepted(up: Up, tmp_path_factory: pytest.TempPathFactory) -> Generator[Ended]:
    repository = example_repository(tmp_path_factory.mktemp("accepted") / "shop")
    before = look_at(repository)
    with simulating(up, write(repository.parent, OF_UNKNOWN_MODELS)) as simulator:
        pairs = TASK | {"repository": repository, "delivery": "branch", "credentials": simulator.block}
        words = [word for name, value in pairs.items() for word in ("-p", f"{name}={value}")]
        submitted = up.run("prefect", "deployment", "run", "development-task/high", *words)
        assert submitted.returncode == 0, submitted.stdout + submitted.stderr
        flow_run_id = next(line.split()[-1] for line in submitted.stdout.splitlines() if "UUID" in line)
        up.wait_ended(flow_run_id)
        status = up.run("devtasks", "get-status", flow_run_id, "--json")
        assert status.returncode == 0, status.stderr
        yield Ended(up, repository, before, simulator, simulator.requests(), flow_run_id, json.loads(status.stdout))


def test_the_second_model_is_accepted_after_the_first_one_and_its_repair_were_rejected(accepted: Ended) -> None:
    report = accepted.report
    assert (report["state"], report["outcome"], report["simulated"]) == ("Accepted", "accepted", True)
    attempts = [(each["model_requested"], each["outcome"]) for each in report["attempts"]]
    assert attempts == [
        ("acme/coder-new:free", "rejected"),
        ("acme/coder-new:free", "rejected"),
        ("globex/coder-new:free", "accepted"),
    ]
    rules = [
        [each["rule"] for each in attempt["findings"] if each["level"] == "ERROR"] for attempt in report["attempts"]
    ]
    assert "coverage" in rules[0]
    assert "passes" in rules[1]
    assert rules[2] == []


def test_the_branch_holds_exactly_the_new_test_file_whose_tests_pass_in_a_clean_clone(
    accepted: Ended, tmp_path: Path
) -> None:
    branch = accepted.report["branch"]
    changed = git(accepted.repository, "diff", "--name-status", "main", branch)
    assert changed == "A\ttests/test_pricing.py"
    message = git(accepted.repository, "log", "-1", "--format=%B", branch)
    assert "simulated" in message
    assert accepted.flow_run_id in message
    git(tmp_path, "clone", "-q", "-b", branch, str(accepted.repository), "clone")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "tests/test_pricing.py"],
        cwd=tmp_path / "clone",
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    assert "17 passed" in ran.stdout


def test_the_users_checkout_index_and_branch_are_untouched(accepted: Ended) -> None:
    assert look_at(accepted.repository) == accepted.before


def test_verdict_diff_and_metrics_are_artifacts_that_say_simulated(accepted: Ended) -> None:
    wanted = {"flow_run_id": {"any_": [accepted.flow_run_id]}}
    artifacts = accepted.up.api("POST", "/artifacts/filter", artifacts=wanted).raise_for_status().json()
    by_key = {artifact["key"]: str(artifact["data"]) for artifact in artifacts}
    assert by_key.keys() == {"verdict", "diff", "metrics", "report", "timeline"}
    assert "globex/coder-new:free" in by_key["verdict"]
    assert "+def test_bulk_discount_grows_with_the_amount" in by_key["diff"]
    assert all("simulated" in data for data in by_key.values())


def test_every_attempt_and_every_call_is_a_row_of_the_ledger(accepted: Ended) -> None:
    attempts, calls = asyncio.run(rows(accepted.up, accepted.flow_run_id))
    assert (len(attempts), len(calls)) == (3, len(accepted.requests))
    assert all(row.simulated for row in (*attempts, *calls))


async def rows(up: Up, flow_run_id: str) -> tuple[list[ExecutionMetrics], list[LlmCall]]:
    """Return a run's attempts and calls as the ledger has them."""
    async with Ledger.open(f"postgresql+asyncpg://postgres:@/devtasks?host={sockets(up)}") as ledger:
        return list(await ledger.attempts(flow_run_id=flow_run_id)), list(await ledger.calls(flow_run_id))


def test_neither_key_nor_token_is_left_anywhere(accepted: Ended) -> None:
    dump = [PROGRAMS / "pg_dump", "-h", sockets(accepted.up), "-U", "postgres", "--inserts"]
    dumps = [subprocess.run([*dump, name], capture_output=True, check=True).stdout for name in ("prefect", "devtasks")]
    assert accepted.flow_run_id.encode() in dumps[0]
    roots = (accepted.up.folder, accepted.repository)
    files = [path for root in roots for path in root.rglob("*") if path.is_file() and path.suffix != ".db"]
    assert any(path.name == "trajectory.jsonl" for path in files)
    secret = re.compile(f"{re.escape(SIMULATED_KEY)}|{TOKEN_PREFIX}[\\w-]{{20,}}".encode())
    leaks = [str(path) for path in files if secret.search(path.read_bytes())]
    leaks += [f"database {index}" for index, text in enumerate(dumps) if secret.search(text)]
    assert leaks == []


def sockets(up: Up) -> Path:
    """Return the folder of PostgreSQL's socket, from the server's own record."""
    return Path((up.stack / "postgres" / "data" / "postmaster.pid").read_text().splitlines()[4])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        pytest.param({"category": "weird"}, "'weird' is not one of", id="unknown category"),
        pytest.param({"quality_threshold": 1.5}, "1.5", id="threshold above one"),
        pytest.param({"description": ""}, "description", id="empty description"),
        pytest.param({"max_llm_calls": 0}, "max_llm_calls", id="no call allowed"),
    ],
)
def test_the_server_refuses_bad_parameters_before_a_run_exists(
    up: Up, parameters: dict[str, object], message: str
) -> None:
    deployment = up.api("GET", "/deployments/name/development-task/normal").json()
    given = TASK | {"repository": "/nowhere"} | parameters
    refused = up.api("POST", f"/deployments/{deployment['id']}/create_flow_run", parameters=given)
    assert refused.status_code in (409, 422)
    assert message in refused.text


def test_a_task_that_cannot_be_tried_fails_with_one_message_and_without_a_model_call(up: Up, tmp_path: Path) -> None:
    repository = example_repository(tmp_path / "shop")
    flow_run_id = submit(up, "normal", repository=str(repository), target_file="shop/absent.py")
    state = up.wait_ended(flow_run_id)["state"]
    assert state["type"] == "FAILED"
    assert "target_file: 'shop/absent.py'" in state["message"]
    logs = up.api("POST", "/logs/filter", logs={"flow_run_id": {"any_": [flow_run_id]}}).json()
    assert not any("Traceback" in log["message"] for log in logs)


def test_documentation_is_accepted_when_its_example_is_true_and_no_code_changed(up: Up, tmp_path: Path) -> None:
    repository = example_repository(tmp_path / "shop")
    task = {"category": "documentation", "description": "Show bulk_discount by an example.", "delivery": "branch"}
    with simulating(up, write(tmp_path, DOCUMENTING)) as simulator:
        flow_run_id = submit(up, "normal", repository=str(repository), credentials=simulator.block, **task)
        up.wait_ended(flow_run_id)
    report = json.loads(up.run("devtasks", "get-status", flow_run_id, "--json").stdout)
    assert report["state"] == "Accepted", report["reason"]
    first, second = report["attempts"]
    assert [each["rule"] for each in first["findings"] if each["level"] == "ERROR"] == ["doctests"]
    assert (second["outcome"], second["score"]) == ("accepted", 1)
    assert git(repository, "diff", "--numstat", f"HEAD..{report['branch']}").split() == ["5", "1", "shop/pricing.py"]


@pytest.mark.parametrize(("category", "work"), WORK.items(), ids=WORK)
def test_other_work_is_accepted_once_the_rules_of_its_category_find_no_error(
    up: Up, tmp_path: Path, category: str, work: tuple[dict[str, str], str, str, str]
) -> None:
    task, first, second, rule = work
    repository = example_repository(tmp_path / "shop")
    scenario = WORKING.replace("FIRST", json.dumps(first)).replace("SECOND", json.dumps(second))
    with simulating(up, write(tmp_path, scenario)) as simulator:
        given = {"category": category, "credentials": simulator.block, **task}
        flow_run_id = submit(up, "normal", repository=str(repository), **given)
        up.wait_ended(flow_run_id)
    report = json.loads(up.run("devtasks", "get-status", flow_run_id, "--json").stdout)
    assert report["state"] == "Accepted", report
    refused, accepted = report["attempts"]
    assert {each["rule"] for each in refused["findings"] if each["level"] == "ERROR"} - {"quality_threshold"} == {rule}
    assert (accepted["outcome"], accepted["score"] >= 0.9) == ("accepted", True)


def test_a_critical_run_submitted_last_starts_before_waiting_low_ones(up: Up, tmp_path: Path) -> None:
    with simulating(up, write(tmp_path, BUSY)) as simulator:
        repository = str(example_repository(tmp_path / "shop"))
        busy = submit(up, "low", repository=repository, credentials=simulator.block)
        wait_for(lambda: up.state(busy)["state_type"] == "RUNNING", 60, "the only slot is taken")
        # These fail as soon as they start; when each started is all that matters.
        waiting = [submit(up, priority, repository="/nowhere") for priority in ("low", "normal", "critical")]
        wait_for(lambda: up.state(busy)["state_type"] == "RUNNING", 5, "still busy")
        cancel(up, busy)
        started = [up.wait_ended(flow_run_id)["start_time"] for flow_run_id in waiting]
    low, normal, critical = started
    assert critical < normal < low


QUOTA_IS_BACK_SOON = DEMO.read_text().replace(
    "    latency: {distribution: lognormal, median: 0.4, sigma: 0.3}\n",
    "    faults: [{kind: account_day_429, calls: [1], retry_after: 15}]\n",
)
"""The demo's scenario, but the first call to the model that is accepted finds the account's day used up, for 15 s.

Whether the other model is tried before depends on what earlier runs of the same stack have learned of the two.
"""


def test_a_run_without_quota_gives_its_slot_back_and_goes_on_when_there_is_some_again(up: Up, tmp_path: Path) -> None:
    with simulating(up, write(tmp_path, QUOTA_IS_BACK_SOON)) as simulator:
        repository = str(example_repository(tmp_path / "shop"))
        flow_run_id = submit(up, "normal", repository=repository, credentials=simulator.block)
        wait_for(lambda: up.state(flow_run_id)["state"]["name"] == "AwaitingQuota", 90, "the run is deferred")
        assert up.state(flow_run_id)["state_type"] == "SCHEDULED"
        other = submit(up, "normal", repository="/nowhere")
        assert up.wait_ended(other)["start_time"], "the slot is free meanwhile"
        assert up.wait_ended(flow_run_id, 120)["state"]["name"] == "Accepted"
        status = json.loads(up.run("devtasks", "get-status", flow_run_id, "--json").stdout)
        assert sum(each["llm_calls"] for each in status["attempts"]) == len(simulator.requests())
        accepted = status["attempts"][-1]
        assert (accepted["model_requested"], accepted["outcome"]) == ("globex/coder-large:free", "accepted")
        assert {each["outcome"] for each in status["attempts"][:-1]} <= {"rejected"}, "the deferred one is not an end"
    assert not (up.stack / "runs" / flow_run_id / "work").exists()


@pytest.mark.parametrize(
    ("docker", "words"),
    [
        pytest.param(False, ("devtasks", "cancel"), id="local"),
        pytest.param(True, ("prefect", "flow-run", "cancel"), id="docker"),
    ],
)
def test_cancelling_ends_the_agent_and_all_it_started_and_no_secret_was_within_its_reach(
    up: Up, tmp_path: Path, *, docker: bool, words: tuple[str, ...]
) -> None:
    if docker:
        require_docker()
    with simulating(up, write(tmp_path, BUSY)) as simulator:
        repository = str(example_repository(tmp_path / "shop"))
        flow_run_id = submit(up, "normal", repository=repository, credentials=simulator.block, use_docker=docker)
        wait_for(lambda: at_work() == 2, 60, "the agent runs its command and a daemon")
        assert up.process
        processes = [each for each in below(psutil.Process(up.process.pid)) if command_line(each)]
        exposed = [
            process.name()
            for process in processes
            if re.search(f"{SIMULATED_KEY}|{TOKEN_PREFIX}", " ".join((*process.cmdline(), *process.environ().values())))
        ]
        assert exposed == []
        work = str(up.stack / "runs" / flow_run_id)
        variables = up.environment | (up.connection() if docker else {})
        asked = subprocess.Popen([BIN / words[0], *words[1:], flow_run_id], env=variables, cwd=up.folder)
        wait_for(
            lambda: str(up.state(flow_run_id)["state_type"]).startswith("CANCEL"), 60, "the server has heard of it"
        )
        heard = time.monotonic()
        wait_for(lambda: not (at_work() or alive(work)), CANCEL_SECONDS, "the agent and all it started have ended")
        print(f"all ended {time.monotonic() - heard:.1f} s after the server heard of it")
        assert asked.wait(60) == 0
        assert up.wait_ended(flow_run_id)["state_type"] == "CANCELLED"
    assert at_work() == 0
    run = up.stack / "runs" / flow_run_id
    assert not (run / "work").exists()
    assert "sleep 3333" in (run / "attempts" / "1" / "trajectory.jsonl").read_text()
    assert "+# half" in (run / "attempts" / "1" / "diff.patch").read_text(), "the work so far is kept"
    status = json.loads(up.run("devtasks", "get-status", flow_run_id, "--json").stdout)
    assert (status["state"], status["outcome"]) == ("Cancelled", "cancelled")
    (attempt,), (call,) = asyncio.run(rows(up, flow_run_id))
    assert (attempt.outcome, attempt.failure, attempt.llm_calls) == ("failed", "cancelled", 1)
    assert (call.status, call.error) == (200, None)
    refused = up.run("devtasks", "cancel", flow_run_id)
    assert (refused.returncode, "this one is Cancelled" in refused.stderr) == (2, True), refused.stderr


def test_a_run_survives_kill_9_of_its_worker_and_of_the_whole_stack(tmp_path: Path) -> None:
    repository = example_repository(tmp_path / "shop")
    before = look_at(repository)
    with running_up(tmp_path / "up") as up, simulating(up, write(tmp_path, ACCEPTED_THIRD_TIME)) as simulator:
        parameters = {"repository": str(repository), "delivery": "branch", "credentials": simulator.block}
        flow_run_id = submit(up, "normal", **parameters)
        wait_for(lambda: len(simulator.requests()) == 1, 90, "the agent waits for a model")
        up.worker().kill()
        wait_for(lambda: len(simulator.requests()) == 2, 120, "the run goes on under a new worker")
        assert up.process
        for process in (psutil.Process(up.process.pid), up.worker()):
            process.kill()
        up.process.wait()
        up.start()
        flow_run = up.wait_ended(flow_run_id, 120)
        assert flow_run["state"]["name"] == "Accepted"
        status = json.loads(up.run("devtasks", "get-status", flow_run_id, "--json").stdout)
        (attempt,) = status["attempts"]
        assert attempt["llm_calls"] == len(simulator.requests()), "the killed calls count where they were made"
        found = up.api("POST", "/logs/filter", logs={"flow_run_id": {"any_": [flow_run_id]}}).raise_for_status()
        lines = [line["message"] for line in found.json()]
        assert lines.count("attempt 1 goes on where its process ended") == 2
        assert sum(line.startswith("baseline: ") for line in lines) == 1, "what was done is not done again"
        assert up.stop() == 0
        assert up.processes() == []
    assert not list((up.stack / "runs").glob("*/work"))
    assert not list((up.stack / "runs").glob("*/course.json"))
    assert look_at(repository) == before
    branches = git(repository, "for-each-ref", "--format=%(refname:short)", "refs/heads").splitlines()
    assert branches == [f"devtasks/unit_test-{flow_run_id[:8]}", "main"]


def cancel(up: Up, flow_run_id: str) -> None:
    path = f"/flow_runs/{flow_run_id}/set_state"
    up.api("POST", path, state={"type": "CANCELLING"}).raise_for_status()


def write(folder: Path, scenario: str) -> Path:
    file = folder / "scenario.yaml"
    file.write_text(scenario)
    return file
