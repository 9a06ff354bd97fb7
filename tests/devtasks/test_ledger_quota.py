import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from builders import make_call

from devtasks.circuit_breaker import CallEnd, CoolingUntil, Signal
from devtasks.ledger import Answer, Ended, Leaving, Ledger
from devtasks.quota import (
    AccountLimits,
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
ORDER: dict[str, Any] = {"account": "account", "flow_run_id": "run", "bound_usd": 0}


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


async def take(ledger: Ledger, limits: AccountLimits = TWO, budgets: Budgets = NO_BUDGET, **order: Any) -> Answer:
    (answer,) = await take_together(ledger, Order(**ORDER | order), limits=limits, budgets=budgets)
    return answer


async def take_together(
    ledger: Ledger,
    *orders: Order,
    limits: AccountLimits = TWO,
    budgets: Budgets = NO_BUDGET,
    at: datetime | None = None,
) -> list[Answer]:
    """Let calls depart at once; each is to a model of its order's name."""
    leaving = [
        Leaving(order, make_call(sequence=number, model_requested=order.model), breaker_at=at)
        for number, order in enumerate(orders)
    ]
    return list(await ledger.depart(leaving, limits, budgets))


async def end(ledger: Ledger, granted: Answer, cost: float | None = 0.0, *, answered: bool = True) -> None:
    assert isinstance(granted, Granted)
    await ledger.arrive(Order("account", "run"), [Ended(make_call(), granted.reservation, answered, cost)])


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


def test_a_call_that_was_held_up_on_its_way_out_counts_from_when_it_left(database_url: str) -> None:
    async def work(ledger: Ledger, clock: Clock) -> list[Answer]:
        held = await take(ledger)
        assert isinstance(held, Granted)
        clock.advance(20)
        await ledger.redepart("account", [held.reservation])
        clock.advance(45)
        return [await take(ledger), await take(ledger)]

    second, full = run(database_url, work)
    assert isinstance(second, Granted)
    assert full == MinuteFull(NOON + timedelta(seconds=82), 17)


def test_of_calls_that_depart_together_no_more_are_granted_than_of_as_many_one_by_one(database_url: str) -> None:
    order = Order("account", "run", model="acme/coder:free", bound_usd=0)

    async def work(ledger: Ledger, clock: Clock) -> list[list[Answer]]:
        early = await take_together(ledger, order)
        clock.advance(40)
        paid = replace(order, windowed=False)
        together = await take_together(ledger, order, paid, order, order)
        clock.advance(22)
        return [early, together, await take_together(ledger, order, order)]

    _, together, later = run(database_url, work)
    assert [type(answer) for answer in together] == [Granted, Granted, MinuteFull, MinuteFull]
    assert together[2:] == [MinuteFull(NOON + timedelta(seconds=62), 22), MinuteFull(NOON + timedelta(seconds=62), 22)]
    assert isinstance(later[0], Granted)
    assert later[1] == MinuteFull(NOON + timedelta(seconds=102), 40)


def test_calls_that_depart_together_share_what_is_left_of_the_day_and_of_the_money(database_url: str) -> None:
    day, money = AccountLimits(requests_per_day=2), Budgets(task_usd=1)
    free, dear = Order("account", "run", bound_usd=0), Order("account", "run", windowed=False, bound_usd=0.6)

    async def work(ledger: Ledger, clock: Clock) -> list[Answer]:
        return [
            *await take_together(ledger, free, free, free, limits=day),
            *await take_together(ledger, dear, dear, limits=day, budgets=money),
        ]

    first, second, none_left, paid, too_dear = run(database_url, work)
    assert [type(each) for each in (first, second, paid)] == [Granted] * 3
    assert none_left == DayExhausted(MIDNIGHT, 2, 2)
    assert too_dear == OverBudget("task", 0.6, 0.6, 1)


def test_of_calls_that_depart_together_after_a_cooldown_one_is_the_trial(database_url: str) -> None:
    async def work(ledger: Ledger, clock: Clock) -> tuple[list[Answer], list[str], int]:
        await ledger.observe_model("", "b", CallEnd(Signal.LIMITED, NOON))
        orders = [Order("account", "run", model=model, bound_usd=0) for model in ("b", "a", "b", "a")]
        at = NOON + timedelta(seconds=10)
        answers = await take_together(ledger, *orders, limits=AccountLimits(), at=at)
        models = [call.model_requested for call in await ledger.calls("run")]
        return answers, models, (await ledger.day_use("account")).used

    answers, models, used = run(database_url, work)
    assert [isinstance(each, Granted) and each.trial for each in answers] == [True, False, False, False]
    assert [type(each) for each in answers] == [Granted, Granted, CoolingUntil, Granted]
    assert (models, used) == (["b", "a", "a"], 3), "who is not let through has neither row nor place"


def test_accounts_do_not_share_and_calls_with_a_price_do_not_count(database_url: str) -> None:
    async def work(ledger: Ledger, clock: Clock) -> list[Answer]:
        paid = [await take(ledger, windowed=False) for _ in range(3)]
        other = [await take(ledger, account="other") for _ in range(2)]
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


def test_what_was_sent_counts_answered_or_not_and_what_never_left_does_not(database_url: str) -> None:
    async def work(ledger: Ledger, clock: Clock) -> tuple[int, int, list[int]]:
        answered, unanswered = await take(ledger), await take(ledger)
        await end(ledger, answered)
        await end(ledger, unanswered, None, answered=False)
        await ledger.arrive(Order("account", "run"), [Ended(make_call(sequence=3, status=502), None)])
        arrived = await ledger.arrived_today("account")
        clock.advance(3_600)
        rows = [call.status for call in await ledger.calls("run")]
        return (await ledger.day_use("account")).used, arrived.calls, rows[-1:]

    assert run(database_url, work) == (2, 1, [502])


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

    async def one(ledger: Ledger, order: Order) -> Answer:
        return (await take_together(ledger, order, limits=AccountLimits(), budgets=budgets))[0]

    async def work(ledger: Ledger, clock: Clock) -> list[Answer]:
        first = await one(ledger, order)
        refused, unconcerned = await one(ledger, order), await one(ledger, elsewhere)
        await end(ledger, first, 0.3)
        return [refused, unconcerned, await one(ledger, order)]

    refused, unconcerned, after = run(database_url, work)
    assert refused == OverBudget(scope, 0.6, 0.6, 1)
    assert isinstance(unconcerned, Granted)
    assert isinstance(after, Granted)


def test_an_answer_of_unknown_cost_keeps_its_bound(database_url: str) -> None:
    dear, budgets = {"windowed": False, "bound_usd": 0.6}, Budgets(task_usd=1)

    async def work(ledger: Ledger, clock: Clock) -> Answer:
        await end(ledger, await take(ledger, budgets=budgets, **dear), None)
        return await take(ledger, budgets=budgets, **dear)

    assert run(database_url, work) == OverBudget("task", 0.6, 0.6, 1)


def test_a_departing_call_has_its_row_and_one_whose_model_cools_has_neither_row_nor_place(database_url: str) -> None:
    order = Order("account", "run", model="a", bound_usd=0)

    async def work(ledger: Ledger, clock: Clock) -> tuple[list[Answer], int, list[int]]:
        (first,) = await take_together(ledger, order, at=NOON)
        assert isinstance(first, Granted)
        row = make_call(sequence=0, model_requested="a", status=429)
        limited = Ended(row, first.reservation, answered=True, cost_usd=0, breaker=CallEnd(Signal.LIMITED, NOON))
        await ledger.arrive(order, [limited])
        held = await take_together(ledger, order, at=NOON)
        return held, (await ledger.day_use("account")).used, [c.status for c in await ledger.calls("run")]

    assert run(database_url, work) == ([CoolingUntil(NOON + timedelta(seconds=10))], 1, [429])


def test_ends_that_are_written_together_are_told_to_the_breaker_in_order(database_url: str) -> None:
    async def work(ledger: Ledger, clock: Clock) -> list[str]:
        faults = [(model, Signal.FAULT) for model in "babaab"]
        ends = [*faults[:-1], ("b", Signal.ANSWERED), faults[-1]]
        written = [
            Ended(make_call(sequence=number, model_requested=model), None, breaker=CallEnd(signal, NOON))
            for number, (model, signal) in enumerate(ends)
        ]
        await ledger.arrive(Order("account", "run"), written)
        return list(await ledger.cooling("", NOON))

    assert run(database_url, work) == ["a"]


def test_without_a_clock_of_a_test_s_own_the_time_is_now(database_url: str) -> None:
    async def work() -> datetime:
        async with Ledger.open(database_url) as ledger:
            return (await ledger.day_use("account")).day

    before = datetime.now(UTC).date()
    assert before <= asyncio.run(work()).date() <= datetime.now(UTC).date()
