"""Conversations of the real agent, in the real process, with a simulated model behind the real gateway."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from gateways import gateway_to
from processes import alive, supervisors, until_async
from pydantic import SecretStr

from devtasks.errors import AgentCrashed
from devtasks.execution.runtime import AgentEvent, AgentRequest, AgentResult, AgentStatus
from devtasks.openrouter.calls import PATIENT_WAITS, TRIES
from devtasks.openrouter.gateway import Gateway
from devtasks.recovery import FailureKind
from devtasks.simulator import Scenario, Simulator

MODEL = "acme/coder:free"
KEY = "the-key-nobody-may-see"
PATIENCE = 120
STOP_SECONDS = 10
"""Within which an agent is stopped: twice what is promised, for a busy machine."""

WORDS = ("GIVEN", "INTEGERS", "PLURALS")
"""Words of a repository's guidance; the simulated model can say those it was told."""


def shell(command: str) -> dict[str, Any]:
    return {"tool_calls": [{"name": "terminal", "arguments": {"command": command}}]}


@dataclass
class Scene:
    """One agent at work: its workspace, its gateway, the model's side and what it told."""

    stage: Any
    gateway: Gateway
    model: Simulator
    conversation_id: str = field(default_factory=lambda: str(uuid4()))
    events: list[AgentEvent] = field(default_factory=list[AgentEvent])
    heard_at: float = 0.0

    @property
    def workspace(self) -> Path:
        return self.stage.folder / "workspace"

    async def agent(
        self,
        message: str,
        *,
        deadline: float = PATIENCE,
        iterations: int = 10,
        native: bool = True,
        resume: str | None = None,
        guidance: bool = True,
        **limits: float,
    ) -> AgentResult:
        request = AgentRequest(
            conversation_id=self.conversation_id,
            workspace=self.workspace,
            persistence_dir=self.stage.folder / "conversations",
            model=MODEL,
            base_url=self.gateway.base_url,
            token=self.gateway.token,
            message=message,
            resume_message=resume,
            max_iterations=iterations,
            max_input_tokens=131_072,
            max_output_tokens=4_096,
            native_tool_calling=native,
            project_guidance=guidance,
            **limits,  # pyright: ignore[reportArgumentType]
        )
        return await self.stage.runtime.run_agent(request, deadline=deadline, on_event=self.hear)

    def hear(self, event: AgentEvent) -> None:
        self.events.append(event)
        self.heard_at = time.monotonic()

    def told(self, kind: str) -> list[AgentEvent]:
        return [event for event in self.events if event["type"] == kind]


@asynccontextmanager
async def scene(stage: Any, *turns: dict[str, Any], **model: Any) -> AsyncGenerator[Scene]:
    """Open a scene with a model that says these turns."""
    (stage.folder / "workspace").mkdir(exist_ok=True)
    described = {"id": MODEL, "conversations": [{"turns": list(turns) or [{"finish": "Done."}]}]} | model
    variables = {word: f"({word})" for word in WORDS}
    scenario = Scenario.model_validate({"name": "scene", "keys": [KEY], "models": [described], "variables": variables})
    async with (
        Simulator(scenario) as simulator,
        gateway_to(simulator.base_url, SecretStr(KEY), MODEL, socket=stage.gateway) as gateway,
    ):
        yield Scene(stage, gateway, simulator)


def test_an_agent_works_to_its_end_and_tells_what_it_does(stage: Any) -> None:
    write = {"command": "create", "path": str(stage.folder / "workspace" / "new.txt"), "file_text": "written"}
    turns = (
        {"text": "I write.", "tool_calls": [{"name": "file_editor", "arguments": write}]},
        shell("cat new.txt; echo said by the shell"),
        {"finish": "It is written."},
    )

    async def act() -> None:
        async with scene(stage, *turns) as on:
            result = await on.agent("Write a file.")
            assert (result.status, result.iterations, result.final_message) == (
                AgentStatus.FINISHED,
                3,
                "It is written.",
            )
            assert (result.detail, result.seconds > 0) == ("", True)
            assert (on.workspace / "new.txt").read_text() == "written"
            assert [event["tool"] for event in on.told("action")] == ["file_editor", "terminal", "finish"]
            assert on.told("action")[0]["thought"] == "I write."
            assert on.told("action")[1]["arguments"]["command"].startswith("cat new.txt")
            assert "written" in on.told("observation")[1]["text"]
            assert "said by the shell" in on.told("observation")[1]["text"]
            assert [event["source"] for event in on.told("message")][:1] == ["user"]
            assert [(call.error, call.model_served) for call in on.gateway.calls] == [(None, MODEL)] * 3

    stage.play(act())


def test_a_model_without_tool_calls_works_by_words_alone(stage: Any) -> None:
    text = "a\n  b = '</parameter'\n\nlast line, without a line break"
    write = {"command": "create", "path": str(stage.folder / "workspace" / "words.txt"), "file_text": text}
    turns = (
        {"text": "I write.", "tool_calls": [{"name": "file_editor", "arguments": write}]},
        shell("cat words.txt; echo said by the shell"),
        {"finish": "It is written."},
    )

    async def act() -> None:
        async with scene(stage, *turns, supported_parameters=["max_tokens"]) as on:
            result = await on.agent("Write a file.", native=False)
            assert (result.status, result.iterations, result.detail) == (AgentStatus.FINISHED, 3, "")
            assert result.final_message == "It is written."
            assert (on.workspace / "words.txt").read_text() == text
            assert "said by the shell" in on.told("observation")[1]["text"]
            assert on.told("action")[0]["thought"] == "I write."

    stage.play(act())


def test_what_words_cannot_carry_is_lost_on_the_way_and_a_cut_call_is_told_to_the_model(stage: Any) -> None:
    """How the SDK reads calls from text (1.34); docs/simulator.md and docs/model-selection.md say so."""

    def write(name: str, text: str) -> dict[str, Any]:
        path = str(stage.folder / "workspace" / name)
        return {"name": "file_editor", "arguments": {"command": "create", "path": path, "file_text": text}}

    turns = (
        {"tool_calls": [write("tag.txt", "before</parameter>after")]},
        {"tool_calls": [write("breaks.txt", "\n  one\n")]},
        {"tool_calls": [write("first.txt", "1"), write("second.txt", "2")]},
        {"tool_calls": [write("stopped.txt", "before</function>after")]},
        {"tool_calls": [write("cut.txt", "0" * 400)], "fault": {"kind": "truncated_arguments"}},
        {"finish": "Done."},
    )

    async def act() -> None:
        task = {"match": "^Write files", "turns": list(turns)}
        other = {"match": "numbers from 1 to 10", "turns": [{"finish": "That was the SDK's own example."}]}
        async with scene(stage, supported_parameters=["max_tokens"], conversations=[other, task]) as on:
            result = await on.agent("Write files.", native=False)
            assert (result.status, result.final_message) == (AgentStatus.FINISHED, "Done.")
            assert (on.workspace / "tag.txt").read_text() == "before"
            assert (on.workspace / "breaks.txt").read_text() == "one"
            assert (on.workspace / "first.txt").read_text() == "1"
            lost = [on.workspace / name for name in ("second.txt", "stopped.txt", "cut.txt")]
            assert not any(path.exists() for path in lost)
            assert [call.error for call in on.gateway.calls] == [None] * len(turns)
            told = [event["text"] for event in on.told("tool_error")]
            assert len(told) == 2, "the stopped call and the cut one"
            assert all("`file_text` is required" in text for text in told)

    stage.play(act())


def test_neither_token_nor_key_is_within_the_agent_s_reach(stage: Any) -> None:
    look = (
        "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' > processes; env > shell; echo ok"
    )

    async def act() -> None:
        async with scene(stage, shell(look), {"finish": "Seen."}) as on:
            assert (await on.agent("Look around.")).status is AgentStatus.FINISHED
            shell_sees = (on.workspace / "shell").read_text()
            assert f"HOME={stage.folder}/home" in shell_sees
            assert "never-to-be-seen" not in shell_sees
            assert (on.workspace / "processes").stat().st_size > 0 or sys.platform != "linux"
            for file in (path for path in stage.folder.rglob("*") if path.is_file()):
                content = file.read_bytes()
                assert on.gateway.token.encode() not in content, file
                assert KEY.encode() not in content, file
            assert on.gateway.token not in str(on.events)

    stage.play(act())


def test_a_conversation_that_is_continued_knows_what_was_said(stage: Any) -> None:
    async def act() -> None:
        async with scene(stage, {"finish": "First."}, {"finish": "Second."}) as on:
            first = await on.agent("Do it.")
            second = await on.agent("Mend it.")
            assert (first.final_message, second.final_message) == ("First.", "Second.")
            assert (first.status, second.status, second.iterations) == (AgentStatus.FINISHED,) * 2 + (1,)
            before, after = (record.messages for record in on.model.requests)
            assert after > before + 1, "the earlier messages and the new one"

    stage.play(act())


def test_a_conversation_whose_process_was_killed_goes_on_and_asks_for_one_step_again_at_most(
    stage: Any, mark: str
) -> None:
    turns = (
        shell("echo first >> steps"),
        shell(f"echo second >> steps; [ $(grep -c second steps) = 2 ] || sleep {mark}"),
        {"finish": "Done."},
    )

    async def act() -> None:
        async with scene(stage, *turns) as on:
            with suppress(FileNotFoundError):
                (on.workspace / "steps").unlink()
            agent = asyncio.create_task(on.agent("Take two steps.", resume="Go on."))
            await until_async(lambda: alive(mark))
            processes = supervisors(stage.folder)
            below = (each for each in processes if each not in topmost(processes))
            (conversation,) = (each for each in below if each.children())  # the relay has none
            conversation.kill()
            with pytest.raises(AgentCrashed):
                await agent
            assert (await on.agent("Take two steps.", resume="Go on.")).final_message == "Done."
            assert (on.workspace / "steps").read_text().split() == ["first", "second", "second"]
            assert len(on.model.requests) == 4, "three turns, of which the killed one was asked for again"
            assert [each["text"] for each in on.told("message") if each["source"] == "user"] == [
                "Take two steps.",
                "Go on.",
            ]

    stage.play(act())


def test_a_conversation_that_was_killed_before_it_began_is_told_its_task(stage: Any) -> None:
    async def act() -> None:
        async with scene(stage, {"finish": "Done."}) as on:
            await on.agent("Do it.", resume="Go on.")
            assert [each["text"] for each in on.told("message") if each["source"] == "user"] == ["Do it."]

    stage.play(act())


def test_another_conversation_begins_at_the_start(stage: Any) -> None:
    async def act() -> None:
        async with scene(stage, {"finish": "First."}, {"finish": "Second."}) as on:
            await on.agent("Do it.")
            on.conversation_id = str(uuid4())
            assert (await on.agent("Do it.")).final_message == "First."

    stage.play(act())


def test_an_agent_that_finds_no_end_is_stopped_by_its_steps(stage: Any) -> None:
    async def act() -> None:
        async with scene(stage, *(shell(f"echo {word}") for word in ("one", "two", "three"))) as on:
            result = await on.agent("Go on.", iterations=2)
            assert (result.status, result.iterations) == (AgentStatus.MAX_ITERATIONS, 2)

    stage.play(act())


GUIDANCE = {
    "AGENTS.md": "Every test begins with a GIVEN comment.",
    ".openhands/microagents/money.md": "---\ndescription: About money.\ntriggers: [currency]\n---\nCents are INTEGERS.",
    ".agents/skills/naming/SKILL.md": "---\nname: naming\ndescription: How PLURALS are named.\n---\nWith an s.",
}


@pytest.mark.parametrize(
    ("message", "guidance", "shown"),
    [
        pytest.param("Write tests.", True, {"GIVEN", "PLURALS"}, id="always-and-skills-by-description"),
        pytest.param("Test the currency.", True, {"GIVEN", "INTEGERS", "PLURALS"}, id="keyword-triggers"),
        pytest.param("Test the currency.", False, set[str](), id="switched-off"),
    ],
)
def test_the_repository_s_own_guidance_reaches_the_model_as_openhands_has_it(
    stage: Any, message: str, guidance: bool, shown: set[str]
) -> None:
    async def act() -> None:
        async with scene(stage, {"finish": " ".join(["Shown:", *(f"${{{word}}}" for word in sorted(shown))])}) as on:
            for name, text in GUIDANCE.items():
                (on.workspace / name).parent.mkdir(parents=True, exist_ok=True)
                (on.workspace / name).write_text(text)
            try:
                result = await on.agent(message, guidance=guidance)
            finally:
                for name in GUIDANCE:
                    (on.workspace / name).unlink()
            assert result.final_message == " ".join(["Shown:", *sorted(shown)]), "the model's side has seen them"
            kept = stage.folder / "conversations" / UUID(on.conversation_id).hex
            events = "".join(file.read_text() for file in (kept / "events").iterdir())
            assert {word for word in WORDS if word in events} == shown

    stage.play(act())


THINK = [{"tool_calls": [{"name": "think", "arguments": {"thought": f"Hm {number}."}}]} for number in range(6)]


@pytest.mark.parametrize(
    ("turns", "limits", "end"),
    [
        pytest.param(
            [shell("echo on > on"), shell("sleep MARK")],
            {"max_silence_seconds": 3},
            (AgentStatus.SILENCE, 2),
            id="silence",
        ),
        pytest.param(
            [shell("echo on > on"), shell("sleep MARK & seq 9999")],
            {"max_output_bytes": 9_999},
            (AgentStatus.OUTPUT, 2),
            id="output",
        ),
        pytest.param(
            [shell("echo on > on; sleep MARK & date +%T.%N"), *[shell("date +%T")] * 5],
            {},
            (AgentStatus.STUCK, 5),
            id="stuck",
        ),
        pytest.param([shell("echo on > on; sleep MARK &"), *THINK], {}, (AgentStatus.NO_TOOL_CALL, 6), id="thoughts"),
    ],
)
def test_an_agent_of_no_more_use_is_stopped_at_once_with_all_it_started_and_its_work_is_kept(
    stage: Any, mark: str, turns: list[dict[str, Any]], limits: dict[str, float], end: tuple[AgentStatus, int]
) -> None:
    marked = json.loads(json.dumps(turns).replace("MARK", mark))

    async def act() -> None:
        async with scene(stage, *marked, {"finish": "Done."}) as on:
            result = await on.agent("Go.", **limits)
            took = time.monotonic() - on.heard_at - limits.get("max_silence_seconds", 0)
            assert (result.status, result.iterations) == end, result.detail
            assert result.detail
            assert alive(mark) == []
            assert took < STOP_SECONDS
            assert (on.workspace / "on").read_text() == "on\n", "the partial work is there"
            assert len(on.told("action")) >= end[1], "and so is what was told"

    stage.play(act())


@pytest.mark.parametrize(
    ("fault", "kind", "times"),
    [
        pytest.param("no_auth_401", FailureKind.AUTHENTICATION, 1, id="authentication"),
        pytest.param("upstream_429", FailureKind.UPSTREAM_RATE_LIMIT, 1 + PATIENT_WAITS, id="rate-limit"),
        pytest.param("context_length_400", FailureKind.CONTEXT_OVERFLOW, 1, id="context"),
        pytest.param("http_502", FailureKind.PROVIDER_ERROR, TRIES, id="provider"),
    ],
)
def test_a_model_that_refuses_ends_the_agent_and_only_the_gateway_tries_again(
    stage: Any, fault: str, kind: FailureKind, times: int
) -> None:
    async def act() -> None:
        async with scene(stage, faults=[{"kind": fault}]) as on:
            result = await on.agent("Do it.")
            assert result.status is AgentStatus.ERROR
            assert result.detail
            assert on.gateway.refusal is not None
            assert on.gateway.refusal.kind is kind
            assert len(on.model.requests) == times, "the SDK sends nothing again on its own"

    stage.play(act())


@pytest.mark.parametrize("stage", ["forked"], indirect=True)
def test_an_agent_is_stopped_also_where_its_supervisor_does_nothing_any_more(stage: Any, mark: str) -> None:
    async def act() -> None:
        async with scene(stage, shell("echo on"), shell(f"sleep {mark}")) as on:
            agent = asyncio.create_task(on.agent("Go.", max_silence_seconds=3))
            await until_async(lambda: alive(mark))
            (supervisor,) = topmost(supervisors(stage.folder))
            supervisor.suspend()
            result = await agent
            assert time.monotonic() - on.heard_at < 3 + STOP_SECONDS
            assert (result.status, result.iterations) == (AgentStatus.SILENCE, 2)
            assert (alive(mark), supervisors(stage.folder)) == ([], [])

    stage.play(act())


def test_a_tool_that_never_ends_is_killed_at_the_deadline(stage: Any, mark: str) -> None:
    async def act() -> None:
        async with scene(stage, shell(f"setsid sleep {mark} & sleep {mark}")) as on:
            result = await on.agent("Sleep.", deadline=5)
            assert result.status is AgentStatus.DEADLINE
            assert on.told("action"), "the tool was at work"
            assert alive(mark) == []

    stage.play(act())


def test_a_model_that_never_answers_is_left_at_the_deadline(stage: Any) -> None:
    async def act() -> None:
        async with scene(stage, faults=[{"kind": "hang"}]) as on:
            result = await on.agent("Do it.", deadline=4)
            assert result.status is AgentStatus.DEADLINE
            assert len(on.model.requests) == 1
            await until_async(lambda: on.gateway.calls)
            assert on.gateway.calls[0].error == FailureKind.INTERRUPTED

    stage.play(act())


def test_an_agent_that_says_much_at_the_end_ends_all_the_same(stage: Any) -> None:
    async def act() -> None:
        async with scene(stage, {"finish": "\N{PILE OF POO}" * 30_000}) as on:
            result = await on.agent("Talk.", deadline=20)
            assert result.status is AgentStatus.FINISHED
            assert result.final_message.endswith("… [10000 characters cut]")

    stage.play(act())


def test_an_agent_that_kills_its_own_process_is_a_crash_and_the_next_one_works(stage: Any) -> None:
    async def act() -> None:
        async with scene(stage, shell("kill -9 $PPID")) as on:
            with pytest.raises(AgentCrashed, match="signal 9"):
                await on.agent("End it.")
        async with scene(stage, {"finish": "Alive."}) as on:
            assert (await on.agent("Do it.")).final_message == "Alive."

    stage.play(act())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's death")
def test_an_agent_whose_supervisor_is_killed_is_noticed_at_once_and_cleared_up_after(stage: Any, mark: str) -> None:
    """The last of this module: the next supervisor would import everything again."""

    async def act() -> None:
        async with scene(stage, shell(f"sleep {mark}")) as on:
            agent = asyncio.create_task(on.agent("Sleep."))
            await until_async(lambda: alive(mark))
            (supervisor,) = topmost(supervisors(stage.folder))
            supervisor.kill()
            async with asyncio.timeout(20):
                with pytest.raises(AgentCrashed):
                    await agent
            assert alive(mark) == []
            assert supervisors(stage.folder) == []

    stage.play(act())


def topmost(processes: list[Any]) -> list[Any]:
    """Return the processes whose parent is none of them: the supervisor, not a conversation that is a fork of it."""
    return [process for process in processes if process.parent() not in processes]
