import pytest
from models import outcomes

from devtasks.selection.evidence import (
    MEMORY,
    OWN_MEMORY,
    Belief,
    Outcome,
    believe,
    believe_untried,
    tally,
)


def belief(seen: list[Outcome], model_id: str = "m/a", success: float | None = None) -> Belief:
    return believe(success, None, None, tally(seen)[model_id])


def test_the_prior_counts_as_two_attempts() -> None:
    (accepted,) = [belief(outcomes("m/a", True))]
    assert accepted.mean == pytest.approx((2 * 0.5 + 1) / 3)
    assert belief(outcomes("m/a", True), success=0.9).mean == pytest.approx((2 * 0.9 + 1) / 3)


def test_doubt_shrinks_with_every_attempt_and_promise_with_it() -> None:
    few, many = belief(outcomes("m/a", True, False)), belief(outcomes("m/a", *[True, False] * 8))
    assert few.promise - few.mean > many.promise - many.mean > 0
    assert belief(outcomes("m/a", *[True] * 50)).promise <= 1


def test_a_model_s_newer_attempts_count_more_than_its_older_ones() -> None:
    rising, falling = (
        belief(outcomes("m/a", True, True, False, False)),
        belief(outcomes("m/a", False, False, True, True)),
    )
    assert rising.mean > 0.5 > falling.mean
    assert rising.attempts == 4


def test_an_attempt_s_weight_falls_with_its_own_and_with_all_later_attempts() -> None:
    seen = outcomes("m/a", True) + outcomes("m/b", True, True) + outcomes("m/a", False)
    assert tally(seen)["m/a"].accepted == pytest.approx(1)
    assert tally(seen)["m/a"].rejected == pytest.approx(OWN_MEMORY * MEMORY**3)


def test_what_is_known_of_a_model_fades_to_its_prior_while_others_work() -> None:
    failed = outcomes("m/a", False, False, False)
    fresh = belief(failed).promise
    faded = belief(outcomes("m/b", *[True] * 200) + failed).promise
    untried = believe_untried(None, None, None).promise
    assert fresh < faded < untried
    assert untried - faded < 0.1


def test_time_and_cost_are_as_observed_and_a_prior_counts_as_one_attempt() -> None:
    slow = tally(outcomes("m/a", True, seconds=300, cost=0.2))["m/a"]
    assert believe(None, None, None, slow)[3:] == (pytest.approx(300), pytest.approx(0.2))
    assert believe(None, 100, 0.1, slow)[3:] == (pytest.approx(200), pytest.approx(0.15))


def test_attempts_without_a_cost_leave_it_as_it_was() -> None:
    known = tally(outcomes("m/a", True, True, cost=None))["m/a"]
    assert believe(None, None, 0.3, known).cost == pytest.approx(0.3)
    assert believe(None, None, None, known).cost is None
