"""How much of which file tests cover, from a report that is there already: coverage.json, coverage.xml or .coverage."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree as Xml

from pydantic import BaseModel, ValidationError

from devtasks.errors import InvalidInput

_EXPECTED = "a report of coverage.py: coverage.json, coverage.xml or .coverage"


class _Summary(BaseModel):
    percent_covered: float


class _File(BaseModel):
    summary: _Summary


class _Report(BaseModel):
    files: dict[str, _File]


def read_coverage(report: Path, root: Path) -> Mapping[str, float]:
    """Return the covered part, 0 to 1, of each file by its path below `root`; raise InvalidInput for no such report."""
    try:
        if report.suffix == ".xml":
            found = _from_xml(report)
        elif report.suffix == ".json":
            found = _from_json(report.read_bytes())
        else:
            found = _from_json(_converted(report, root))
    except OSError as error:
        raise InvalidInput("--coverage", str(report), f"{_EXPECTED} ({error.strerror})") from None
    except (ValidationError, Xml.ParseError, ValueError):
        raise InvalidInput("--coverage", str(report), _EXPECTED) from None
    return {_below(path, root): part for path, part in found.items()}


def _from_json(content: bytes) -> Mapping[str, float]:
    report = _Report.model_validate_json(content)
    return {path: file.summary.percent_covered / 100 for path, file in report.files.items()}


def _from_xml(report: Path) -> Mapping[str, float]:
    """Return the covered part of each file's lines, which is what such a report says of files."""
    tree = Xml.parse(report).getroot()  # noqa: S314 - the user's own file
    sources = [Path(each.text) for each in tree.iterfind("sources/source") if each.text] or [Path()]
    found: dict[str, float] = {}
    for each in tree.iter("class"):
        name, rate = each.attrib["filename"], each.attrib["line-rate"]
        place = next((source / name for source in sources if (source / name).is_file()), Path(name))
        found[str(place)] = float(rate)
    return found


def _converted(report: Path, root: Path) -> bytes:
    """Return a data file as a JSON report; the project's configuration, which may name plugins, is not read."""
    report.stat()
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "coverage.json"
        options = (f"--rcfile={os.devnull}", f"--data-file={report.resolve()}", "--ignore-errors", "-q", "-o", answer)
        command = (sys.executable, "-I", "-m", "coverage", "json", *options)
        done = subprocess.run(command, cwd=root, capture_output=True, check=False)
        if done.returncode:
            raise ValueError(report)
        return answer.read_bytes()


def _below(path: str, root: Path) -> str:
    place = Path(path)
    if place.is_absolute() and place.resolve().is_relative_to(root):
        place = place.resolve().relative_to(root)
    return place.as_posix()
