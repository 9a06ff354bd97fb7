import asyncio


def statuses(play, ask, scenario, count):
    async def act(client, _simulator):
        return [(await ask(client)).status_code for _ in range(count)]

    return play(scenario, act)


def test_listed_calls_are_struck_and_no_others(play, make_scenario, ask):
    scenario = make_scenario(faults=[{"kind": "upstream_429", "calls": [1, 2]}, {"kind": "http_502", "calls": [4]}])
    assert statuses(play, ask, scenario, 5) == [429, 429, 200, 502, 200]


def test_random_faults_are_the_same_for_the_same_seed(play, make_scenario, ask):
    first, again, other = (
        statuses(play, ask, make_scenario({"seed": seed}, faults=[{"kind": "http_502", "rate": 0.5}]), 30)
        for seed in (1, 1, 2)
    )
    assert set(first) == {200, 502}
    assert first == again
    assert first != other


def test_each_model_counts_its_own_calls(play, two_models, make_scenario, ask):
    models = [
        make_scenario(id=name, faults=[{"kind": "http_503", "calls": [1]}]).models[0] for name in ("a/one", "a/two")
    ]
    scenario = two_models.model_copy(update={"models": tuple(models)})

    async def act(client, _simulator):
        return [(await ask(client, model=name)).status_code for name in ("a/one", "a/two", "a/one", "a/two")]

    assert play(scenario, act) == [503, 503, 200, 200]


def test_a_models_refusal_needs_no_turn(play, make_scenario, ask):
    scenario = make_scenario(conversations=[], faults=[{"kind": "http_500"}])
    assert statuses(play, ask, scenario, 1) == [500]


def test_a_turns_fault_strikes_each_time_the_turn_is_played(play, make_scenario, ask):
    scenario = make_scenario(turns=[{"text": "One."}, {"fault": {"kind": "http_502"}}])

    async def act(client, _simulator):
        return [(await ask(client, answered=answered)).status_code for answered in (0, 1, 1, 0)]

    assert play(scenario, act) == [200, 502, 502, 200]


def test_latency_delays_one_answer_without_holding_up_another(play, make_scenario, two_models, ask):
    slow = make_scenario(id="a/slow", latency={"distribution": "fixed", "seconds": 30}).models[0]
    fast = make_scenario(id="a/fast").models[0]
    scenario = two_models.model_copy(update={"models": (slow, fast)})

    async def act(client, _simulator):
        waiting = asyncio.create_task(ask(client, model="a/slow"))
        answer = await ask(client, model="a/fast")
        still_waiting = not waiting.done()
        waiting.cancel()
        return answer.status_code, still_waiting

    assert play(scenario, act) == (200, True)
