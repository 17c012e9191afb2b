"""The store's table: who refers to which blob."""

from __future__ import annotations

import sqlalchemy as sa

from loopline.database import metadata

references = sa.Table(
    "store_references",
    metadata,
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("owner", sa.Text, primary_key=True),
    sa.Column("time", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
sa.Index("ix_store_references_owner", references.c.owner)
