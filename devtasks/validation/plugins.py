"""Rules of other packages, found by their entry points in the group `devtasks.validation_rules`.

An entry point names a ValidationRule, or what returns one when it is called. A rule with an attribute `categories`, the
categories' names, is asked for these; one without it for every category. They come after devtasks's own.
"""

from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from devtasks.task import TaskCategory
from devtasks.validation.rule import RuleOutcome, ValidationContext, ValidationRule

GROUP = "devtasks.validation_rules"


@dataclass(frozen=True)
class Unusable:
    """Stands for an entry point that is no rule, so that no result passes as if it had been asked."""

    name: str
    problem: str
    weight: float = 0

    async def check(self, context: ValidationContext) -> RuleOutcome:
        """Raise what is wrong with it."""
        raise TypeError(self.problem)


def plugin_rules(category: TaskCategory) -> tuple[ValidationRule, ...]:
    """Return the rules of other packages for a category, by the names of their entry points."""
    found = (_load(each) for each in sorted(entry_points(group=GROUP), key=lambda each: each.name))
    return tuple(rule for rule in found if category in getattr(rule, "categories", TaskCategory))


def _load(entry_point: EntryPoint) -> ValidationRule:
    where = f"the entry point {entry_point.name} = {entry_point.value}"
    try:
        found: Any = entry_point.load()
        rule: Any = found if _is_rule(found) else found()
    except Exception as error:
        return Unusable(entry_point.name, f"{where} cannot be loaded: {type(error).__name__}: {error}")
    if not _is_rule(rule):
        return Unusable(entry_point.name, f"{where} is no rule: it needs a name, a weight of at least 0 and check()")
    return rule


def _is_rule(found: Any) -> bool:
    """Whether something has what a rule has; a class has its attributes only once it is called."""
    weight = getattr(found, "weight", None)
    named = isinstance(getattr(found, "name", None), str) and callable(getattr(found, "check", None))
    return named and not isinstance(found, type) and isinstance(weight, int | float) and weight >= 0
