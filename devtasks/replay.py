"""Finding a run's folder by what a person knows of it, and one attempt's evidence there, without any server."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from devtasks.errors import InvalidInput
from devtasks.evidence import DIFF, MESSAGE, TRAJECTORY, VERDICT, About, Trajectory
from devtasks.run_folder import RunFolder

LISTED = 5
"""Runs that the answer to an unknown name shows."""

SHORTEST_PREFIX = 4


@dataclass(frozen=True)
class Replay:
    """One attempt of a run as its folder has it; `verdict` is empty where the attempt did not get that far."""

    about: About
    folder: Path
    attempt: int
    attempts: tuple[int, ...]
    trajectory: Trajectory
    verdict: dict[str, Any]
    message: str

    @property
    def diff(self) -> Path:
        """The file with the attempt's change, if there is one."""
        return self.folder / DIFF

    def document(self) -> dict[str, Any]:
        """Return it as the values that `--json` prints."""
        return {
            **self.about.model_dump(),
            "folder": str(self.folder),
            "attempt": self.attempt,
            "attempts": self.attempts,
            "verdict": self.verdict or None,
            "message": self.message,
            "diff": str(self.diff) if self.diff.exists() else None,
            **asdict(self.trajectory),
        }


def find_run(folders: Sequence[RunFolder], name: str) -> RunFolder:
    """Return the run of this id, beginning of an id, or flow run name (of several the newest).

    Raises InvalidInput where none or several are meant, naming those most like it, else the newest.
    """
    newest = sorted(folders, key=lambda folder: folder.path.stat().st_mtime, reverse=True)
    names = {folder: About.of(folder).name for folder in newest}
    if exact := [folder for folder in newest if name in {folder.flow_run_id, names[folder]}]:
        return exact[0]
    begin = [each for each in newest if len(name) >= SHORTEST_PREFIX and each.flow_run_id.startswith(name.lower())]
    if len(begin) == 1:
        return begin[0]
    known = {text: folder for folder in newest for text in (folder.flow_run_id, names[folder]) if text}
    alike = [known[text] for text in get_close_matches(name, known, n=LISTED)]
    shown = begin or list(dict.fromkeys(alike)) or newest
    listed = ", ".join(
        f"{each.flow_run_id} ({names[each]})" if names[each] else each.flow_run_id for each in shown[:LISTED]
    )
    what = "the id, the beginning of one run's id, or the name of a run that has a folder here"
    raise InvalidInput("run", name, f"{what}: {listed}" if listed else f"{what}; there is none")


def read_replay(folder: RunFolder, attempt: int | None = None) -> Replay:
    """Return one attempt's evidence, the last one's by default; raises InvalidInput for an attempt there is none of."""
    attempts = tuple(sorted(int(path.name) for path in folder.attempts.glob("*") if path.name.isdecimal()))
    if not attempts:
        raise InvalidInput("run", folder.flow_run_id, "a run with an attempt; this one has made none")
    chosen = attempts[-1] if attempt is None else attempt
    if chosen not in attempts:
        raise InvalidInput.unknown("--attempt", attempt, [str(each) for each in attempts])
    place = folder.attempts / str(chosen)
    message = place / MESSAGE
    return Replay(
        about=About.of(folder),
        folder=place,
        attempt=chosen,
        attempts=attempts,
        trajectory=Trajectory.read(place / TRAJECTORY),
        verdict=_verdict(place / VERDICT),
        message=message.read_text(errors="replace") if message.exists() else "",
    )


def _verdict(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return cast(dict[str, Any], values) if isinstance(values, dict) else {}
