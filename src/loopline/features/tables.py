"""The features room's tables: definitions of feature views, and what was made of them for looking up."""

from __future__ import annotations

import sqlalchemy as sa

from loopline.database import metadata, names

feature_views = sa.Table(
    "feature_views",
    metadata,
    sa.Column("project", sa.String(128), primary_key=True),
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("declaration", sa.JSON, nullable=False, info=names("features", "name", "version")),
    sa.Column("digest", sa.String(80), nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("by", sa.String(256), nullable=False),
)

feature_online = sa.Table(
    "feature_online",
    metadata,
    sa.Column("project", sa.String(128), primary_key=True),
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("as_of", sa.JSON, nullable=False),  # a number: of milliseconds, or in the unit of the view's time
    sa.Column("source", sa.String(400), nullable=False, info=names("features", "name", "version")),
    sa.Column("entities", sa.BigInteger, nullable=False),
    sa.Column("sealed", sa.BigInteger, nullable=False),
    sa.Column("digest", sa.String(80), nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("by", sa.String(256), nullable=False),
)
"""The newest materialisation of each view; the ledger knows the earlier ones."""
