"""What the step keeps of a conversation, with a runtime that only tells events."""

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from models import NOW, make_model
from prefect.logging import disable_run_logger

from blocks import OpenHandsRuntime
from devtasks.environments import ProjectEnvironment
from devtasks.execution.runtime import AgentRequest, AgentResult, AgentStatus, OnEvent
from devtasks.model_selector import ModelSelector, TaskRequirements
from devtasks.openrouter.gateway import Gateway
from devtasks.redaction import Redactor
from devtasks.task import TaskCategory, TaskLimits
from tasks.run_openhands import Assignment, run_openhands

PROMPT = {"type": "message", "source": "user", "text": "Write tests for the secret sauce."}
ANSWER = {"type": "message", "source": "agent", "text": "Done."}
OWN = ProjectEnvironment(Path(sys.executable))
SECRET = "a-secret-of-this-run"
LEAK = {"type": "action", "tool": "terminal", "arguments": {"command": f"echo {SECRET}"}, "thought": "", "response": ""}


class Teller:
    """A runtime that tells two messages and keeps what it was asked."""

    def __init__(self) -> None:
        self.requests: list[AgentRequest] = []

    async def run_agent(self, request: AgentRequest, *, deadline: float, on_event: OnEvent) -> AgentResult:
        self.requests.append(request)
        on_event(PROMPT)
        on_event(ANSWER)
        on_event(LEAK)
        return AgentResult(status=AgentStatus.FINISHED, final_message=SECRET)


def run(
    folder: Path, *models: Any, log: Callable[[str], None] | None = None, **settings: Any
) -> tuple[AgentRequest, list[Any]]:
    async def act() -> AgentRequest:
        runtime = Teller()
        async with Gateway(flow_run_id="r", limits=TaskLimits()) as gateway:
            shared: Any = SimpleNamespace(
                task=SimpleNamespace(limits=TaskLimits()),
                folder=SimpleNamespace(work=folder, attempt=lambda _: folder),
                gateway=gateway,
                runtime=runtime,
                settings=OpenHandsRuntime(**settings),
                services=SimpleNamespace(of=serve),
                credentials=None,
                redactor=Redactor({"OpenRouter key": SECRET}),
            )
            ranking = ModelSelector(models, now=NOW).rank(TaskRequirements(TaskCategory.UNIT_TEST, tools=False))
            prepared: Any = SimpleNamespace(workspace=SimpleNamespace(path=folder), environment=OWN)
            with patched_log(log) if log else disable_run_logger():
                end = await run_openhands.fn(shared, prepared, Assignment(1, ranking.candidates, "c", "Go.", 60))
        assert SECRET not in end.final_message
        return runtime.requests[0]

    async def serve(*_: Any) -> Any:
        return None

    @contextmanager
    def patched_log(log: Callable[[str], None]) -> Iterator[None]:
        def info(words: str, *values: object) -> None:
            log(words % values if values else words)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys.modules["tasks.run_openhands"], "get_run_logger", lambda: SimpleNamespace(info=info))
            yield

    request = asyncio.run(act())
    header, *lines = (json.loads(line) for line in (folder / "trajectory.jsonl").read_text().splitlines())
    assert header["version"] == 1
    return request, [{name: value for name, value in line.items() if name != "time"} for line in lines]


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        pytest.param({}, [ANSWER], id="by-default"),
        pytest.param({"keep_prompts": True}, [PROMPT, ANSWER], id="asked-for"),
    ],
)
def test_prompts_are_kept_only_where_the_user_turns_that_on(
    tmp_path: Path, settings: dict[str, Any], kept: list[Any]
) -> None:
    assert run(tmp_path, make_model(), **settings)[1][:-1] == kept


def test_the_agent_is_told_what_the_whole_lineup_can_hold(tmp_path: Path) -> None:
    large, small = (
        make_model("acme/large:free", context_length=200_000),
        make_model("acme/small:free", context_length=100_000),
    )
    request, _ = run(tmp_path, large, small, max_output_tokens=60_000)
    assert (request.max_input_tokens, request.max_output_tokens, request.native_tool_calling) == (100_000, 25_000, True)


def test_a_model_without_tool_calls_is_told_its_tools_in_the_prompt(tmp_path: Path) -> None:
    request, _ = run(tmp_path, make_model(supports_tools=False))
    assert not request.native_tool_calling


def test_the_agents_python_is_the_one_that_judges_it(tmp_path: Path) -> None:
    request, _ = run(tmp_path, make_model())
    assert request.environment["PATH"] == str(OWN.python.parent)


def test_a_secret_reaches_neither_the_trajectory_nor_the_log_nor_the_end(tmp_path: Path) -> None:
    lines: list[str] = []
    _, kept = run(tmp_path, make_model(), log=lines.append)
    assert kept[-1]["arguments"] == {"command": "echo [redacted: OpenRouter key]"}
    assert "agent: $ echo [redacted: OpenRouter key]" in lines
    assert SECRET not in " ".join(lines)
