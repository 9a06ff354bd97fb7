"""The private interfaces of Prefect that the prefork worker stands on: each still is what it was in Prefect 3.8."""

import asyncio
import inspect
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import anyio
import prefect
import pytest
from prefect._internal.infrastructure_exit_codes import get_infrastructure_exit_info
from prefect.client import orchestration
from prefect.client.schemas.objects import State, StateType
from prefect.runner import _starter_engine, _workspace_hook_runner, _workspace_supervisor
from prefect.runner._workspace_hook_runner import WorkspaceHookRunner
from prefect.runner._workspace_runtime import PreparedWorkspaceManifest, write_private_model
from prefect.runner._workspace_starter import WorkspaceResolvingEngineCommandStarter
from prefect.utilities import processutils
from prefect.workers.base import BaseWorker
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker

from deployments.prefork import private


class Recorder:
    """Stands in for `run_process`, and keeps what it was called with."""

    def __init__(self) -> None:
        self.command: list[str] = []
        self.options: dict[str, object] = {}

    async def __call__(self, command: list[str], **options: object) -> SimpleNamespace:
        self.command, self.options = command, options
        return SimpleNamespace(returncode=0)


def test_this_is_the_version_whose_interfaces_were_read() -> None:
    assert prefect.__version__.startswith("3.8."), "read the new version's runner package before changing this"


def test_prefect_starts_a_flow_run_through_the_replaced_function(tmp_path: Path) -> None:
    recorder, flow_run = Recorder(), SimpleNamespace(id=uuid4())

    async def start() -> None:
        starter = WorkspaceResolvingEngineCommandStarter(
            workspace_root=tmp_path, source_cwd=tmp_path, environment={"A": "1", "B": None}
        )
        with private.starting_with(recorder):
            await starter.start(flow_run)  # pyright: ignore[reportArgumentType]
        starter.close()

    asyncio.run(start())
    program = private.parse_command(recorder.command)
    assert program
    assert program.kind == "flow"
    assert recorder.options.keys() == {
        *("stream_output", "task_status", "task_status_handler", "env", "cwd", "start_new_session")
    }
    environment = recorder.options["env"]
    assert isinstance(environment, dict)
    assert environment["A"] == "1"
    assert "B" not in environment
    assert environment["PREFECT__FLOW_RUN_ID"] == str(flow_run.id)


def test_prefect_starts_hooks_through_the_replaced_function(tmp_path: Path) -> None:
    command = [sys.executable, str(private.BOOTSTRAP), "hook"]
    manifest = PreparedWorkspaceManifest(
        working_directory=tmp_path, runtime_entrypoint="a.py:b", hook_command=command, environment={}
    )
    write_private_model(tmp_path / "manifest", manifest)
    recorder = Recorder()
    state = State(type=StateType.CRASHED)
    runner = WorkspaceHookRunner(manifest_path=tmp_path / "manifest", stream_output=True)

    async def run() -> None:
        from prefect.client.schemas.objects import FlowRun

        with private.starting_with(recorder):
            await runner.run_crashed_hooks(FlowRun(flow_id=uuid4(), name="a"), state)

    asyncio.run(run())
    program = private.parse_command(recorder.command)
    assert program
    assert (program.kind, program.arguments[0]) == ("hook", "crashed")
    assert recorder.options.keys() == {"cwd", "env", "stream_output"}


@pytest.mark.parametrize(
    "command",
    [
        ["python3", "-m", private.SUPERVISOR, "config"],
        [sys.executable, "-m", "prefect.engine"],
        [sys.executable, "-m", private.SUPERVISOR],
        ["uv", "run", "hook"],
    ],
    ids=["another Python", "another module", "no configuration", "another program"],
)
def test_any_other_command_is_not_forked(command: list[str]) -> None:
    assert private.parse_command(command) is None


def test_outside_of_the_context_processes_start_as_ever(tmp_path: Path) -> None:
    async def run() -> int:
        with private.starting_with(Recorder()):
            pass
        process = await _starter_engine.run_process([sys.executable, "-c", "exit(7)"], cwd=tmp_path)
        return process.returncode

    assert asyncio.run(run()) == 7


def test_the_supervisor_would_replace_itself_by_the_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    launch = inspect.signature(_workspace_supervisor._launch_engine)
    assert list(launch.parameters) == ["command", "cwd", "environment"]
    source = inspect.getsource(_workspace_supervisor.supervise)
    assert "return await _launch_engine(" in source
    assert '[get_sys_executable(), "-m", "prefect.engine"]' in source
    assert list(inspect.signature(_workspace_supervisor.main).parameters) == ["argv"]
    assert private.Launch([sys.executable, "-m", "prefect.engine"], tmp_path, {}).is_engine()


def test_a_supervisor_that_cannot_prepare_ends_with_its_exit_code(tmp_path: Path) -> None:
    original = _workspace_supervisor._launch_engine
    try:
        assert private.supervise(str(tmp_path / "missing")) == 1
    finally:
        _workspace_supervisor._launch_engine = original


def test_the_exit_code_of_a_run_that_outgrew_its_memory_says_so() -> None:
    assert "memory" in get_infrastructure_exit_info(private.OUT_OF_MEMORY).explanation


def test_a_job_says_whether_it_names_its_own_command() -> None:
    assert not private.names_command(ProcessJobConfiguration())
    assert "configuration._command_configured" in inspect.getsource(ProcessWorker.run)


@pytest.mark.parametrize("ignored", [True, False])
def test_an_ignored_interrupt_is_recognised_behind_prefects_handlers(ignored: bool) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.default_int_handler)
        processutils.setup_signal_handlers_worker(os.getpid(), "a worker", print)
        assert private.interrupt_is_ignored() is ignored
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_prefects_clients_share_one_tls_context(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orchestration, "ssl", orchestration.ssl)
    private.share_tls_contexts()
    first, second = (orchestration.PrefectClient("http://127.0.0.1:1/api") for _ in range(2))
    contexts = [client._client._transport._pool._ssl_context for client in (first, second)]  # pyright: ignore
    assert contexts[0] is contexts[1]


def test_all_of_prefects_models_can_be_completed_before_a_fork() -> None:
    private.complete_models()
    assert orchestration.FlowRun.__pydantic_complete__


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("PREFECT_LOGGING_LEVEL", True),
        ("prefect_api_url", True),
        ("HOME", True),
        ("SSL_CERT_FILE", True),
        ("PREFECT__FLOW_RUN_ID", False),
        ("PATH", False),
    ],
)
def test_the_variables_that_settings_are_read_from(name: str, expected: bool) -> None:
    assert private.is_setting(name) is expected


class Submitting:
    """The part of Prefect's worker that takes runs."""

    def __init__(self) -> None:
        self._limiter = anyio.CapacityLimiter(2)

    async def _submit_scheduled_flow_runs(self, flow_run_response: list[SimpleNamespace]) -> list[SimpleNamespace]:
        for each in flow_run_response:
            self._limiter.acquire_on_behalf_of_nowait(each.flow_run.id)
        return flow_run_response


class Careful(private.WithoutRunsUnderWay, Submitting):
    pass


def test_a_resumed_run_whose_process_still_lives_is_left_for_the_next_poll() -> None:
    async def poll_twice() -> list[int]:
        worker = Careful()
        run = SimpleNamespace(flow_run=SimpleNamespace(id="a"))
        return [len(await worker._submit_scheduled_flow_runs([run])) for _ in range(2)]

    assert asyncio.run(poll_twice()) == [1, 0]
    assert "acquire_on_behalf_of_nowait(flow_run.id)" in inspect.getsource(BaseWorker._submit_scheduled_flow_runs)


def test_both_callers_look_the_function_up_in_their_own_module() -> None:
    for module in (_starter_engine, _workspace_hook_runner):
        assert "await run_process(" in inspect.getsource(module)
