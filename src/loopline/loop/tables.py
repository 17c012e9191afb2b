"""The loop room's tables: loops, and the runs that were asked for."""

from __future__ import annotations

import sqlalchemy as sa

from loopline.database import metadata, names

loops = sa.Table(
    "loops",
    metadata,
    sa.Column("project", sa.String(128), primary_key=True),
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("declaration", sa.JSON, nullable=False, info=names("loop", "name")),
    sa.Column("digest", sa.String(80), nullable=False),
    sa.Column("declared", sa.BigInteger, nullable=False),
)

loop_requests = sa.Table(
    "loop_requests",
    metadata,
    sa.Column("project", sa.String(128), primary_key=True),
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("loop", sa.String(128), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("alert", sa.String(300), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("asked", sa.BigInteger, nullable=False),
    sa.Column("ended", sa.BigInteger),
    sa.Column("message", sa.Text, nullable=False),
    sa.Index("ix_loop_requests_asked", "project", "asked"),
)
