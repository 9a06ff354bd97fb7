"""Each shape of failure, met by the real agent in the middle of a conversation; and what docs/faults.md says of it."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import faults
import pytest
from faults import CASES, Case
from gateways import ServiceGateway, gateway_to
from pydantic import SecretStr

from devtasks.execution.local import LocalRuntime
from devtasks.execution.runtime import AgentEvent, AgentRequest, AgentResult, AgentStatus
from devtasks.ledger import Ledger
from devtasks.metrics_collector import LlmCall
from devtasks.openrouter import calls, pacing, upstream
from devtasks.openrouter.calls import TRANSIENT, WAITED_OUT
from devtasks.openrouter.pacing import LedgerPacing
from devtasks.quota import AccountLimits, Budgets, DayExhausted, MinuteFull, Order
from devtasks.recovery import POLICY, ROTATES, Attempt, FailureKind, classify, next_step
from devtasks.simulator import Scenario, Simulator
from devtasks.simulator.faults import FaultKind
from devtasks.task import TaskLimits

K = FailureKind
MODEL, OTHER = "acme/coder:free", "acme/other:free"
LIMITS, BUDGETS = AccountLimits(requests_per_minute=20, requests_per_day=50), Budgets()
DOCUMENT = Path(__file__).parents[3] / "docs/faults.md"

THINK = {"text": "Let me see.", "tool_calls": [{"name": "think", "arguments": {"thought": "It is not easy."}}]}
UNTIL_GONE = {"tool_calls": [{"name": "terminal", "arguments": {"command": "until [ -e gone ]; do sleep 0.02; done"}}]}

COOLS: dict[FailureKind, float] = {
    K.MODEL_UNAVAILABLE: 600,
    K.PROVIDER_ERROR: 30,
    K.MALFORMED_ANSWER: 30,
    K.EMPTY_ANSWER: 30,
    K.UPSTREAM_RATE_LIMIT: 40,
    K.MINUTE_LIMIT: 60,
    K.DAY_LIMIT: 43_190,
}
"""For how many seconds the model is left alone after a fault that lasted."""

STANDS: dict[FailureKind, type[MinuteFull | DayExhausted]] = {K.MINUTE_LIMIT: MinuteFull, K.DAY_LIMIT: DayExhausted}
"""What the account's next call meets where its own limit was met; any other is granted."""


class Clock:
    """Stands in for `datetime` where the gateway asks for the time, which only its own waits move on."""

    def __init__(self) -> None:
        self._now = datetime(2026, 3, 1, 12, 0, 10, tzinfo=UTC)
        self.waits: list[float] = []

    def __call__(self) -> datetime:
        return self._now

    def now(self, _: object) -> datetime:
        return self._now

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self._now += timedelta(seconds=seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (calls, pacing, upstream):
        monkeypatch.setattr(module, "datetime", clock)
    return clock


class Stage:
    """One runtime and one ledger for all conversations: the first import of OpenHands and the schema cost seconds."""

    def __init__(self, folder: Path, runner: asyncio.Runner) -> None:
        self.workspace = folder / "workspace"
        self.conversations = folder / "conversations"
        self.ledger_url = f"sqlite:///{folder}/ledger.db"
        self.runtime = LocalRuntime(folder)
        self.runner = runner

    async def agent(self, gateway: ServiceGateway, on_event: Callable[[AgentEvent], None]) -> AgentResult:
        request = AgentRequest(
            conversation_id=str(uuid4()),
            workspace=self.workspace,
            persistence_dir=self.conversations,
            model=MODEL,
            base_url=gateway.base_url,
            token=gateway.token,
            message="Do it.",
            max_iterations=10,
            max_input_tokens=131_072,
            max_output_tokens=4_096,
        )
        return await self.runtime.run_agent(request, deadline=120, on_event=on_event)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with asyncio.Runner() as runner:
        stage = Stage(tmp_path_factory.mktemp("run"), runner)
        stage.workspace.mkdir()
        runner.run(stage.runtime.__aenter__())
        yield stage
        runner.run(stage.runtime.close())


@dataclass(frozen=True)
class Ending:
    """How a conversation ended: for the agent, the gateway, the service, and in the ledger.

    `cooling` says for how many more seconds each model is left alone, `next_call` what the account's next one meets.
    """

    agent: AgentResult
    gateway: ServiceGateway
    asked: list[str | None]
    rows: tuple[LlmCall, ...]
    used_today: int
    cooling: dict[str, float]
    next_call: MinuteFull | DayExhausted | None
    waits_told: list[float]
    tool_errors: list[str]

    @property
    def refused(self) -> FailureKind | None:
        return self.gateway.refusal.kind if self.gateway.refusal else None


def scenario(case: Case, models: tuple[str, ...], *, lasting: bool) -> Scenario:
    """The first of these models meets the fault on its second call, and ever after where it lasts."""
    rule = {"kind": case.fault, "calls": [*range(2, 30)] if lasting else [2]} | dict(case.options)
    turns = [THINK if case.fault else UNTIL_GONE, THINK, {"finish": "Done."}]
    described: list[dict[str, Any]] = [{"id": model, "conversations": [{"turns": turns}]} for model in models]
    described[0] |= {"faults": [rule] if case.fault else []}
    return Scenario.model_validate({"name": "faulty", "models": described})


async def converse(stage: Stage, clock: Clock, case: Case, *models: str, lasting: bool) -> Ending:
    """Let the agent work with these models through a gateway on the ledger, and tell how that ended."""
    name, told, events, closing = uuid4().hex, list[float](), list[AgentEvent](), set[asyncio.Task[None]]()
    order = Order(f"account of {name}", name, f"service of {name}")
    (stage.workspace / "gone").unlink(missing_ok=True)
    async with (
        Simulator(scenario(case, models, lasting=lasting), now=clock) as simulator,
        Ledger.open(stage.ledger_url, now=clock) as ledger,
        gateway_to(
            simulator.base_url,
            SecretStr("sk-simulated"),
            flow_run_id=name,
            pacing=LedgerPacing(ledger, order, LIMITS, BUDGETS),
            upstream={"call_seconds": 0.5 if case.fault is FaultKind.HANG else 30},
            sleep=clock.sleep,
        ) as gateway,
    ):

        async def close_the_service() -> None:
            await simulator.__aexit__()
            (stage.workspace / "gone").touch()

        def on_event(event: AgentEvent) -> None:
            events.append(event)
            if event.get("tool") == "terminal" and not closing:
                closing.add(asyncio.create_task(close_the_service()))

        def on_wait(seconds: float, _: str) -> None:
            told.append(seconds)

        gateway.start(1, *models, on_wait=on_wait)
        agent = await stage.agent(gateway, on_event)
        await gateway.settled()
        cooling = await ledger.cooling(order.service, clock())
        return Ending(
            agent=agent,
            gateway=gateway,
            asked=[request.model for request in simulator.requests],
            rows=await ledger.calls(name),
            used_today=(await ledger.day_use(order.account)).used,
            cooling={model: (until - clock()).total_seconds() for model, until in cooling.items()},
            next_call=await ledger.standing_against(order, LIMITS),
            waits_told=told,
            tool_errors=[event["text"] for event in events if event["type"] == "tool_error"],
        )


def play(stage: Stage, clock: Clock, case: Case, *models: str, lasting: bool = True) -> Ending:
    return stage.runner.run(converse(stage, clock, case, *models, lasting=lasting))


def ended(ending: Ending) -> list[tuple[str, str | None]]:
    return [(row.model_requested, row.error) for row in ending.rows]


@pytest.mark.parametrize("case", [case for case in CASES if case.kind], ids=lambda case: case.id)
def test_a_fault_that_lasts_ends_the_agent_typed_recorded_and_without_wasted_calls(
    stage: Stage, clock: Clock, case: Case
) -> None:
    kind = case.ends[-1]
    end = play(stage, clock, case, MODEL)

    assert (end.agent.status, end.agent.iterations) == (AgentStatus.ERROR, 1)
    assert end.refused is kind
    assert classify(end.agent.status, end.refused, passed=False) is kind
    assert next_step([Attempt(MODEL, kind)], TaskLimits(), asks=True) is POLICY[kind][0]

    called = [kind for kind in case.ends if kind is not K.COOLING]  # a model that is left alone is not called
    assert ended(end) == [(MODEL, None), *((MODEL, kind) for kind in called)]
    assert {row.status for row in end.rows if row.error == kind} == {case.status}
    assert [row.model_served for row in end.rows] == [MODEL] + [None] * len(called)
    assert end.asked == [MODEL] * (1 + case.sent), "neither the SDK nor anybody else asks more often"

    assert end.used_today == 1 + case.sent
    assert type(end.next_call) is STANDS.get(kind, type(None))
    assert end.cooling == ({MODEL: COOLS[kind]} if kind in COOLS else {})
    assert end.waits_told == clock.waits == list(case.waits)


@pytest.mark.parametrize("case", [case for case in CASES if not case.kind], ids=lambda case: case.id)
def test_what_is_no_fault_to_the_gateway_is_none_to_the_agent(stage: Stage, clock: Clock, case: Case) -> None:
    end = play(stage, clock, case, MODEL, lasting=False)
    assert (end.agent.status, end.agent.iterations, end.refused) == (AgentStatus.FINISHED, 3, None)
    assert [(row.status, row.error) for row in end.rows] == [(200, None)] * 3
    assert (len(end.asked), end.cooling) == (3, {})
    is_cut = case.fault is FaultKind.TRUNCATED_ARGUMENTS
    assert ["Error validating" in text for text in end.tool_errors] == [True] * is_cut, "the model is told"


def first_of(kinds: set[FailureKind]) -> list[Any]:
    """Return the first case of each of these kinds, as a test's parameter."""
    found = {case.kind: case for case in reversed(CASES) if case.kind in kinds}
    return [pytest.param(case, id=case.id) for case in found.values()]


@pytest.mark.parametrize("case", first_of({*ROTATES}))
def test_with_another_model_the_conversation_goes_on_there(stage: Stage, clock: Clock, case: Case) -> None:
    end = play(stage, clock, case, MODEL, OTHER)
    assert (end.agent.status, end.refused, end.gateway.rotations) == (AgentStatus.FINISHED, None, 1)
    tries = [(MODEL, error) for error in case.ends] if case.kind in TRANSIENT else [(MODEL, case.kind)]
    assert ended(end) == [(MODEL, None), *tries, (OTHER, None), (OTHER, None)]
    assert [row.model_served for row in end.rows if row.error is None] == [MODEL, OTHER, OTHER]
    assert (end.used_today, end.waits_told) == (len(end.asked), [])


PASSING = {*TRANSIENT, *WAITED_OUT, *LedgerPacing.retried} - faults.NOT_SENT


@pytest.mark.parametrize("case", first_of(PASSING))
def test_a_fault_that_passes_is_outlasted_by_the_same_model(stage: Stage, clock: Clock, case: Case) -> None:
    end = play(stage, clock, case, MODEL, lasting=False)
    assert (end.agent.status, end.agent.iterations, end.refused) == (AgentStatus.FINISHED, 3, None)
    assert ended(end) == [(MODEL, None), (MODEL, case.kind), (MODEL, None), (MODEL, None)]
    assert (len(end.asked), end.used_today, end.cooling) == (4, 4, {})
    assert end.waits_told == list(case.waits[:1])


def test_every_fault_the_simulator_knows_has_its_case() -> None:
    assert {case.fault for case in CASES} == {*FaultKind, None}
    assert len({case.id for case in CASES}) == len(CASES)


def test_every_kind_a_conversation_moves_on_for_has_a_case_that_shows_it() -> None:
    assert {case.values[0].kind for case in first_of({*ROTATES})} == ROTATES - {K.COOLING}
    assert {case.values[0].kind for case in first_of(PASSING)} == PASSING


@pytest.mark.parametrize(
    ("heading", "rows"),
    [
        pytest.param("What a call meets", faults.shapes, id="shapes"),
        pytest.param("What follows", faults.consequences, id="kinds"),
    ],
)
def test_the_document_says_what_the_code_does(heading: str, rows: Callable[[], list[tuple[str, ...]]]) -> None:
    expected = rows()
    said = faults.table(DOCUMENT.read_text(encoding="utf-8"), heading)
    assert said == expected, "\n".join(f"| {' | '.join(row)} |" for row in expected)
