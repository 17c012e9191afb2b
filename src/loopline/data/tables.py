"""The data room's tables: dataset versions, their sources and tags, looks at sealed ones, decisions about quarantined rows."""

from __future__ import annotations

import sqlalchemy as sa

from loopline.database import metadata, names

dataset_versions = sa.Table(
    "dataset_versions",
    metadata,
    sa.Column("project", sa.String(128), primary_key=True),
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("delta_version", sa.BigInteger),  # NULL: it is a version of files
    sa.Column("quarantine_delta_version", sa.BigInteger),
    sa.Column("manifest", sa.String(80), nullable=False),  # the bytes that say which files it has; empty: a table
    sa.Column("files", sa.BigInteger, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
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
    sa.Column("cleaning", sa.String(80), nullable=False),  # the bytes that say how it was cleaned; empty: it was not
    sa.Column("sealed", sa.Boolean, nullable=False),
    sa.Column("opened", sa.String(400)),  # of a sealed version: the readable one that holds rows of it since
    sa.Column("shares", sa.JSON, nullable=False),  # of a sealed version: the earlier ones whose rows it holds, too
    sa.Column("withdrawn", sa.Text),  # why; NULL: it is not
    sa.Column("labels", sa.JSON, nullable=False),  # the columns of labels that are known later than their rows
    sa.Column("read", sa.JSON, nullable=False),  # when rows were read: [how many, milliseconds], ...
    sa.Column("facts", sa.JSON, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("creator", sa.String(256), nullable=False),
    sa.Column("purged", sa.BigInteger),  # since when no verb reads its content; NULL: it is there
    sa.Column("emptied", sa.BigInteger),  # since when its content is nobody's
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

dataset_contracts = sa.Table(
    "dataset_contracts",
    metadata,
    sa.Column("project", sa.String(128), primary_key=True),
    sa.Column("digest", sa.String(80), primary_key=True),
    sa.Column("body", sa.JSON, nullable=False),
)
"""The contracts that versions were checked against, each once."""

dataset_retention = sa.Table(
    "dataset_retention",
    metadata,
    sa.Column("project", sa.String(128), primary_key=True),
    sa.Column("age", sa.BigInteger),  # so many milliseconds each version is kept; NULL: age keeps none
    sa.Column(
        "last", sa.Integer
    ),  # so many of the newest versions of each dataset are kept; NULL: being one keeps none
    sa.Column("by", sa.String(256), nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
)
"""Which versions a project keeps, whatever needs them: both NULL, all of them."""

dataset_tags = sa.Table(
    "dataset_tags",
    metadata,
    sa.Column("project", sa.String(128), primary_key=True),
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("tag", sa.String(128), primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("by", sa.String(256), nullable=False),
)

quarantine_decisions = sa.Table(
    "quarantine_decisions",
    metadata,
    sa.Column("project", sa.String(128), primary_key=True),
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("decision", sa.String(16), nullable=False),  # "released" or "dropped"
    sa.Column("stretches", sa.JSON, nullable=False),  # of rows of the quarantine: [first, how many], ...
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("into", sa.String(400), nullable=False),  # the version that released rows are in
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("by", sa.String(256), nullable=False),
)
"""What was decided about rows that a contract held back; a row that no decision names is still held."""

dataset_sources = sa.Table(
    "dataset_sources",
    metadata,
    sa.Column("project", sa.String(128), primary_key=True),
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column(
        "sources", sa.JSON, nullable=False
    ),  # each with its address, its options, and the position it was read to
    sa.Column("join", sa.JSON, nullable=False),
    sa.Column("on_change", sa.String(16), nullable=False),
    sa.Column("read", sa.BigInteger, nullable=False),
)
"""What the versions were collected from, and how far: written in the transaction that names the version."""

dataset_inbox = sa.Table(
    "dataset_inbox",
    metadata,
    sa.Column("project", sa.String(128), primary_key=True),
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("post", sa.String(32), primary_key=True),  # in the order of their coming
    sa.Column("digest", sa.String(80), nullable=False),
    sa.Column("file", sa.String(255), nullable=False),  # what messages call it, by its kind
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("by", sa.String(256), nullable=False),
)
"""What was posted to datasets and is in no version yet; taken out in the transaction that names the version with its rows."""

dataset_schedules = sa.Table(
    "dataset_schedules",
    metadata,
    sa.Column("project", sa.String(128), primary_key=True),
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("rule", sa.JSON, nullable=False),
    sa.Column("due", sa.BigInteger, nullable=False),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("problem", sa.Text, nullable=False),  # of the last turn; empty: it went well
)
"""When datasets are collected by themselves."""
