"""The tables of the registry: models, their versions, documents, moves of aliases, comments, approvals."""

from __future__ import annotations

import sqlalchemy as sa

from loopline.database import metadata, names
from loopline.tracking.records import Lifecycle
from loopline.tracking.tables import INDEXED

models = sa.Table(
    "models",
    metadata,
    sa.Column("project", sa.String(128), primary_key=True),
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("latest", sa.Integer, nullable=False),
    sa.Column("title", sa.String(256), nullable=False),
    sa.Column("description", sa.Text, nullable=False, default=""),
    sa.Column("tags", sa.JSON, nullable=False),
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("creator", sa.String(256), nullable=False),
    sa.Column("changed", sa.BigInteger, nullable=False),
    sa.Column("deleted", sa.BigInteger),
)
"""One row a model: the last number given, and what is locked where two calls concern the same model.

A row is never removed, so no ref is ever given twice: a model made anew under a deleted one's name goes on with its numbers.
"""
sa.Index(
    "ix_models_title",
    models.c.project,
    models.c.title,
    unique=True,
    sqlite_where=models.c.deleted.is_(None),
    postgresql_where=models.c.deleted.is_(None),
)
sa.Index("ix_models_changed", models.c.project, models.c.changed)

model_versions = sa.Table(
    "model_versions",
    metadata,
    sa.Column("project", sa.String(128), primary_key=True),
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("task", sa.String(16), nullable=False),
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("creator", sa.String(256), nullable=False),
    sa.Column("run", sa.String(300), info=names("model", "name", "version")),
    sa.Column("inputs", sa.JSON, nullable=False, info=names("model", "name", "version")),
    sa.Column("bundle", sa.String(80), nullable=False),
    sa.Column("forms", sa.JSON, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("facts", sa.JSON, nullable=False),
    sa.Column("metrics", sa.JSON, nullable=False),
    sa.Column("parity", sa.JSON, nullable=False),
    sa.Column("envelope", sa.JSON(none_as_null=True)),
    sa.Column("key", sa.String(32), nullable=False, default=""),
    sa.Column("registered", sa.BigInteger),
    sa.Column("registrar", sa.String(256), nullable=False, default=""),
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Column("description", sa.Text, nullable=False, default=""),
    sa.Column("tags", sa.JSON, nullable=False),
    sa.Column("changed", sa.BigInteger, nullable=False),
    sa.Column("deleted", sa.BigInteger),
    sa.Index("ix_model_versions_changed", "project", "changed"),
    sa.Index("ix_model_versions_created", "project", "created"),
)

model_terms = sa.Table(
    "model_terms",
    metadata,
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    # Behind them: SQLite would take a key that begins with the project for a better way than the index over values.
    sa.Column("project", sa.String(128), primary_key=True),
    sa.Column("term", sa.String(500), primary_key=True),  # a field of a search: "run", "source", "tags.KEY"
    sa.Column("value", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)
"""What a version is found by, once more than in its own row: written with that, and read by the search alone."""
sa.Index(
    "ix_model_terms_value",
    model_terms.c.project,
    model_terms.c.term,
    sa.func.substr(model_terms.c.value, 1, sa.literal_column(str(INDEXED))),
    model_terms.c.name,
    model_terms.c.version,
)

model_documents = sa.Table(
    "model_documents",
    metadata,
    sa.Column("project", sa.String(128), primary_key=True),
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("kind", sa.String(16), primary_key=True),
    sa.Column("digest", sa.String(80), nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("by", sa.String(256), nullable=False),
)

alias_moves = sa.Table(
    "alias_moves",
    metadata,
    sa.Column("project", sa.String(128), primary_key=True),
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("alias", sa.String(128), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("version", sa.Integer),  # NULL: the alias was removed
    sa.Column("previous", sa.Integer),
    sa.Column("how", sa.String(16), nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("by", sa.String(256), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
)
"""Append-only; an alias points where its last move says."""

model_aliases = sa.Table(
    "model_aliases",
    metadata,
    sa.Column("project", sa.String(128), primary_key=True),
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("alias", sa.String(128), primary_key=True),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Index("ix_model_aliases_version", "project", "name", "version"),
    sqlite_with_rowid=False,
)
"""The last move of each alias that points somewhere, so that none is looked for among all."""

model_comments = sa.Table(
    "model_comments",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("project", sa.String(128), nullable=False),
    sa.Column("name", sa.String(128), nullable=False),
    sa.Column("version", sa.Integer),  # NULL: of the model as a whole
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("by", sa.String(256), nullable=False),
    sa.Index("ix_model_comments_model", "project", "name", "id"),
    sqlite_autoincrement=True,  # an id is never given again
)
"""Append-only, until the version they are about is purged."""

approvals = sa.Table(
    "approvals",
    metadata,
    sa.Column("id", sa.String(26), primary_key=True),
    sa.Column("project", sa.String(128), nullable=False),
    sa.Column("name", sa.String(128), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("bundle", sa.String(80), nullable=False),
    sa.Column("evidence", sa.JSON, nullable=False),
    sa.Column("decision", sa.String(16), nullable=False),
    sa.Column("requested", sa.BigInteger, nullable=False),
    sa.Column("requester", sa.String(256), nullable=False),
    sa.Column("decided", sa.BigInteger),
    sa.Column("decider", sa.String(256), nullable=False, default=""),
    sa.Column("comment", sa.Text, nullable=False, default=""),
    sa.Index("ix_approvals_model", "project", "name", "version"),
)


def of_lifecycle(table: sa.Table, lifecycle: Lifecycle) -> sa.ColumnElement[bool]:
    """What holds for the rows of a table with a column `deleted`: those that live, those deleted, or all."""
    if lifecycle == "all":
        return sa.true()
    return table.c.deleted.is_(None) if lifecycle == "live" else table.c.deleted.is_not(None)
