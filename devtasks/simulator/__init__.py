"""A server that speaks OpenRouter's API and plays a scenario file; everything it answers is marked simulated."""

from devtasks.simulator.scenario import Scenario
from devtasks.simulator.server import ChatRecord, Simulator

__all__ = ["ChatRecord", "Scenario", "Simulator"]
