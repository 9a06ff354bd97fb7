"""Which courses of events say that an agent is of no more use, and which do not."""

import itertools
from collections.abc import Iterable, Iterator

import pytest

from devtasks.execution.runtime import AgentEvent, AgentStatus, Stop
from devtasks.execution.stuck import (
    CHUNK_TEXT,
    CHUNKS,
    EMPTY_ANSWERS,
    IDLE_ANSWERS,
    LONG_TEXT,
    REPEATS,
    SAME_ACTION,
    SAME_TEXT,
    StuckDetector,
    cycle_length,
    repeated_chunk,
)

START: AgentEvent = {"type": "message", "source": "user", "text": "Write tests."}
LONG = "".join(f"{number:07}" for number in range(LONG_TEXT))[:LONG_TEXT]


def step(number: int, command: str, output: str, thought: str = "") -> Iterator[AgentEvent]:
    """One answer with one call, and what came of it."""
    arguments = {"command": command}
    yield {"type": "action", "tool": "terminal", "arguments": arguments, "thought": thought, "response": str(number)}
    yield {"type": "observation", "tool": "terminal", "text": output}


def steps(*pairs: tuple[str, str]) -> list[AgentEvent]:
    return [START, *itertools.chain.from_iterable(step(number, *pair) for number, pair in enumerate(pairs))]


def said(texts: Iterable[str]) -> list[AgentEvent]:
    """Answers in words alone, each followed by the SDK's nudge."""
    events = [START]
    for number, text in enumerate(texts):
        events.append({"type": "message", "source": "agent", "text": text, "response": str(number)})
        events.append({"type": "message", "source": "user", "text": "Go on."})
    return events


def thoughts(count: int) -> list[AgentEvent]:
    events = [START]
    for number in range(count):
        arguments = {"thought": f"hm {number}"}
        events.append({"type": "action", "tool": "think", "arguments": arguments, "response": str(number)})
        events.append({"type": "observation", "tool": "think", "text": "Noted."})
    return events


def first_stop(events: Iterable[AgentEvent]) -> Stop | None:
    detector = StuckDetector()
    return next((stop for event in events if (stop := detector.feed(event))), None)


def reworded(count: int) -> list[AgentEvent]:
    """The same step again and again, behind thoughts and durations that differ."""
    rounds = (step(n, "pytest", f"1 failed in {n}.31s at 10:00:0{n}", f"Try {n}") for n in range(count))
    return [START, *itertools.chain.from_iterable(rounds)]


@pytest.mark.parametrize(
    ("events", "status"),
    [
        pytest.param(reworded(REPEATS[1]), AgentStatus.STUCK, id="one-step-reworded"),
        pytest.param(steps(*[("a", "1"), ("b", "2")] * REPEATS[2]), AgentStatus.STUCK, id="two-steps-alternate"),
        pytest.param(steps(*[("a", "1"), ("b", "2"), ("c", "3")] * REPEATS[3]), AgentStatus.STUCK, id="three-steps"),
        pytest.param(steps(*(("ls", str(n)) for n in range(SAME_ACTION))), AgentStatus.STUCK, id="same-action"),
        pytest.param(said([""] * EMPTY_ANSWERS), AgentStatus.EMPTY_ANSWERS, id="empty-answers"),
        pytest.param(thoughts(IDLE_ANSWERS), AgentStatus.NO_TOOL_CALL, id="only-thoughts"),
        pytest.param(said(map(str, range(IDLE_ANSWERS))), AgentStatus.NO_TOOL_CALL, id="only-words"),
        pytest.param(said([LONG] * SAME_TEXT), AgentStatus.REPETITIVE, id="same-text"),
        pytest.param(said(["so " + "and so on " * CHUNK_TEXT]), AgentStatus.REPETITIVE, id="one-text-goes-round"),
    ],
)
def test_an_agent_that_goes_round_in_circles_is_told(events: list[AgentEvent], status: AgentStatus) -> None:
    stop = first_stop(events)
    assert stop is not None
    assert stop.status is status
    assert stop.detail
    assert first_stop(events[:-2]) is None, "not before"


@pytest.mark.parametrize(
    "events",
    [
        pytest.param(steps(*[("pytest", "1 failed"), ("edit", "ok"), ("pytest", "2 failed")] * 1), id="few-steps"),
        pytest.param(steps(*(("pytest", f"{n} failed") for n in range(SAME_ACTION - 1))), id="progress"),
        pytest.param(steps(*(pair for n in range(9) for pair in (("pytest", "red"), (f"edit {n}", "ok")))), id="edits"),
        pytest.param(said(["Let me run the tests."] * (IDLE_ANSWERS - 1)), id="short-texts"),
        pytest.param([*thoughts(4), *step(99, "ls", "a"), *thoughts(4)[1:]], id="worked"),
        pytest.param(steps(("cat table", "-----\n" * 5_000)), id="a-long-table"),
    ],
)
def test_an_agent_that_works_is_left_alone(events: list[AgentEvent]) -> None:
    assert first_stop(events) is None


@pytest.mark.parametrize(
    ("course", "length"),
    [("aaaa", 1), ("aaa", None), ("ababab", 2), ("xababab", 2), ("abcabcabc", 3), ("abab", None), ("", None)],
)
def test_the_shortest_cycle_at_the_end_is_found(course: str, length: int | None) -> None:
    assert cycle_length(course) == length


@pytest.mark.parametrize(
    ("text", "chunk"),
    [
        pytest.param("ab" * CHUNK_TEXT, "ab", id="pairs"),
        pytest.param("begin " + "the end, " * CHUNK_TEXT, "the end, ", id="after-a-beginning"),
        pytest.param("x" * (CHUNK_TEXT - 1), None, id="short"),
        pytest.param(f"{'y' * CHUNK_TEXT}z" * (CHUNKS - 1), None, id="few"),
    ],
)
def test_a_text_that_repeats_its_end_is_found(text: str, chunk: str | None) -> None:
    found = repeated_chunk(text)
    assert (found is None) == (chunk is None)
    assert not chunk or sorted(found or "") == sorted(chunk)
