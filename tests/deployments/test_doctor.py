"""The doctor: what each check finds, on a bare machine, with services that misbehave, and on a real server."""

import asyncio
import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from prefect_stack import PrefectStack
from pydantic import SecretStr
from services import service

from blocks import OpenRouterCredentials
from deployments.doctor import account, checks, machine
from deployments.doctor.checks import Check, Finding, Probe, Status, examine, exit_code, ok
from deployments.doctor.diagnosis import ON_SERVER, diagnose, first_step
from deployments.stack import Connection
from devtasks import cli
from devtasks.config import OpenHandsConfig
from devtasks.errors import InvalidInput, ServiceUnreachable
from devtasks.openrouter.client import SIMULATED_HEADER
from devtasks.redaction import Redactor

IN_ANOTHER_QUEUE = """
deployments:
  - name: normal
    entrypoint: flows.development_task.development_task
    work_pool: {name: devtasks, work_queue_name: low}
"""
SECRET = "sk-or-v1-0123456789abcdef0123456789"


def look(probe: Probe) -> Check:
    return asyncio.run(examine(probe, Redactor({"password": "pa55word-of-the-server"})))


def raising(error: Exception) -> Probe:
    async def fail() -> Finding:
        raise error

    return Probe("it", fail, "mend it")


@pytest.mark.parametrize(
    ("error", "found", "unreachable"),
    [
        pytest.param(RuntimeError("boom"), "RuntimeError: boom", False, id="any error"),
        pytest.param(InvalidInput("x", 1, "2"), "x: 1 is not allowed; expected 2", False, id="ours"),
        pytest.param(ServiceUnreachable("s", "a", "r"), "s at a cannot be reached: r", True, id="unreachable"),
    ],
)
def test_a_check_that_raises_has_failed_and_says_how_to_mend_it(
    error: Exception, found: str, unreachable: bool
) -> None:
    assert look(raising(error)) == Check("it", Status.FAILED, found, "mend it", unreachable)


def test_a_check_that_takes_too_long_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "CHECK_SECONDS", 0.01)

    async def wait() -> Finding:
        await asyncio.Event().wait()
        return ok("never")

    assert look(Probe("it", wait, "mend it")).found == "no answer within 0.01 s"


def test_no_secret_is_in_what_was_found() -> None:
    shown = look(raising(RuntimeError(f"{SECRET} and pa55word-of-the-server"))).found
    assert "0123456789" not in shown
    assert "pa55word" not in shown


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        pytest.param(("ok", "warning", "skipped"), 0, id="nothing failed"),
        pytest.param(("ok", "failed"), 1, id="failed"),
        pytest.param(("failed", "unreachable"), 3, id="unreachable"),
    ],
)
def test_exit_code_tells_failed_from_unreachable(statuses: tuple[str, ...], code: int) -> None:
    made = [
        Check("x", Status.FAILED if each == "unreachable" else Status(each), "", each, each == "unreachable")
        for each in statuses
    ]
    assert exit_code(made) == code
    assert first_step(made) == (None if code == 0 else "failed")


def test_environment_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asyncio.run(machine.environment()).status is Status.OK
    required = ["rich>=14", "rich>=99", "no-such-package>=1", "other ; sys_platform == 'none'"]
    monkeypatch.setattr(machine, "requires", lambda _: required)
    found = asyncio.run(machine.environment())
    assert (found.status, found.found) == (
        Status.FAILED,
        "missing or of another version: rich>=99, no-such-package>=1",
    )


def test_without_programs_git_has_failed_and_docker_is_optional_unless_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert asyncio.run(machine.git()).status is Status.FAILED
    config = OpenHandsConfig()
    assert asyncio.run(machine.docker(config)).status is Status.WARNING
    asked = config.model_copy(update={"use_docker_runtime": True})
    assert asyncio.run(machine.docker(asked)).status is Status.FAILED


@pytest.mark.parametrize(("free", "status"), [(0.5, "failed"), (2, "warning"), (5, "ok")])
def test_disk_is_looked_at_where_the_stack_will_be(
    free: float, status: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    usage = SimpleNamespace(free=int(free * machine.GIB))
    monkeypatch.setattr(machine.shutil, "disk_usage", {tmp_path: usage}.__getitem__)
    assert asyncio.run(machine.disk(tmp_path / "not" / "yet")).status == status


def test_unreadable_file_of_models_has_failed(tmp_path: Path) -> None:
    async def read() -> Finding:
        config = OpenHandsConfig.model_validate({"DEVTASKS_MODELS": str(tmp_path / "none.yaml")})
        return await machine.own_models(config)

    found = look(Probe("models file", read, "mend it"))
    assert (found.status, str(tmp_path / "none.yaml") in found.found) == (Status.FAILED, True)


COUNTED = {"is_free_tier": True, "free_model_daily_requests": {"limit": 50, "used": 12}, "limit_remaining": 1.5}


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        pytest.param(httpx.Response(200, json={"data": COUNTED}), "ok", "38 of 50 free requests left today", id="left"),
        pytest.param(httpx.Response(200, json={"data": COUNTED}), "ok", "$1.50 of the key's own limit", id="limit"),
        pytest.param(
            httpx.Response(200, json={"data": {"free_model_daily_requests": {"limit": 50, "used": 50}}}),
            "warning",
            "0 of 50",
            id="used up",
        ),
        pytest.param(
            httpx.Response(200, json={"data": {}}, headers={SIMULATED_HEADER: "1"}), "ok", "simulated", id="simulated"
        ),
        pytest.param(httpx.Response(401), "failed", "refuses the key (401)", id="refused"),
        pytest.param(httpx.Response(404), "ok", "says nothing about keys", id="private"),
        pytest.param(httpx.Response(500), "failed", "500 on /key", id="broken"),
        pytest.param(httpx.Response(200, text="hello"), "warning", "in another way", id="no JSON"),
    ],
)
def test_key_is_judged_by_what_its_service_says(
    answer: httpx.Response, status: str, words: str, tmp_path: Path
) -> None:
    asked: list[httpx.Request] = []

    async def run() -> Check:
        async with service(lambda request: asked.append(request) or answer) as base_url:
            payer = account.Payer(base_url, SecretStr(SECRET))
            probe = Probe("key", lambda: account.key(payer, f"sqlite:///{tmp_path}/none.db"), "mend it")
            return await examine(probe, Redactor())

    check = asyncio.run(run())
    assert (check.status, words in check.found) == (status, True), check
    assert [request.url.path for request in asked] == ["/api/v1/key"], "one request, none to a model"
    assert SECRET not in str(check)


def test_ledger_file_is_not_made_by_looking(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    assert asyncio.run(account.ledger(url)).status is Status.OK
    assert not (tmp_path / "ledger.db").exists()


def test_ledger_shows_no_password_and_says_where_it_cannot_be_reached() -> None:
    check = look(Probe("ledger", lambda: account.ledger("postgresql://me:s3cret@127.0.0.1:9/x"), "start it"))
    assert (check.status, check.unreachable, "s3cret" in check.found) == (Status.FAILED, True, False)


def statuses(made: list[Check]) -> Mapping[str, str]:
    return {check.name: str(check.status) for check in made}


def test_bare_machine_is_told_what_to_run_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = asyncio.run(diagnose(OpenHandsConfig(), None, f"sqlite:///{tmp_path}/l.db", tmp_path / "stack"))
    found = statuses(made)
    assert (found["server"], {found[name] for name in ON_SERVER}, found["key"]) == ("failed", {"skipped"}, "skipped")
    assert exit_code(made) == 3
    assert "devtasks up" in str(first_step(made))
    assert list(tmp_path.iterdir()) == [], "nothing is made"


def test_server_without_its_set_up_lacks_a_worker_blocks_and_deployments_of_this_version(
    server: PrefectStack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", server.url)
    monkeypatch.setenv("DEVTASKS_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["devtasks", "doctor", "--json", "--offline"])
    monkeypatch.setattr("deployments.doctor.server.PROJECT", tmp_path)
    (tmp_path / "prefect.yaml").write_text(IN_ANOTHER_QUEUE)
    with Connection(server.url, server.auth).settings():
        with suppress(ValueError):  # that of a test before on the same server
            OpenRouterCredentials.delete("default")
        with pytest.raises(SystemExit) as end:
            cli.main()
    assert end.value.code == 1
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    found = {each["name"]: each for each in document["checks"]}
    assert document["healthy"] is False
    assert (found["server"]["status"], found["key"]["status"]) == ("ok", "skipped")
    assert "development-task/normal is of another version" in found["deployments"]["found"]
    assert "none polls" in found["worker"]["found"]
    assert found["credentials block"]["status"] == "failed"
    assert server.auth.partition(":")[2] not in str(document)


def test_wrong_password_is_named_and_nothing_behind_it_is_looked_at(server: PrefectStack, tmp_path: Path) -> None:
    connection = Connection(server.url, "test:wrong")
    made = asyncio.run(diagnose(OpenHandsConfig(), connection, f"sqlite:///{tmp_path}/l.db", tmp_path, offline=True))
    check = next(each for each in made if each.name == "server")
    assert (check.status, "PREFECT_API_AUTH_STRING" in check.mend) == (Status.FAILED, True)
    assert {statuses(made)[name] for name in ON_SERVER} == {"skipped"}
    assert exit_code(made) == 1
