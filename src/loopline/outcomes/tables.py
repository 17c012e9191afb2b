"""The outcomes room's tables: where the prediction log was read up to, the segments kept of it, and labels."""

from __future__ import annotations

import sqlalchemy as sa

from loopline.database import metadata

log_cursors = sa.Table(
    "log_cursors",
    metadata,
    sa.Column("segment", sa.String(300), primary_key=True),
    sa.Column("offset", sa.BigInteger, nullable=False),
)

segments = sa.Table(
    "prediction_segments",
    metadata,
    sa.Column("project", sa.String(128), primary_key=True),
    sa.Column("endpoint", sa.String(128), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("until", sa.Integer, nullable=False),
    sa.Column("blob", sa.String(80), nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("first", sa.BigInteger, nullable=False),
    sa.Column("last", sa.BigInteger, nullable=False),
    sa.Column("collected", sa.BigInteger, nullable=False),
)

labels = sa.Table(
    "labels",
    metadata,
    sa.Column("project", sa.String(128), primary_key=True),
    sa.Column("endpoint", sa.String(128), primary_key=True),
    sa.Column("prediction", sa.String(128), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("received", sa.BigInteger, nullable=False),
    sa.Column("by", sa.String(256), nullable=False),
    sa.Index("ix_labels_received", "project", "endpoint", "received"),
)
