"""Trusted verdicts: rules by category over a change and what its code does when run."""
