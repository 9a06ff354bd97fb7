"""The commands about models: which there are and how they stand, and which one a task would get."""

import sys
from json import dumps
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter
from rich.markup import escape
from rich.table import Table

from deployments.console import out, say, until_signal
from devtasks.cli_client import up_folder
from devtasks.config import OpenHandsConfig
from devtasks.errors import InvalidInput
from devtasks.task import Complexity, TaskCategory

if TYPE_CHECKING:
    from devtasks.model_selector import ModelSelector, Ranking
    from devtasks.openrouter.catalogue import Catalogue
    from devtasks.selection.requirements import TaskRequirements

Json = Annotated[bool, Parameter(name="--json", negative="", help="Print one JSON document for machines.")]
INTERRUPTED = 130


def register(app: App) -> None:
    """Add the commands to the command line."""
    app.command(models)
    app.command(select_model)


def ledger_url(config: OpenHandsConfig) -> str:
    """Return the ledger's URL: DEVTASKS_DATABASE_URL, the one of the stack that is up, or the file under the home."""
    from deployments.stack import read_connection

    connection = read_connection(up_folder(config))
    return config.database_url or (connection and connection.ledger_url) or config.ledger_url


def models(
    *,
    free: Annotated[bool, Parameter(negative="", help="Only those whose prices are zero.")] = False,
    tools: Annotated[bool, Parameter(negative="", help="Only those with tool calls.")] = False,
    min_context: Annotated[int, Parameter(help="Only those with so many tokens of context.")] = 0,
    json: Json = False,
) -> int:
    """List the catalogue's models, and whether a free task of unit tests could get each of them now, and if not, why.

    The catalogue is that of OPENHANDS_BASE_URL (OpenRouter), kept in the ledger for an hour; offline, the snapshot
    that ships. DEVTASKS_MODELS names a file with models and facts of your own.
    """
    from devtasks.selection.requirements import TaskRequirements
    from devtasks.selection.view import model_document, price, states

    found = _rank(TaskRequirements(TaskCategory.UNIT_TEST))
    if found is None:
        return INTERRUPTED
    catalogue, ranking = found
    by_id = states(ranking)
    shown = [
        (model, by_id[model.model_id])
        for model in sorted(catalogue.models, key=lambda model: model.model_id)
        if (model.free or not free) and (model.supports_tools or not tools) and model.context_length >= min_context
    ]
    if json:
        _print_json(_about(catalogue) | {"models": [model_document(model, state) for model, state in shown]})
        return 0
    table = Table(box=None, pad_edge=False)
    for column in ("model", "context", "tools", "price", "expires"):
        table.add_column(column, no_wrap=True)
    table.add_column("state", overflow="fold")
    for model, state in shown:
        facts = (f"{model.context_length:,}", "yes" if model.supports_tools else "no", price(model))
        table.add_row(escape(model.model_id), *facts, str(model.expires or ""), escape(str(state)))
    out.print(table)
    _say_source(catalogue)
    return 0


def select_model(
    *,
    category: Annotated[
        TaskCategory,
        Parameter(name=("--category", "--task-type"), name_transform=str.lower, help="The kind of work."),
    ],
    complexity: Annotated[Complexity, Parameter(help="How hard it is.")] = Complexity.MODERATE,
    quality_threshold: Annotated[float, Parameter(help="The least known quality, 0 to 1.")] = 0.7,
    max_latency: Annotated[float | None, Parameter(help="The longest expected attempt, in seconds.")] = None,
    max_cost: Annotated[float | None, Parameter(help="The dearest expected attempt, in USD.")] = None,
    context: Annotated[int, Parameter(help="Tokens its files need, beyond the conversation's own.")] = 0,
    specialization: Annotated[Literal["code", "general"] | None, Parameter(help="What it was made for.")] = None,
    paid: Annotated[bool, Parameter(negative="", help="Allow models that cost money.")] = False,
    cheapest: Annotated[
        bool, Parameter(negative="", help="The cheapest one whose probability of acceptance clears the threshold.")
    ] = False,
    model: Annotated[str | None, Parameter(help="This one alone.")] = None,
    explain: Annotated[bool, Parameter(negative="", help="Show every score, and why others are left out.")] = False,
    json: Json = False,
) -> int:
    """Print the id of the model that a task would get now; no model is called for it."""
    from devtasks.selection.capability import ModelSpecialization
    from devtasks.selection.requirements import MIN_CONTEXT, Mode, TaskRequirements
    from devtasks.selection.view import candidate_document, ranking_document

    _require(0 <= quality_threshold <= 1, "--quality-threshold", quality_threshold, "a number from 0 to 1")
    for name, value in (("--max-latency", max_latency), ("--max-cost", max_cost), ("--context", context)):
        _require(value is None or value >= 0, name, value, "a number from 0")
    asked = TaskRequirements(
        category=category,
        complexity=complexity,
        quality_threshold=quality_threshold,
        max_latency_seconds=max_latency,
        context_tokens=MIN_CONTEXT + context,
        max_cost_usd=max_cost,
        specialization=ModelSpecialization(specialization) if specialization else None,
        free_only=not paid,
        model=model,
        mode=Mode.CHEAPEST if cheapest else Mode.BEST,
    )
    found = _rank(asked)
    if found is None:
        return INTERRUPTED
    catalogue, ranking = found
    if explain and not json:
        _print_ranking(ranking)
        _say_source(catalogue)
    best = ranking.choose()
    if json:
        document = ranking_document(ranking) if explain else {"candidates": [candidate_document(best)]}
        _print_json({"model": best.model_id} | _about(catalogue) | document)
    elif not explain:
        out.print(escape(best.model_id), soft_wrap=True)
    return 0


def _rank(asked: "TaskRequirements") -> "tuple[Catalogue, Ranking] | None":
    found = until_signal(_selector(asked.category))
    if found is None:
        return None
    catalogue, selector = found
    return catalogue, selector.rank(asked)


async def _selector(category: TaskCategory) -> "tuple[Catalogue, ModelSelector]":
    from datetime import UTC, datetime

    from devtasks.ledger import Ledger
    from devtasks.openrouter.catalogue import load_catalogue
    from devtasks.openrouter.overlay import Overlay
    from devtasks.selection.loading import load_selector

    config, now = OpenHandsConfig.from_env(), datetime.now(UTC)
    async with Ledger.open(ledger_url(config)) as ledger:
        overlay = Overlay.load(config.models_file)
        catalogue = await load_catalogue(config.base_url, config.api_key, ledger, overlay, now=now)
        return catalogue, await load_selector(catalogue, category, ledger, now, breaker=config.enable_circuit_breaker)


def _print_ranking(ranking: "Ranking") -> None:
    from devtasks.selection.view import explanation

    for place, candidate in enumerate(ranking.candidates, start=1):
        out.print(f"{place}. [bold]{escape(candidate.model_id)}[/] {candidate.score:.3f}", soft_wrap=True)
        out.print(*(f"   {escape(line)}" for line in explanation(candidate)), sep="\n", soft_wrap=True)
    for each in ranking.left_out:
        reasons = "; ".join(failure.reason for failure in each.failures)
        out.print(f"[dim]left out:[/] {escape(each.model_id)}: {escape(reasons)}", soft_wrap=True)


def _about(catalogue: "Catalogue") -> dict[str, Any]:
    return {"source": catalogue.source, "as_of": catalogue.as_of.isoformat(), "simulated": catalogue.simulated}


def _say_source(catalogue: "Catalogue") -> None:
    mark = " (simulated)" if catalogue.simulated else ""
    say(f"catalogue: {catalogue.source}{mark}, as of {catalogue.as_of:%Y-%m-%d %H:%M %Z}")


def _print_json(document: dict[str, Any]) -> None:
    sys.stdout.write(dumps(document, indent=2) + "\n")


def _require(holds: bool, field: str, value: object, allowed: str) -> None:
    if not holds:
        raise InvalidInput(field, value, allowed)
