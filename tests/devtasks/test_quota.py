from datetime import UTC, datetime, timedelta

import pytest

from devtasks.quota import (
    AccountLimits,
    DayExhausted,
    MinuteFull,
    Order,
    OverBudget,
    Standing,
    corrected,
    decide,
    over_budget,
    places,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)
TWO = AccountLimits(requests_per_minute=2)


def ago(seconds: float) -> datetime:
    return NOON - timedelta(seconds=seconds)


def minute_full(seconds: float) -> MinuteFull:
    return MinuteFull(NOON + timedelta(seconds=seconds), seconds)


@pytest.mark.parametrize(
    ("limits", "standing", "expected"),
    [
        pytest.param(TWO, Standing([None], 0, None), None, id="room-in-the-minute"),
        pytest.param(TWO, Standing([ago(30)], 0, None), minute_full(32), id="until-the-last-place-is-free"),
        pytest.param(TWO, Standing([ago(61.9)], 0, None), minute_full(0.1), id="with-the-margin-for-the-way"),
        pytest.param(TWO, Standing([ago(62)], 0, None), None, id="as-it-has-left"),
        pytest.param(AccountLimits(), Standing([None], 10_000, None), None, id="no-limits"),
        pytest.param(TWO, Standing([None], 49, 50), None, id="the-last-of-the-day"),
        pytest.param(TWO, Standing([None], 50, 50), DayExhausted(MIDNIGHT, 50, 50), id="none-left-today"),
        pytest.param(
            AccountLimits(requests_per_day=10),
            Standing([None], 10, 50),
            DayExhausted(MIDNIGHT, 10, 10),
            id="the-user-s-own",
        ),
        pytest.param(
            AccountLimits(requests_per_day=90),
            Standing([None], 50, 50),
            DayExhausted(MIDNIGHT, 50, 50),
            id="the-lower-one",
        ),
        pytest.param(TWO, Standing([ago(2)], 50, 50), DayExhausted(MIDNIGHT, 50, 50), id="the-day-goes-first"),
        pytest.param(
            TWO,
            Standing([None], 0, 50, blocked_until=NOON + timedelta(seconds=5)),
            minute_full(5),
            id="the-service-said-wait",
        ),
        pytest.param(TWO, Standing([None], 0, 50, blocked_until=NOON), None, id="it-said-so-earlier"),
        pytest.param(
            TWO, Standing([None], 7, 50, exhausted_until=MIDNIGHT), DayExhausted(MIDNIGHT, 7, 50), id="it-said-enough"
        ),
        pytest.param(TWO, Standing([None], 7, 50, exhausted_until=NOON), None, id="it-said-enough-yesterday"),
    ],
)
def test_what_stands_against_a_call(limits: AccountLimits, standing: Standing, expected: object) -> None:
    assert decide(NOON, limits, standing) == expected


def test_what_was_granted_meanwhile_counts_in_the_minute_and_in_the_day() -> None:
    standing = Standing([None, ago(2), NOON], 7, 10)
    assert [decide(NOON, TWO, standing, granted) for granted in range(3)] == [None, minute_full(60), minute_full(62)]
    day = Standing([None, None, None], 8, 10)
    assert [decide(NOON, TWO, day, granted) for granted in range(3)] == [None, None, DayExhausted(MIDNIGHT, 10, 10)]


@pytest.mark.parametrize(
    ("newest_first", "skipped", "limit", "expected"),
    [
        pytest.param([], 0, 2, [None, None, NOON, NOON], id="an-empty-minute"),
        pytest.param([ago(1)], 0, 2, [None, ago(1), NOON, NOON], id="one-place-taken"),
        pytest.param([ago(1), ago(2)], 0, 2, [ago(2), ago(1), NOON, NOON], id="full"),
        pytest.param([ago(3), ago(4), ago(5), ago(6)], 2, 6, [ago(6), ago(5), ago(4), ago(3)], id="the-newest-skipped"),
        pytest.param([ago(3)], 2, 6, [None, None, None, ago(3)], id="room-for-most"),
    ],
)
def test_which_places_further_calls_need(
    newest_first: list[datetime], skipped: int, limit: int, expected: list[datetime | None]
) -> None:
    assert list(places(newest_first, skipped, limit, 4, NOON)) == expected


def test_a_limit_of_no_request_at_all_is_no_limit_to_work_with() -> None:
    with pytest.raises(ValueError, match="at least one"):
        AccountLimits(requests_per_minute=0)


@pytest.mark.parametrize(
    ("known", "used", "arrived", "ours", "expected"),
    [
        pytest.param(0, 5, 5, 5, 0, id="only-ours"),
        pytest.param(0, 7, 5, 5, 2, id="two-of-somebody-else"),
        pytest.param(0, 7, 5, 9, 0, id="perhaps-all-ours"),
        pytest.param(2, 7, 5, 9, 2, id="what-was-known-is-kept-where-it-can-be"),
        pytest.param(3, 7, 5, 5, 2, id="fewer-of-somebody-else-than-thought"),
        pytest.param(0, 12, 5, 9, 3, id="more-than-all-ours"),
        pytest.param(0, 3, 5, 6, -2, id="two-that-arrived-do-not-count"),
    ],
)
def test_the_service_s_count_corrects_ours(known: int, used: int, arrived: int, ours: int, expected: int) -> None:
    assert corrected(known, used, arrived, ours) == expected


@pytest.mark.parametrize(
    ("bound", "limits", "refused"),
    [
        pytest.param(0.25, [("task", 0.5, 0.25)], None, id="just-enough"),
        pytest.param(0.25, [("task", 0.5, 0.26)], "task", id="could-exceed"),
        pytest.param(0.25, [("task", None, 99), ("batch", 1, 0), ("day", 1, 0.9)], "day", id="the-first-that-would"),
        pytest.param(0.1, [("task", 0.3, 0.1 + 0.1)], None, id="floating-point-is-no-reason"),
        pytest.param(0, [("task", 0, 0)], None, id="free-where-nothing-may-be-spent"),
        pytest.param(None, [("batch", 99, 0)], "batch", id="unknown-price"),
        pytest.param(None, [("batch", None, 5)], None, id="unknown-price-without-limit"),
    ],
)
def test_a_call_that_could_exceed_a_money_limit_is_refused(
    bound: float | None, limits: list[tuple[str, float | None, float]], refused: str | None
) -> None:
    answer = over_budget(Order("account", "run", bound_usd=bound), limits)
    assert (answer and answer.scope) == refused
    assert answer is None or isinstance(answer, OverBudget)
