"""The tables of tracking: runs and what each says in short in the main database; points, which may be in a file of their own.

A run's printed identity is its ULID (`id`); within the tables it is a small number, and every key is a word of one dictionary, so
that a value and its index take some tens of bytes. The indexes carry (key, value): a filter on one value reads what it finds.
"""

from __future__ import annotations

import sqlalchemy as sa

from loopline.database import Database, counted_together, metadata
from loopline.failpoints import failpoint

INDEXED = 64
"""So many characters of a text are in its index; equality compares them first and the whole after."""

words = sa.Table(
    "run_words",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("word", sa.String(250), nullable=False, unique=True),
)
"""The keys of params, tags and metrics, each once; a row never changes."""

environments = sa.Table(
    "run_environments",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("digest", sa.String(80), nullable=False, unique=True),
    sa.Column("body", sa.JSON, nullable=False),
)
"""What runs were executed in, each once: many runs share one."""

run_senders = sa.Table(
    "run_senders",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("sender", sa.String(26), nullable=False, unique=True),
    sa.Column("project", sa.String(128), nullable=False),
    sa.Column("principal", sa.String(256), nullable=False),
    sa.Column("taken", sa.BigInteger, nullable=False),  # the last batch that is taken; all before it are
    sa.Column("digest", sa.String(80), nullable=False),  # of that batch
    sa.Column("at", sa.BigInteger, nullable=False),
)
"""How far each journal has been taken."""

run_groups = sa.Table(
    "run_groups",
    metadata,
    sa.Column("project", sa.String(128), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),  # counted in the project
    sa.Column("name", sa.String(500), nullable=False),
    sa.Column("note", sa.Text, nullable=False, default=""),
    sa.Column("tags", sa.JSON, nullable=False),
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("creator", sa.String(256), nullable=False),
    sa.Column("changed", sa.BigInteger, nullable=False),
    sa.Column("deleted", sa.BigInteger),  # since when; NULL: it is live
    sa.Column(
        "last", sa.Integer, nullable=False, default=0
    ),  # of number 0: the last number that was given in its project
    sqlite_with_rowid=False,
)
"""Runs that belong together. Number 0 is there in every project; it has a row once there is something to say of it."""
sa.Index(
    "ix_run_groups_name",
    run_groups.c.project,
    run_groups.c.name,
    unique=True,
    sqlite_where=run_groups.c.deleted.is_(None),
    postgresql_where=run_groups.c.deleted.is_(None),
)

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("id", sa.String(26), nullable=False),
    sa.Column("project", sa.String(128), nullable=False),
    sa.Column("group", sa.Integer, nullable=False, default=0),  # the number of a group of the project
    sa.Column("name", sa.String(250), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("creator", sa.String(256), nullable=False),
    sa.Column("ended", sa.BigInteger),
    sa.Column("deleted", sa.BigInteger),  # since when; NULL: it is live
    sa.Column("message", sa.Text, nullable=False, default=""),
    sa.Column("note", sa.Text, nullable=False, default=""),
    sa.Column("parent", sa.Integer, sa.ForeignKey("runs.number")),
    sa.Column("environment", sa.Integer, sa.ForeignKey("run_environments.id")),
    sa.Column("sender", sa.Integer, sa.ForeignKey("run_senders.number")),  # the journal that began it
    sa.Column("batches", sa.Integer, nullable=False, default=0),  # of points, that are acknowledged; see `series.py`
    sa.Column("external", sa.Integer, nullable=False, default=0),  # how many rows of `run_external` it has
    sa.Index("ix_runs_page", "project", "id", unique=True),
    sa.Index("ix_runs_created", "project", "created"),
    sa.Index("ix_runs_group", "project", "group", "id"),
    sa.Index("ix_runs_name", "project", "name", "id"),
    sa.Index("ix_runs_parent", "parent", sqlite_where=sa.text("parent IS NOT NULL")),
    sa.Index(
        "ix_runs_deleted",
        "project",
        "deleted",
        sqlite_where=sa.text("deleted IS NOT NULL"),
        postgresql_where=sa.text("deleted IS NOT NULL"),
    ),
    sqlite_autoincrement=True,  # a number is never given again: points of another file may carry it
)

run_refs = sa.Table(
    "run_refs",
    metadata,
    sa.Column("run", sa.Integer, sa.ForeignKey("runs.number"), primary_key=True),
    sa.Column("side", sa.SmallInteger, primary_key=True),  # 0: an input, 1: an output
    sa.Column("place", sa.Integer, primary_key=True),
    sa.Column("ref", sa.Text, nullable=False),
    sa.Index("ix_run_refs_ref", "ref", "side", "run"),
    sqlite_with_rowid=False,
)

external_datasets = sa.Table(
    "run_external_datasets",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("content", sa.String(80), nullable=False, unique=True),  # digest of all that follows
    sa.Column("name", sa.String(500), nullable=False),
    sa.Column("digest", sa.String(500), nullable=False),
    sa.Column("source_type", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("schema", sa.Text, nullable=False),
    sa.Column("profile", sa.Text, nullable=False),
)
"""What programs say of data that is held elsewhere, each once: many runs read the same."""

run_external = sa.Table(
    "run_external",
    metadata,
    sa.Column("run", sa.Integer, sa.ForeignKey("runs.number"), primary_key=True),
    sa.Column("place", sa.Integer, primary_key=True),
    sa.Column("dataset", sa.Integer, sa.ForeignKey("run_external_datasets.id"), nullable=False),
    sa.Column("context", sa.String(500), nullable=False),
    sa.Column("tags", sa.JSON, nullable=False),
    sa.Index("ix_run_external_dataset", "dataset", "run"),
    sqlite_with_rowid=False,
)

run_params = sa.Table(
    "run_params",
    metadata,
    sa.Column("run", sa.Integer, sa.ForeignKey("runs.number"), primary_key=True),
    sa.Column("key", sa.Integer, sa.ForeignKey("run_words.id"), primary_key=True),
    sa.Column("value", sa.Text),  # canonical JSON; NULL: that of `number`
    sa.Column("number", sa.Double),  # of a number, and of a text that spells one
    sqlite_with_rowid=False,
)
sa.Index(
    "ix_run_params_number",
    run_params.c.key,
    run_params.c.number,
    run_params.c.run,
    sqlite_where=run_params.c.number.is_not(None),
    postgresql_where=run_params.c.number.is_not(None),
)
sa.Index(
    "ix_run_params_value",
    run_params.c.key,
    sa.func.substr(run_params.c.value, 1, sa.literal_column(str(INDEXED))),
    run_params.c.run,
    sqlite_where=run_params.c.value.is_not(None),
    postgresql_where=run_params.c.value.is_not(None),
)
counted_together(run_params, "key", f"substr(value, 1, {INDEXED})")

run_corrections = sa.Table(
    "run_corrections",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("run", sa.Integer, sa.ForeignKey("runs.number"), nullable=False),
    sa.Column("key", sa.Integer, sa.ForeignKey("run_words.id"), nullable=False),
    sa.Column("value", sa.Text, nullable=False),  # canonical JSON of what stood there before
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("by", sa.String(256), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Index("ix_run_corrections_run", "run", "id"),
)

run_tags = sa.Table(
    "run_tags",
    metadata,
    sa.Column("run", sa.Integer, sa.ForeignKey("runs.number"), primary_key=True),
    sa.Column("key", sa.Integer, sa.ForeignKey("run_words.id"), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)
sa.Index(
    "ix_run_tags_value",
    run_tags.c.key,
    sa.func.substr(run_tags.c.value, 1, sa.literal_column(str(INDEXED))),
    run_tags.c.run,
)
counted_together(run_tags, "key", f"substr(value, 1, {INDEXED})")

run_series = sa.Table(
    "run_series",
    metadata,
    sa.Column("run", sa.Integer, sa.ForeignKey("runs.number"), primary_key=True),
    sa.Column("key", sa.Integer, sa.ForeignKey("run_words.id"), primary_key=True),
    sa.Column("last", sa.Double),  # by step, then time, then value; NULL is NaN, which SQLite cannot hold
    sa.Column("low", sa.Double),  # the least and the greatest value that is no NaN; NULL: that of `last`
    sa.Column("high", sa.Double),
    sa.Column("step", sa.BigInteger, nullable=False),
    sa.Column("time", sa.BigInteger, nullable=False),
    sa.Index("ix_run_series_last", "key", "last", "run"),
    sqlite_with_rowid=False,
)
"""One row a metric of a run: which there are, and what each says in short."""

run_measures = sa.Table(
    "run_measures",
    metadata,
    sa.Column("model", sa.Integer, sa.ForeignKey("runs.number"), primary_key=True),  # of the kind "model"
    sa.Column("key", sa.Integer, sa.ForeignKey("run_words.id"), primary_key=True),
    sa.Column("time", sa.BigInteger, primary_key=True),
    sa.Column("step", sa.BigInteger, primary_key=True),
    sa.Column("run", sa.Integer, sa.ForeignKey("runs.number"), primary_key=True),  # which measured it
    sa.Column("value", sa.Double),  # NULL is NaN, which SQLite cannot hold
    sa.Column("dataset", sa.Text, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Index("ix_run_measures_run", "run"),
    sqlite_with_rowid=False,
)
"""What runs measured of a logged model."""

run_console = sa.Table(
    "run_console",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("run", sa.Integer, sa.ForeignKey("runs.number"), nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Index("ix_run_console_run", "run", "id"),
)
"""What a run printed, piece by piece."""

run_searches = sa.Table(
    "run_searches",
    metadata,
    sa.Column("project", sa.String(128), primary_key=True),
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("filter", sa.Text, nullable=False),
    sa.Column("order", sa.JSON, nullable=False),
    sa.Column("by", sa.String(256), nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""Searches that were given a name."""

run_retention = sa.Table(
    "run_retention",
    metadata,
    sa.Column("project", sa.String(128), primary_key=True),
    sa.Column("deleted", sa.BigInteger),  # so many milliseconds deleted runs and groups are kept; NULL: for ever
    sa.Column("tags", sa.JSON, nullable=False),  # those by which runs are kept longer
    sa.Column("by", sa.String(256), nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

run_purged = sa.Table(
    "run_purged",
    metadata,
    sa.Column("id", sa.String(26), primary_key=True),
    sa.Column("project", sa.String(128), primary_key=True),
    sa.Column("number", sa.Integer),  # as long as points of it may be left
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Index(
        "ix_run_purged_number",
        "number",
        sqlite_where=sa.text("number IS NOT NULL"),
        postgresql_where=sa.text("number IS NOT NULL"),
    ),
    sqlite_with_rowid=False,
)
"""The ids of runs that were removed for good: what their journals still bring is dropped."""

run_artifacts = sa.Table(
    "run_artifacts",
    metadata,
    sa.Column("run", sa.Integer, sa.ForeignKey("runs.number"), primary_key=True),
    sa.Column("path", sa.String(1024), primary_key=True),
    sa.Column("digest", sa.String(80), nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("created", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

hot_points = sa.Table(
    "run_points_hot",
    metadata,
    sa.Column("run", sa.Integer, primary_key=True),
    sa.Column("batch", sa.Integer, primary_key=True),  # counts only up to `batches` of its run
    sa.Column("exact", sa.Boolean, nullable=False),  # of journals, which are taken once: the same point twice is two
    sa.Column("points", sa.LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
"""Points as they came, all keys of a batch in one row (see `points.py`). No foreign key: the table may be in another file."""

folded_points = sa.Table(
    "run_points_folded",
    metadata,
    sa.Column("run", sa.Integer, primary_key=True),
    sa.Column("key", sa.Integer, primary_key=True),
    sa.Column("chunk", sa.Integer, primary_key=True),
    sa.Column("exact", sa.Boolean, nullable=False),
    sa.Column("count", sa.Integer, nullable=False),  # of its points: a chunk of few is filled up
    sa.Column("points", sa.LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
"""The points of one metric of a run, packed closely: what hot rows become."""


def create_points(database: Database) -> None:
    """Makes the tables of points in a database file of their own, where they are not there yet."""
    with database.making() as connection:
        metadata.create_all(connection, tables=[hot_points, folded_points])
        failpoint("tracking.points.before_create_commit")
        connection.commit()
