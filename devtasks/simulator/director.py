"""Decides what one chat request gets, and keeps the few counts this needs."""

import random
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from devtasks.simulator.conversation import ChatRequest, complete, find_turn, in_words, resolve
from devtasks.simulator.faults import Fault, FaultKind
from devtasks.simulator.quota import Quota
from devtasks.simulator.scenario import Model, Scenario, Turn
from devtasks.simulator.shapes import REFUSALS, Refused, Reply, Situation, bad_model, no_tools, spoil

UNANSWERED = frozenset({FaultKind.CONNECTION_DROPPED, FaultKind.HANG})


@dataclass(frozen=True)
class Plan:
    """What a chat request gets: the reply, after so many seconds, and the fault that changes how it travels."""

    reply: Reply
    seconds: float = 0
    fault: Fault | None = None


class Director:
    """Plays one scenario; the counts are of the account and of each model's calls, never of a conversation."""

    def __init__(self, scenario: Scenario) -> None:
        self.quota = Quota(scenario.limits)
        self.spent = Decimal(0)
        self._scenario = scenario
        self._models = {model.id: model for model in scenario.models}
        self._calls = Counter[str]()
        self._answers = 0

    def decide(self, chat: ChatRequest, now: datetime, characters: int) -> Plan:
        """Return what this request of so many characters gets; raise Refused where nothing can be played."""
        model = self._models.get(chat.model)
        if model is None:
            raise Refused(bad_model(chat.model))
        if chat.tools and "tools" not in model.supported_parameters:
            raise Refused(no_tools())
        if model.is_free:
            self.quota.admit(now)
        self._calls[model.id] += 1
        call = self._calls[model.id]
        source = random.Random(f"{self._scenario.seed}/{model.id}/{call}")  # noqa: S311 - drawn alike in every run
        seconds = model.latency.draw(source)
        fault: Fault | None = next((rule for rule in model.faults if rule.strikes(call, source.random())), None)
        if fault is None or not _stands_alone(fault):
            turn = resolve(find_turn(model, chat), self._scenario.variables, chat)
            if "tools" not in model.supported_parameters:
                turn = in_words(turn, chat.stops)
            fault = fault or turn.fault
            if fault is None or not _stands_alone(fault):
                return Plan(self._answer(model, turn, fault, now, characters), seconds, fault)
        return Plan(_refusal(model, fault, now), seconds, fault)

    def _answer(self, model: Model, turn: Turn, fault: Fault | None, now: datetime, characters: int) -> Reply:
        self._answers += 1
        created = int(now.timestamp())
        completion = complete(model, turn, sequence=self._answers, created=created, prompt_characters=characters)
        if fault is not None:
            completion = spoil(fault.kind, completion)
        self.spent += Decimal(str(completion.get("usage", {}).get("cost", 0)))
        return Reply(200, completion)


def _stands_alone(fault: Fault) -> bool:
    """Return whether the fault needs no turn, because nothing of an answer is sent."""
    return fault.kind in REFUSALS or fault.kind in UNANSWERED


def _refusal(model: Model, fault: Fault, now: datetime) -> Reply:
    if fault.kind in UNANSWERED:
        return Reply(200, {})
    return REFUSALS[fault.kind](Situation(model.id, now, fault.retry_after))
