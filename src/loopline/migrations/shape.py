"""The tables behind a connection: made where there are none, brought up to date, or found to be another program's."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from loopline.errors import Conflict

_COLUMNS = {
    "sqlite": "SELECT m.name, c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table'",
    "postgresql": "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = current_schema()",
}


def brought(connection: Connection, declared: sa.MetaData, revision: str) -> bool:
    """Makes what is missing of the declared tables, in the connection's transaction; gives whether something was.

    Raises `Conflict` for tables that newer code has written, or another state of the revision: one is written anew until it is
    released.
    """
    version = sa.table("alembic_version", sa.column("version_num"))
    if sa.inspect(connection).has_table("alembic_version"):
        found = connection.execute(sa.select(version.c.version_num)).scalar()
        if found == revision:
            _check(connection, declared, revision)
            return False
        if found is None or found > revision:
            raise Conflict(
                f"The workspace is of a newer version: its tables are at revision {found}, this program knows {revision}.",
                code="workspace-newer",
                hint="Update loopline, or use another workspace (--workspace DIR).",
            )
        connection.rollback()
        from loopline.migrations import upgrade

        upgrade(connection)
        return True
    connection.rollback()
    if connection.dialect.name != "sqlite":
        # Two programs may make the same database at once; PostgreSQL's DDL needs them in turn.
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(7163)"))
    declared.create_all(connection)
    connection.execute(
        sa.text(
            "CREATE TABLE IF NOT EXISTS alembic_version (version_num VARCHAR(32) NOT NULL, "
            "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
        )
    )
    if connection.execute(sa.select(version.c.version_num)).scalar() is None:
        connection.execute(sa.insert(version).values(version_num=revision))
    return True


def _check(connection: Connection, declared: sa.MetaData, revision: str) -> None:
    """Raises `Conflict` where a table or column is missing, or one stands beside those declared."""
    found: dict[str, set[str]] = {}
    for table, column in connection.execute(sa.text(_COLUMNS[connection.dialect.name])):
        found.setdefault(table, set()).add(column)
    for table in declared.sorted_tables:
        wanted, there = {column.name for column in table.c}, found.get(table.name, set())
        if wanted == there:
            continue
        odd = min(wanted - there or there - wanted)
        raise Conflict(
            f"The workspace was made by another state of the program: at revision {revision}, too, but its table {table.name} "
            f"{'lacks' if odd in wanted else 'has'} the column {odd}.",
            code="workspace-other",
            hint="Until 0.1.0 is released tables may change from one state to the next, and are not brought up to date: open it "
            "with the state that made it, or use another workspace (--workspace DIR).",
        )
