"""Attempts and calls to models."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the two tables of measurements."""
    op.create_table(
        "attempts",
        sa.Column("task_id", sa.Text(), nullable=False),
        sa.Column("flow_run_id", sa.Text(), primary_key=True),
        sa.Column("attempt", sa.BigInteger(), primary_key=True),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("target_file", sa.Text()),
        sa.Column("model_requested", sa.Text(), nullable=False),
        sa.Column("model_served", sa.Text()),
        sa.Column("simulated", sa.Boolean(), nullable=False),
        sa.Column("isolation", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("failure", sa.Text()),
        sa.Column("score", sa.Double[float](), nullable=False),
        sa.Column("findings", sa.JSON(), nullable=False),
        sa.Column("llm_calls", sa.BigInteger(), nullable=False),
        sa.Column("iterations", sa.BigInteger(), nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), nullable=False),
        sa.Column("completion_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost_usd", sa.Double[float](), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seconds", sa.Double[float](), nullable=False),
    )
    op.create_index("ix_attempts_started_at", "attempts", ["started_at"])
    op.create_table(
        "llm_calls",
        sa.Column("flow_run_id", sa.Text(), primary_key=True),
        sa.Column("attempt", sa.BigInteger(), primary_key=True),
        sa.Column("sequence", sa.BigInteger(), primary_key=True),
        sa.Column("model_requested", sa.Text(), nullable=False),
        sa.Column("model_served", sa.Text()),
        sa.Column("provider", sa.Text()),
        sa.Column("generation_id", sa.Text()),
        sa.Column("status", sa.BigInteger(), nullable=False),
        sa.Column("error", sa.Text()),
        sa.Column("prompt_tokens", sa.BigInteger(), nullable=False),
        sa.Column("completion_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost_usd", sa.Double[float](), nullable=False),
        sa.Column("latency_seconds", sa.Double[float](), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("simulated", sa.Boolean(), nullable=False),
    )
