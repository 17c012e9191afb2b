"""The data room's tables: dataset versions and the looks taken at sealed ones."""

from __future__ import annotations

import sqlalchemy as sa

from loopline.database import metadata, names

dataset_versions = sa.Table(
    "dataset_versions",
    metadata,
    sa.Column("project", sa.String(128), primary_key=True),
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("delta_version", sa.BigInteger, nullable=False),
    sa.Column("quarantine_delta_version", sa.BigInteger),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("columns", sa.JSON, nullable=False),
    sa.Column("digest", sa.String(80), nullable=False),
    sa.Column("source", sa.String(400), nullable=False, info=names("data", "name", "version")),
    sa.Column("inputs", sa.JSON, nullable=False, info=names("data", "name", "version")),
    sa.Column("quarantined", sa.BigInteger, nullable=False),
    sa.Column("broken", sa.JSON, nullable=False),
    sa.Column("warned", sa.JSON, nullable=False),
    sa.Column("contract", sa.String(80), nullable=False),
    sa.Column("profile", sa.String(80), nullable=False),
    sa.Column("sealed", sa.Boolean, nullable=False),
    sa.Column("opened", sa.String(400)),  # of a sealed version: the readable one that holds rows of it since
    sa.Column("shares", sa.JSON, nullable=False),  # of a sealed version: the earlier ones whose rows it holds, too
    sa.Column("facts", sa.JSON, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("creator", sa.String(256), nullable=False),
)

looks = sa.Table(
    "looks",
    metadata,
    sa.Column("project", sa.String(128), primary_key=True),
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("look", sa.Integer, primary_key=True),
    sa.Column("by", sa.String(256), nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("purpose", sa.String(400), nullable=False),
)
