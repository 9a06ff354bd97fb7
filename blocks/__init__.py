"""Prefect blocks: the configuration and secrets a person edits in the UI.

Registered by the entry point group `prefect.collections`, or with `python -m prefect block register -m blocks`.
"""

from blocks.github import GitHubCredentials
from blocks.loading import load_block
from blocks.openhands import OpenHandsRuntime
from blocks.openrouter import OpenRouterCredentials

__all__ = ["GitHubCredentials", "OpenHandsRuntime", "OpenRouterCredentials", "load_block"]
