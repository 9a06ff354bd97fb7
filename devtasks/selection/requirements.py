"""What a task asks of a model, and which of it a model fails: one table of rules."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from enum import StrEnum
from typing import NamedTuple

from devtasks.errors import InvalidInput
from devtasks.selection.capability import ModelCapability, ModelSpecialization
from devtasks.selection.evidence import Belief
from devtasks.task import Complexity, TaskCategory

MIN_CONTEXT = 32_000
"""Tokens an agent's conversation needs beyond the task's own files: the SDK's first request holds 7-8 thousand
(system prompt and tool schemas, measured with openhands-sdk 1.34), and each step adds its observation."""

NEAREST = 5
"""Ids that the refusal of an unknown one lists."""


class Mode(StrEnum):
    """What the order of the candidates optimises: the score, or the cost among those promising enough."""

    BEST = "best"
    CHEAPEST = "cheapest"


@dataclass(frozen=True)
class TaskRequirements:
    """What a task asks of a model; None asks nothing.

    `quality_threshold` (0 to 1) is the least known quality, and in the mode `cheapest` also the least probability of
    acceptance; `max_latency_seconds` and `max_cost_usd` bound the expected time and cost of one attempt;
    `context_tokens` is what its files and the conversation need. A model asked for by name may be paid, slow or of any
    quality, and a router. One without tool calls works where it was asked for by name or has an endpoint of its own:
    the agent then writes its calls as text.
    """

    category: TaskCategory
    complexity: Complexity = Complexity.MODERATE
    quality_threshold: float = 0.7
    max_latency_seconds: float | None = None
    context_tokens: int = MIN_CONTEXT
    max_cost_usd: float | None = None
    specialization: ModelSpecialization | None = None
    tools: bool = True
    free_only: bool = True
    model: str | None = None
    mode: Mode = Mode.BEST


@dataclass(frozen=True)
class Circumstances:
    """What holds at the moment of choice: the time, models that cool down until then, and models already tried."""

    now: datetime
    cooling: Mapping[str, datetime] = field(default_factory=dict[str, datetime])
    exclude: Collection[str] = ()


class Case(NamedTuple):
    """One model held against the requirements."""

    model: ModelCapability
    belief: Belief
    asked: TaskRequirements
    here: Circumstances

    @property
    def by_name(self) -> bool:
        """Whether this is the model that was asked for by name."""
        return self.model.model_id == self.asked.model

    @property
    def quality(self) -> float:
        """The known quality; 1 where nothing is known, so that no threshold leaves it out."""
        known = self.model.priors.quality
        return 1.0 if known is None else known


def _always(_asked: TaskRequirements, _here: Circumstances) -> bool:
    return True


@dataclass(frozen=True)
class Rule:
    """One requirement: when a model fails it, why in words, whether a person may relax it, and when it holds at all."""

    name: str
    fails: Callable[[Case], bool]
    reason: Callable[[Case], str]
    may_be_relaxed: bool = True
    holds: Callable[[TaskRequirements, Circumstances], bool] = _always


@dataclass(frozen=True)
class Failure:
    """A requirement that a model fails, by its rule's name, and why."""

    requirement: str
    reason: str


COOLING = "cooling"

RULES: tuple[Rule, ...] = (
    Rule(
        "model",
        lambda case: not case.by_name,
        lambda case: f"it is not the model asked for ({case.asked.model})",
        holds=lambda asked, _: asked.model is not None,
    ),
    Rule(
        "tried",
        lambda case: case.model.model_id in case.here.exclude,
        lambda _: "it was already tried",
        False,
        holds=lambda _, here: bool(here.exclude),
    ),
    Rule(
        "incompatible",
        lambda case: case.model.incompatible is not None and not case.by_name,
        lambda case: f"it is known not to work: {case.model.incompatible}",
        False,
    ),
    Rule("text", lambda case: not case.model.writes_text, lambda _: "it does not write text", False),
    Rule(
        "expired",
        lambda case: case.model.expires is not None and case.model.expires < case.here.now.date(),
        lambda case: f"it expired on {case.model.expires}",
        False,
    ),
    Rule(
        "router",
        lambda case: case.model.is_router and not case.by_name,
        lambda _: "it is a router, behind which the model may change from call to call",
    ),
    Rule(
        "category",
        lambda case: case.model.categories is not None and case.asked.category not in case.model.categories,
        lambda case: f"it is kept for {', '.join(sorted(case.model.categories or ()))}",
    ),
    Rule(
        "tools",
        lambda case: not (case.model.supports_tools or case.model.endpoint or case.by_name),
        lambda _: "it has no tool calls",
        holds=lambda asked, _: asked.tools,
    ),
    Rule(
        "context_tokens",
        lambda case: case.model.context_length < case.asked.context_tokens,
        lambda case: f"its context is below {case.asked.context_tokens} tokens",
    ),
    Rule(
        "specialization",
        lambda case: case.model.specialization is not case.asked.specialization,
        lambda case: f"it is not a {case.asked.specialization} model",
        holds=lambda asked, _: asked.specialization is not None,
    ),
    Rule(
        "free_only",
        lambda case: not case.model.free and not case.by_name,
        lambda _: "it is not free",
        holds=lambda asked, _: asked.free_only,
    ),
    Rule(
        "max_cost_usd",
        lambda case: not case.model.price_known,
        lambda case: f"its price is unknown, so a limit of ${case.asked.max_cost_usd:g} cannot be kept",
        holds=lambda asked, _: asked.max_cost_usd is not None,
    ),
    Rule(
        "max_cost_usd",
        lambda case: (
            case.asked.max_cost_usd is not None
            and not case.by_name
            and case.belief.cost is not None
            and case.belief.cost > case.asked.max_cost_usd
        ),
        lambda case: f"an attempt is expected to cost ${case.belief.cost:.2g}, above ${case.asked.max_cost_usd:g}",
        holds=lambda asked, _: asked.max_cost_usd is not None,
    ),
    Rule(
        "max_latency_seconds",
        lambda case: (
            case.asked.max_latency_seconds is not None
            and not case.by_name
            and case.belief.seconds is not None
            and case.belief.seconds > case.asked.max_latency_seconds
        ),
        lambda case: (
            f"an attempt is expected to take {case.belief.seconds:.0f} s, above {case.asked.max_latency_seconds:g} s"
        ),
        holds=lambda asked, _: asked.max_latency_seconds is not None,
    ),
    Rule(
        "quality_threshold",
        lambda case: case.quality < case.asked.quality_threshold and not case.by_name,
        lambda case: f"its quality is {case.quality:.2f}, below {case.asked.quality_threshold:g}",
    ),
    Rule(
        COOLING,
        lambda case: case.model.model_id in case.here.cooling,
        lambda case: f"it cools down until {case.here.cooling[case.model.model_id]:%Y-%m-%d %H:%M:%S %Z}",
        False,
        holds=lambda _, here: bool(here.cooling),
    ),
)
"""In the order in which the reasons are told."""

RELAXABLE = frozenset(rule.name for rule in RULES if rule.may_be_relaxed)


def rules_for(asked: TaskRequirements, here: Circumstances) -> tuple[Rule, ...]:
    """Return the rules that hold, in the order in which their reasons are told."""
    return tuple(rule for rule in RULES if rule.holds(asked, here))


def failures(case: Case, rules: Iterable[Rule]) -> tuple[Failure, ...]:
    """Return every one of the rules that the model fails; none for a candidate."""
    return tuple([Failure(rule.name, rule.reason(case)) for rule in rules if rule.fails(case)])


def require_known(model_id: str, known: Collection[str]) -> None:
    """Raise InvalidInput naming the nearest ids, unless the id is known."""
    if model_id in known:
        return
    by_name = {each.rpartition("/")[2]: each for each in known}
    near = get_close_matches(model_id, known, n=NEAREST, cutoff=0.5)
    near += [by_name[each] for each in get_close_matches(model_id.rpartition("/")[2], by_name, n=NEAREST, cutoff=0.5)]
    nearest = list(dict.fromkeys(near))[:NEAREST]
    hint = f"the nearest are {', '.join(nearest)}" if nearest else "`devtasks models` lists them"
    raise InvalidInput("model", model_id, f"the id of a model in the catalogue; {hint}")
