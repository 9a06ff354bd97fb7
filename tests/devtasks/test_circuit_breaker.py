from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from devtasks.circuit_breaker import (
    RULES,
    SIGNALS,
    TRIAL_LEASE,
    Admitted,
    Breaker,
    CallEnd,
    CoolingUntil,
    Signal,
    State,
    admit,
    earliest_ready,
    observe,
    signal_of,
)
from devtasks.recovery import FailureKind

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)
MODEL = "acme/coder:free"
NEW = Breaker("https://models.test", MODEL)


def seconds(count: float) -> datetime:
    return NOON + timedelta(seconds=count)


def after(*signals: Signal, breaker: Breaker = NEW, until: datetime | None = None, trial: bool = False) -> Breaker:
    for signal in signals:
        breaker = observe(breaker, CallEnd(signal, NOON, until, trial))
    return breaker


OPEN = after(Signal.LIMITED)
HALF_OPEN, _ = admit(OPEN, seconds(10))


@pytest.mark.parametrize(
    ("signals", "until", "ready_at"),
    [
        pytest.param([Signal.ANSWERED], None, None, id="an-answer"),
        pytest.param([Signal.NOTHING] * 9, None, None, id="what-says-nothing"),
        pytest.param([Signal.FAULT] * 2, None, None, id="two-faults"),
        pytest.param([Signal.FAULT] * 3, None, seconds(30), id="three-faults"),
        pytest.param([Signal.FAULT, Signal.FAULT, Signal.ANSWERED, Signal.FAULT], None, None, id="an-answer-between"),
        pytest.param([Signal.LIMITED], None, seconds(10), id="an-upstream-limit"),
        pytest.param([Signal.LIMITED], seconds(3), seconds(3), id="with-a-hint"),
        pytest.param([Signal.FAULT] * 3, seconds(90), seconds(90), id="faults-with-a-hint"),
        pytest.param([Signal.GONE], None, seconds(600), id="the-model-is-gone"),
        pytest.param([Signal.ACCOUNT_MINUTE], None, seconds(60), id="the-account-s-minute"),
        pytest.param([Signal.ACCOUNT_MINUTE], seconds(7), seconds(7), id="the-account-s-minute-with-its-reset"),
        pytest.param([Signal.ACCOUNT_DAY], None, MIDNIGHT, id="the-account-s-day"),
        pytest.param([Signal.ACCOUNT_DAY], seconds(99), seconds(99), id="the-account-s-day-with-its-reset"),
    ],
)
def test_it_opens_after_its_rule_s_count_until_the_rule_s_time(
    signals: list[Signal], until: datetime | None, ready_at: datetime | None
) -> None:
    breaker = after(*signals, until=until)
    assert (breaker.state, breaker.ready_at) == (State.OPEN if ready_at else State.CLOSED, ready_at)


def test_open_lets_nothing_through_until_its_time_then_one_and_only_one() -> None:
    assert admit(OPEN, seconds(9.9)) == (OPEN, CoolingUntil(seconds(10)))
    trial, answer = admit(OPEN, seconds(10))
    assert (trial.state, answer) == (State.HALF_OPEN, Admitted(trial=True))
    lease_end = seconds(10) + TRIAL_LEASE
    assert admit(trial, seconds(11)) == (trial, CoolingUntil(lease_end))
    assert admit(trial, lease_end)[1] == Admitted(trial=True), "whoever had the trial is dead"


@pytest.mark.parametrize(
    ("signal", "state"),
    [
        pytest.param(Signal.ANSWERED, State.CLOSED, id="answered"),
        pytest.param(Signal.FAULT, State.OPEN, id="fault-even-one"),
        pytest.param(Signal.LIMITED, State.OPEN, id="limited"),
        pytest.param(Signal.NOTHING, State.HALF_OPEN, id="nothing"),
    ],
)
def test_everything_depends_on_the_trial(signal: Signal, state: State) -> None:
    assert after(signal, breaker=HALF_OPEN, trial=True).state is state
    assert after(signal, breaker=HALF_OPEN) == HALF_OPEN, "a call from before says nothing"


def test_a_trial_that_proved_nothing_is_made_again() -> None:
    assert admit(after(Signal.NOTHING, breaker=HALF_OPEN, trial=True), seconds(11))[1] == Admitted(trial=True)


def test_the_cooldown_doubles_up_to_its_bound_and_begins_anew_after_an_answer() -> None:
    breaker, waits = NEW, list[float]()
    for _ in range(30):
        breaker = observe(breaker, CallEnd(Signal.LIMITED, NOON, trial=True))
        assert breaker.ready_at
        waits.append((breaker.ready_at - NOON).total_seconds())
        breaker, _ = admit(breaker, breaker.ready_at)
    assert waits[:4] == [10, 20, 40, 80]
    assert set(waits[6:]) == {600}
    assert after(Signal.ANSWERED, Signal.LIMITED, breaker=breaker, trial=True).ready_at == seconds(10)


def test_a_hint_goes_before_the_cooldown_once_later_the_longer_of_both() -> None:
    again = replace(HALF_OPEN, openings=2)
    assert after(Signal.LIMITED, breaker=again, until=seconds(1), trial=True).ready_at == seconds(40)
    assert after(Signal.LIMITED, breaker=again, until=seconds(99), trial=True).ready_at == seconds(99)


def test_calls_that_were_under_way_when_it_opened_do_not_make_it_worse_but_their_hints_count() -> None:
    assert after(*[Signal.LIMITED] * 5) == OPEN
    assert after(Signal.ANSWERED, breaker=OPEN) == OPEN
    assert after(Signal.LIMITED, breaker=OPEN, until=seconds(33)).ready_at == seconds(33)


@pytest.mark.parametrize("signal", [Signal.ACCOUNT_MINUTE, Signal.ACCOUNT_DAY])
def test_a_trial_that_met_the_account_s_own_limit_is_made_again_after_it(signal: Signal) -> None:
    opened = after(signal, breaker=HALF_OPEN, trial=True)
    assert (opened.state, opened.openings) == (State.OPEN, OPEN.openings)
    assert opened.ready_at
    assert admit(opened, opened.ready_at)[1] == Admitted(trial=True), "the model has not proved itself yet"


@pytest.mark.parametrize("signal", [Signal.ACCOUNT_MINUTE, Signal.ACCOUNT_DAY])
def test_after_the_account_s_own_limits_no_trial_is_needed(signal: Signal) -> None:
    breaker, answer = admit(after(signal), MIDNIGHT)
    assert (breaker, answer) == (NEW, Admitted(trial=False))


def test_every_signal_that_is_trouble_has_its_rule() -> None:
    assert set(RULES) == set(Signal) - {Signal.ANSWERED, Signal.NOTHING} == set(SIGNALS.values())


def test_an_answer_and_what_is_no_model_s_fault_are_told_from_trouble() -> None:
    assert signal_of(None) is Signal.ANSWERED
    ours = (FailureKind.AUTHENTICATION, FailureKind.BAD_REQUEST, FailureKind.INTERRUPTED, FailureKind.LIMIT_COST)
    assert {signal_of(kind) for kind in ours} == {Signal.NOTHING}


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        pytest.param(["a", "b"], seconds(5), id="all-cooling-the-earliest"),
        pytest.param(["a", "b", "c"], None, id="one-is-ready"),
        pytest.param([], None, id="none"),
    ],
)
def test_when_all_candidates_cool_the_earliest_time_is_known(models: list[str], expected: datetime | None) -> None:
    assert earliest_ready(models, {"a": seconds(9), "b": seconds(5)}) == expected
