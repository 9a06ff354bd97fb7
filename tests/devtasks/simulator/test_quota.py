from datetime import timedelta

import pytest


def asked(play, ask, scenario, count, **request):
    async def act(client, _simulator):
        return [await ask(client, **request) for _ in range(count)]

    return play(scenario, act)


def test_day_is_full_after_its_requests_until_midnight_utc(play, make_scenario, ask, clock):
    scenario = make_scenario({"limits": {"free_requests_per_day": 2}})

    async def act(client, _simulator):
        today = [await ask(client) for _ in range(3)]
        clock.now += timedelta(hours=11, minutes=59, seconds=29)
        late = await ask(client)
        clock.now += timedelta(seconds=1)
        return [*today, late, await ask(client)]

    responses = play(scenario, act)
    refused = responses[2]
    assert [response.status_code for response in responses] == [200, 200, 429, 429, 200]
    assert "free-models-per-day. Add 10 credits" in refused.json()["error"]["message"]
    assert refused.headers["X-RateLimit-Limit"] == "2"
    assert refused.headers["X-RateLimit-Reset"] == "1926288000000"


def test_minute_is_full_until_the_next_minute_and_refusals_are_not_counted(play, make_scenario, ask, clock):
    scenario = make_scenario({"limits": {"requests_per_minute": 2, "free_requests_per_day": 5}})

    async def act(client, _simulator):
        responses = [await ask(client) for _ in range(4)]
        key = (await client.get("/key")).json()["data"]
        clock.now += timedelta(seconds=30)
        return [*responses, await ask(client)], key

    responses, key = play(scenario, act)
    assert [response.status_code for response in responses] == [200, 200, 429, 429, 200]
    assert "free-models-per-min" in responses[2].json()["error"]["message"]
    assert responses[2].headers["X-RateLimit-Reset"] == "1926244860000"
    assert key["free_model_daily_requests"] == {"limit": 5, "used": 2, "remaining": 3}


def test_account_with_credits_is_not_told_to_add_some(play, make_scenario, ask):
    scenario = make_scenario({"limits": {"free_requests_per_day": 0, "is_free_tier": False}})
    [response] = asked(play, ask, scenario, 1)
    assert "free-models-per-day-high-balance" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("model", "statuses"),
    [
        ({"id": "a/paid", "prompt_price": "0.1"}, [200, 200]),
        ({"id": "a/zero-priced"}, [200, 429]),
        ({"id": "a/named:free", "prompt_price": "0.1"}, [200, 429]),
    ],
    ids=["paid", "zero-priced", "named-free"],
)
def test_limits_hold_for_free_models_only(play, make_scenario, ask, model, statuses):
    scenario = make_scenario({"limits": {"requests_per_minute": 1}}, **model)
    responses = asked(play, ask, scenario, 2, model=model["id"])
    assert [response.status_code for response in responses] == statuses


def test_call_that_fails_upstream_counts(play, make_scenario, ask):
    scenario = make_scenario({"limits": {"free_requests_per_day": 1}}, faults=[{"kind": "upstream_429"}])
    first, second = asked(play, ask, scenario, 2)
    assert first.json()["error"]["message"] == "Provider returned error"
    assert "free-models-per-day" in second.json()["error"]["message"]
