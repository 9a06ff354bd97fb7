import asyncio
import json

import pytest

from devtasks.simulator.conversation import ChatRequest, find_variables

OPENING = "Please write unit tests.\nWorkspace: /runs/7/tree\n"


def tool_call(response):
    [call] = response.json()["choices"][0]["message"]["tool_calls"]
    return call["function"]["name"], json.loads(call["function"]["arguments"])


def test_turn_is_the_number_of_assistant_messages_whatever_was_asked_before(play, two_models, ask):
    async def act(client, _simulator):
        return [tool_call(await ask(client, OPENING, answered=answered))[0] for answered in (2, 0, 1, 0, 2)]

    assert play(two_models, act) == ["finish", "file_editor", "terminal", "file_editor", "finish"]


def test_concurrent_conversations_get_their_own_workspace(play, two_models, ask):
    async def act(client, _simulator):
        openings = [f"unit tests\nWorkspace: /runs/{number}" for number in range(20)]
        return await asyncio.gather(*(ask(client, opening) for opening in openings))

    paths = [tool_call(response)[1]["path"] for response in play(two_models, act)]
    assert paths == [f"/runs/{number}/test_example.py" for number in range(20)]


@pytest.mark.parametrize(
    "content",
    [OPENING, [{"type": "text", "text": "unit tests"}, {"type": "text", "text": "Workspace: /runs/7/tree"}]],
    ids=["string", "parts"],
)
def test_content_may_be_a_string_or_parts(play, two_models, ask, content):
    response = play(two_models, lambda client, _: ask(client, content))
    assert tool_call(response)[1]["path"] == "/runs/7/tree/test_example.py"


def test_other_dollar_names_are_left_alone(play, two_models, ask):
    response = play(two_models, lambda client, _: ask(client, OPENING, answered=1))
    assert tool_call(response)[1]["command"] == "cd /runs/7/tree && python -m pytest -q; echo ${HOME}"


def test_first_conversation_that_matches_is_played(play, two_models, ask):
    response = play(two_models, lambda client, _: ask(client, "Refactor this."))
    assert tool_call(response) == ("finish", {"message": "There is nothing to do."})


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"text": OPENING, "answered": 3}, "The scenario has no turn 4 for this conversation: it has 3"),
        ({"text": "unit tests"}, "The scenario's variable workspace is not found"),
    ],
    ids=["past-the-end", "no-variable"],
)
def test_nothing_to_play_is_said_not_invented(play, two_models, ask, asked, words):
    response = play(two_models, lambda client, _: ask(client, **asked))
    assert response.status_code == 400
    assert response.json()["error"]["code"] == 400
    assert words in response.json()["error"]["message"]


def test_no_conversation_that_matches_is_an_error(play, make_scenario, ask):
    scenario = make_scenario(conversations=[{"match": "tests", "turns": [{"text": "Hello."}]}])
    response = play(scenario, lambda client, _: ask(client, "Document this."))
    assert response.status_code == 400
    assert "no turn 1 for this conversation" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("messages", "value"),
    [
        ([("system", "Workspace: /s"), ("user", "Workspace: /a and Workspace: /b"), ("user", "Workspace: /c")], "/b"),
        ([("user", "Hi"), ("tool", "Workspace: /a"), ("tool", "Workspace: /b")], "/b"),
    ],
    ids=["first-user-message", "anywhere-else"],
)
def test_variable_is_the_last_match_of_the_first_user_message_or_else_of_all(two_models, messages, value):
    chat = ChatRequest.model_validate(
        {"model": "a/b", "messages": [{"role": role, "content": text} for role, text in messages]}
    )
    assert find_variables(two_models.variables, chat) == {"workspace": value}


def test_free_answer_names_itself_simulated(play, two_models, ask):
    response = play(two_models, lambda client, _: ask(client, OPENING))
    body = response.json()
    assert (body["id"], body["provider"], body["model"]) == ("gen-simulated-1", "Simulated", "acme/coder-small:free")
    assert response.headers["X-Devtasks-Simulated"] == "true"
    assert body["usage"]["cost"] == 0
    [choice] = body["choices"]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", "I write the tests.")
    assert choice["message"]["tool_calls"][0]["id"] == "call_simulated_1_0"


def test_paid_answer_costs_the_models_price_and_names_the_model_that_served(play, two_models, ask):
    body = play(two_models, lambda client, _: ask(client, model="acme/coder-large")).json()
    usage = body["usage"]
    assert body["model"] == "acme/coder-large-2"
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["cost"] == pytest.approx(usage["prompt_tokens"] * 3e-7 + usage["completion_tokens"] * 1.2e-6)
    assert usage["cost"] > 0


def test_stream_carries_the_same_answer_in_pieces(play, two_models, ask):
    async def act(client, _simulator):
        return await ask(client, OPENING), await ask(client, OPENING, stream=True)

    whole, streamed = play(two_models, act)
    *lines, done = [line for line in streamed.text.splitlines() if line]
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines]
    *parts, ending, last = chunks
    deltas = [part["choices"][0]["delta"] for part in parts]
    calls = [call for delta in deltas for call in delta.get("tool_calls", ())]
    message = whole.json()["choices"][0]["message"]

    assert streamed.headers["Content-Type"].startswith("text/event-stream")
    assert done == "data: [DONE]"
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert "".join(delta.get("content", "") for delta in deltas) == message["content"]
    assert [call["function"]["name"] for call in calls if "id" in call] == ["file_editor"]
    assert "".join(call["function"]["arguments"] for call in calls) == message["tool_calls"][0]["function"]["arguments"]
    assert len(calls) > 2
    assert ending["choices"][0]["finish_reason"] == "tool_calls"
    assert (last["choices"], last["usage"]["completion_tokens"]) == ([], whole.json()["usage"]["completion_tokens"])


EXAMPLE = (
    "USER: Create a list of numbers. Workspace: /example\nNEW\n"
    "--------------------- NEW TASK DESCRIPTION ---------------------\n"
    "{}"
    "\n--------------------- END OF NEW TASK DESCRIPTION ---------------------\n\nPLEASE follow the format strictly!"
)


@pytest.mark.parametrize(
    ("said", "opening"),
    [
        ("Write tests.", "Write tests."),
        (EXAMPLE.format("Write tests.\nWorkspace: /a"), "Write tests.\nWorkspace: /a"),
        (EXAMPLE.format(f"Write about {EXAMPLE.format('x')}"), f"Write about {EXAMPLE.format('x')}"),
        ("--------------------- NEW TASK DESCRIPTION ---------------------\nno end", None),
    ],
    ids=["native", "prompt-mode", "a-task-that-quotes-the-marks", "half-a-frame"],
)
def test_opening_is_the_task_without_the_example_of_prompt_mode(said, opening):
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": said}]
    chat = ChatRequest.model_validate({"model": "a/b", "messages": messages})
    assert chat.opening == (said if opening is None else opening)
