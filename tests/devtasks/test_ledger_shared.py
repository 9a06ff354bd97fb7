"""What the processes share beside the quota: breakers, the last catalogue, and the outcomes selection learns from."""

import asyncio
import multiprocessing
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from builders import make_attempt

from devtasks.circuit_breaker import Admitted, CallEnd, CoolingUntil, Signal
from devtasks.ledger import CachedCatalogue, Ledger
from devtasks.recovery import NOT_THE_MODELS, FailureKind
from devtasks.selection.evidence import Outcome
from devtasks.task import TaskCategory

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MODEL = "acme/coder:free"
SERVICE = "https://models.test/api/v1"


def run[T](url: str, work: Callable[[Ledger], Coroutine[Any, Any, T]]) -> T:
    async def main() -> T:
        async with Ledger.open(url) as ledger:
            return await work(ledger)

    return asyncio.run(main())


def later(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def test_a_model_in_trouble_cools_for_every_process_and_the_others_do_not(database_url: str) -> None:
    async def trouble(ledger: Ledger) -> None:
        await ledger.observe_model(SERVICE, MODEL, CallEnd(Signal.LIMITED, NOON))
        await ledger.observe_model(SERVICE, "acme/other", CallEnd(Signal.ANSWERED, NOON))

    run(database_url, trouble)
    assert run(database_url, lambda ledger: ledger.cooling(SERVICE, NOON)) == {MODEL: later(10)}
    assert run(database_url, lambda ledger: ledger.admit_model(SERVICE, MODEL, NOON)) == CoolingUntil(later(10))
    assert run(database_url, lambda ledger: ledger.cooling(SERVICE, later(10))) == {}
    assert run(database_url, lambda ledger: ledger.admit_model(SERVICE, "acme/other", NOON)) == Admitted(trial=False)


def test_a_model_of_the_same_name_at_another_service_is_not_in_trouble(database_url: str) -> None:
    run(database_url, lambda ledger: ledger.observe_model(SERVICE, MODEL, CallEnd(Signal.LIMITED, NOON)))
    assert run(database_url, lambda ledger: ledger.cooling("http://simulated/api/v1", NOON)) == {}


def test_while_its_trial_is_under_way_a_model_still_cools_until_an_answer(database_url: str) -> None:
    async def work(ledger: Ledger) -> list[bool]:
        await ledger.observe_model(SERVICE, MODEL, CallEnd(Signal.LIMITED, NOON))
        await ledger.admit_model(SERVICE, MODEL, later(10))
        during = await ledger.cooling(SERVICE, later(11))
        await ledger.observe_model(SERVICE, MODEL, CallEnd(Signal.ANSWERED, later(12), trial=True))
        return [MODEL in during, MODEL in await ledger.cooling(SERVICE, later(12))]

    assert run(database_url, work) == [True, False]


MODELS = [f"acme/coder-{number}" for number in range(8)]


def _ask_for_passage(url: str, start: Any, answers: Any) -> None:
    async def ask(ledger: Ledger) -> list[str]:
        trials: list[str] = []
        for model in MODELS:
            await asyncio.to_thread(start.wait)
            answer = await ledger.admit_model(SERVICE, model, later(10))
            trials += [model] if isinstance(answer, Admitted) and answer.trial else []
        return trials

    answers.put(run(url, ask))


def test_of_eight_processes_that_ask_after_a_cooldown_one_is_let_through(database_url: str) -> None:
    async def open_all(ledger: Ledger) -> None:
        for model in MODELS:
            await ledger.observe_model(SERVICE, model, CallEnd(Signal.LIMITED, NOON))

    run(database_url, open_all)
    context = multiprocessing.get_context("fork")
    start, answers = context.Barrier(8), context.Queue()
    processes = [context.Process(target=_ask_for_passage, args=(database_url, start, answers)) for _ in range(8)]
    for process in processes:
        process.start()
    trials = [model for _ in processes for model in answers.get(timeout=60)]
    for process in processes:
        process.join(60)
    assert sorted(trials) == MODELS


def test_the_last_catalogue_of_each_address_is_kept(database_url: str) -> None:
    async def work(ledger: Ledger) -> list[CachedCatalogue | None]:
        await ledger.cache_catalogue("http://a", "first", NOON)
        await ledger.cache_catalogue("http://a", '{"data": "é"}', later(5))
        await ledger.cache_catalogue("http://a", "fetched earlier, stored later", later(4))
        return [await ledger.cached_catalogue("http://a"), await ledger.cached_catalogue("http://b")]

    assert run(database_url, work) == [CachedCatalogue('{"data": "é"}', later(5)), None]


def test_outcomes_are_the_category_s_newest_first(database_url: str) -> None:
    async def work(ledger: Ledger) -> tuple[Any, Any]:
        for attempt in (
            make_attempt(attempt=1, started_at=NOON, seconds=7.0, cost_usd=0.25),
            make_attempt(attempt=2, started_at=later(1), outcome="rejected", failure="rejected"),
            make_attempt(attempt=3, started_at=later(2), outcome="failed", failure="stuck", llm_calls=0),
            make_attempt(attempt=4, started_at=later(3), simulated=True, model_requested="acme/simulated"),
            make_attempt(attempt=5, started_at=later(4), category="refactoring"),
        ):
            await ledger.record_attempt(attempt)
        category = TaskCategory.UNIT_TEST
        return (
            await ledger.outcomes(category, 2, simulated=False) + await ledger.outcomes(category, 9, simulated=False),
            await ledger.outcomes(category, 9, simulated=True),
        )

    real, simulated = run(database_url, work)
    assert real[2:] == [
        Outcome(MODEL, False, later(2), 10.0, None),
        Outcome(MODEL, False, later(1), 10.0, 0.0),
        Outcome(MODEL, True, NOON, 7.0, 0.25),
    ]
    assert real[:2] == real[2:4], "the limit leaves out the oldest"
    assert [outcome.model_id for outcome in simulated] == ["acme/simulated"]


def test_what_infrastructure_or_quota_ended_says_nothing_of_the_model(sqlite_url: str) -> None:
    async def work(ledger: Ledger) -> set[datetime]:
        for number, kind in enumerate(FailureKind):
            await ledger.record_attempt(
                make_attempt(attempt=number, started_at=later(number), outcome="failed", failure=kind)
            )
        return {outcome.at for outcome in await ledger.outcomes(TaskCategory.UNIT_TEST, 99, simulated=False)}

    counted = run(sqlite_url, work)
    assert counted == {later(number) for number, kind in enumerate(FailureKind) if kind not in NOT_THE_MODELS}


@pytest.mark.parametrize(
    "kind",
    [FailureKind.REJECTED, FailureKind.STUCK, FailureKind.ITERATIONS, FailureKind.EMPTY_ANSWER, FailureKind.LIMIT_COST],
)
def test_what_the_model_did_itself_counts(kind: FailureKind) -> None:
    assert kind not in NOT_THE_MODELS
