"""Processes as forks of a server that has imported their libraries already, so that they start at once."""
