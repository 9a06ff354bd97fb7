import asyncio

import httpx
import pytest

from devtasks.errors import InvalidInput
from devtasks.simulator import Simulator
from devtasks.simulator.server import MAX_BODY_BYTES


def test_models_have_openrouters_form(play, two_models):
    async def act(client, _simulator):
        return (await client.get("/models", headers={"Authorization": ""})).json()

    body = play(two_models, act)
    free, paid = body["data"]
    assert body["total_count"] == 2
    assert (free["id"], free["canonical_slug"]) == ("acme/coder-small:free", "acme/coder-small")
    assert free["name"] == "Acme Coder Small (free)"
    assert free["pricing"] == {"prompt": "0", "completion": "0"}
    assert free["architecture"]["output_modalities"] == ["text"]
    assert free["supported_parameters"] == ["tools", "tool_choice", "max_tokens"]
    assert (free["top_provider"]["max_completion_tokens"], free["expiration_date"]) == (None, None)
    assert paid["pricing"] == {"prompt": "0.0000003", "completion": "0.0000012"}
    assert (paid["top_provider"]["max_completion_tokens"], paid["expiration_date"]) == (8192, "2031-01-31")


def test_key_tells_quota_and_spending(play, two_models, ask):
    async def act(client, _simulator):
        await ask(client)
        cost = (await ask(client, model="acme/coder-large")).json()["usage"]["cost"]
        return (await client.get("/key")).json()["data"], cost

    key, cost = play(two_models, act)
    assert key["free_model_daily_requests"] == {"limit": 50, "used": 1, "remaining": 49}
    assert key["is_free_tier"] is True
    assert key["usage"] == key["usage_daily"] == pytest.approx(cost)


def test_key_without_a_daily_limit_says_nothing_of_one(play, make_scenario):
    async def act(client, _simulator):
        return (await client.get("/key")).json()["data"]

    assert "free_model_daily_requests" not in play(make_scenario(), act)


@pytest.mark.parametrize(
    ("authorization", "keys", "refusal"),
    [
        ("", None, "No auth credentials found"),
        ("Bearer", None, "No auth credentials found"),
        ("Basic abc", None, "No auth credentials found"),
        ("Bearer other", ["simulated"], "User not found."),
        ("Bearer simulated", ["simulated"], None),
        ("Bearer anything", None, None),
    ],
    ids=["absent", "empty", "not-bearer", "unknown-key", "known-key", "any-key"],
)
def test_authorisation_guards_key_and_chat(play, make_scenario, authorization, keys, refusal):
    chat = {"model": "acme/coder-small:free", "messages": [{"role": "user", "content": "Hi"}]}

    async def act(client, _simulator):
        client.headers["Authorization"] = authorization
        return [await client.get("/key"), await client.post("/chat/completions", json=chat)]

    for response in play(make_scenario({"keys": keys}), act):
        assert response.status_code == (401 if refusal else 200)
        assert response.json().get("error", {}).get("message") == refusal


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (b"{", 400, "body: Invalid JSON"),
        (b'{"model": "acme/coder-small:free"}', 400, "messages: Field required"),
        (b'{"model": "acme/coder-small:free", "messages": []}', 400, "messages: "),
        (b'{"model": "a/b", "messages": [{"role": "user"}]}', 400, "a/b is not a valid model ID"),
        (b" " * (MAX_BODY_BYTES + 1), 413, "larger than 8388608 bytes"),
    ],
    ids=["not-json", "no-messages", "empty-messages", "unknown-model", "too-large"],
)
def test_bad_request_is_refused_in_openrouters_shape_and_recorded(play, two_models, content, status, message):
    async def act(client, simulator):
        return await client.post("/chat/completions", content=content), simulator.requests

    response, records = play(two_models, act)
    assert response.status_code == status
    assert response.json()["error"]["code"] == status
    assert message in response.json()["error"]["message"]
    assert [record.status for record in records] == [status]


def test_tools_are_refused_by_a_model_without_them(play, make_scenario, ask):
    async def act(client, _simulator):
        return [await ask(client, tools=tools) for tools in ([{"type": "function"}], None)]

    with_tools, without = play(make_scenario(supported_parameters=["max_tokens"]), act)
    assert (with_tools.status_code, without.status_code) == (404, 200)
    assert "No endpoints found that support tool use" in with_tools.json()["error"]["message"]


@pytest.mark.parametrize(
    ("stop", "end"),
    [
        pytest.param(None, "</function>", id="to-its-end"),
        pytest.param(["</function"], "</parameter>", id="cut-before-a-stop-word"),
        pytest.param("</function", "</parameter>", id="one-stop-word-alone"),
    ],
)
def test_a_model_without_tools_says_its_calls_in_words(play, make_scenario, ask, stop, end):
    call = {"name": "terminal", "arguments": {"command": "ls", "timeout": 3}}
    scenario = make_scenario(
        supported_parameters=["max_tokens"], conversations=[{"turns": [{"text": "I look.", "tool_calls": [call]}]}]
    )
    choice = play(scenario, lambda client, _: ask(client, stop=stop)).json()["choices"][0]
    assert choice["finish_reason"] == "stop"
    assert "tool_calls" not in choice["message"]
    said = "I look.\n<function=terminal>\n<parameter=command>ls</parameter>\n<parameter=timeout>3</parameter>"
    assert choice["message"]["content"].startswith(said)
    assert choice["message"]["content"].strip().endswith(end)


def test_a_call_in_words_that_is_cut_short_ends_for_its_length(play, make_scenario, ask):
    call = {"name": "terminal", "arguments": {"command": "echo " + "0" * 80}}
    scenario = make_scenario(
        supported_parameters=["max_tokens"],
        faults=[{"kind": "truncated_arguments"}],
        turns=[{"text": "I look.", "tool_calls": [call]}],
    )
    choice = play(scenario, lambda client, _: ask(client, stop=["</function"])).json()["choices"][0]
    assert choice["finish_reason"] == "length"
    assert choice["message"]["content"].startswith("I look.\n<function=terminal>\n<parameter=command>")
    assert "</parameter>" not in choice["message"]["content"]


def test_unknown_path_has_the_error_shape_and_the_mark(play, two_models):
    response = play(two_models, lambda client, _: client.get("/generation"))
    assert response.status_code == 404
    assert response.json()["error"] == {"code": 404, "message": "Not Found"}
    assert response.headers["X-Devtasks-Simulated"] == "true"


def test_requests_are_recorded_in_order(play, make_scenario, ask):
    scenario = make_scenario(faults=[{"kind": "http_502", "calls": [2]}, {"kind": "connection_dropped", "calls": [3]}])

    async def act(client, simulator):
        await ask(client, headers={"X-Session-Id": "run-1"})
        await ask(client)
        with pytest.raises(httpx.RemoteProtocolError):
            await ask(client)
        over_http = (await client.get(simulator.base_url.removesuffix("/api/v1") + "/simulator/requests")).json()
        return simulator.requests, over_http["requests"]

    records, over_http = play(scenario, act)
    assert [(record.sequence, record.status, record.fault) for record in records] == [
        (1, 200, None),
        (2, 502, "http_502"),
        (3, None, "connection_dropped"),
    ]
    assert over_http[0] == {
        "sequence": 1,
        "time": "2031-01-15T12:00:30+00:00",
        "model": "acme/coder-small:free",
        "messages": 2,
        "session": "run-1",
        "status": 200,
        "fault": None,
    }
    assert len(over_http) == 3


def test_health_says_simulated(play, two_models):
    async def act(client, simulator):
        return (await client.get(simulator.base_url.removesuffix("/api/v1") + "/simulator/health")).json()

    assert play(two_models, act) == {"status": "ok", "simulated": True, "scenario": "two-models"}


def test_port_that_is_taken_is_refused(two_models):
    async def start_twice():
        async with Simulator(two_models) as simulator:
            port = int(simulator.base_url.split(":")[2].split("/")[0])
            with pytest.raises(InvalidInput, match=f"port: {port} is not allowed"):
                await Simulator(two_models, port=port).__aenter__()

    asyncio.run(start_twice())
