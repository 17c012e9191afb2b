"""The database: its engine, the one set of tables, and `Tx`, the transaction that verbs are handed.

SQLite (WAL, every commit synced) by default, PostgreSQL for a team; SQLAlchemy Core covers both. A stage declares its tables on
`metadata` and never opens a connection of its own.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import hashlib
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, CursorResult, Row

from loopline import forks
from loopline.errors import Unavailable
from loopline.failpoints import failpoint
from loopline.migrations.shape import brought
from loopline.ports.clock import Clock
from loopline.prepared import Prepared
from loopline.refs import DEFAULT_PROJECT, Ref

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

REVISION = "0001"
"""The newest revision of the tables that this code knows (the last file of migrations/versions)."""


def names(kind: str, *key: str) -> dict[str, tuple[str, ...]]:
    """The `info` of a column that holds refs, one or a list: what they name is needed as long as the row is there.

    The row is of a thing whose ref is of this kind, with the name and the version (where it has one) of the columns `key`.
    """
    return {"names": (kind, *key)}


def counted_together(table: sa.Table, *columns: str) -> None:
    """Has PostgreSQL count which values of columns (or expressions) come together, as no single column can tell.

    Without it the planner takes them for independent of each other: a value that a third of all runs have for one key, of thirty
    keys, is expected thirty times too rarely. SQLite has nothing of the kind.
    """
    text = f"CREATE STATISTICS st_{table.name} (mcv) ON {', '.join(columns)} FROM {table.name}"
    table.info["statistics"] = text
    made = sa.DDL(text).execute_if(dialect="postgresql")  # type: ignore[no-untyped-call]
    sa.event.listen(table, "after_create", made)


_DISK_FULL = "53100"  # PostgreSQL's class of it; the text is the system's own
_BUSY_SECONDS = 60
_AT_ONCE = 500


class Database:
    """One database, opened. `begin()` gives transactions, `snapshot()` a connection for reading."""

    def __init__(self, url: str, clock: Clock) -> None:
        self.clock = clock
        self.turn = threading.Lock()
        self._writer: Connection | None = None
        parsed = sa.make_url(url)
        self.sqlite = parsed.get_backend_name() == "sqlite"
        if self.sqlite:
            self.engine = sa.create_engine(parsed, connect_args={"timeout": _BUSY_SECONDS, "check_same_thread": False})
            sa.event.listen(self.engine, "connect", _tune_sqlite)
            sa.event.listen(self.engine, "begin", _begin_sqlite)
        else:
            self.engine = sa.create_engine(parsed.set(drivername="postgresql+psycopg"), pool_pre_ping=True)
        forks.opened.add(self)

    def create(self) -> None:
        """Makes what is missing of the tables. Raises `Conflict` on a workspace that other code wrote."""
        with self.making() as connection:
            if brought(connection, metadata, REVISION):
                failpoint("database.create.before_commit")
                connection.commit()

    @contextlib.contextmanager
    def making(self) -> Iterator[Connection]:
        """A connection to make tables by, which are there once it is committed."""
        try:
            with self.engine.connect().execution_options(loopline_write=True) as connection:
                yield connection
        except sa.exc.OperationalError as e:
            raise _translated(e) from e

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """A connection that sees one state of the database and can only read."""
        with self.engine.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def begin(
        self,
        *,
        principal: str = "",
        project: str = DEFAULT_PROJECT,
        before_commit: Callable[[Tx], None] | None = None,
        lazy: bool = False,
    ) -> Iterator[Tx]:
        """A transaction; committed at the end, rolled back on an error.

        `lazy`: it takes the write lock only at its first write. `before_commit` runs inside it, last (the ledger's entry).
        """
        tx = Tx(self, principal=principal, project=project)
        try:
            if not lazy:
                tx.write()
            yield tx
            if before_commit is not None:
                before_commit(tx)
            tx._commit()
        except sa.exc.OperationalError as e:
            tx._rollback()
            raise _translated(e) from e
        except BaseException:
            tx._rollback()
            raise
        for callback in tx.after_commit:
            callback()

    def writer(self) -> Connection:
        """A connection to write by. SQLite's, whose writers take turns, is one that stays open."""
        if not self.sqlite:
            return self.engine.connect()
        if self._writer is None:
            self._writer = self.engine.connect().execution_options(loopline_write=True)
        return self._writer

    def close(self) -> None:
        """Gives all connections back."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self.engine.dispose()

    def forked(self) -> None:
        """Has connections and a turn of this process's own; called in a child by `forks`."""
        self.turn = threading.Lock()
        if self.sqlite:
            self.close()
        else:
            self.engine.dispose(close=False)  # to close one would end the parent's


class Tx:
    """One transaction, handed to every verb with who calls and for which project.

    Reads before the first write see what was committed when the first of them came, or newer; the first write takes the write
    lock, and from there on all statements see the newest state and are of one transaction: what was decided by an earlier read
    has to be read again.
    `note` says which refs the call read and made: they become its ledger entry.
    """

    def __init__(self, database: Database, *, principal: str, project: str) -> None:
        self.database = database
        self.principal = principal
        self.project = project
        self.now = database.clock.now()
        self.inputs: list[str] = []
        self.outputs: list[str] = []
        self.recorded = True  # False: the call changed nothing that the ledger should know of
        self.digests: dict[str, str] = {}
        self.count = 0  # items of a digested segment
        self.after_commit: list[Callable[[], None]] = []
        self._open = _Open()

    def within(self, project: str) -> Tx:
        """This very transaction, for the things of another project."""
        other = copy.copy(self)
        other.project = project
        return other

    def write(self) -> Connection:
        """The connection of the write transaction, begun now if it was not."""
        if self._open.writer is None:
            self._open.end_reading()
            self._open.begin_writing(self.database)
            self.now = max(self.now, self.database.clock.now())
        assert self._open.writer is not None
        return self._open.writer

    @property
    def wrote(self) -> bool:
        """Whether the write transaction has begun."""
        return self._open.writer is not None

    def alone(self, thing: str) -> None:
        """Waits for other transactions that write to a thing, and keeps them waiting until the end of this one.

        From here on what is read of it is the newest. SQLite has one writer at a time as it is.
        """
        connection = self.write()
        if not self.database.sqlite:
            key = int.from_bytes(
                hashlib.blake2b(f"{self.project}/{thing}".encode(), digest_size=8).digest(), signed=True
            )
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})

    def execute(self, statement: sa.Executable, parameters: Any = None) -> CursorResult[Any]:
        """Runs a statement that changes something."""
        return self.write().execute(statement, parameters)

    def run(self, prepared: Prepared, parameters: Any = None) -> Sequence[Any]:
        """Runs a prepared statement that changes something, once or for a list of parameters; gives the rows that it returns."""
        return self._prepared(self.write(), prepared, parameters)

    def upsert(self, table: sa.Table, keys: tuple[str, ...], rows: Any, columns: tuple[str, ...] = ()) -> None:
        """Adds a row, or a list of them; one of the same `keys` (none: of any key) stays as it is, but for `columns`, set anew."""
        self.run(_upsert(self.database.sqlite, table, keys, columns), rows)

    def _prepared(self, connection: Connection, prepared: Prepared, parameters: Any) -> Sequence[Any]:
        if isinstance(parameters, list) and not parameters:
            return ()
        if self.database.sqlite:
            return prepared.run(connection, parameters)
        found = connection.execute(prepared.statement, parameters)
        return found.fetchall() if found.returns_rows else ()

    def rows(self, statement: sa.Executable | Prepared, parameters: Any = None) -> Sequence[Row[Any]]:
        """All rows of a query."""
        connection = self._open.writer or self._open.reader
        if connection is None:
            connection = self._open.reader = self.database.engine.connect()
            connection.begin()
        if isinstance(statement, Prepared):
            return self._prepared(connection, statement, parameters)
        return connection.execute(statement, parameters).fetchall()

    def rows_among(
        self, query: sa.Select[Any], column: sa.ColumnElement[Any], values: Collection[Any], parameters: Any = None
    ) -> list[Row[Any]]:
        """All rows of a query whose `column` is one of these, some hundreds at a time: a statement takes so many values.

        `parameters`: those of the query's own. What it is built of is kept, so that a query made once is built once.
        """
        given, own = list(values), parameters or {}
        if len(given) == 1:
            return list(self.rows(_among(query, column, False), {**own, "among": given[0]}))
        parts = (given[at : at + _AT_ONCE] for at in range(0, len(given), _AT_ONCE))
        return [row for part in parts for row in self.rows(_among(query, column, True), {**own, "among": part})]

    def first(self, statement: sa.Executable | Prepared, parameters: Any = None) -> Row[Any] | None:
        """The first row of a query, or None."""
        found = self.rows(statement, parameters)
        return found[0] if found else None

    def scalar(self, statement: sa.Executable | Prepared, parameters: Any = None) -> Any:
        """The first value of the first row of a query, or None."""
        found = self.first(statement, parameters)
        return None if found is None else found[0]

    def ref(self, kind: str, name: str, version: object = None) -> str:
        """The printed name of a thing of this transaction's project."""
        return str(Ref(kind, name, None if version is None else str(version), self.project))

    def note(
        self, *, inputs: Sequence[str] = (), outputs: Sequence[str] = (), digests: dict[str, str] | None = None
    ) -> None:
        """Notes refs that the call read and made, and digests of what it decided on, for its ledger entry."""
        self.inputs.extend(r for r in inputs if r not in self.inputs)
        self.outputs.extend(r for r in outputs if r not in self.outputs)
        self.digests.update(digests or {})

    def _commit(self) -> None:
        self._open.end_reading()
        if self._open.writer is not None:
            failpoint("database.tx.before_commit")
            self._open.writer.commit()
            failpoint("database.tx.after_commit")
            self._open.end_writing()

    def _rollback(self) -> None:
        self._open.end_reading()
        if self._open.writer is not None:
            try:
                self._open.writer.rollback()
            except sa.exc.DBAPIError:
                self._open.writer.invalidate()  # the next transaction has another connection
            self._open.end_writing()


@functools.cache
def _upsert(for_sqlite: bool, table: sa.Table, keys: tuple[str, ...], columns: tuple[str, ...]) -> Prepared:
    insert: Any = (sqlite if for_sqlite else postgresql).insert(table)
    if not columns:
        return Prepared(insert.on_conflict_do_nothing(index_elements=keys or None))
    set_ = {name: insert.excluded[name] for name in columns}
    return Prepared(insert.on_conflict_do_update(index_elements=keys, set_=set_))


@functools.lru_cache(maxsize=128)
def _among(query: sa.Select[Any], column: sa.ColumnElement[Any], many: bool) -> sa.Select[Any]:
    """The query with its column held to one value or to a list of `many`, which come with each execution."""
    among = sa.bindparam("among", type_=column.type, expanding=many)
    return query.where(column.in_(among) if many else column == among)


class _Open:
    """The connections that a transaction holds: one to read by before its first write, and from there on one to write."""

    def __init__(self) -> None:
        self.reader: Connection | None = None
        self.writer: Connection | None = None
        self._turn: threading.Lock | None = None

    def begin_writing(self, database: Database) -> None:
        """Takes the turn among this process's writers where the database has one writer at a time, and begins."""
        if database.sqlite:
            # SQLite's own waiting sleeps and looks again, and whoever looks first is next: here the one that came first is.
            if not database.turn.acquire(timeout=_BUSY_SECONDS):
                raise _busy()
            self._turn = database.turn
        try:
            connection = database.writer()
            try:
                connection.begin()
            except BaseException:
                if not database.sqlite:
                    connection.close()
                raise
            self.writer = connection
        finally:
            if self.writer is None:
                self._give_turn()

    def end_writing(self) -> None:
        """Gives the writer back, and the turn to the next."""
        assert self.writer is not None
        if self._turn is None:
            self.writer.close()
        self.writer = None
        self._give_turn()

    def _give_turn(self) -> None:
        if self._turn is not None:
            self._turn.release()
            self._turn = None

    def end_reading(self) -> None:
        """Gives the reader back, and with it the state that it saw."""
        if self.reader is not None:
            self.reader.close()
            self.reader = None


def _tune_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver would hold back BEGIN; _begin_sqlite emits it
    for pragma in (
        "journal_mode=WAL",  # which needs a file beside the database, also to read
        "synchronous=FULL",
        "foreign_keys=ON",
        "temp_store=MEMORY",
        "mmap_size=268435456",
    ):
        try:
            connection.execute(f"PRAGMA {pragma}")
        except sqlite3.OperationalError as e:
            raise _translated(sa.exc.OperationalError(pragma, None, e)) from e


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get("loopline_write")
    opened: Any = connection.connection.dbapi_connection
    statement = "BEGIN IMMEDIATE" if write else "BEGIN"
    try:
        opened.execute(statement)  # the driver itself: SQLAlchemy's way costs as much as a query
    except sqlite3.OperationalError as e:
        raise sa.exc.OperationalError(statement, None, e) from e


def _busy() -> Unavailable:
    return Unavailable(
        f"Another writer held the database for more than {_BUSY_SECONDS} s.", code="database-busy", hint="Try again."
    )


def _translated(error: sa.exc.OperationalError) -> Exception:
    text = str(error.orig).lower()
    full = getattr(error.orig, "sqlstate", None) == _DISK_FULL or "full" in text or "disk i/o" in text
    if "locked" in text or "busy" in text or "deadlock" in text:
        return _busy()
    if full:
        return Unavailable(
            "The database cannot be written: the disk is full or failing.",
            code="disk-full",
            hint="Free some space and run it again; nothing half-done is left.",
        )
    if "connect" in text or "server closed" in text:
        return Unavailable(
            "The database does not answer.", code="database-away", hint="`loopline doctor` shows its address."
        )
    return error
