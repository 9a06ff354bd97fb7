"""The daily report on what tasks did, from the ledger."""

from datetime import UTC, datetime
from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.artifacts import acreate_markdown_artifact, acreate_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from devtasks.config import OpenHandsConfig
from devtasks.ledger import Ledger
from devtasks.metrics_summary import model_rows, report_periods, summary_markdown
from flows.overlap import skip_if_running


@flow(name="metrics-report")
async def metrics_report(days: Annotated[int, Field(ge=1, le=366)] = 30) -> State[Any]:
    """Publish what tasks did yesterday and in the days before, as Markdown and as a table by model and category.

    Attempts by simulated models are left out.

    Args:
        days: The days of UTC that the longer of the two periods has.
    """
    if skipped := await skip_if_running():
        return skipped
    periods = report_periods(datetime.now(UTC), days)
    async with Ledger.open(OpenHandsConfig.from_env().ledger_url) as ledger:
        rows = await ledger.attempts(since=periods[-1].since, include_simulated=False)
    text = summary_markdown(periods, rows)
    await acreate_markdown_artifact(text, key="metrics-report", description="What tasks did")
    longer = periods[-1].of(rows)
    table: list[dict[str, Any]] = [dict(row) for row in model_rows(longer.models(by_category=True))]
    await acreate_table_artifact(table, key="metrics-by-model", description=periods[-1].name)
    get_run_logger().info(text)
    yesterday = periods[0].of(rows).system()
    said = f"{yesterday.accepted_tasks} of {yesterday.tasks} tasks accepted" if yesterday.tasks else "nothing to report"
    return Completed(message=f"Yesterday: {said}.")
