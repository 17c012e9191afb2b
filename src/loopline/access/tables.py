"""The tables of access."""

from __future__ import annotations

import sqlalchemy as sa

from loopline.database import metadata

INSTANCE = "*"
"""Stands for the whole instance where a grant names its project."""

principals = sa.Table(
    "principals",
    metadata,
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("created_by", sa.String(128), nullable=False),
)

projects = sa.Table(
    "projects",
    metadata,
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("created_by", sa.String(128), nullable=False),
)

grants = sa.Table(
    "grants",
    metadata,
    sa.Column("principal", sa.ForeignKey(principals.c.name), primary_key=True),
    sa.Column("project", sa.String(128), primary_key=True, index=True),
    sa.Column("role", sa.String(32), primary_key=True),
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("created_by", sa.String(128), nullable=False),
)

tokens = sa.Table(
    "tokens",
    metadata,
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False, unique=True),
    sa.Column("principal", sa.ForeignKey(principals.c.name), nullable=False, index=True),
    sa.Column("label", sa.String(128), nullable=False),
    sa.Column("project", sa.String(128), nullable=False),
    sa.Column("roles", sa.String(256), nullable=False),
    sa.Column("issuer", sa.String(128), nullable=False),
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("expires", sa.BigInteger, nullable=False),
    sa.Column("revoked", sa.BigInteger),
    sa.Column("last_used", sa.BigInteger),
)
