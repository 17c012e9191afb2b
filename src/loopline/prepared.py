"""Statements that never vary, prepared once for the driver of SQLite itself.

SQLAlchemy runs a statement of SQLite in some 20 microseconds, the driver in 3: for what each request asks that is most of its
time. On PostgreSQL, where a query is a trip over a socket, SQLAlchemy runs them.
"""

from __future__ import annotations

import json
import sqlite3
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import Connection

_DIALECT = sqlite.dialect(paramstyle="named")
_PLAIN = (sa.Integer, sa.String, sa.Float, sa.LargeBinary, sa.types.NullType)
"""Types whose values are the same for the driver as for SQLAlchemy."""


class Prepared:
    """A statement with named parameters. Both they and its columns are integers, texts, floats, bytes or JSON; `Tx` runs it."""

    def __init__(self, statement: Any) -> None:
        self.statement = statement
        self._compiled: dict[tuple[str, ...], _Compiled] = {}

    def run(self, connection: Connection, parameters: Any = None) -> list[Any]:
        """Runs it by the driver of SQLite, once or, with a list of parameters, for each; gives its rows, with their columns' names.

        Raises the errors of SQLAlchemy.
        """
        several = isinstance(parameters, Sequence)
        given = parameters[0] if several else parameters or {}
        compiled = self._compiled.get(keys := tuple(given)) or self._compile(keys)
        opened: Any = connection.connection.dbapi_connection
        try:
            if several:
                opened.executemany(compiled.text, [compiled.bound(one) for one in parameters])
                return []
            found = opened.execute(compiled.text, compiled.bound(given)).fetchall()
        except sqlite3.Error as e:
            raise sa.exc.DBAPIError.instance(compiled.text, parameters, e, sqlite3.Error, dialect=_DIALECT) from e
        return [compiled.row(one) for one in found]

    def _compile(self, keys: tuple[str, ...]) -> _Compiled:
        compiled = self.statement.compile(dialect=_DIALECT, column_keys=keys)
        columns = getattr(self.statement, "exported_columns", {})
        binds = {name: bind.type for name, bind in compiled.binds.items()}
        row: Any = namedtuple("row", list(columns.keys()), rename=True)  # type: ignore[misc]
        read, written = (column.type for column in columns), binds.values()
        for kind in (*read, *(kind for kind in written if not isinstance(kind, sa.Boolean))):
            if not isinstance(kind, (*_PLAIN, sa.JSON)):
                raise TypeError(f"{kind!r} is not the same for the driver: {compiled}")
        self._compiled[keys] = made = _Compiled(
            text=str(compiled),
            own={name: value for name, value in compiled.params.items() if not compiled.binds[name].required},
            written=[name for name, kind in binds.items() if isinstance(kind, sa.JSON)],
            named=row._make,
            read=[place for place, column in enumerate(columns) if isinstance(column.type, sa.JSON)],
        )
        return made


@dataclass(frozen=True, kw_only=True)
class _Compiled:
    """A statement for parameters of certain names."""

    text: str
    own: dict[str, Any]
    """Values that are the statement's own."""
    written: Sequence[str]
    """Parameters that are JSON."""
    named: Callable[[Sequence[Any]], Any]
    """What makes a row of the driver's."""
    read: Sequence[int]
    """The places of columns that are JSON."""

    def bound(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters as the driver takes them."""
        found = {**self.own, **given}
        for name in self.written:
            found[name] = json.dumps(found[name])
        return found

    def row(self, values: Sequence[Any]) -> Any:
        """A row as the driver gives it."""
        if not self.read:
            return self.named(values)
        found = list(values)
        for place in self.read:
            if found[place] is not None:
                found[place] = json.loads(found[place])
        return self.named(found)
