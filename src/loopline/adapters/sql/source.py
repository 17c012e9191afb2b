"""A table or a query of a database as a source of rows, whole each time or by a mark that only rises.

With `mark` rows are read in its order, and the next reading begins at the last value that it gave, without the rows of that very
value that were given already: they are known by digests, so that of equal marks none is lost or taken twice. A row that comes to be
seen later below that value is not read: the mark has to rise in the order in which rows are committed.

Only a SELECT is taken, in a transaction that can write nothing; rows come through a cursor of the server, some thousands at a
time. Types are those of the driver: days, times, whole numbers; decimals are numbers, documents and lists are JSON as text.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from loopline.errors import Invalid, MissingExtra, NotFound, Unavailable
from loopline.ports.source import Piece, Position

_ROWS = 20_000  # of a piece, so that a table of any size is read in the same memory
_MOST_EQUAL = 10_000  # rows of one mark; each is told apart in the position
_AT = "_mark_as_stored"
_SELECT = re.compile(r"\s*(select|with|values|table)\b", re.I)
_KINDS: dict[type, pa.DataType] = {
    bool: pa.bool_(), int: pa.int64(), float: pa.float64(), Decimal: pa.float64(), str: pa.string(), bytes: pa.binary(),
    dt.date: pa.date32(), dt.datetime: pa.timestamp("us"), dt.time: pa.string(), dt.timedelta: pa.duration("us"),
}  # fmt: skip


class SqlSource:
    """Rows of a database. `table` or `query`, of which one is given; `mark` is a column that only rises.

    Raises `Invalid` for what is no SELECT, `MissingExtra` where the driver is not installed, `NotFound` for a table or a file that
    is not there, `Unavailable` where the database does not answer or goes away.
    """

    def __init__(
        self, url: str, *, table: str | None = None, query: str | None = None, mark: str | None = None
    ) -> None:
        try:
            self._url = sa.make_url(url)
        except sa.exc.ArgumentError as e:
            raise Invalid("The address is no URL of a database.", code="bad-source", hint=_HOW) from e
        if self._url.get_backend_name() == "postgresql" and self._url.get_driver_name() == "psycopg2":
            self._url = self._url.set(drivername="postgresql+psycopg")
        if (table is None) == (query is None):
            raise Invalid(f"{self.name}: give either a table or a query.", code="bad-option", hint=_HOW)
        if query is not None and (not _SELECT.match(query) or ";" in query.strip().rstrip(";")):
            raise Invalid(
                f"{self.name} is asked for something else than rows.",
                code="not-a-select",
                hint="Only one SELECT is taken.",
            )
        self._table, self._query = table, query.strip().rstrip(";") if query is not None else None
        self._mark = mark
        self._engine: sa.Engine | None = None

    @property
    def name(self) -> str:
        """The address without its password."""
        return self._url.set(password=None, query={}).render_as_string()

    @property
    def grows(self) -> bool:
        """Whether rows are read by a mark."""
        return self._mark is not None

    @property
    def once(self) -> bool:
        """Never: it stays where it is."""
        return False

    def read(self, after: Position | None) -> Iterator[Piece]:
        """Pieces of some thousands of rows."""
        with self._answering(), self._connected() as connection:
            rows = self._rows(connection)
            statement = sa.select(rows)
            if self._mark is None:
                yield from self._pieces(connection, statement, {})
                return
            column = sa.type_coerce(rows.c[self._mark], sa.types.NullType())  # as it is stored: SQLite compares texts
            if unmarked := connection.execute(sa.select(sa.func.count()).where(column.is_(None))).scalar():
                raise Invalid(
                    f"{unmarked:,} rows of {self.name} have no value in {self._mark!r}, and would never be read.",
                    code="no-mark",
                    hint="Name a column that every row has, or read the table whole.",
                )
            statement = sa.select(column.label(_AT), rows).order_by(column)
            if after is not None:
                statement = statement.where(column >= _mark_of(after["mark"]))
            yield from self._pieces(connection, statement, after or {})

    def done(self, position: Position) -> None:
        """Nothing: rows stay where they are."""

    def close(self) -> None:
        """Gives connections back."""
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    def _pieces(self, connection: sa.Connection, statement: sa.Select[Any], after: Position) -> Iterator[Piece]:
        result = connection.execution_options(stream_results=True, max_row_buffer=_ROWS).execute(statement)
        names, kinds = list(map(str, result.keys())), [_kind(column.type) for column in statement.selected_columns]
        given = _Given(names, after) if self._mark is not None else None
        for number in count(1):
            rows = result.fetchmany(_ROWS)
            if not rows and (given is not None or number > 1):
                return
            if given is None:
                yield Piece(name=f"rows, part {number}", position={"part": number}, rows=_table(rows, names, kinds))
            elif fresh := given.fresh(rows):
                table = _table([row[1:] for row in fresh], names[1:], kinds[1:])
                yield Piece(name=f"rows, part {number}", position=given.position(self.name), rows=table)

    def _rows(self, connection: sa.Connection) -> sa.FromClause:
        if self._query is not None:
            asked = self._query.replace(":", "\\:")  # a colon is one, and names no value to be put in
            described = connection.execute(sa.select(sa.text("*")).select_from(sa.text(f"({asked}) asked")).limit(0))
            names = list(described.keys())
            if twice := [name for name in names if names.count(name) > 1]:
                raise Invalid(
                    f"The query gives {twice[0]!r} twice.", code="table-names", hint="Name each column: SELECT a AS b."
                )
            rows: sa.FromClause = sa.text(asked).columns(*map(sa.column, names)).subquery("asked")
        else:
            schema, _, table = str(self._table).rpartition(".")
            try:
                rows = sa.Table(table, sa.MetaData(), autoload_with=connection, schema=schema or None)
            except sa.exc.NoSuchTableError as e:
                known = sa.inspect(connection).get_table_names(schema or None)
                raise NotFound(
                    f"{self.name} has no table {self._table!r}.",
                    code="no-table",
                    hint=f"It has: {', '.join(known[:20])}.",
                ) from e
        if self._mark is not None and self._mark not in rows.c:
            raise Invalid(
                f"{self.name} gives no column {self._mark!r}.",
                code="no-column",
                hint=f"It gives: {', '.join(rows.c.keys())}.",
            )
        return rows

    @contextlib.contextmanager
    def _connected(self) -> Iterator[sa.Connection]:
        if self._url.get_backend_name() == "sqlite" and (self._url.database or "") != "":
            file = Path(str(self._url.database).removeprefix("file:"))
            if not file.is_file():
                raise NotFound(f"There is no file {file}.", code="no-file", hint="Look at its name.")
        if self._engine is None:
            try:
                self._engine = sa.create_engine(self._url, poolclass=sa.pool.NullPool)
            except (ModuleNotFoundError, sa.exc.NoSuchModuleError) as e:
                raise self._missing(e) from e
        with self._engine.connect() as connection:
            if self._url.get_backend_name() == "sqlite":
                connection.exec_driver_sql("PRAGMA query_only = ON")
            elif self._url.get_backend_name() == "postgresql":
                connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            yield connection

    def _missing(self, error: Exception) -> MissingExtra:
        if self._url.get_backend_name() == "postgresql":
            return MissingExtra(f"{self.name} needs psycopg.", extra="postgres")
        return MissingExtra(
            f"No driver for {self._url.drivername} is installed ({error}).",
            hint="Install the one that SQLAlchemy names for it.",
        )

    @contextlib.contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.OperationalError as e:
            raise Unavailable(
                f"{self.name} does not answer, or went away: {_said(e)}.",
                code="source-away",
                hint="What was read before is kept only with the whole; read again when it is back: loopline data sync",
            ) from e
        except ValueError as e:  # a text of SQLite where the column is said to hold a time
            raise Invalid(
                f"{self.name} holds what its columns do not allow: {e}.",
                code="source-refuses",
                hint="Ask for the column as text: --query 'SELECT CAST(a AS TEXT) AS a ...'",
            ) from e
        except sa.exc.DBAPIError as e:
            raise Invalid(
                f"{self.name} refuses: {_said(e)}.", code="source-refuses", hint="Try the query there."
            ) from e


_HOW = (
    "postgresql://ann:${PASSWORD}@host/clinic or sqlite:///file.db, with --option table=visits or --query 'SELECT ...'"
)


class _Given:
    """The rows of the highest mark so far: what tells them from others of the same mark that come later."""

    def __init__(self, names: Sequence[str], after: Position) -> None:
        self._known = list(after.get("columns", names[1:]))
        self._places = [names.index(name) if name in names else None for name in self._known]
        self._mark: Any = _mark_of(after["mark"]) if after else None
        self._digests = list(after.get("given", []))
        self._before = Counter(self._digests)

    def fresh(self, rows: Sequence[Any]) -> Sequence[Any]:
        """Those of the rows that were not given before."""
        found = []
        for row in rows:
            digest = self._digest(row)
            if self._before and row[0] == self._mark and self._before[digest]:
                self._before[digest] -= 1
                continue
            if row[0] != self._mark:
                self._mark, self._digests = row[0], []
            self._digests.append(digest)
            found.append(row)
        return found

    def position(self, name: str) -> Position:
        """The highest mark, and the digests of its rows."""
        if len(self._digests) > _MOST_EQUAL:
            raise Invalid(
                f"More than {_MOST_EQUAL:,} rows of {name} have one and the same mark.",
                code="coarse-mark",
                hint="Name a finer column, such as a number or a time of writing.",
            )
        return {"mark": _position(self._mark), "given": list(self._digests), "columns": self._known}

    def _digest(self, row: Any) -> str:
        values = [None if place is None else row[place] for place in self._places]
        return hashlib.blake2b(repr(values).encode(), digest_size=12).hexdigest()


def _said(error: sa.exc.DBAPIError) -> str:
    return str(error.orig).strip().partition("\n")[0].rstrip(".")


def _kind(declared: sa.types.TypeEngine[Any]) -> pa.DataType | None:
    """The type of a column as Arrow has it, where the table declares one."""
    if isinstance(declared, sa.DateTime) and declared.timezone:
        return pa.timestamp("us", tz="UTC")
    try:
        return _KINDS.get(declared.python_type)
    except NotImplementedError:
        return None


def _table(rows: Sequence[Any], names: Sequence[str], kinds: Sequence[pa.DataType | None]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) if rows else [() for _ in names]
    return pa.table([_array(values, kind) for values, kind in zip(columns, kinds, strict=True)], names=list(names))


def _array(values: Sequence[Any], kind: pa.DataType | None) -> pa.Array:
    """One column; a value that its declared type does not hold (SQLite keeps any) makes the column what the values are."""
    plain = [_plain(value) for value in values]
    present = {type(value) for value in plain if value is not None}
    if kind is None or not all(_holds(kind, one) for one in present):
        kind = _found(present)
    if kind == pa.timestamp("us") and any(value is not None and value.tzinfo for value in plain):
        kind = pa.timestamp("us", tz="UTC")
    if kind == pa.string():
        plain = [value if value is None or isinstance(value, str) else str(value) for value in plain]
    try:
        return pa.array(plain, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):  # an integer beyond 64 bits, a date beyond the calendar
        return pa.array([None if value is None else str(value) for value in plain], pa.string())


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, dt.datetime) and value.tzinfo is not None:
        return value.astimezone(dt.UTC)
    if value is None or type(value) in _KINDS:
        return str(value) if isinstance(value, dt.time) else value
    if isinstance(value, memoryview):
        return bytes(value)
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)  # an identifier, an address


def _holds(kind: pa.DataType, one: type) -> bool:
    return (
        _KINDS.get(one) == kind
        or (one is int and kind == pa.float64())
        or (one is dt.datetime and pa.types.is_timestamp(kind))
    )


def _found(present: set[type]) -> pa.DataType:
    if present == {int, float}:
        return pa.float64()
    return _KINDS.get(next(iter(present)), pa.string()) if len(present) == 1 else pa.string()


def _position(value: Any) -> Any:
    """A mark as JSON: as text where it is none of its values, with what reads it."""
    if isinstance(value, dt.datetime | dt.date):
        return {"time" if isinstance(value, dt.datetime) else "day": value.isoformat()}
    if isinstance(value, Decimal):
        return {"number": str(value)}
    if isinstance(value, int) and abs(value) >= 2**53:
        return {"integer": str(value)}
    return value if isinstance(value, int | float | str) else {"text": str(value)}


def _mark_of(position: Any) -> Any:
    if not isinstance(position, dict):
        return position
    ((kind, text),) = position.items()
    read: dict[str, Any] = {
        "time": dt.datetime.fromisoformat,
        "day": dt.date.fromisoformat,
        "number": Decimal,
        "integer": int,
        "text": str,
    }
    return read[kind](text)
