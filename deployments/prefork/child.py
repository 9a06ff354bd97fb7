"""What a fork of the preloaded server does: become the process that the stock worker would have started."""

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deployments.prefork import private


def prepare(settings: Mapping[str, str]) -> None:
    """Do in the server what every flow run with these settings would do anew."""
    before = dict(os.environ)
    os.environ.update(settings)
    private.renew_settings()
    private.share_tls_contexts()
    private.complete_models()
    os.environ.clear()
    os.environ.update(before)


def main(request: Mapping[str, Any]) -> int:
    """Run one job and return its exit code; a flow run's engine may also leave by SystemExit or a signal."""
    own = {str(Path(entry).absolute()) for entry in _entries(os.environ)}
    site = [entry for entry in sys.path if entry not in own]
    become(request["environment"], Path(request["folder"]), site)
    if request["kind"] == "hook":
        return private.run_hook(request["arguments"])
    launch = private.supervise(*request["arguments"])
    if isinstance(launch, int):
        return launch
    if not launch.is_engine():
        launch.execute()
    become(launch.environment, launch.folder, site)
    private.run_engine()
    return 0


def become(environment: Mapping[str, str], folder: Path, site: list[str]) -> None:
    """Take over an environment and a working directory, as a new Python process started there with `-m` would."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    time.tzset()
    sys.path[:] = [str(folder), *_entries(environment), *site]
    for name in [name for name in sys.modules if name.partition(".")[0] == "deployments"]:
        del sys.modules[name]  # a project may have a package of that name: nothing of ours stands in its way
    private.renew_settings()


def _entries(environment: Mapping[str, str]) -> list[str]:
    value = environment.get("PYTHONPATH")
    return value.split(os.pathsep) if value else []
