"""The pipeline room's tables: runs, and the journal of their steps."""

from __future__ import annotations

import sqlalchemy as sa

from loopline.database import metadata

pipeline_runs = sa.Table(
    "pipeline_runs",
    metadata,
    sa.Column("project", sa.String(128), primary_key=True),
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("name", sa.String(128), nullable=False),
    sa.Column("key", sa.String(80), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("reason", sa.String(400), nullable=False),
    sa.Column("started", sa.BigInteger, nullable=False),
    sa.Column("ended", sa.BigInteger),
    sa.Column("message", sa.Text, nullable=False),
    sa.Index("ix_pipeline_runs_name", "project", "name", "started"),
)

steps = sa.Table(
    "steps",
    metadata,
    sa.Column("project", sa.String(128), primary_key=True),
    sa.Column("run", sa.String(40), primary_key=True),
    sa.Column("step", sa.String(128), primary_key=True),
    sa.Column("name", sa.String(128), nullable=False),
    sa.Column("key", sa.String(80), nullable=False),
    sa.Column("outputs", sa.JSON, nullable=False),
    sa.Column("cached", sa.Boolean, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Index("ix_steps_key", "project", "name", "step", "key"),
)
