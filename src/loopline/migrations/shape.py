"""Whether the tables that are there are those of this program: a revision is written anew until it is released."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from loopline.errors import Conflict

_COLUMNS = {
    "sqlite": "SELECT m.name, c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table'",
    "postgresql": "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = current_schema()",
}


def check_shape(connection: Connection, declared: sa.MetaData, revision: str) -> None:
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
