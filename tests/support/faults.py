"""Every shape of failure a call to a model can have, with what comes of it; docs/faults.md is compared with these."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from devtasks.circuit_breaker import RULES, signal_of
from devtasks.openrouter.calls import PATIENCE_SECONDS, PATIENT_WAITS, TRANSIENT, TRIES, WAITED_OUT
from devtasks.openrouter.pacing import LedgerPacing
from devtasks.recovery import NOT_THE_MODELS, POLICY, ROTATES, FailureKind, Step
from devtasks.simulator.faults import FaultKind
from devtasks.simulator.shapes import REFUSALS, Situation

K, F = FailureKind, FaultKind

NOT_SENT = frozenset({K.COOLING, K.UNREACHABLE})
"""Ends of calls that never reached the service."""


@dataclass(frozen=True)
class Case:
    """One shape; `fault` None is a refused connection, `status` what the agent is answered.

    `ends` is how the calls end that follow while the fault lasts and no other model is there: empty where the answer
    counts after all. `waits` are the seconds waited between them, `says` the message where the simulator has none.
    """

    shape: str
    fault: FaultKind | None
    status: int
    ends: tuple[FailureKind, ...] = ()
    waits: tuple[float, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    says: str = ""

    @property
    def id(self) -> str:
        return "-".join([self.fault or "refused", *self.options]).replace("_", "-")

    @property
    def kind(self) -> FailureKind | None:
        return self.ends[-1] if self.ends else None

    @property
    def sent(self) -> int:
        """How often the service receives the call, one that counts included."""
        return sum(end not in NOT_SENT for end in self.ends) if self.ends else 1

    @property
    def message(self) -> str:
        if self.says or self.fault is None:
            return self.says
        situation = Situation("acme/coder:free", datetime(2026, 3, 1, tzinfo=UTC), self.options.get("retry_after"))
        body = REFUSALS[self.fault](situation).body
        assert isinstance(body, dict), "an answer without a message needs a description here"
        return str(body["error"]["message"])


LIMITED = (K.UPSTREAM_RATE_LIMIT, K.UPSTREAM_RATE_LIMIT, K.COOLING, K.UPSTREAM_RATE_LIMIT)
"""A lone model that stays limited: asked again after its hint, and after the longer time its breaker gives it."""
HINT, HINTED = {"retry_after": 5}, (5.0, 5.0, 15.0)
BROKEN = (K.PROVIDER_ERROR,) * TRIES

CASES: tuple[Case, ...] = (
    Case("400, unknown model", F.BAD_MODEL_400, 400, (K.MODEL_UNAVAILABLE,)),
    Case("400, context overflow", F.CONTEXT_LENGTH_400, 400, (K.CONTEXT_OVERFLOW,)),
    Case("401, no key", F.NO_AUTH_401, 401, (K.AUTHENTICATION,)),
    Case("401, key disabled or unknown", F.USER_NOT_FOUND_401, 401, (K.AUTHENTICATION,)),
    Case("402, no credits", F.CREDITS_402, 402, (K.PAYMENT,)),
    Case("402, budget of calls in flight", F.IN_FLIGHT_BUDGET_402, 402, (K.PAYMENT,)),
    Case("402, the same with Retry-After", F.IN_FLIGHT_BUDGET_402, 402, LIMITED, HINTED, HINT),
    Case("403, moderation", F.MODERATION_403, 403, (K.MODERATION,)),
    Case("403, guardrail", F.GUARDRAIL_403, 403, (K.MODERATION,)),
    Case("403, the key's budget is spent", F.KEY_LIMIT_403, 403, (K.PAYMENT,)),
    Case("404, no tool support", F.NO_TOOLS_404, 404, (K.MODEL_UNAVAILABLE,)),
    Case("404, no provider allowed", F.NO_PROVIDERS_404, 404, (K.MODEL_UNAVAILABLE,)),
    Case("404, no endpoint for the data policy", F.DATA_POLICY_404, 404, (K.MODEL_UNAVAILABLE,)),
    Case("404, free variant ended", F.FREE_VARIANT_ENDED_404, 404, (K.MODEL_UNAVAILABLE,)),
    Case("408", F.TIMEOUT_408, 408, (K.LLM_TIMEOUT,)),
    Case("413", F.PAYLOAD_TOO_LARGE_413, 413, (K.CONTEXT_OVERFLOW,)),
    Case("429, upstream", F.UPSTREAM_429, 429, LIMITED, (10, 10, 10)),
    Case("429, upstream with Retry-After", F.UPSTREAM_429, 429, LIMITED, HINTED, HINT),
    Case("429, upstream at capacity", F.CAPACITY_EXHAUSTED_429, 429, LIMITED, HINTED),
    Case("429, the account's minute", F.ACCOUNT_MINUTE_429, 429, (K.MINUTE_LIMIT,) * TRIES, (50, 60)),
    Case("429, the account's day", F.ACCOUNT_DAY_429, 429, (K.DAY_LIMIT,)),
    Case("500", F.HTTP_500, 500, BROKEN),
    Case("502", F.HTTP_502, 502, BROKEN),
    Case("503", F.HTTP_503, 503, BROKEN),
    Case("503 with Retry-After", F.HTTP_503, 503, LIMITED, HINTED, HINT),
    Case("504", F.HTTP_504, 504, (K.LLM_TIMEOUT,)),
    Case("524, a page of HTML", F.HTML_524, 524, (K.LLM_TIMEOUT,), says="(HTML) 524: A timeout occurred"),
    Case("529", F.HTTP_529, 529, BROKEN),
    Case("200 whose body is an error", F.ERROR_IN_200, 502, BROKEN, says="Provider returned error"),
    Case("error inside a stream", F.FINISH_REASON_ERROR, 502, BROKEN, says="Provider disconnected"),
    Case("empty choices", F.EMPTY_CHOICES, 502, (K.EMPTY_ANSWER,) * TRIES, says='(200) "choices": []'),
    Case("empty message", F.NULL_CONTENT, 502, (K.EMPTY_ANSWER,) * TRIES, says='(200) "content": null'),
    Case("tool call cut off", F.TRUNCATED_ARGUMENTS, 200, says="(200) arguments that are half a JSON text"),
    Case("malformed JSON", F.MALFORMED_JSON, 502, (K.MALFORMED_ANSWER,) * TRIES, says="(200) half a JSON text"),
    Case("stream cut off", F.ANSWER_CUT, 502, BROKEN, says="(200) half an answer, then the connection ends"),
    Case("connection dropped", F.CONNECTION_DROPPED, 502, BROKEN, says="the connection ends without an answer"),
    Case("connection refused", None, 502, (K.UNREACHABLE,) * TRIES, says="nothing listens at the address"),
    Case("hang", F.HANG, 504, (K.LLM_TIMEOUT,), says="(200) keep-alives without end"),
    Case("slow answer", F.SLOW_KEEP_ALIVE, 200, options={"seconds": 0.05}, says="(200) keep-alives, then the answer"),
)

STEPS = {
    Step.REPAIR: "repair",
    Step.FALL_BACK: "the next model, from the start",
    Step.RETRY: "goes on after a delay",
    Step.DEFER: "goes on after the reset",
    Step.ESCALATE: "asks a person, or ends the task",
    Step.REJECT: "ends the task",
}
LONGEST_MESSAGE = 72


def shapes() -> list[tuple[str, ...]]:
    """Return the rows of the document's first table: what a call meets, and how often it is sent."""
    return [
        (
            case.shape,
            f"`{case.fault}`" if case.fault else "-",
            case.message[:LONGEST_MESSAGE].strip() + ("…" if len(case.message) > LONGEST_MESSAGE else ""),
            str(case.status),
            f"`{case.kind}`" if case.kind else "an answer",
            str(case.sent),
        )
        for case in CASES
    ]


def consequences() -> list[tuple[str, ...]]:
    """Return the rows of the second table: what each kind of failure leads to, from the tables of the code."""
    kinds = dict.fromkeys(kind for case in CASES for kind in case.ends)
    return [
        (
            f"`{kind}`",
            _gateway(kind),
            f"opens after {rule.opens_after}" if (rule := RULES.get(signal_of(kind))) else "says nothing",
            steps(kind),
            "no" if kind in NOT_THE_MODELS else "yes",
        )
        for kind in kinds
    ]


def steps(kind: FailureKind) -> str:
    """Return what follows a kind's first, second, … occurrence with the same model, as words."""
    runs = [(STEPS[step], len(list(same))) for step, same in groupby(POLICY[kind])]
    return ", then ".join(words + (f" ({times} times)" if times > 1 else "") for words, times in runs)


def policy() -> list[tuple[str, ...]]:
    """Return the rows of the table in docs/recovery.md: what follows each kind, and whether it counts."""
    return [(f"`{kind}`", steps(kind), "no" if kind in NOT_THE_MODELS else "yes") for kind in POLICY]


def _gateway(kind: FailureKind) -> str:
    does = (
        (kind in LedgerPacing.retried, f"waits for the account's reset, {TRIES} tries"),
        (kind in TRANSIENT, f"{TRIES} tries"),
        (kind in ROTATES, "goes on with the next model"),
        (kind in WAITED_OUT, f"waits for the last one, {PATIENT_WAITS} times at most {PATIENCE_SECONDS:g} s"),
    )
    return "; ".join(words for is_so, words in does if is_so) or "hands it on"


def table(document: str, heading: str) -> list[tuple[str, ...]]:
    """Return the rows of the first table below a heading of a Markdown document, without its own two head lines."""
    lines = document.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0].splitlines()
    rows = [line for line in lines if line.startswith("|")][2:]
    return [tuple(cell.strip() for cell in row.strip("|").split("|")) for row in rows]
