"""Prefect blocks: the configuration and secrets a person edits in the UI."""
