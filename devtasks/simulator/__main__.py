"""The command `python -m devtasks.simulator SCENARIO [--port N]`: serves the scenario until SIGINT or SIGTERM."""

import argparse
import asyncio
import signal
import sys
from pathlib import Path

from devtasks.errors import DevtasksError
from devtasks.simulator.scenario import Scenario
from devtasks.simulator.server import Simulator


def main() -> int:
    """Serve the scenario of the command line; return 0 after a signal, 2 for a bad file or a port that is taken."""
    parser = argparse.ArgumentParser(
        prog="devtasks.simulator", description="Play a scenario as a simulated OpenRouter."
    )
    parser.add_argument("scenario", type=Path, help="the scenario file (YAML)")
    parser.add_argument("--port", type=int, default=0, choices=range(65_536), metavar="N", help="default: a free port")
    options = parser.parse_args()
    try:
        asyncio.run(_serve(Scenario.load(options.scenario), options.port))
    except DevtasksError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


async def _serve(scenario: Scenario, port: int) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with Simulator(scenario, port=port) as simulator:
        print(f"simulated OpenRouter at {simulator.base_url}", flush=True)
        await stopped.wait()


if __name__ == "__main__":
    sys.exit(main())
