"""Prepared statements give what SQLAlchemy gives, on SQLite by its driver and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from loopline.database import Database, Tx
from loopline.ports.clock import SystemClock
from loopline.prepared import Prepared

_METADATA = sa.MetaData()
_THINGS = sa.Table(
    "things",
    _METADATA,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(40), nullable=False, unique=True),
    sa.Column("weight", sa.Float),
    sa.Column("raw", sa.LargeBinary),
    sa.Column("said", sa.JSON),
)
_ADD = Prepared(sa.insert(_THINGS).returning(_THINGS.c.number))
_ALL = sa.select(_THINGS).order_by(_THINGS.c.number)
_LIGHT = sa.select(_THINGS.c.name, sa.literal("light").label("how")).where(_THINGS.c.weight < sa.bindparam("most"))
ROWS: list[dict[str, Any]] = [
    {"name": "a", "weight": 1.5, "raw": b"\0\xff", "said": {"deep": [1, None, "é"]}},
    {"name": "b", "weight": None, "raw": None, "said": None},
    {"name": "c", "weight": -0.0, "raw": b"", "said": [True, 1e300]},
]


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url, SystemClock())
    with opened.engine.begin() as connection:
        _METADATA.drop_all(connection)
        _METADATA.create_all(connection)
    yield opened
    opened.close()


def _seen(tx: Tx, query: Any) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in tx.rows(query)]


def test_rows_are_those_of_sqlalchemy(database: Database) -> None:
    with database.begin() as tx:
        assert [tx.run(_ADD, row)[0].number for row in ROWS] == [1, 2, 3]
    with database.begin(lazy=True) as tx:
        found = tx.rows(Prepared(_ALL))
        assert [tuple(row) for row in found] == _seen(tx, _ALL)
        assert [(row.name, row.raw, row.said) for row in found] == [(r["name"], r["raw"], r["said"]) for r in ROWS]
        light = tx.first(Prepared(_LIGHT), {"most": 1})
        assert light is not None
        assert (light.name, light.how) == ("c", "light")
        assert tx.scalar(Prepared(_LIGHT), {"most": -9}) is None


def test_a_list_is_taken_at_once_and_what_is_said_anew_replaces(database: Database) -> None:
    with database.begin() as tx:
        tx.upsert(_THINGS, ("name",), ROWS)
        tx.upsert(_THINGS, ("name",), [])
        tx.upsert(_THINGS, ("name",), {"name": "a", "weight": 9.0, "raw": b"x", "said": {}}, ("weight",))
        tx.upsert(_THINGS, (), {"name": "b", "weight": 9.0, "raw": b"x", "said": {}})
        found = {row.name: row for row in tx.rows(Prepared(_ALL))}
    assert {name: row.weight for name, row in found.items()} == {"a": 9.0, "b": None, "c": 0.0}
    assert found["a"].said == ROWS[0]["said"]
    assert found["b"].raw is None


def test_errors_are_sqlalchemys(database: Database) -> None:
    with pytest.raises(sa.exc.IntegrityError), database.begin() as tx:
        tx.upsert(_THINGS, ("number",), [ROWS[0] | {"number": n} for n in (1, 2)])
    with database.begin() as tx:  # the writer that failed is as good as new
        assert tx.rows(Prepared(_ALL)) == []
        tx.run(_ADD, ROWS[0])


def test_a_kind_that_the_driver_reads_otherwise_is_refused() -> None:
    days = sa.Table("days", sa.MetaData(), sa.Column("day", sa.Date))
    opened = Database("sqlite://", SystemClock())
    with pytest.raises(TypeError, match="Date"), opened.begin() as tx:
        tx.rows(Prepared(sa.select(days)))
    opened.close()


def test_a_parameter_that_is_forgotten_is_no_null(database: Database) -> None:
    with pytest.raises(sa.exc.StatementError), database.begin(lazy=True) as tx:
        tx.rows(Prepared(_LIGHT), {})
