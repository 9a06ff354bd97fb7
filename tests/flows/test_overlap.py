"""Of a deployment's runs that overlap exactly one goes on, in whatever order they begin, look and end."""

from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.overlap import Begun, GoOn, Skip, Wait, decide

EIGHT = datetime(2026, 3, 1, 8, tzinfo=UTC)


def begun(number: int, minute: int | None = None) -> Begun:
    at = None if minute is None else EIGHT + timedelta(minutes=minute)
    return Begun(UUID(int=number), f"run-{number}", "Running", at)


@pytest.mark.parametrize(
    ("mine", "others", "decision"),
    [
        pytest.param(begun(2, 5), [], GoOn(), id="alone"),
        pytest.param(begun(2, 5), [begun(1, 6)], GoOn(), id="the other began later"),
        pytest.param(begun(2, 5), [begun(9, 4)], Skip(begun(9, 4)), id="the other began first"),
        pytest.param(begun(2, 5), [begun(1, 5)], Skip(begun(1, 5)), id="at the same moment the lesser id"),
        pytest.param(begun(2, 5), [begun(3, 5)], GoOn(), id="at the same moment the greater id"),
        pytest.param(begun(2, 5), [begun(1)], Wait(begun(1)), id="the other may have begun"),
        pytest.param(begun(2, 5), [begun(1), begun(3, 4)], Skip(begun(3, 4)), id="no waiting for what changes nothing"),
    ],
)
def test_the_run_that_began_first_goes_on(mine: Begun, others: list[Begun], decision: GoOn | Skip | Wait) -> None:
    assert decide(mine, others) == decision


@given(st.lists(st.sampled_from(["take", "begin", "show", "look"]), max_size=60), st.randoms(use_true_random=False))
def test_whatever_the_order_two_never_go_on_and_one_does(steps: list[str], random: Random) -> None:
    # A run is waiting, taken, begun (its time is fixed, but nobody sees it yet), seen, or it has decided.
    runs = {number: "waiting" for number in range(1, 4)}
    times: dict[int, int] = {}
    following = {"take": ("waiting", "taken"), "begin": ("taken", "begun"), "show": ("begun", "seen")}

    def look(number: int) -> None:
        others = [
            begun(each, times[each] if stage in ("seen", "goes on") else None)
            for each, stage in runs.items()
            if each != number and stage not in ("waiting", "skipped")
        ]
        match decide(begun(number, times[number]), others):
            case GoOn():
                runs[number] = "goes on"
            case Skip():
                runs[number] = "skipped"
            case Wait():
                pass

    def step(name: str) -> None:
        stage = following.get(name, ("seen", ""))[0]
        fitting = [number for number, at in runs.items() if at == stage]
        if not fitting:
            return
        number = random.choice(fitting)
        if name == "look":
            look(number)
            return
        runs[number] = following[name][1]
        if name == "begin":
            times[number] = len(times)

    for name in steps:
        step(name)
        assert list(runs.values()).count("goes on") <= 1
    for name in ("take", "begin", "show", "look") * len(runs) * 2:
        step(name)
    assert sorted(runs.values()) == ["goes on", "skipped", "skipped"]
