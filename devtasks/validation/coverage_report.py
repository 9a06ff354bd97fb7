"""A script for the sandbox: writes what coverage.py knows of one file as JSON, and which test ran which of its lines.

It is coverage.py's own JSON report of the file, with `tests`, the tests' ids, and `lines`, the places of a line's tests
among them: that is a twentieth of what the report's own contexts need where many tests run the same lines.

Arguments: the data file, the measured file relative to the working folder, where the report goes.
"""

import json
import os
import sys
from pathlib import Path

import coverage


def main(data: str, target: str, output: str) -> None:
    """Write the report; coverage.py raises where there is nothing to report."""
    measured = coverage.Coverage(data_file=data, config_file=False)
    measured.load()
    measured.json_report(outfile=output, include=[target])
    report = json.loads(Path(output).read_bytes())
    contexts = measured.get_data().contexts_by_lineno(os.path.realpath(target))
    tests = sorted({name for names in contexts.values() for name in names if name})
    places = {name: place for place, name in enumerate(tests)}
    report["tests"] = tests
    report["lines"] = {line: [places[name] for name in names if name] for line, names in contexts.items()}
    Path(output).write_text(json.dumps(report))


main(*sys.argv[1:])
