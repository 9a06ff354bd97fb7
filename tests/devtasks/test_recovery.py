from itertools import pairwise
from pathlib import Path

import faults
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devtasks.execution.runtime import AgentStatus
from devtasks.recovery import (
    BY_STATUS,
    FIRST_RETRY_SECONDS,
    LONGEST_RETRY_SECONDS,
    POLICY,
    POSTPONING,
    Attempt,
    FailureKind,
    Step,
    classify,
    next_step,
    retry_delay,
)
from devtasks.task import TaskLimits

REJECTED, STUCK, PROVIDER = FailureKind.REJECTED, FailureKind.STUCK, FailureKind.PROVIDER_ERROR


def test_every_failure_has_its_row_in_the_policy() -> None:
    assert set(POLICY) == set(FailureKind)
    assert all(POLICY.values()), "an empty row would leave nothing to do"


def test_a_failure_never_leads_to_acceptance() -> None:
    assert not [kind for kind, row in POLICY.items() if Step.ACCEPT in row]


def test_every_way_an_agent_ends_has_its_failure() -> None:
    assert set(BY_STATUS) == set(AgentStatus)


@pytest.mark.parametrize(
    ("attempts", "expected"),
    [
        pytest.param([("a", None)], Step.ACCEPT, id="accepted"),
        pytest.param([("a", REJECTED)], Step.REPAIR, id="rejected-once"),
        pytest.param([("a", REJECTED), ("a", REJECTED)], Step.FALL_BACK, id="rejected-twice"),
        pytest.param([("a", REJECTED), ("a", None)], Step.ACCEPT, id="repaired"),
        pytest.param([("a", REJECTED)] * 2 + [("b", REJECTED)], Step.REPAIR, id="the-next-model-may-repair-too"),
        pytest.param([("a", REJECTED), ("a", STUCK), ("b", REJECTED)], Step.REPAIR, id="counted-by-model"),
        pytest.param([("a", REJECTED), ("a", STUCK)], Step.FALL_BACK, id="stuck-while-repairing"),
        pytest.param([("a", PROVIDER)], Step.FALL_BACK, id="provider-down"),
        pytest.param([("a", PROVIDER), ("b", None)], Step.ACCEPT, id="the-next-model-passes"),
        pytest.param([("a", REJECTED), ("a", None), ("a", REJECTED)], Step.FALL_BACK, id="the-last-row-repeats"),
    ],
)
def test_what_follows_a_history(attempts: list[tuple[str, FailureKind | None]], expected: Step) -> None:
    history = [Attempt(model, failure) for model, failure in attempts]
    assert next_step(history, TaskLimits()) is expected


@pytest.mark.parametrize(
    "kind",
    [
        FailureKind.INTERRUPTED,
        FailureKind.CANCELLED,
        FailureKind.AUTHENTICATION,
        FailureKind.LIMIT_SECONDS,
        FailureKind.LIMIT_LLM_CALLS,
        FailureKind.LIMIT_TOKENS,
        FailureKind.LIMIT_COST,
    ],
)
def test_what_another_model_would_meet_as_well_ends_the_task(kind: FailureKind) -> None:
    assert next_step([Attempt("a", kind)], TaskLimits()) is Step.REJECT


def test_after_a_person_s_answer_a_model_is_tried_as_if_anew_but_its_attempts_count() -> None:
    before = [Attempt("a", REJECTED, answered=True)] * 2
    assert next_step([*before, Attempt("a", REJECTED)], TaskLimits(attempts=4)) is Step.REPAIR
    assert next_step([*before, *[Attempt("a", REJECTED)] * 2], TaskLimits(attempts=5)) is Step.FALL_BACK
    assert next_step([*before, Attempt("a", REJECTED)], TaskLimits(attempts=3), asks=True) is Step.ESCALATE


@pytest.mark.parametrize("attempts", [1, 3])
def test_an_attempt_that_met_the_account_s_day_goes_on_later_and_is_not_over(attempts: int) -> None:
    history = [Attempt("a", REJECTED)] * (attempts - 1) + [Attempt("a", FailureKind.DAY_LIMIT)]
    assert next_step(history, TaskLimits(attempts=attempts)) is Step.DEFER


@pytest.mark.parametrize("kind", [kind for kind in FailureKind if POLICY[kind][0] not in POSTPONING])
def test_the_bound_on_attempts_holds_whatever_failed(kind: FailureKind) -> None:
    limits = TaskLimits(attempts=3)
    history = [Attempt(model, kind) for model in "abc"]
    assert next_step(history, limits) is Step.REJECT


def test_the_last_attempt_of_all_may_still_be_accepted() -> None:
    history = [Attempt("a", REJECTED), Attempt("a", None)]
    assert next_step(history, TaskLimits(attempts=2)) is Step.ACCEPT


@pytest.mark.parametrize(
    ("status", "refused", "passed", "expected"),
    [
        pytest.param(AgentStatus.FINISHED, None, True, None, id="passed"),
        pytest.param(AgentStatus.DEADLINE, None, True, None, id="passed-though-out-of-time"),
        pytest.param(AgentStatus.ERROR, PROVIDER, True, None, id="passed-though-refused"),
        pytest.param(AgentStatus.FINISHED, None, False, REJECTED, id="its-word-does-not-count"),
        pytest.param(AgentStatus.ERROR, PROVIDER, False, PROVIDER, id="the-refusal-explains-more"),
        pytest.param(AgentStatus.ERROR, None, False, FailureKind.AGENT_ERROR, id="its-own-error"),
        pytest.param(AgentStatus.STUCK, None, False, STUCK, id="stuck"),
        pytest.param(AgentStatus.MAX_ITERATIONS, None, False, FailureKind.ITERATIONS, id="out-of-steps"),
        pytest.param(AgentStatus.DEADLINE, None, False, FailureKind.LIMIT_SECONDS, id="out-of-time"),
        pytest.param(None, None, False, FailureKind.INTERRUPTED, id="interrupted"),
        pytest.param(None, PROVIDER, False, FailureKind.INTERRUPTED, id="interrupted-after-a-refusal"),
    ],
)
def test_why_an_attempt_failed(
    status: AgentStatus | None, refused: FailureKind | None, passed: bool, expected: FailureKind | None
) -> None:
    assert classify(status, refused, passed=passed) is expected


def test_what_cannot_be_reached_is_tried_again_later_some_times_and_then_it_is_over() -> None:
    down = Attempt("a", FailureKind.UNREACHABLE)
    put_off: list[Attempt] = []
    while next_step([*put_off, down], TaskLimits(attempts=1)) is Step.RETRY:
        put_off.append(Attempt("a", FailureKind.UNREACHABLE, postponed=True))
    assert len(put_off) == 7
    assert next_step([*put_off, down], TaskLimits(attempts=1)) is Step.REJECT


def test_each_retry_waits_twice_as_long_up_to_a_bound_and_its_jitter_adds_at_most_half() -> None:
    down = Attempt("a", FailureKind.UNREACHABLE)
    waits = [retry_delay([down] * times, jitter=0).total_seconds() for times in range(1, 9)]
    assert waits[0] == FIRST_RETRY_SECONDS
    assert all(later == min(2 * earlier, LONGEST_RETRY_SECONDS) for earlier, later in pairwise(waits))
    assert waits[-1] == LONGEST_RETRY_SECONDS
    longer = {retry_delay([down]).total_seconds() / FIRST_RETRY_SECONDS for _ in range(50)}
    assert len(longer) > 1, "runs that failed together do not come back together"
    assert all(1 <= each <= 1.5 for each in longer)
    assert retry_delay([down], jitter=1).total_seconds() == 1.5 * FIRST_RETRY_SECONDS


ATTEMPTS = st.builds(Attempt, st.sampled_from("ab"), st.sampled_from([None, *FailureKind]))


@given(st.lists(ATTEMPTS, min_size=200, max_size=200), st.integers(1, 20), st.booleans())
def test_whatever_attempts_fail_of_a_task_comes_to_an_end_or_to_a_person(
    attempts: list[Attempt], most: int, asks: bool
) -> None:
    history: list[Attempt] = []
    steps: list[Step] = []
    for attempt in attempts:
        steps.append(next_step([*history, attempt], TaskLimits(attempts=most), asks=asks))
        if steps[-1] in (Step.ACCEPT, Step.ESCALATE, Step.REJECT):
            break
        history.append(Attempt(attempt.model, attempt.failure, postponed=steps[-1] in POSTPONING))
    over = [each for each in history if not each.postponed]
    assert len(over) < most
    assert (steps[-1] is Step.ACCEPT) == (attempts[len(steps) - 1].failure is None)
    assert Step.ESCALATE not in steps or asks
    assert Step.ACCEPT not in steps[:-1]
    if Step.DEFER not in steps:
        assert steps[-1] in (Step.ACCEPT, Step.ESCALATE, Step.REJECT), "deferring is bounded by the flow"


def test_the_document_shows_the_policy() -> None:
    document = Path(__file__).parents[2] / "docs" / "recovery.md"
    expected = faults.policy()
    said = faults.table(document.read_text(encoding="utf-8"), "The policy")
    assert said == expected, "\n".join(f"| {' | '.join(row)} |" for row in expected)
