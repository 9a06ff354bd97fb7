import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from devtasks.batches import Batches


class Work:
    """Doubles numbers, one batch each time it is let go on."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go_on = asyncio.Semaphore(0)
        self.doubled = Batches(self._double)

    async def _double(self, numbers: Sequence[int]) -> list[int]:
        self.batches.append(list(numbers))
        await self.go_on.acquire()
        if 13 in numbers:
            raise ArithmeticError("13")
        return [2 * number for number in numbers]

    def ask(self, *numbers: int) -> list[asyncio.Task[int]]:
        return [asyncio.create_task(self.doubled.ask(number)) for number in numbers]


def run[T](act: Callable[[Work], Awaitable[T]]) -> T:
    async def main() -> T:
        async with asyncio.timeout(10):
            return await act(Work())

    return asyncio.run(main())


async def begun(work: Work, batches: int) -> None:
    while len(work.batches) < batches:
        await asyncio.sleep(0)


def test_what_comes_in_meanwhile_is_done_together_and_in_order() -> None:
    async def act(work: Work) -> tuple[list[int], list[list[int]]]:
        first = work.ask(1)
        await begun(work, 1)
        rest = work.ask(2, 3, 4)
        await asyncio.sleep(0)
        for _ in range(2):
            work.go_on.release()
        return await asyncio.gather(*first, *rest), work.batches

    assert run(act) == ([2, 4, 6, 8], [[1], [2, 3, 4]])


def test_a_batch_that_fails_fails_for_those_in_it_alone() -> None:
    async def act(work: Work) -> list[int | BaseException]:
        first = work.ask(1)
        await begun(work, 1)
        bad = work.ask(12, 13)
        await asyncio.sleep(0)
        work.go_on.release()
        await begun(work, 2)
        after = work.ask(14)
        for _ in range(2):
            work.go_on.release()
        return await asyncio.gather(*first, *bad, *after, return_exceptions=True)

    first, *bad, after = run(act)
    assert (first, after) == (2, 28)
    assert [type(error) for error in bad] == [ArithmeticError, ArithmeticError]


def test_who_gives_up_waiting_does_not_stop_the_work_of_the_others() -> None:
    async def act(work: Work) -> int:
        (impatient, patient), work_begun = work.ask(1, 2), begun(work, 1)
        await work_begun
        impatient.cancel()
        with pytest.raises(asyncio.CancelledError):
            await impatient
        work.go_on.release()
        return await patient

    assert run(act) == 4


async def _done(numbers: Sequence[int]) -> list[int]:
    return list(numbers)


def test_items_wait_for_company_until_one_is_urgent_or_all_are_wanted_done() -> None:
    batches: list[list[int]] = []

    async def keep(numbers: Sequence[int]) -> list[int]:
        batches.append(list(numbers))
        return list(numbers)

    async def act(_: Work) -> None:
        lingering = Batches(keep, linger=3_600)
        first = [asyncio.create_task(lingering.ask(number)) for number in (1, 2)]
        await asyncio.sleep(0.01)
        assert batches == []
        await lingering.ask(3, urgent=True)
        await asyncio.gather(*first)
        later = asyncio.create_task(lingering.ask(4))
        await asyncio.sleep(0)
        await lingering.flush()
        assert later.done()

    run(act)
    assert batches == [[1, 2, 3], [4]]


def test_nobody_waits_for_company_longer_than_is_said() -> None:
    async def act(_: Work) -> list[int]:
        lingering = Batches(_done, linger=0.01)
        return await asyncio.gather(lingering.ask(1), lingering.ask(2))

    assert run(act) == [1, 2]
