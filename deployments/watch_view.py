"""What a person who watches sees: lines, or on a terminal a view that is drawn anew."""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from prefect.client.schemas.objects import FlowRun, Log, StateType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from deployments.console import out, print_progress, print_report, say
from deployments.task_queue import QueuedTask
from deployments.watch import Away, Back, Change, Event, QueueWatch, TaskWatch, event_document
from devtasks.report import TaskReport
from devtasks.task import TaskPriority
from devtasks.terminal import harmless

REFRESHES = 2
"""How often in a second a live view is drawn anew."""

ROWS = 8
"""Tasks of one group that a view of the queue names; the others are counted."""

RUNNING, LATER, PERSON = "running", "waiting for a time", "waiting for a person"


def print_event(event: Event, *, several: bool) -> None:
    """Print one event as lines, which say whose they are where several tasks are followed."""
    match event:
        case Change(task=task):
            at = f"{task.state_since.astimezone():%H:%M:%S}" if task.state_since else ""
            line = f"{task.priority:8} {task.flow_run_id} {escape(harmless(task.title))}"
            out.print(f"[dim]{at}[/] [bold cyan]{escape(task.state):13}[/] {line}", soft_wrap=True)
        case FlowRun(id=flow_run_id) | Log(flow_run_id=flow_run_id):
            print_progress(event, f"{str(flow_run_id)[:8]} " if several else "")
        case TaskReport():
            print_report(event)
        case Away():
            say(f"{event.reason}; waiting for it …")
        case Back():
            say("the server answers again")


def print_json_line(event: Event) -> None:
    """Print one event as a line of JSON, at once."""
    sys.stdout.write(json.dumps(event_document(event), default=str) + "\n")
    sys.stdout.flush()


class LiveView:
    """A view on a terminal that is drawn anew while it is entered; leaving it gives the terminal back."""

    def __init__(self, watching: TaskWatch | QueueWatch) -> None:
        self._watching = watching
        self._note = ""
        self._live = Live(get_renderable=self._table, console=out, refresh_per_second=REFRESHES)

    def __enter__(self) -> None:
        self._live.__enter__()

    def __exit__(self, *error: object) -> None:
        self._live.__exit__(None, None, None)

    def tell(self, event: Event) -> None:
        """Show an event: a task's lines move up above the view, all else is in it."""
        match event:
            case Away():
                self._note = f"{event.reason}; waiting for it …"
            case Back():
                self._note = ""
            case Change():
                pass
            case _:
                print_event(event, several=self._watching.several)

    def _table(self) -> Table:
        now = datetime.now(UTC)
        if isinstance(self._watching, QueueWatch):
            return queue_table([*self._watching.tasks.values()], self._watching.ended, now, self._note)
        return task_table([*self._watching.now.values()], now, self._note)


def groups(tasks: Sequence[QueuedTask], now: datetime) -> Mapping[str, Sequence[QueuedTask]]:
    """Return the tasks that have not ended by what they wait for, in the order in which they are served."""
    found: dict[str, list[QueuedTask]] = {name: [] for name in (RUNNING, *TaskPriority, LATER, PERSON)}
    for task in sorted(tasks, key=lambda task: task.due_at or now):
        found[_group(task, now)].append(task)
    return found


def queue_table(tasks: Sequence[QueuedTask], ended: Sequence[QueuedTask], now: datetime, note: str = "") -> Table:
    """Return the whole queue as a table; `note` stands below it."""
    table = Table(box=None, pad_edge=False, title=f"{now.astimezone():%H:%M:%S}", title_justify="left")
    for column in ("", "task", "state", "for"):
        table.add_column(column, no_wrap=True)
    table.add_column("title", overflow="ellipsis", no_wrap=True)
    for name, members in (*groups(tasks, now).items(), ("ended", ended)):
        for task in members[:ROWS]:
            table.add_row(name, task.flow_run_id[:8], Text(task.state), _since(task, now), Text(harmless(task.title)))
        if len(members) > ROWS:
            table.add_row(name, f"… and {len(members) - ROWS} more")
    if not table.row_count:
        table.add_row("", "nothing", "", "", "waits or runs")
    table.caption, table.caption_justify = note or None, "left"
    return table


def task_table(flow_runs: Sequence[FlowRun], now: datetime, note: str = "") -> Table:
    """Return one line for each task that is watched: its state, and for how long it is in it."""
    table = Table(box=None, pad_edge=False, show_header=False, caption=note or None, caption_justify="left")
    for flow_run in flow_runs:
        since = flow_run.state.timestamp if flow_run.state else None
        seconds = f"for {(now - since).total_seconds():.0f} s" if since else ""
        table.add_row(Text(flow_run.state_name or "Pending", style="bold cyan"), seconds, Text(harmless(flow_run.name)))
    return table


def _group(task: QueuedTask, now: datetime) -> str:
    if task.state_type == StateType.PAUSED.value:
        return PERSON
    if task.state_type != StateType.SCHEDULED.value:
        return RUNNING
    return LATER if task.due_at and task.due_at > now else task.priority


def _since(task: QueuedTask, now: datetime) -> str:
    if task.state_type == StateType.SCHEDULED.value and task.due_at and task.due_at > now:
        return f"until {task.due_at.astimezone():%m-%d %H:%M}"
    seconds = int((now - task.state_since).total_seconds()) if task.state_since else 0
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
