"""Prefect tasks: one for each step of the picture."""
