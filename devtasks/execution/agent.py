"""One conversation of the OpenHands agent: the only place that imports OpenHands.

It runs in a process of its own (see `supervisor`), because version 1.34 of the SDK holds a class-wide lock over
every LLM call and its shell inherits the process's environment. The SDK's own retries are off: the gateway is the
one owner of HTTP retries. The terminal uses the subprocess backend, because the tmux backend loses its first command
on slow machines and outlives a kill.
"""

import importlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from devtasks.execution.runtime import AgentEvent, AgentRequest, AgentResult, AgentStatus

if TYPE_CHECKING:
    from openhands.sdk import LocalConversation
    from openhands.sdk.event import Event

MAX_TEXT = 20_000
"""Characters of one text kept in an event; the rest is cut with a mark."""

QUIET_COMMAND_SECONDS = 120
"""Seconds a command may print nothing before the agent gets its turn back; the SDK's 30 kills long test suites."""


MODULES = ("openhands.sdk", "openhands.tools.file_editor", "openhands.tools.terminal")
"""What a conversation needs."""

CALL_SECONDS = 3_600
"""Seconds the SDK waits for one call (its default is 300): a call may wait long for the account's minute, and the
gateway, which knows, bounds what the service itself takes."""


def preload() -> None:
    """Import MODULES, so that forks of this process start at once."""
    for module in MODULES:
        importlib.import_module(module)


def run_conversation(request: AgentRequest, emit: Callable[[AgentEvent], None]) -> AgentResult:
    """Run or continue one conversation to its end, passing each event to `emit`; SDK errors become the result."""
    started = time.monotonic()
    responses: set[str] = set()

    def on_event(event: "Event") -> None:
        if response := getattr(event, "llm_response_id", None):
            responses.add(response)
        if (plain := describe(event)) is not None:
            emit(plain)

    status, detail, message = AgentStatus.ERROR, "", ""
    try:
        conversation = _conversation(request, on_event)
        try:
            conversation.send_message(_message(conversation, request))
            conversation.run()
            status, message = _status(conversation)
        finally:
            conversation.close()
    except Exception as error:
        cause = getattr(error, "original_exception", error)
        detail = f"{type(cause).__name__}: {_cut(str(cause), 2_000)}"
    return AgentResult(
        status=status,
        iterations=len(responses),
        final_message=_cut(message, MAX_TEXT),
        detail=detail,
        seconds=time.monotonic() - started,
    )


def describe(event: "Event") -> AgentEvent | None:
    """Return an event as the plain values the trajectory keeps, or None for the SDK's own bookkeeping."""
    from openhands.sdk.event import ActionEvent, AgentErrorEvent, MessageEvent, ObservationEvent
    from openhands.sdk.event.conversation_error import ConversationErrorEvent
    from openhands.sdk.llm import content_to_str

    match event:
        case ActionEvent():
            arguments = event.action.model_dump(mode="json", exclude={"kind"}) if event.action else {}
            return {
                "type": "action",
                "tool": event.tool_name,
                "arguments": {name: _cut_value(value) for name, value in arguments.items() if value is not None},
                "thought": _cut(_join(content_to_str(event.thought)), MAX_TEXT),
                "response": event.llm_response_id,
            }
        case ObservationEvent():
            text = _cut(_join(content_to_str(event.observation.to_llm_content)), MAX_TEXT)
            kind = "tool_error" if event.observation.is_error else "observation"
            return {"type": kind, "tool": event.tool_name, "text": text}
        case AgentErrorEvent():
            return {"type": "tool_error", "tool": event.tool_name, "text": _cut(event.error, MAX_TEXT)}
        case MessageEvent():
            text = _cut(_join(content_to_str(event.llm_message.content)), MAX_TEXT)
            return {"type": "message", "source": event.source, "text": text, "response": event.llm_response_id}
        case ConversationErrorEvent():
            return {"type": "error", "code": event.code, "text": _cut(event.detail, MAX_TEXT)}
        case _:
            return None


def _conversation(request: AgentRequest, on_event: Callable[["Event"], None]) -> "LocalConversation":
    from openhands.sdk import LLM, Agent, AgentContext, LocalConversation, Tool
    from openhands.tools.file_editor import FileEditorTool
    from openhands.tools.terminal import TerminalTool
    from pydantic import SecretStr

    llm = LLM(
        model=f"openrouter/{request.model}",
        api_key=SecretStr(request.token),
        base_url=request.base_url,
        usage_id=f"agent:{request.model}",
        num_retries=0,
        timeout=CALL_SECONDS,
        max_input_tokens=request.max_input_tokens,
        max_output_tokens=request.max_output_tokens,
        native_tool_calling=request.native_tool_calling,
    )
    inputrc = Path.home() / ".inputrc"  # HOME is the run's own; bracketed paste would litter the output
    inputrc.write_text("set enable-bracketed-paste off\n")
    terminal: dict[str, Any] = {
        "terminal_type": "subprocess",
        "no_change_timeout_seconds": QUIET_COMMAND_SECONDS,
        "env": {"INPUTRC": str(inputrc)},
    }
    tools = [Tool(name=TerminalTool.name, params=terminal), Tool(name=FileEditorTool.name)]
    # No date, which would make every prompt another one.
    context = AgentContext(load_project_skills=True, current_datetime=None) if request.project_guidance else None
    return LocalConversation(
        agent=Agent(llm=llm, tools=tools, agent_context=context),
        workspace=str(request.workspace),
        persistence_dir=str(request.persistence_dir),
        conversation_id=UUID(request.conversation_id),
        max_iteration_per_run=request.max_iterations,
        callbacks=[on_event],
        visualizer=None,
        stuck_detection=True,
    )


def _message(conversation: "LocalConversation", request: AgentRequest) -> str:
    from openhands.sdk.event import MessageEvent
    from openhands.sdk.llm import content_to_str

    if not request.resume_message:
        return request.message
    events = (event for event in conversation.state.events if isinstance(event, MessageEvent))
    said = {_join(content_to_str(event.llm_message.content)) for event in events if event.source == "user"}
    return request.resume_message if request.message in said else request.message


def _status(conversation: "LocalConversation") -> tuple[AgentStatus, str]:
    from openhands.sdk.conversation.response_utils import get_agent_final_response
    from openhands.sdk.conversation.state import ConversationExecutionStatus as Sdk

    status = conversation.state.execution_status
    message = get_agent_final_response(conversation.state.events)
    if status is Sdk.FINISHED:
        return AgentStatus.FINISHED, message
    if status is Sdk.STUCK:
        return AgentStatus.STUCK, message
    # A run that returns in ERROR without raising has used up its iterations.
    return AgentStatus.MAX_ITERATIONS, message


def _cut_value(value: Any) -> Any:
    return _cut(value, MAX_TEXT) if isinstance(value, str) else value


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}… [{len(text) - limit} characters cut]"


def _join(parts: Iterable[str]) -> str:
    return "".join(parts)
