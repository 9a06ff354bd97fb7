"""Work that is cheaper done together: what comes in while some is done waits, and is then done as one batch."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress


class Batches[Item, Answer]:
    """Hands items to `work` in the order they came, one batch at a time.

    Items wait up to `linger` seconds for company (default: not at all), unless one of them is urgent. `work` returns an
    answer for each item; where it raises, everyone who waits for that batch gets the error.
    """

    def __init__(self, work: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]], *, linger: float = 0.0) -> None:
        self._work = work
        self._linger = linger
        self._urgent = asyncio.Event()
        self._waiting: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._worker: asyncio.Task[None] | None = None

    async def ask(self, item: Item, *, urgent: bool = False) -> Answer:
        """Return the answer to an item; who stops waiting does not stop the work."""
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        if urgent:
            self._urgent.set()
        if self._worker is None:
            self._worker = asyncio.create_task(self._work_all())
        return await answer

    async def flush(self) -> None:
        """Have everything done that waits, and return when it is."""
        while self._worker:
            self._urgent.set()
            await asyncio.wait([self._worker])

    async def _work_all(self) -> None:
        try:
            while self._waiting:
                if self._linger:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._urgent.wait(), self._linger)
                self._urgent.clear()
                batch, self._waiting = self._waiting, []
                await self._work_on(batch)
        finally:
            self._worker = None

    async def _work_on(self, batch: Sequence[tuple[Item, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await self._work([item for item, _ in batch])
        except Exception as error:
            for _, answer in batch:
                if not answer.done():
                    answer.set_exception(error)
        else:
            for (_, waiting), answer in zip(batch, answers, strict=True):
                if not waiting.done():
                    waiting.set_result(answer)
