"""A call's way through the ledger: sent, ended. Each step is one transaction, over as many calls as stand at it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from devtasks.circuit_breaker import Admitted, CallEnd, CoolingUntil
from devtasks.ledger.breakers import Breakers
from devtasks.ledger.counter import mark_again, settle
from devtasks.ledger.measurements import Measurements
from devtasks.ledger.quota import Quota
from devtasks.metrics_collector import LlmCall
from devtasks.quota import AccountLimits, Budgets, DayExhausted, Granted, MinuteFull, Order, OverBudget

Answer = Granted | MinuteFull | DayExhausted | OverBudget | CoolingUntil


@dataclass(frozen=True)
class Leaving:
    """A call that is about to leave; `breaker_at` is the time for its model's breaker, None to leave that alone."""

    order: Order
    call: LlmCall
    breaker_at: datetime | None = None


@dataclass(frozen=True)
class Ended:
    """How a call ended: whether the service answered at all, and for how much (None: not known).

    One that was never sent has no reservation. `account_until` is when the service takes the account's calls again,
    `for_the_day` whether that is the day's refusal.
    """

    call: LlmCall
    reservation: str | None
    answered: bool = False
    cost_usd: float | None = None
    breaker: CallEnd | None = None
    account_until: datetime | None = None
    for_the_day: bool = False


class Passages(Quota, Breakers, Measurements):
    """What the gateway writes of calls, before their first byte leaves and when they have ended."""

    async def depart(self, departures: Sequence[Leaving], limits: AccountLimits, budgets: Budgets) -> Sequence[Answer]:
        """Reserve calls of one run to one account, and write their rows; or say what stands against each.

        Those that are granted count from now on, whatever becomes of this process.
        """

        def reserve(connection: Connection) -> Sequence[Answer]:
            counter = self._counter(connection, [each.order for each in departures], limits, budgets)
            answers, let_through = dict[int, Answer](), set[str]()
            # By model, so that nobody waits for breakers in another order.
            for number, each in sorted(enumerate(departures), key=lambda pair: pair[1].call.model_requested):
                order, model, passage = each.order, each.call.model_requested, Admitted(trial=False)
                if refusal := counter.against(order):
                    answers[number] = refusal
                    continue
                if each.breaker_at and model not in let_through:
                    passage = self._admit_model(connection, order.service, model, each.breaker_at)
                if isinstance(passage, CoolingUntil):
                    answers[number] = passage
                    continue
                if not passage.trial:
                    let_through.add(model)
                answers[number] = counter.grant(order, trial=passage.trial)
            counter.write()
            self._replace_calls(
                connection,
                [each.call for number, each in enumerate(departures) if isinstance(answers[number], Granted)],
            )
            return [answer for _, answer in sorted(answers.items())]

        return await self._writing(reserve)

    async def redepart(self, account: str, reservations: Sequence[str]) -> None:
        """Let calls that were held up on their way out count from now."""

        def mark(connection: Connection) -> None:
            _, now = self._account(connection, account)
            mark_again(connection, reservations, now)

        await self._writing(mark)

    async def arrive(self, order: Order, ends: Sequence[Ended]) -> None:
        """Write how calls to one account ended; one that was sent and not answered goes on counting, at its bound."""

        def write(connection: Connection) -> None:
            for each in ends:
                if each.account_until:
                    self._block(connection, order.account, each.account_until, day=each.for_the_day)
            settle(connection, {each.reservation: each.cost_usd for each in ends if each.reservation and each.answered})
            told = [(order.service, each.call.model_requested, each.breaker) for each in ends if each.breaker]
            self._observe_models(connection, told)
            self._replace_calls(connection, [each.call for each in ends])

        await self._writing(write)
