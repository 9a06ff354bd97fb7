"""Submit a task to the stack that is up, follow it, and use its report.

    .venv/bin/python examples/python_api.py REPOSITORY TARGET_FILE

The stack is that of `devtasks up`, or the server that PREFECT_API_URL names. docs/queue.md shows how a program brings
up one of its own.
"""

import asyncio
import sys

from deployments.client import follow
from deployments.task_queue import TaskQueue
from devtasks.cli_client import open_client
from devtasks.report import TaskReport
from devtasks.task import DevTask


async def write_tests(repository: str, target_file: str, **others: str) -> TaskReport:
    """Return how a task ended; `others` are parameters of the flow that a task does not have, such as credentials."""
    task = DevTask.parse(
        task_id="example",
        category="unit_test",
        description=f"Write unit tests for {target_file}.",
        repository=repository,
        target_file=target_file,
        priority="high",
        delivery="branch",
    )
    async with open_client() as client:
        queue = TaskQueue(client)
        entered = await queue.enqueue(task, **others)
        async for item in follow(client, entered.flow_run.id):
            print(getattr(item, "message", None) or getattr(item, "state_name", ""))
        return await queue.get(str(entered.flow_run.id))


if __name__ == "__main__":
    report = asyncio.run(write_tests(*sys.argv[1:3]))
    print(f"{report.state}{report.mark}: {report.reason}")
    print(report.branch or report.diff_path)
    sys.exit(0 if report.outcome == "accepted" else 1)
