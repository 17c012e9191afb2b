"""The monitoring room's tables: monitors with the state of their watch, and alerts."""

from __future__ import annotations

import sqlalchemy as sa

from loopline.database import metadata, names

monitors = sa.Table(
    "monitors",
    metadata,
    sa.Column("project", sa.String(128), primary_key=True),
    sa.Column("endpoint", sa.String(128), primary_key=True),
    sa.Column("reference", sa.String(300), nullable=False, info=names("endpoint", "endpoint")),
    sa.Column("profile", sa.String(80), nullable=False),
    sa.Column("settings", sa.JSON, nullable=False),
    sa.Column("state", sa.LargeBinary, nullable=False),
    sa.Column("label_state", sa.LargeBinary, nullable=False),
    sa.Column("quality_told", sa.Boolean, nullable=False),
    sa.Column("looks", sa.Integer, nullable=False),
    sa.Column("last_look", sa.BigInteger),
    sa.Column("rows_until", sa.BigInteger, nullable=False),
    sa.Column("labels_until", sa.BigInteger, nullable=False),
    sa.Column("verdict", sa.Text, nullable=False),
    sa.Column("report", sa.String(80), nullable=False),
    sa.Column("declared", sa.BigInteger, nullable=False),
)

alerts = sa.Table(
    "alerts",
    metadata,
    sa.Column("project", sa.String(128), primary_key=True),
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("endpoint", sa.String(128), nullable=False),  # empty: it is about a dataset
    sa.Column("dataset", sa.String(128), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("summary", sa.Text, nullable=False),
    sa.Column("columns", sa.JSON, nullable=False),
    sa.Column("since", sa.BigInteger, nullable=False),
    sa.Column("raised", sa.BigInteger, nullable=False),
    sa.Column("found", sa.Integer, nullable=False),
    sa.Column("last", sa.BigInteger, nullable=False),
    sa.Column("changed", sa.BigInteger, nullable=False),
    sa.Column("silent_until", sa.BigInteger),
    sa.Column("by", sa.String(256), nullable=False),
    sa.Column("comment", sa.Text, nullable=False),
    sa.Index("ix_alerts_endpoint", "project", "endpoint", "raised"),
)
