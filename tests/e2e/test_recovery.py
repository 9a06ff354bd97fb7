"""Recovery with real parts: a service that is away for a while, and a person who decides what becomes of a task."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml
from harness import RunningSimulator, Up, example_repository, git, simulating, wait_for

HOLLOW = """
name: hollow
models:
  - id: acme/coder-mini:free
    context_length: 262144
    supported_parameters: [tools, tool_choice, max_tokens]
    conversations:
      - match: The shop opens at nine
        turns:
          - tool_calls:
              - name: terminal
                arguments: {command: "printf 'def test_hinted():\\n    pass\\n' > tests/test_hinted.py"}
          - finish: With the hint.
          - finish: It stays as it is.
      - turns:
          - tool_calls:
              - name: terminal
                arguments: {command: "printf 'def test_nothing():\\n    pass\\n' > tests/test_nothing.py"}
          - finish: It is done.
          - finish: It stays as it is.
"""
"""A model that writes a test without any check, and another one where it is told when the shop opens."""

TASK = {"category": "unit_test", "target_file": "shop/pricing.py", "description": "Test shop/pricing.py."}


def submit(up: Up, simulator: RunningSimulator, repository: Path, *options: str) -> str:
    words = [word for name, value in TASK.items() for word in (f"--{name.replace('_', '-')}", value)]
    command = ("submit-task", *words, "--repository", str(repository), "--credentials", simulator.block, *options)
    submitted = up.run("devtasks", *command)
    assert submitted.returncode == 0, submitted.stderr
    return submitted.stdout.strip()


def state(up: Up, flow_run_id: str) -> str:
    name = up.state(flow_run_id)["state"]["name"]
    assert name not in {"Failed", "Rejected", "Crashed"}, up.state(flow_run_id)
    return name


def steps(up: Up, flow_run_id: str) -> list[str]:
    """Return the events of a run's steps, in their order."""
    resource = {"id": [f"devtasks.task.{flow_run_id}"]}
    found = up.api("POST", "/events/filter", filter={"resource": resource, "order": "ASC"}, limit=50)
    return [each["event"].removeprefix("devtasks.task.") for each in found.raise_for_status().json()["events"]]


def timeline(up: Up, flow_run_id: str) -> list[dict[str, object]]:
    found = up.api(
        "POST", "/artifacts/filter", artifacts={"flow_run_id": {"any_": [flow_run_id]}, "key": {"any_": ["timeline"]}}
    )
    (artifact,) = found.raise_for_status().json()
    return json.loads(artifact["data"])


def review(up: Up, flow_run_id: str, *answer: str) -> subprocess.CompletedProcess[str]:
    return up.run("devtasks", "review", flow_run_id, *answer)


def test_a_task_that_was_not_accepted_asks_a_person_who_gives_a_hint_and_then_takes_it_as_it_is(
    up: Up, tmp_path: Path
) -> None:
    repository = example_repository(tmp_path / "shop")
    scenario = tmp_path / "scenario.yaml"
    scenario.write_text(HOLLOW)
    with simulating(up, scenario) as simulator:
        flow_run_id = submit(up, simulator, repository, "--review-hours", "1", "--delivery", "branch")
        wait_for(lambda: state(up, flow_run_id) == "NeedsReview", 120, "a person is asked")
        listed = up.run("devtasks", "review", "--json")
        assert flow_run_id in [each["flow_run_id"] for each in json.loads(listed.stdout)]
        shown = json.loads(review(up, flow_run_id, "--json").stdout)
        assert (shown["state"], shown["outcome"], len(shown["attempts"])) == ("NeedsReview", "open", 2)
        refused = review(up, flow_run_id, "--try-again", "--larger", "11")
        assert (refused.returncode, "--larger: 11" in refused.stderr) == (2, True), refused.stderr
        answered = review(up, flow_run_id, "--try-again", "--hint", "The shop opens at nine.", "--larger", "0.5")
        assert answered.returncode == 0, answered.stderr
        wait_for(lambda: state(up, flow_run_id) != "NeedsReview", 30, "the run goes on")
        wait_for(lambda: state(up, flow_run_id) == "NeedsReview", 120, "a person is asked again")
        assert review(up, flow_run_id, "--accept").returncode == 0
        assert up.wait_ended(flow_run_id)["state"]["name"] == "Approved"
    report = json.loads(up.run("devtasks", "get-status", flow_run_id, "--json").stdout)
    assert (report["outcome"], len(report["attempts"])) == ("approved", 4)
    assert {each["outcome"] for each in report["attempts"]} == {"rejected"}, "no verdict is changed by it"
    message = git(repository, "log", "-1", "--format=%B", report["branch"])
    assert "NOT accepted by validation" in message
    files = git(repository, "diff", "--name-only", f"HEAD..{report['branch']}").split()
    assert files == ["tests/test_hinted.py"], "the last attempt's change, from the start"
    took = [*["repair", "fall_back", "escalate"], *["fall_back", "repair", "fall_back", "escalate"], "accept"]
    assert [each["step"].replace(" ", "_") for each in timeline(up, flow_run_id)] == took
    wait_for(lambda: steps(up, flow_run_id) == took, 20, "each step is an event")
    assert not (up.stack / "runs" / flow_run_id / "work").exists()
    late = review(up, flow_run_id, "--give-up")
    assert (late.returncode, "this one is Approved" in late.stderr) == (2, True), late.stderr


def test_a_process_whose_run_was_given_to_another_one_delivers_nothing(up: Up, tmp_path: Path) -> None:
    repository = example_repository(tmp_path / "shop")
    scenario = yaml.safe_load((Path(__file__).parents[2] / "examples" / "demo.yaml").read_text())
    for model in scenario["models"]:
        model["latency"] = {"distribution": "fixed", "seconds": 4}
    (tmp_path / "scenario.yaml").write_text(yaml.safe_dump(scenario))

    def said() -> bool:
        logs = {"flow_run_id": {"any_": [flow_run_id]}}
        found = up.api("POST", "/logs/filter", logs=logs, sort="TIMESTAMP_DESC").raise_for_status().json()
        return any("this process ends here: its run is AwaitingRetry" in each["message"] for each in found)

    def give_to_another(at: datetime) -> None:
        state = {"type": "SCHEDULED", "name": "AwaitingRetry", "state_details": {"scheduled_time": at.isoformat()}}
        up.api("POST", f"/flow_runs/{flow_run_id}/set_state", state=state, force=True).raise_for_status()

    with simulating(up, tmp_path / "scenario.yaml") as simulator:
        flow_run_id = submit(up, simulator, repository, "--delivery", "branch")
        wait_for(simulator.requests, 60, "the agent is at work")
        give_to_another(datetime.now(UTC) + timedelta(hours=1))
        wait_for(said, 200, "the process sees that the run is not its own")
        assert state(up, flow_run_id) == "AwaitingRetry"
        assert git(repository, "branch", "--list", "devtasks/*") == ""
        give_to_another(datetime.now(UTC))
        assert up.wait_ended(flow_run_id, 200)["state"]["name"] == "Accepted"
    assert len(git(repository, "branch", "--list", "devtasks/*").splitlines()) == 1


def test_a_task_that_waits_for_a_person_can_be_cancelled(up: Up, tmp_path: Path) -> None:
    repository = example_repository(tmp_path / "shop")
    scenario = tmp_path / "scenario.yaml"
    scenario.write_text(HOLLOW)
    with simulating(up, scenario) as simulator:
        flow_run_id = submit(up, simulator, repository, "--review-hours", "1")
        wait_for(lambda: state(up, flow_run_id) == "NeedsReview", 120, "a person is asked")
        assert up.run("devtasks", "cancel", flow_run_id).returncode == 0
        assert up.wait_ended(flow_run_id, 30)["state_type"] == "CANCELLED"
    report = json.loads(up.run("devtasks", "get-status", flow_run_id, "--json").stdout)
    assert report["outcome"] == "cancelled"


def test_a_run_waits_for_a_service_that_is_away_without_its_slot_and_goes_on_when_it_is_back(
    up: Up, tmp_path: Path
) -> None:
    repository = example_repository(tmp_path / "shop")
    scenario = Path(__file__).parents[2] / "examples" / "demo.yaml"
    with simulating(up, scenario) as simulator:
        port = simulator.base_url.split(":")[2].split("/")[0]
        simulator.process.terminate()
        simulator.process.wait(20)
        flow_run_id = submit(up, simulator, repository)
        wait_for(lambda: state(up, flow_run_id) == "AwaitingRetry", 90, "the run waits")
        assert up.state(flow_run_id)["state_type"] == "SCHEDULED"
        again = subprocess.Popen(
            [sys.executable, "-m", "devtasks.simulator", scenario, "--port", port], env=up.environment
        )
        try:
            assert up.wait_ended(flow_run_id, 180)["state"]["name"] == "Accepted"
        finally:
            again.terminate()
            again.wait(20)
    assert timeline(up, flow_run_id)[0]["step"] == "retry"
