import pytest

from devtasks.execution.runtime import AgentStatus
from devtasks.recovery import BY_STATUS, POLICY, Attempt, FailureKind, Step, classify, next_step
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
        FailureKind.MINUTE_LIMIT,
        FailureKind.UNREACHABLE,
        FailureKind.LIMIT_SECONDS,
        FailureKind.LIMIT_LLM_CALLS,
        FailureKind.LIMIT_TOKENS,
        FailureKind.LIMIT_COST,
    ],
)
def test_what_another_model_would_meet_as_well_ends_the_task(kind: FailureKind) -> None:
    assert next_step([Attempt("a", kind)], TaskLimits()) is Step.REJECT


@pytest.mark.parametrize("attempts", [1, 3])
def test_an_attempt_that_met_the_account_s_day_goes_on_later_and_is_not_over(attempts: int) -> None:
    history = [Attempt("a", REJECTED)] * (attempts - 1) + [Attempt("a", FailureKind.DAY_LIMIT)]
    assert next_step(history, TaskLimits(attempts=attempts)) is Step.DEFER


@pytest.mark.parametrize("kind", [kind for kind in FailureKind if kind is not FailureKind.DAY_LIMIT])
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
