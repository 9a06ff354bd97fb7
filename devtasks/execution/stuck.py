"""Agents that go round in circles or talk rubbish, told from their events alone; nothing here knows the SDK.

Loops of condensations cannot come about: agents work without a condenser, and a history that no longer fits its model
ends the attempt as `context_overflow`.

The SDK's own detector (openhands-sdk 1.34) sees the same action with the same observation four times, the same failing
action three times, two that alternate three times, and three messages in a row. It compares whole events: a thought
that is worded anew or a duration in the output hides a loop from it, and its nudges after empty answers start it anew.
"""

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from devtasks.execution.runtime import AgentEvent, AgentStatus, Stop

REPEATS = {1: 4, 2: 3, 3: 3, 4: 3}
"""Cycle of so many steps → how often in a row is a loop: the SDK's own numbers for one and for two steps, and its three
for longer ones. A step is all that one answer asks for and what it gets back."""

SAME_ACTION = 8
"""The same action in a row, whatever it gets back: waiting for a quiet command takes two minutes each time, so this is
more than a task's usual time (the default of 900 s)."""

EMPTY_ANSWERS = 3
"""Answers in a row that say nothing; the number of newer SDKs (1.58)."""

IDLE_ANSWERS = 5
"""Answers in a row that carry nothing out: calls that cannot be read, or only thoughts. mini-swe-agent gives up after
three; a thought or two before the work is not uncommon."""

SAME_TEXT = 4
LONG_TEXT = 200
"""The same text in so many answers in a row, if it has this many characters: short ones are said again in good order
("Let me run the tests.")."""

CHUNKS = 10
CHUNK_TEXT = 1_000
"""One text that ends with the same chunk so often, over so many characters; no test output or table does."""

VOLATILE = re.compile(
    r"0x[0-9a-f]+|\b\d{4}-\d\d-\d\d\b|\b\d\d:\d\d:\d\d(\.\d+)?\b|\b\d+(\.\d+)?\s?(s|ms|sec|seconds?)\b", re.IGNORECASE
)
"""What differs from one run of the same command to the next: addresses, dates, times and durations."""

CUT = re.compile(r"… \[\d+ characters cut\]$")
"""The mark at the end of a text that was too long to be kept."""


@dataclass
class _Answer:
    """One answer of the model: what it asks for, what came of that so far, and how the counts stood before it."""

    response: str | None
    empty_before: int
    idle_before: int
    same_before: int
    asked: list[str] = field(default_factory=list[str])
    got: list[str] = field(default_factory=list[str])
    carries_out: bool = False
    is_empty: bool = False
    is_complete: bool = False


class StuckDetector:
    """Fed with the events of one attempt in their order; says at once when the agent is stuck."""

    def __init__(self) -> None:
        self._answer: _Answer | None = None
        self._steps = deque[tuple[tuple[str, ...], tuple[str, ...]]](maxlen=1 + max(n * r for n, r in REPEATS.items()))
        self._same_action = self._empty = self._idle = self._same_text = 0
        self._text = ""

    def feed(self, event: AgentEvent) -> Stop | None:
        """Take in the next event; return why the agent is stuck, None while it is not."""
        match event:
            case {"type": "action"}:
                return self._on_action(event)
            case {"type": "observation" | "tool_error", "text": str(text)}:
                return self._on_result(text)
            case {"type": "message", "source": "agent", "text": str(text)}:
                self._begin(event.get("response")).is_empty = not text.strip()
                return self._on_text(text)
            case {"type": "message"}:
                return self._on_nudge()
            case _:
                pass
        return None

    def _on_action(self, event: AgentEvent) -> Stop | None:
        answer, response, text = self._answer, event.get("response"), ""
        if answer is None or response is None or response != answer.response:
            answer = self._begin(response)
            text = str(event.get("thought") or "")
        arguments, tool = event.get("arguments"), str(event.get("tool"))
        answer.asked.append(f"{tool} {_normal(str(arguments))}")
        answer.carries_out |= arguments is not None and tool != "think"
        return self._on_text(text)

    def _on_result(self, text: str) -> Stop | None:
        answer = self._answer
        if answer is None or len(answer.got) >= len(answer.asked):
            return None
        answer.got.append(_normal(text))
        # A call that cannot be read has its result before the answer's next call is told: this may come again.
        return self._complete(answer) if len(answer.got) == len(answer.asked) else None

    def _on_nudge(self) -> Stop | None:
        """Take in a message to the agent: what its conversation begins with, or the SDK's answer to a useless one."""
        if self._answer is None:
            return None
        # Of an answer in words alone whose call cannot be read, only this is told.
        return self._complete(self._begin(None) if self._answer.is_complete else self._answer)

    def _begin(self, response: str | None) -> _Answer:
        self._answer = _Answer(response, self._empty, self._idle, self._same_action)
        return self._answer

    def _complete(self, answer: _Answer) -> Stop | None:
        if answer.is_complete and answer.asked:
            self._steps.pop()
        answer.is_complete = True
        self._empty = answer.empty_before + 1 if answer.is_empty else 0
        self._idle = 0 if answer.carries_out else answer.idle_before + 1
        if self._empty >= EMPTY_ANSWERS:
            return Stop(AgentStatus.EMPTY_ANSWERS, f"{self._empty} answers in a row that say nothing")
        if answer.asked and (stuck := self._on_step(answer)):
            return stuck
        if self._idle >= IDLE_ANSWERS:
            return Stop(AgentStatus.NO_TOOL_CALL, f"{self._idle} answers in a row without a call that does anything")
        return None

    def _on_step(self, answer: _Answer) -> Stop | None:
        asked = tuple(answer.asked)
        is_same = bool(self._steps) and self._steps[-1][0] == asked
        self._same_action = answer.same_before + 1 if is_same else 1
        self._steps.append((asked, tuple(answer.got)))
        what = _shown("; ".join(asked))
        if length := cycle_length(self._steps):
            steps = "the same step" if length == 1 else f"the same {length} steps"
            return Stop(AgentStatus.STUCK, f"{steps} {REPEATS[length]} times in a row, with the same outcome: {what}")
        if self._same_action >= SAME_ACTION:
            return Stop(AgentStatus.STUCK, f"the same step {self._same_action} times in a row: {what}")
        return None

    def _on_text(self, text: str) -> Stop | None:
        text = CUT.sub("", text).strip()
        if not text:
            return None
        if chunk := repeated_chunk(text):
            return Stop(AgentStatus.REPETITIVE, f"one text repeats {_shown(chunk)!r} again and again")
        self._same_text = self._same_text + 1 if text == self._text else 1
        self._text = text
        if len(text) >= LONG_TEXT and self._same_text >= SAME_TEXT:
            return Stop(AgentStatus.REPETITIVE, f"{self._same_text} answers in a row say {_shown(text)!r}")
        return None


def cycle_length(steps: Sequence[object]) -> int | None:
    """Return the length of the shortest cycle that the last steps go round, None where they do not; see REPEATS."""
    last = list(steps)[::-1]
    for length, repeats in REPEATS.items():
        window = last[: length * repeats]
        if len(window) == length * repeats and window[length:] == window[:-length]:
            return length
    return None


def repeated_chunk(text: str) -> str | None:
    """Return the chunk with which a text ends at least CHUNKS times, over at least CHUNK_TEXT characters; else None.

    The last chunk may be cut off anywhere. Takes time in proportion to the text.
    """
    backwards = text[::-1]
    borders = [0] * len(backwards)  # of each beginning of `backwards`: the longest shorter one that it ends with too
    for index in range(1, len(backwards)):
        border = borders[index - 1]
        while border and backwards[index] != backwards[border]:
            border = borders[border - 1]
        borders[index] = border + (backwards[index] == backwards[border])
        length = index + 1
        period = length - borders[index]
        if length >= CHUNK_TEXT and length >= CHUNKS * period:
            return text[-period:]
    return None


def _normal(text: str) -> str:
    return VOLATILE.sub("~", " ".join(text.split()))


def _shown(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 120 else f"{flat[:120]}…"
