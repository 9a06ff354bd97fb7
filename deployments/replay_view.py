"""One attempt on the terminal: what it was, then step by step what the agent thought, did and saw, and the verdict."""

import difflib
import json
import sys
from typing import Any

from rich.markup import escape
from rich.text import Text

from deployments.console import out, print_diff
from devtasks.execution.runtime import AgentEvent
from devtasks.replay import Replay
from devtasks.terminal import harmless

LINES = 20
"""Lines of a text that are shown where not all of it is asked for."""

WIDTH = 400
"""Characters of a line then."""

LEVELS = {"ERROR": "red", "WARNING": "yellow", "INFO": "cyan"}


def print_replay(replay: Replay, *, full: bool, step: bool) -> None:
    """Print an attempt; with `step`, on a terminal, wait for Enter before each action, and stop at q."""
    waits = step and sys.stdin.isatty() and out.is_terminal
    _print_header(replay)
    number = 0
    for event in replay.trajectory.events:
        if event["type"] == "action":
            number += 1
            if waits and number > 1 and not _goes_on():
                return
            out.print(f"\n[bold]── {number}[/] [dim]{_clock(event)}[/]", soft_wrap=True)
        _print_event(event, full=full)
    if replay.trajectory.damaged:
        out.print(f"[yellow]{replay.trajectory.damaged} line(s) cannot be read: the run was killed while it wrote[/]")
    _print_end(replay, full=full)


def _print_header(replay: Replay) -> None:
    verdict, about = replay.verdict, replay.about
    mark = " (simulated)" if verdict.get("simulated") else ""
    _say(f"{about.title or about.name or about.flow_run_id}{mark}", "bold")
    of = f"attempt {replay.attempt} of {', '.join(map(str, replay.attempts))}"
    rows = {"run": about.flow_run_id, "repository": about.repository, "attempt": of, **_facts(verdict)}
    for name, value in rows.items():
        if value:
            _say(f"{name}: {value}")


def _facts(verdict: dict[str, Any]) -> dict[str, str]:
    if not verdict:
        return {"outcome": "none: the attempt was not recorded"}
    failure = f" ({verdict['failure']})" if verdict.get("failure") else ""
    served = f", answered by {verdict['model_served']}" if verdict.get("model_served") else ""
    tokens = sum(verdict.get(f"{kind}_tokens") or 0 for kind in ("prompt", "completion"))
    return {
        "model": f"{verdict.get('model_requested')}{served}",
        "isolation": str(verdict.get("isolation") or ""),
        "outcome": f"{verdict.get('outcome')}{failure}, score {verdict.get('score')}",
        "cost": f"${verdict.get('cost_usd') or 0:.4f}, {verdict.get('llm_calls')} calls, {tokens:,} tokens",
    }


def _print_event(event: AgentEvent, *, full: bool) -> None:
    match event:
        case {"type": "action"}:
            _show(str(event.get("thought") or ""), "italic", full=full)
            _print_action(str(event.get("tool")), event.get("arguments"), full=full)
        case {"type": "observation"}:
            _show(str(event.get("text")), "dim", full=full)
        case {"type": "tool_error" | "error"}:
            _show(f"error: {event.get('text')}", "red", full=full)
        case {"type": "message"}:
            _show(f"{event.get('source')}: {event.get('text')}", "blue", full=full)
        case _:
            _show(f"{event['type']}: {event.get('text', '')}", "yellow", full=full)


def _print_action(tool: str, arguments: Any, *, full: bool) -> None:
    match tool, arguments:
        case "terminal", {"command": str(command)}:
            _show(f"$ {command}", "bold cyan", full=full)
        case "file_editor", {"command": str(command), "path": str(path)}:
            _say(f"{command} {path}", "bold cyan")
            if changes := _edit(arguments):  # pyright: ignore[reportUnknownArgumentType]
                print_diff(_short(changes, full=full))
        case "finish", {"message": str(message)}:
            _show(f"finish: {message}", "bold cyan", full=full)
        case _:
            _show(f"{tool} {json.dumps(arguments)}" if arguments else tool, "bold cyan", full=full)


def _edit(arguments: dict[str, Any]) -> str:
    old = str(arguments.get("old_str") or "")
    new = str(arguments.get("file_text") or arguments.get("new_str") or "")
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=2)
    return "\n".join(list(lines)[2:])


def _print_end(replay: Replay, *, full: bool) -> None:
    if replay.message.strip():
        out.print("\n[bold]the agent's last words[/]")
        _show(replay.message.strip(), "", full=full)
    if findings := replay.verdict.get("findings"):
        out.print("\n[bold]findings[/]")
        for finding in findings:
            place = f" at {finding['place']}" if finding.get("place") else ""
            words = f"{finding.get('level')} {finding.get('rule')}{place}: {finding.get('message')}"
            _say(words, LEVELS.get(str(finding.get("level")), ""))
    if replay.diff.exists():
        out.print("\n[bold]change[/]")
        print_diff(_short(replay.diff.read_text(errors="replace"), full=full))
    _say(f"\nkept in {replay.folder}", "dim")


def _goes_on() -> bool:
    """Wait for Enter; False for q, or where nothing can be typed any more."""
    try:
        return not out.input("[dim]Enter: next step, q: stop [/]").strip().lower().startswith("q")
    except EOFError:
        return False


def _show(text: str, style: str, *, full: bool) -> None:
    if text.strip():
        _say(_short(text, full=full), style)


def _short(text: str, *, full: bool) -> str:
    """Return the first lines of a text, unless all of it is asked for."""
    if full:
        return text
    lines = text.splitlines()
    left = [f"… {len(lines) - LINES} more lines (--full shows them)"] if len(lines) > LINES else []
    shown = [line if len(line) <= WIDTH else f"{line[:WIDTH]}… (--full shows the line)" for line in lines[:LINES]]
    return "\n".join([*shown, *left])


def _say(text: str, style: str = "") -> None:
    out.print(Text(harmless(text), style=style), soft_wrap=True)


def _clock(event: AgentEvent) -> str:
    return escape(harmless(str(event.get("time", ""))[11:19]))
