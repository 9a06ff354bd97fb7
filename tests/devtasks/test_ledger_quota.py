import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from builders import make_call

from devtasks.circuit_breaker import Admitted, CallEnd, CoolingUntil, Signal
from devtasks.ledger import Ended, Lapsed, Ledger
from devtasks.quota import (
    RESERVATION_SECONDS,
    AccountLimits,
    Answer,
    Budgets,
    DayExhausted,
    Granted,
    MinuteFull,
    Order,
    OverBudget,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)
TWO = AccountLimits(requests_per_minute=2)
NO_BUDGET = Budgets()


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def run[T](url: str, work: Callable[[Ledger, Clock], Coroutine[Any, Any, T]]) -> T:
    async def main() -> T:
        clock = Clock()
        async with Ledger.open(url, now=clock) as ledger:
            return await work(ledger, clock)

    return asyncio.run(main())


async def take(ledger: Ledger, limits: AccountLimits = TWO, *, sent: bool = True, **order: Any) -> Answer:
    wanted = Order(**{"account": "account", "flow_run_id": "run", "bound_usd": 0} | order)
    answer = await ledger.reserve(wanted, limits, NO_BUDGET)
    if sent and isinstance(answer, Granted):
        assert await depart(ledger, answer) == Admitted(trial=False)
    return answer


async def depart(ledger: Ledger, granted: Granted, **call: Any) -> Admitted | CoolingUntil | Lapsed:
    breaker_at = call.pop("breaker_at", None)
    return await ledger.depart(Order("account", "run"), granted.reservation, make_call(**call), breaker_at=breaker_at)


async def end(ledger: Ledger, granted: Granted, cost: float | None = 0.0, *, answered: bool = True) -> None:
    await ledger.arrive(Order("account", "run"), granted.reservation, make_call(), Ended(answered, cost))


def test_the_minute_slides(database_url: str) -> None:
    async def work(ledger: Ledger, clock: Clock) -> list[Answer]:
        answers = [await take(ledger)]
        clock.advance(40)
        answers += [await take(ledger), await take(ledger)]
        clock.advance(22)
        return [*answers, await take(ledger), await take(ledger)]

    first, second, full, third, full_again = run(database_url, work)
    assert isinstance(first, Granted)
    assert isinstance(second, Granted)
    assert isinstance(third, Granted)
    assert full == MinuteFull(NOON + timedelta(seconds=62), 22)
    assert full_again == MinuteFull(NOON + timedelta(seconds=102), 40)


def test_a_minute_that_holds_more_than_its_limit_has_room_when_fewer_are_left(database_url: str) -> None:
    async def work(ledger: Ledger, clock: Clock) -> Answer:
        for _ in range(4):
            await take(ledger, AccountLimits())
            clock.advance(10)
        return await take(ledger)

    assert run(database_url, work) == MinuteFull(NOON + timedelta(seconds=20 + 62), 42)


def test_a_call_stays_in_the_minute_from_when_it_was_sent_not_reserved(database_url: str) -> None:
    async def work(ledger: Ledger, clock: Clock) -> list[Answer]:
        held = await take(ledger, sent=False)
        assert isinstance(held, Granted)
        clock.advance(20)
        await depart(ledger, held)
        clock.advance(45)
        return [await take(ledger), await take(ledger)]

    second, full = run(database_url, work)
    assert isinstance(second, Granted)
    assert full == MinuteFull(NOON + timedelta(seconds=82), 17)


def test_accounts_do_not_share_and_calls_with_a_price_do_not_count(database_url: str) -> None:
    async def work(ledger: Ledger, clock: Clock) -> list[Answer]:
        paid = [await take(ledger, windowed=False) for _ in range(3)]
        other = [await take(ledger, account="other", sent=False) for _ in range(2)]
        return [*paid, *other, await take(ledger), await take(ledger)]

    assert [type(answer) for answer in run(database_url, work)] == [Granted] * 7


def test_the_day_s_limit_is_the_service_s_and_begins_anew_at_midnight(database_url: str) -> None:
    async def work(ledger: Ledger, clock: Clock) -> list[Answer]:
        arrived = await ledger.arrived_today("account")
        await ledger.correct_quota("account", limit=2, used=1, arrived=arrived)
        answers = [await take(ledger), await take(ledger)]
        clock.now = MIDNIGHT
        return [*answers, await take(ledger)]

    first, none_left, tomorrow = run(database_url, work)
    assert isinstance(first, Granted)
    assert none_left == DayExhausted(MIDNIGHT, 2, 2)
    assert isinstance(tomorrow, Granted)


def test_a_call_sent_just_before_midnight_counts_on_both_days(database_url: str) -> None:
    async def work(ledger: Ledger, clock: Clock) -> list[int]:
        clock.now = MIDNIGHT - timedelta(seconds=1)
        await take(ledger)
        before = (await ledger.day_use("account")).used
        clock.advance(2)
        return [before, (await ledger.day_use("account")).used]

    assert run(database_url, work) == [1, 1]


def test_a_reservation_that_was_not_sent_lapses_and_cannot_be_sent_after(database_url: str) -> None:
    async def work(ledger: Ledger, clock: Clock) -> tuple[int, int, object]:
        held = await take(ledger, sent=False)
        assert isinstance(held, Granted)
        before = (await ledger.day_use("account")).used
        clock.advance(RESERVATION_SECONDS)
        return before, (await ledger.day_use("account")).used, await depart(ledger, held)

    assert RESERVATION_SECONDS < 60
    assert run(database_url, work) == (1, 0, Lapsed())


def test_what_was_sent_counts_answered_or_not_and_what_was_turned_back_does_not(database_url: str) -> None:
    async def work(ledger: Ledger, clock: Clock) -> tuple[int, int]:
        answered, unanswered, held = [await take(ledger, AccountLimits(), sent=False) for _ in range(3)]
        assert isinstance(answered, Granted)
        assert isinstance(unanswered, Granted)
        assert isinstance(held, Granted)
        for granted in (answered, unanswered):
            await depart(ledger, granted)
        await end(ledger, answered)
        await end(ledger, unanswered, None, answered=False)
        await ledger.turn_back(held.reservation, make_call(sequence=3))
        arrived = await ledger.arrived_today("account")
        clock.advance(3_600)
        return (await ledger.day_use("account")).used, arrived.calls

    assert run(database_url, work) == (2, 1)


@pytest.mark.parametrize(
    ("used", "counted"),
    [
        pytest.param(1, 2, id="one-is-still-under-way"),
        pytest.param(2, 2, id="both-arrived"),
        pytest.param(5, 5, id="others-use-the-account"),
        pytest.param(0, 1, id="the-service-does-not-count-the-answered-one"),
    ],
)
def test_the_count_follows_the_service_s_and_never_falls_below_it(database_url: str, used: int, counted: int) -> None:
    async def work(ledger: Ledger, clock: Clock) -> int:
        answered = await take(ledger)
        assert isinstance(answered, Granted)
        await end(ledger, answered)
        await take(ledger)
        arrived = await ledger.arrived_today("account")
        await ledger.correct_quota("account", limit=50, used=used, arrived=arrived)
        return (await ledger.day_use("account")).used

    assert run(database_url, work) == counted


def test_a_sent_call_that_never_arrived_is_found_out_when_it_can_no_longer_be_under_way(database_url: str) -> None:
    async def work(ledger: Ledger, clock: Clock) -> list[int]:
        await take(ledger)
        found: list[int] = []
        for seconds in (10, 300):
            clock.advance(seconds)
            arrived = await ledger.arrived_today("account")
            await ledger.correct_quota("account", limit=50, used=0, arrived=arrived)
            found.append((await ledger.day_use("account")).used)
        return found

    assert run(database_url, work) == [1, 0]


def test_a_count_taken_before_midnight_is_no_news_after_it(database_url: str) -> None:
    async def work(ledger: Ledger, clock: Clock) -> tuple[int, int | None]:
        arrived = await ledger.arrived_today("account")
        clock.now = MIDNIGHT
        await ledger.correct_quota("account", limit=50, used=49, arrived=arrived)
        use = await ledger.day_use("account")
        return use.used, use.limit

    assert run(database_url, work) == (0, 50)


def test_the_service_s_own_refusal_blocks_the_account_until_it_counts_room_again(database_url: str) -> None:
    async def work(ledger: Ledger, clock: Clock) -> list[Answer]:
        await ledger.block_account("account", NOON + timedelta(seconds=9), day=False)
        answers = [await take(ledger)]
        clock.advance(9)
        answers.append(await take(ledger))
        await ledger.block_account("account", MIDNIGHT, day=True)
        answers.append(await take(ledger))
        arrived = await ledger.arrived_today("account")
        await ledger.correct_quota("account", limit=50, used=3, arrived=arrived)
        return [*answers, await take(ledger)]

    blocked, free, exhausted, corrected = run(database_url, work)
    assert blocked == MinuteFull(NOON + timedelta(seconds=9), 9)
    assert isinstance(free, Granted)
    assert exhausted == DayExhausted(MIDNIGHT, 1, None)
    assert isinstance(corrected, Granted)


@pytest.mark.parametrize(
    ("budgets", "scope"),
    [
        pytest.param(Budgets(task_usd=1), "task", id="task"),
        pytest.param(Budgets(batch_usd=1), "batch", id="batch"),
        pytest.param(Budgets(day_usd=1), "day", id="day"),
    ],
)
def test_money_is_reserved_at_its_bound_and_settled_at_its_cost(
    database_url: str, budgets: Budgets, scope: str
) -> None:
    order = Order("account", "run", windowed=False, bound_usd=0.6, batch="nightly")
    elsewhere = Order("other", "other-run", windowed=False, bound_usd=0.6, batch="another")

    async def work(ledger: Ledger, clock: Clock) -> list[Answer]:
        first = await ledger.reserve(order, AccountLimits(), budgets)
        assert isinstance(first, Granted)
        refused = await ledger.reserve(order, AccountLimits(), budgets)
        unconcerned = await ledger.reserve(elsewhere, AccountLimits(), budgets)
        await depart(ledger, first)
        await end(ledger, first, 0.3)
        return [refused, unconcerned, await ledger.reserve(order, AccountLimits(), budgets)]

    refused, unconcerned, after = run(database_url, work)
    assert refused == OverBudget(scope, 0.6, 0.6, 1)
    assert isinstance(unconcerned, Granted)
    assert isinstance(after, Granted)


def test_an_answer_of_unknown_cost_keeps_its_bound(database_url: str) -> None:
    order, budgets = Order("account", "run", windowed=False, bound_usd=0.6), Budgets(task_usd=1)

    async def work(ledger: Ledger, clock: Clock) -> Answer:
        first = await ledger.reserve(order, AccountLimits(), budgets)
        assert isinstance(first, Granted)
        await depart(ledger, first)
        await end(ledger, first, None)
        return await ledger.reserve(order, AccountLimits(), budgets)

    assert run(database_url, work) == OverBudget("task", 0.6, 0.6, 1)


def test_a_departing_call_has_its_row_and_a_model_that_cools_gives_its_place_back(database_url: str) -> None:
    async def work(ledger: Ledger, clock: Clock) -> tuple[object, object, int, list[int]]:
        first, second = await take(ledger, sent=False), await take(ledger, sent=False)
        assert isinstance(first, Granted)
        assert isinstance(second, Granted)
        let_through = await depart(ledger, first, breaker_at=NOON)
        limited = Ended(answered=True, cost_usd=0, breaker=CallEnd(Signal.LIMITED, NOON))
        await ledger.arrive(Order("account", "run"), first.reservation, make_call(status=429), limited)
        held = await depart(ledger, second, breaker_at=NOON, sequence=2)
        return let_through, held, (await ledger.day_use("account")).used, [c.status for c in await ledger.calls("run")]

    cooling = CoolingUntil(NOON + timedelta(seconds=10))
    assert run(database_url, work) == (Admitted(trial=False), cooling, 1, [429])


def test_without_a_clock_of_a_test_s_own_the_time_is_now(database_url: str) -> None:
    async def work() -> datetime:
        async with Ledger.open(database_url) as ledger:
            return (await ledger.day_use("account")).day

    before = datetime.now(UTC).date()
    assert before <= asyncio.run(work()).date() <= datetime.now(UTC).date()
