"""The tables of tracking. Runs and their latest values stand in the main database; points may stand in a file of their own."""

from __future__ import annotations

import sqlalchemy as sa

from loopline.database import metadata

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("id", sa.String(26), primary_key=True),
    sa.Column("project", sa.String(128), nullable=False),
    sa.Column("name", sa.String(250), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("creator", sa.String(256), nullable=False),
    sa.Column("ended", sa.BigInteger),
    sa.Column("message", sa.Text, nullable=False, default=""),
    sa.Column("parent", sa.String(26), sa.ForeignKey("runs.id")),
    sa.Column("inputs", sa.JSON, nullable=False),
    sa.Column("outputs", sa.JSON, nullable=False),
    sa.Column("environment", sa.JSON, nullable=False),
    sa.Index("ix_runs_page", "project", "id"),
    sa.Index("ix_runs_name", "project", "name", "id"),
    sa.Index("ix_runs_parent", "parent"),
)

run_params = sa.Table(
    "run_params",
    metadata,
    sa.Column("run", sa.String(26), sa.ForeignKey("runs.id"), primary_key=True),
    sa.Column("key", sa.String(250), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),  # canonical JSON
    sqlite_with_rowid=False,
)

run_tags = sa.Table(
    "run_tags",
    metadata,
    sa.Column("run", sa.String(26), sa.ForeignKey("runs.id"), primary_key=True),
    sa.Column("key", sa.String(250), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)

run_metrics = sa.Table(
    "run_metrics",
    metadata,
    sa.Column("run", sa.String(26), sa.ForeignKey("runs.id"), primary_key=True),
    sa.Column("key", sa.String(250), primary_key=True),
    sa.Column("value", sa.Double),  # NULL is NaN, which SQLite cannot hold
    sa.Column("step", sa.BigInteger, nullable=False),
    sa.Column("time", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

run_artifacts = sa.Table(
    "run_artifacts",
    metadata,
    sa.Column("run", sa.String(26), sa.ForeignKey("runs.id"), primary_key=True),
    sa.Column("path", sa.String(1024), primary_key=True),
    sa.Column("digest", sa.String(80), nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("created", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

metric_points = sa.Table(
    "metric_points",
    metadata,
    sa.Column("run", sa.String(26), primary_key=True),
    sa.Column("key", sa.String(250), primary_key=True),
    sa.Column("batch", sa.LargeBinary(16), primary_key=True),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("points", sa.LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
"""Append-only: the points of one key in one batch, packed (see `points.py`). No foreign key: the table may be in another file."""
