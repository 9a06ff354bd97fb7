"""From a chat request to the turn it gets: no memory, so repeated and concurrent calls are each answered right."""

import json
import re
from collections.abc import Mapping
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field

from devtasks.simulator.scenario import Model, ToolCall, Turn
from devtasks.simulator.shapes import PROVIDER, Json, Refused, error

CHARACTERS_PER_TOKEN = 4

TASK_BEGINS = "--------------------- NEW TASK DESCRIPTION ---------------------\n"
TASK_ENDS = "\n--------------------- END OF NEW TASK DESCRIPTION ---------------------"
"""What OpenHands' prompt mode puts around the task, after an example of another one (openhands-sdk 1.34,
`fn_call_examples` and `fn_call_converter`)."""


class Message(BaseModel):
    """One message of the request; its content is a string, or a list of parts."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    role: str
    content: str | tuple[dict[str, Any], ...] | None = None

    @property
    def text(self) -> str:
        """The text of the content; parts are joined by newlines."""
        if isinstance(self.content, tuple):
            return "\n".join(str(part["text"]) for part in self.content if "text" in part)
        return self.content or ""


class ChatRequest(BaseModel):
    """What the simulator reads of a chat request; OpenRouter's other fields are accepted and have no effect."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model: str
    messages: tuple[Message, ...] = Field(min_length=1)
    stream: bool = False
    tools: tuple[dict[str, Any], ...] | None = None
    stop: str | tuple[str, ...] | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        """The words before which an answer ends."""
        return (self.stop,) if isinstance(self.stop, str) else self.stop or ()

    @property
    def opening(self) -> str:
        """The text of the first user message, without the example that OpenHands' prompt mode puts before it."""
        said = next((message.text for message in self.messages if message.role == "user"), "")
        _, example, task = said.partition(TASK_BEGINS)
        return task.rpartition(TASK_ENDS)[0] if example and TASK_ENDS in task else said

    @property
    def turn(self) -> int:
        """The index of the turn to play: how often the assistant has spoken already."""
        return sum(message.role == "assistant" for message in self.messages)


def find_turn(model: Model, chat: ChatRequest) -> Turn:
    """Return the turn the scenario has for this request; raise Refused (400) where it has none."""
    for conversation in model.conversations:
        if conversation.match.search(chat.opening):
            if chat.turn < len(conversation.turns):
                return conversation.turns[chat.turn]
            total = len(conversation.turns)
            raise Refused(error(400, f"The scenario has no turn {chat.turn + 1} for this conversation: it has {total}"))
    raise Refused(error(400, f"The scenario has no turn {chat.turn + 1} for this conversation of {model.id}: no match"))


def find_variables(patterns: Mapping[str, re.Pattern[str]], chat: ChatRequest) -> dict[str, str]:
    """Return the last match of each variable in the first user message, or else in all; one not found is left out."""
    everything = "\n".join(message.text for message in chat.messages)
    values: dict[str, str] = {}
    for name, pattern in patterns.items():
        matches = pattern.findall(chat.opening) or pattern.findall(everything)
        if matches:
            values[name] = matches[-1]
    return values


def fill(value: Any, names: Mapping[str, Any], values: Mapping[str, str]) -> Any:
    """Return the value with `${name}` replaced in every string; raise Refused (400) for a variable without value."""
    if isinstance(value, dict):
        return {key: fill(item, names, values) for key, item in cast("Json", value).items()}
    if isinstance(value, list):
        return [fill(item, names, values) for item in cast("list[Any]", value)]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        name = match[1]
        if name not in names:
            return match[0]
        if name not in values:
            raise Refused(error(400, f"The scenario's variable {name} is not found in this conversation"))
        return values[name]

    return re.sub(r"\$\{(\w+)\}", replace, value)


def resolve(turn: Turn, patterns: Mapping[str, re.Pattern[str]], chat: ChatRequest) -> Turn:
    """Return the turn with its variables replaced; raise Refused (400) for one this conversation does not hold."""
    values = find_variables(patterns, chat)
    calls = [ToolCall(name=call.name, arguments=fill(call.arguments, patterns, values)) for call in turn.calls]
    return Turn(text=fill(turn.text, patterns, values), tool_calls=tuple(calls), fault=turn.fault)


def in_words(turn: Turn, stops: tuple[str, ...]) -> Turn:
    """Return the turn as a model without tool calls says it: its calls are part of the text, as OpenHands' prompt asks.

    The text ends before the first of the words in `stops`, as a service cuts it.
    """
    said = "\n".join([*([turn.text] if turn.text else []), *map(_call_in_words, turn.calls)])
    for word in stops:
        said = said.partition(word)[0]
    return turn.model_copy(update={"text": said, "tool_calls": (), "finish": None})


def _call_in_words(call: ToolCall) -> str:
    values = {key: value if isinstance(value, str) else json.dumps(value) for key, value in call.arguments.items()}
    parameters = "".join(f"<parameter={key}>{value}</parameter>\n" for key, value in values.items())
    return f"<function={call.name}>\n{parameters}</function>"


def complete(model: Model, turn: Turn, *, sequence: int, created: int, prompt_characters: int) -> Json:
    """Return the turn as a chat completion; tokens are a quarter of the characters, the cost is the model's price."""
    calls = [
        {
            "id": f"call_simulated_{sequence}_{index}",
            "index": index,
            "type": "function",
            "function": {"name": call.name, "arguments": json.dumps(call.arguments)},
        }
        for index, call in enumerate(turn.calls)
    ]
    finish = "tool_calls" if calls else "stop"
    message = {"role": "assistant", "content": turn.text, "refusal": None, "reasoning": None}
    return {
        "id": f"gen-simulated-{sequence}",
        "object": "chat.completion",
        "created": created,
        "model": model.served_model or model.id,
        "provider": PROVIDER,
        "choices": [
            {
                "index": 0,
                "logprobs": None,
                "finish_reason": finish,
                "native_finish_reason": finish,
                "message": message | ({"tool_calls": calls} if calls else {}),
            }
        ],
        "usage": _usage(model, prompt_characters, len(turn.text or "") + len(json.dumps(calls))),
    }


def _usage(model: Model, prompt_characters: int, completion_characters: int) -> Json:
    prompt_tokens = prompt_characters // CHARACTERS_PER_TOKEN + 1
    completion_tokens = completion_characters // CHARACTERS_PER_TOKEN + 1
    cost = model.prompt_price * prompt_tokens + model.completion_price * completion_tokens
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "cost": float(cost),
        "is_byok": False,
        "cost_details": {"upstream_inference_cost": None},
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }
