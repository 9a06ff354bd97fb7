"""One run's calls to models: within its limits, sent again or elsewhere where that may help, and each one recorded.

A call is sent to the first model of the attempt's lineup. Transient faults are sent again to the same model; where its
provider goes on failing, the conversation moves to the next model of the lineup and stays there.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from devtasks.errors import DevtasksError
from devtasks.metrics_collector import LlmCall
from devtasks.openrouter import price
from devtasks.openrouter.answers import Completion, Json, Refusal
from devtasks.openrouter.pacing import Departure, Hold, Permit, Request, Trip
from devtasks.openrouter.route import Route
from devtasks.openrouter.upstream import Exchange
from devtasks.openrouter.waiting import OnWait, Sleep, Waiting
from devtasks.recovery import ROTATES, FailureKind
from devtasks.task import TaskLimits

logger = logging.getLogger(__name__)

OnMove = Callable[[str, Refusal], None]
"""Is told the model a conversation moves to, and what the one before was left for."""

TRIES = 3
"""How often one call is sent before a transient fault of the provider becomes the agent's failure."""

TRANSIENT = {
    FailureKind.PROVIDER_ERROR,
    FailureKind.UNREACHABLE,
    FailureKind.MALFORMED_ANSWER,
    FailureKind.EMPTY_ANSWER,
}
"""Kinds that are sent again to the same model; rate limits are not, they would cost quota."""

WAITED_OUT = {FailureKind.UPSTREAM_RATE_LIMIT, FailureKind.COOLING}
"""Kinds that the last model of a lineup is given time for, where that is not much."""

PATIENCE_SECONDS = 60.0
"""The longest such wait; a model that asks for more is left to the next attempt's choice."""

PATIENT_WAITS = 3
"""How many such waits one call gets: a refused call counts in the account's day too."""

UNTOLD_SECONDS = 10.0
"""The wait where nobody said how long: what the circuit breaker gives a first upstream 429."""


HELD_UP = Refusal(FailureKind.INTERRUPTED, 499, "the call was not let go")
"""What stands for a call that its pacing did not let go, or has not yet."""


@dataclass
class Usage:
    """What the run has used so far, over all attempts."""

    llm_calls: int = 0
    tokens: int = 0
    cost_usd: float = 0.0


class Calls:
    """The calls of one run; `begin` says which attempt and models are on.

    The run's limits count over all attempts, those of an earlier process of this run included: `earlier` are its calls.
    """

    def __init__(
        self,
        *,
        flow_run_id: str,
        limits: TaskLimits,
        earlier: Sequence[LlmCall] = (),
        first_wait: float = 1.0,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._flow_run_id = flow_run_id
        self._limits = limits
        self._first_wait = first_wait
        self._waiting = Waiting(sleep)
        self._attempt = 0
        self._sequence = max((call.sequence for call in earlier), default=0)
        self._lineup: tuple[Route, ...] = ()
        self._on_wait: OnWait = _ignore
        self._on_move: OnMove = _ignore
        self._endings = set[asyncio.Task[None]]()
        self._telling = set[asyncio.Task[None]]()
        self.usage = Usage()
        self.calls = list(earlier)
        self.rotations = 0
        self.refusal: Refusal | None = None
        for call in earlier:
            self.usage.llm_calls += 1
            self._count(call)

    @property
    def lineup(self) -> tuple[str, ...]:
        """The models of the attempt, the one in use first; those the conversation has moved on from are gone."""
        return tuple(route.model for route in self._lineup)

    @property
    def waited_seconds(self) -> float:
        """Seconds that calls have waited for the account's minute or a model's own limit; they are not the agent's."""
        return self._waiting.seconds

    def begin(
        self, attempt: int, lineup: Sequence[Route], *, on_wait: OnWait | None = None, on_move: OnMove | None = None
    ) -> None:
        """Start an attempt with a lineup of at least one model; `refusal` and `rotations` begin anew."""
        self._attempt, self._lineup = attempt, tuple(lineup)
        self._on_wait, self._on_move = on_wait or _ignore, on_move or _ignore
        self.rotations, self.refusal = 0, None

    def calls_of(self, attempt: int) -> tuple[LlmCall, ...]:
        """Return the calls of one attempt in the order they were sent."""
        return tuple(sorted((call for call in self.calls if call.attempt == attempt), key=lambda call: call.sequence))

    async def settled(self) -> None:
        """Wait until the end of every call that was answered is in the ledger; no answer waits for that."""
        await _wait_for(self._endings)

    async def answer(self, body: Json) -> Completion | Refusal:
        """Return what a model answers to a request; a refusal is kept as `refusal`."""
        waits = 0
        while True:
            route = self._lineup[0]
            answer = await self._tried(body | {"model": route.model}, route)
            if not isinstance(answer, Refusal):
                return answer
            if self._move_on(route, answer):
                continue
            if answer.kind in WAITED_OUT and waits < PATIENT_WAITS:
                await self.settled()  # the breaker reckons from the call's end, and would be shut for a moment longer
                if (seconds := _patience(answer, datetime.now(UTC))) is not None:
                    waits += 1
                    await self._wait(seconds, f"until {route.model} may be asked again ({answer.kind})")
                    continue
            self.refusal = answer
            return answer

    def _move_on(self, route: Route, refusal: Refusal) -> bool:
        """Move to the next model that may help, unless another call has moved; False where there is none."""
        if self._lineup[0] is not route:
            return True
        ahead = self._lineup[1:]
        if refusal.kind is FailureKind.DAY_LIMIT:
            ahead = tuple(each for each in ahead if each.service is not route.service)
        if refusal.kind not in ROTATES | {FailureKind.DAY_LIMIT} or not ahead:
            return False
        self._lineup = ahead
        self.rotations += 1
        self._on_move(ahead[0].model, refusal)
        return True

    async def _tried(self, body: Json, route: Route) -> Completion | Refusal:
        # A loop and not tenacity, which takes longer than all the rest of a call's way through this class.
        answer, kinds = await self._send(body, route), TRANSIENT | route.service.pacing.retried
        for tries in range(TRIES - 1):
            if not isinstance(answer, Refusal) or answer.kind not in kinds:
                break
            await asyncio.sleep(self._first_wait * (2**tries + random.random()))  # noqa: S311
            answer = await self._send(body, route)
        return answer

    async def _wait(self, seconds: float, reason: str) -> None:
        self._on_wait(seconds, reason)
        await self._waiting.wait(seconds)

    async def _send(self, body: Json, route: Route) -> Completion | Refusal:
        draft: LlmCall | None = None
        while True:
            await _wait_for(self._telling)  # what they say to quota, budget and breaker holds for this call
            if refusal := self._over_limit():
                return refusal
            draft = replace(draft, started_at=datetime.now(UTC)) if draft else self._draft(route.model)
            answer = await self._pass(body, route, draft)
            if not isinstance(answer, Hold):
                return answer
            await self._wait(answer.seconds, answer.reason)

    async def _pass(self, body: Json, route: Route, draft: LlmCall) -> Completion | Refusal | Hold:
        """Return what came of a call that was sent, or could not be; or why it must not be."""
        departures, clock = list[Departure](), time.monotonic()

        async def leave() -> Refusal | None:
            departures.append(HELD_UP)
            departure = await route.service.pacing.depart(Request(route.model, route.pricing, body), draft)
            departures.append(departure)
            return None if isinstance(departure, Permit) else HELD_UP

        self.usage.llm_calls += 1  # before it has left, or calls that leave together would all pass the limit
        exchange = Exchange(Refusal(FailureKind.INTERRUPTED, draft.status, "the agent left before the answer came"))
        try:
            exchange = await route.service.upstream.send(body, leave)
        except DevtasksError as error:
            return Refusal(FailureKind.UNREACHABLE, 503, str(error))
        finally:
            departure = departures[-1] if departures else None
            if isinstance(departure, Refusal | Hold):
                self.usage.llm_calls -= 1
            else:
                self._end(draft, route, exchange, departure, time.monotonic() - clock)
        return departure if isinstance(departure, Refusal | Hold) else exchange.answer

    def _end(self, draft: LlmCall, route: Route, exchange: Exchange, permit: Permit | None, seconds: float) -> None:
        """Count a call that has ended, and have it written down."""
        call = _ended(draft, route, exchange, seconds)
        self.calls.append(call)
        self._count(call)
        trip = _trip(call, route, permit, exchange)
        ending = asyncio.create_task(_write_down(route, permit, call, trip))
        for endings in (self._endings, self._telling) if trip.tells else (self._endings,):
            endings.add(ending)
            ending.add_done_callback(endings.discard)

    def _over_limit(self) -> Refusal | None:
        used, limits = self.usage, self._limits
        table = (
            (FailureKind.LIMIT_LLM_CALLS, used.llm_calls, limits.llm_calls),
            (FailureKind.LIMIT_TOKENS, used.tokens, limits.tokens),
            # At a limit of 0 free models still run: they cost nothing, so the limit is not exceeded.
            (FailureKind.LIMIT_COST, used.cost_usd, 1e-12 if limits.cost_usd == 0 else limits.cost_usd),
        )
        for kind, value, limit in table:
            if limit is not None and value >= limit:
                return Refusal(kind, 403, f"the task's limit is reached: {value:g} of {limit:g} ({kind})")
        return None

    def _count(self, call: LlmCall) -> None:
        self.usage.tokens += call.prompt_tokens + call.completion_tokens
        self.usage.cost_usd += call.cost_usd

    def _draft(self, model: str) -> LlmCall:
        """Return the row of a call that is about to be sent, as it stays if this process dies meanwhile."""
        self._sequence += 1
        return LlmCall(
            flow_run_id=self._flow_run_id,
            attempt=self._attempt,
            sequence=self._sequence,
            model_requested=model,
            model_served=None,
            provider=None,
            generation_id=None,
            status=499,
            error=FailureKind.INTERRUPTED,
            prompt_tokens=0,
            completion_tokens=0,
            cost_usd=0.0,
            latency_seconds=0.0,
            started_at=datetime.now(UTC),
            simulated=False,
        )


def _ended(draft: LlmCall, route: Route, exchange: Exchange, seconds: float) -> LlmCall:
    """Return the row of a call that has ended."""
    call, answer = replace(draft, latency_seconds=seconds, simulated=exchange.simulated), exchange.answer
    if isinstance(answer, Refusal):
        call = replace(call, status=answer.status, error=answer.kind)
    else:
        cost = answer.cost_usd
        if cost is None:
            cost = price.cost_usd(route.pricing, answer.prompt_tokens, answer.completion_tokens)
        call = replace(
            call,
            model_served=answer.model,
            provider=answer.provider,
            generation_id=answer.generation_id,
            status=200,
            error=None,
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens,
            cost_usd=cost or 0.0,
        )
    logger.debug("call %d to %s: status %d, %.2f s", call.sequence, call.model_requested, call.status, seconds)
    return call


async def _wait_for(endings: set[asyncio.Task[None]]) -> None:
    if endings:
        await asyncio.wait(endings)  # which, unlike gather, leaves them alone where the waiting is given up


def _trip(call: LlmCall, route: Route, permit: Permit | None, exchange: Exchange) -> Trip:
    refusal = exchange.answer if isinstance(exchange.answer, Refusal) else None
    known = exchange.whole and (refusal or call.cost_usd or call.prompt_tokens)
    tells = refusal is not None or not price.is_zero(route.pricing) or not permit or permit.trial
    return Trip(refusal, exchange.answered, call.cost_usd if known else None, tells)


async def _write_down(route: Route, permit: Permit | None, call: LlmCall, trip: Trip) -> None:
    try:
        await route.service.pacing.arrive(permit, call, trip)
    except DevtasksError as error:
        logger.warning("call %d is not settled, and counts as sent: %s", call.sequence, error)


def _patience(refusal: Refusal, now: datetime) -> float | None:
    """Return how long to wait for a refused model, None where that is too long."""
    seconds = max(0.0, (refusal.until - now).total_seconds()) if refusal.until else UNTOLD_SECONDS
    return seconds if seconds <= PATIENCE_SECONDS else None


def _ignore(*_: object) -> None:
    return None
