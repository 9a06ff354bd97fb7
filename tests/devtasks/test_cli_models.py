"""The commands about models, against a simulator's catalogue on loopback."""

import asyncio
import json
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from devtasks import cli
from devtasks.ledger import Ledger
from devtasks.metrics_collector import ExecutionMetrics
from devtasks.simulator import Scenario, Simulator

SCENARIO = {
    "name": "catalogue",
    "models": [
        {"id": "acme/coder:free", "context_length": 262_144},
        {"id": "globex/talker:free", "context_length": 65_536, "supported_parameters": []},
        {"id": "initech/paid-coder", "prompt_price": "0.000001", "completion_price": "0.000002"},
    ],
}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    simulator = Simulator(Scenario.model_validate(SCENARIO))
    asyncio.run_coroutine_threadsafe(simulator.__aenter__(), loop).result(20)
    yield simulator.base_url
    asyncio.run_coroutine_threadsafe(simulator.__aexit__(None, None, None), loop).result(20)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(20)
    loop.close()


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, address: str) -> None:
    monkeypatch.setenv("DEVTASKS_HOME", str(tmp_path))
    monkeypatch.setenv("OPENHANDS_BASE_URL", address)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def act(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["devtasks", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
        shown = capsys.readouterr()
        assert "Traceback" not in shown.err
        assert isinstance(end.value.code, int)
        return end.value.code, shown.out, shown.err

    return act


SELECT = ("select-model", "--category", "unit_test")


def listed(run: Any, *words: str) -> dict[str, Any]:
    code, out, _ = run("models", *words, "--json")
    assert code == 0
    return json.loads(out)


def test_models_are_listed_with_what_becomes_of_them(run: Any) -> None:
    document = listed(run)
    assert (document["source"], document["simulated"]) == ("live", True)
    assert [(model["id"], model["state"], model["why"]) for model in document["models"]] == [
        ("acme/coder:free", "ready", None),
        ("globex/talker:free", "excluded", "it has no tool calls"),
        ("initech/paid-coder", "excluded", "it is not free"),
    ]
    code, out, err = run("models")
    assert (code, "excluded: it is not free" in out, "(simulated)" in err) == (0, True, True)


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        pytest.param(("--free",), ["acme/coder:free", "globex/talker:free"], id="free"),
        pytest.param(("--tools",), ["acme/coder:free", "initech/paid-coder"], id="tools"),
        pytest.param(("--min-context", "200000"), ["acme/coder:free"], id="context"),
        pytest.param(("--free", "--tools"), ["acme/coder:free"], id="both"),
    ],
)
def test_the_list_is_filtered(run: Any, words: tuple[str, ...], ids: list[str]) -> None:
    assert [model["id"] for model in listed(run, *words)["models"]] == ids


def test_a_model_of_one_s_own_is_listed(run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    file.write_text(
        "models: [{id: ours/m, context_length: 40000, endpoint: {base_url: 'http://gpu.test/v1', credentials: gpu}}]"
    )
    monkeypatch.setenv("DEVTASKS_MODELS", str(file))
    own = next(model for model in listed(run)["models"] if model["id"] == "ours/m")
    assert own["endpoint"] == {"base_url": "http://gpu.test/v1", "credentials": "gpu"}


def test_the_chosen_model_is_one_line_for_scripts(run: Any) -> None:
    assert run(*SELECT, "--complexity", "moderate", "--quality-threshold", "0.7")[:2] == (0, "acme/coder:free\n")


def test_explain_shows_scores_and_why_others_are_left_out(run: Any) -> None:
    code, out, _ = run(*SELECT, "--explain")
    assert code == 0
    assert "1. acme/coder:free 0." in out
    assert "0.86 x acceptance" in out
    assert "left out: globex/talker:free: it has no tool calls" in out


def test_json_holds_the_choice_and_with_explain_the_whole_ranking(run: Any) -> None:
    document = json.loads(run(*SELECT, "--paid", "--json")[1])
    assert (document["model"], len(document["candidates"]), document["simulated"]) == ("acme/coder:free", 1, True)
    document = json.loads(run(*SELECT, "--paid", "--json", "--explain")[1])
    assert [each["model"] for each in document["candidates"]] == ["acme/coder:free", "initech/paid-coder"]
    assert [each["model"] for each in document["left_out"]] == ["globex/talker:free"]


def test_earlier_attempts_in_the_ledger_change_the_choice(run: Any, tmp_path: Path) -> None:
    async def fail(count: int) -> None:
        async with Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
            for number in range(count):
                await ledger.record_attempt(rejected(number))

    assert run(*SELECT, "--paid")[1] == "acme/coder:free\n"
    asyncio.run(fail(3))
    assert run(*SELECT, "--paid")[1] == "initech/paid-coder\n"


def rejected(number: int) -> ExecutionMetrics:
    return ExecutionMetrics(
        task_id="t",
        flow_run_id="r",
        attempt=number,
        category="unit_test",
        target_file="a.py",
        model_requested="acme/coder:free",
        model_served=None,
        simulated=True,
        isolation="local",
        outcome="rejected",
        failure="rejected",
        score=0.1,
        findings=(),
        llm_calls=3,
        iterations=3,
        prompt_tokens=10,
        completion_tokens=1,
        cost_usd=0.0,
        started_at=datetime(2026, 1, 1, number, tzinfo=UTC),
        seconds=60.0,
    )


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        pytest.param(("--model", "coder"), 2, "the nearest are acme/coder:free", id="unknown-model"),
        pytest.param(("--quality-threshold", "1.5"), 2, "a number from 0 to 1", id="threshold"),
        pytest.param(("--max-cost", "-1"), 2, "--max-cost", id="negative-cost"),
        pytest.param(("--context", "900000"), 1, "none of 3 models can work on this task", id="no-candidate"),
        pytest.param(
            ("--specialization", "general"),
            1,
            "relax specialization: 1 would do, such as acme/coder",
            id="what-to-relax",
        ),
    ],
)
def test_a_refusal_is_one_message(run: Any, words: tuple[str, ...], code: int, message: str) -> None:
    ended, _, err = run(*SELECT, *words)
    assert ended == code
    assert message in " ".join(err.split())


def test_a_service_that_does_not_answer_is_exit_code_3(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENHANDS_BASE_URL", "http://127.0.0.1:9/api/v1")
    code, _, err = run("models")
    assert code == 3
    assert "the model catalogue at http://127.0.0.1:9/api/v1 cannot be reached" in " ".join(err.split())


@pytest.mark.parametrize("command", ["models", "select-model"])
def test_the_commands_explain_themselves(run: Any, command: str) -> None:
    code, out, _ = run(command, "--help")
    assert code == 0
    assert f"devtasks {command}" in out
