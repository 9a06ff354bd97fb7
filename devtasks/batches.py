"""Work that is cheaper done together: what comes in while some is done waits, and is then done as one batch."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence


class Batches[Item, Answer]:
    """Hands items to `work` in the order they came, one batch at a time; nobody waits for company.

    `work` returns an answer for each item; where it raises, everyone who waits for that batch gets the error.
    """

    def __init__(self, work: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]]) -> None:
        self._work = work
        self._waiting: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._worker: asyncio.Task[None] | None = None

    async def ask(self, item: Item) -> Answer:
        """Return the answer to an item; who stops waiting does not stop the work."""
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        if self._worker is None:
            self._worker = asyncio.create_task(self._work_all())
        return await answer

    async def _work_all(self) -> None:
        try:
            while self._waiting:
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
