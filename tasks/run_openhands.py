"""The step in which the agent works."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from prefect import get_run_logger, task

from devtasks.evidence import TRAJECTORY, TrajectoryWriter
from devtasks.execution.runtime import AgentEvent, AgentRequest, AgentResult
from devtasks.model_selector import Candidate
from devtasks.openrouter.answers import Refusal
from devtasks.openrouter.route import Route
from devtasks.prompt import resume_prompt
from devtasks.selection.capability import ModelCapability
from devtasks.validation.conventions import python_path
from devtasks.validation.pytest_options import own_settings
from tasks.options import RETRIED
from tasks.prepare_workspace import Prepared
from tasks.run import Run

MIN_SECONDS = 1.0
"""The least time an agent is given; the flow ends the task before an attempt would get less."""


@dataclass(frozen=True)
class Assignment:
    """One attempt to make: with which models, the first one first, in which conversation, with which message.

    A `resumed` one was begun by a process that has ended, and goes on in what that left behind.
    """

    attempt: int
    lineup: tuple[Candidate, ...]
    conversation_id: str
    message: str
    seconds: float
    resumed: bool = False


async def restore_calls(run: Run, assignment: Assignment, lineup: Sequence[str]) -> None:
    """Have the gateway stand where an attempt's agent left it: with these models of the lineup."""
    run.gateway.begin(assignment.attempt, await _routes(run, [m for m in _models(assignment) if m.model_id in lineup]))


@task(name="run-openhands", task_run_name="run-openhands #{assignment.attempt}", **RETRIED)
async def run_openhands(run: Run, prepared: Prepared, assignment: Assignment) -> AgentResult:
    """Let the agent work on the workspace until it stops or its time is up; its events become the trajectory."""
    logger, workspace, python = get_run_logger(), prepared.workspace, prepared.environment.python
    models = _models(assignment)

    def on_wait(seconds: float, reason: str) -> None:
        logger.info("waiting %.0f s %s", seconds, reason)
        run.runtime.extend(seconds)

    def on_move(model: str, refusal: Refusal) -> None:
        logger.info("the conversation goes on with %s: %s: %s", model, refusal.kind, refusal.message)

    run.gateway.begin(assignment.attempt, await _routes(run, models), on_wait=on_wait, on_move=on_move)
    context = min(model.context_length for model in models)
    request = AgentRequest(
        conversation_id=assignment.conversation_id,
        workspace=workspace.path,
        persistence_dir=run.folder.work / "conversations",
        model=models[0].model_id,
        base_url=run.gateway.base_url,
        token=run.gateway.token,
        message=assignment.message,
        resume_message=resume_prompt(workspace.path) if assignment.resumed else None,
        # As the validator runs them: the project's own code first, nothing of the folders above, nothing left behind.
        environment={
            "PATH": str(python.parent),
            "PYTHONPATH": python_path(workspace.path),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTEST_ADDOPTS": shlex.join(own_settings(workspace.path)),
        },
        max_iterations=run.task.limits.iterations,
        max_silence_seconds=run.settings.max_silence_seconds,
        max_input_tokens=context,
        max_output_tokens=min(run.settings.max_output_tokens, context // 4),
        native_tool_calling=models[0].supports_tools,
        project_guidance=run.settings.project_guidance,
    )
    with TrajectoryWriter(run.folder.attempt(assignment.attempt) / TRAJECTORY) as trajectory:

        def on_event(told: AgentEvent) -> None:
            event = run.redactor.value(told)
            if run.settings.keep_prompts or not _is_prompt(event):
                trajectory.write(event)
            _show(event, workspace.path, logger.info)

        result = await run.runtime.run_agent(request, deadline=max(MIN_SECONDS, assignment.seconds), on_event=on_event)
    result = result.model_copy(
        update={"final_message": run.redactor.text(result.final_message), "detail": run.redactor.text(result.detail)}
    )
    refusal = run.gateway.refusal
    logger.info(
        "agent: %s after %d steps, %d calls, %.1f s%s",
        *(result.status, result.iterations, len(run.gateway.calls_of(assignment.attempt)), result.seconds),
        f"; {refusal.kind}: {refusal.message}" if refusal else f"; {result.detail}" if result.detail else "",
    )
    return result


def _models(assignment: Assignment) -> list[ModelCapability]:
    return [candidate.capability for candidate in assignment.lineup]


async def _routes(run: Run, models: Sequence[ModelCapability]) -> list[Route]:
    services = [await run.services.of(model.endpoint, run.credentials) for model in models]
    return [Route(each.model_id, service, each.pricing) for each, service in zip(models, services, strict=True)]


def _is_prompt(event: AgentEvent) -> bool:
    return event["type"] == "message" and event.get("source") == "user"


def _show(event: AgentEvent, workspace: Path, log: Callable[[str], None]) -> None:
    """Log an agent's event as one short line; observations are left to the trajectory."""
    match event:
        case {"type": "action", "tool": "terminal", "arguments": {"command": str(command)}}:
            log(f"agent: $ {_one_line(command)}")
        case {"type": "action", "tool": "file_editor", "arguments": {"command": str(command), "path": str(path)}}:
            log(f"agent: {command} {path.removeprefix(f'{workspace}/')}")
        case {"type": "action", "tool": "finish", "arguments": {"message": str(message)}}:
            log(f"agent: finish: {_one_line(message)}")
        case {"type": "action", "tool": str(tool)}:
            log(f"agent: {tool}")
        case {"type": "tool_error", "text": str(text)} | {"type": "error", "text": str(text)}:
            log(f"agent: error: {_one_line(text)}")
        case _:
            pass


def _one_line(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 160 else f"{flat[:160]}…"
