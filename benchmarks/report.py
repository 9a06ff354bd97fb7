"""What every benchmark ends with: a table, a file with all samples, and an exit code."""

import json
import os
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, cast

import psutil
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
LIBRARIES = ("prefect", "openhands-sdk", "openhands-tools", "pydantic")


@dataclass(frozen=True)
class Aim:
    """A figure with the bound it should keep."""

    name: str
    value: float
    bound: float
    direction: Literal["at most", "at least"]

    @property
    def met(self) -> bool:
        """Whether the bound is kept."""
        return self.value <= self.bound if self.direction == "at most" else self.value >= self.bound


def machine() -> dict[str, Any]:
    """Return what the figures depend on: processor, memory, load before the run, versions."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "system": platform.platform(),
        "processors": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "load_average_before": os.getloadavg()[0],
        "versions": {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES},
    }


def finish(name: str, where: dict[str, Any], rows: list[tuple[str, ...]], samples: Any, aims: list[Aim]) -> int:
    """Print the table and the aims, write results/NAME.json, and return 1 where CHECK=1 and an aim is missed."""
    table = Table(*rows[0], box=None)
    for row in rows[1:]:
        table.add_row(*row)
    console = Console()
    console.print(table)
    for aim in aims:
        verdict = "met" if aim.met else "MISSED"
        console.print(f"{verdict}: {aim.name}: {aim.value:.3g} ({aim.direction} {aim.bound:g})", highlight=False)
    RESULTS.mkdir(exist_ok=True)
    document = {"machine": where, "aims": [asdict(aim) | {"met": aim.met} for aim in aims], "samples": samples}
    (RESULTS / f"{name}.json").write_text(_text(document, depth=3) + "\n")
    return int(os.environ.get("CHECK") == "1" and not all(aim.met for aim in aims))


def _text(value: Any, depth: int, indent: str = "") -> str:
    """Return a value as JSON, on one line each where it is nested deeper than `depth`."""
    if not depth or not isinstance(value, dict | list) or not value:
        return json.dumps(value)
    inner = f"\n{indent} "
    if isinstance(value, dict):
        pairs = cast("dict[str, Any]", value).items()
        parts = (f"{json.dumps(key)}: {_text(each, depth - 1, indent + ' ')}" for key, each in pairs)
        return f"{{{inner}{f',{inner}'.join(parts)}\n{indent}}}"
    parts = (_text(each, depth - 1, f"{indent} ") for each in cast("list[Any]", value))
    return f"[{inner}{f',{inner}'.join(parts)}\n{indent}]"
