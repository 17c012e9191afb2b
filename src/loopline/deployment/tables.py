"""The deployment room's tables: endpoints with their thresholds, rollouts with their decisions, and the routing epoch."""

from __future__ import annotations

import sqlalchemy as sa

from loopline.database import metadata

endpoints = sa.Table(
    "endpoints",
    metadata,
    sa.Column("project", sa.String(128), primary_key=True),
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("model", sa.String(128), nullable=False),
    sa.Column("champion", sa.Integer, nullable=False),
    sa.Column("route_key", sa.String(200)),
    sa.Column("passthrough", sa.JSON, nullable=False),
    sa.Column("optional", sa.JSON, nullable=False),
    sa.Column("policy", sa.JSON, nullable=False),
    sa.Column("salt", sa.String(40), nullable=False),
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("updated", sa.BigInteger, nullable=False),
)

rollouts = sa.Table(
    "rollouts",
    metadata,
    sa.Column("project", sa.String(128), primary_key=True),
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("endpoint", sa.String(128), nullable=False),
    sa.Column("champion", sa.Integer, nullable=False),
    sa.Column("challenger", sa.Integer, nullable=False),
    sa.Column("plan", sa.JSON, nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("stage", sa.Integer, nullable=False),
    sa.Column("stage_since", sa.BigInteger, nullable=False),
    sa.Column("started", sa.BigInteger, nullable=False),
    sa.Column("ended", sa.BigInteger),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Index("ix_rollouts_endpoint", "project", "endpoint", "started"),
)

decisions = sa.Table(
    "rollout_decisions",
    metadata,
    sa.Column("project", sa.String(128), primary_key=True),
    sa.Column("rollout", sa.String(40), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("stage", sa.Integer, nullable=False),
    sa.Column("decision", sa.String(16), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("measured", sa.JSON, nullable=False),
)

thresholds = sa.Table(
    "endpoint_thresholds",
    metadata,
    sa.Column("project", sa.String(128), primary_key=True),
    sa.Column("endpoint", sa.String(128), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("model", sa.String(128), nullable=False),
    sa.Column("model_version", sa.Integer, nullable=False),
    sa.Column("value", sa.Float),
    sa.Column("how", sa.String(16), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("by", sa.String(128), nullable=False),
)

routing = sa.Table(
    "routing",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("epoch", sa.BigInteger, nullable=False),
)
