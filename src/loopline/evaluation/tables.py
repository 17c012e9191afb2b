"""The evaluation room's tables: declared gates, evaluations and their verdicts."""

from __future__ import annotations

import sqlalchemy as sa

from loopline.database import metadata, names

gate_sets = sa.Table(
    "gate_sets",
    metadata,
    sa.Column("project", sa.String(128), primary_key=True),
    sa.Column("digest", sa.String(80), primary_key=True),
    sa.Column("gates", sa.JSON, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("by", sa.String(256), nullable=False),
)

evaluations = sa.Table(
    "evaluations",
    metadata,
    sa.Column("project", sa.String(128), primary_key=True),
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("model", sa.String(300), nullable=False),
    sa.Column("dataset", sa.String(300), nullable=False, info=names("evaluation", "id")),
    sa.Column("document", sa.String(80), nullable=False),
    sa.Column("plots", sa.JSON, nullable=False),
    sa.Column("gates", sa.String(80)),
    sa.Column("verdicts", sa.JSON),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("by", sa.String(256), nullable=False),
    sa.Index("ix_evaluations_model", "project", "model", "at"),
)
