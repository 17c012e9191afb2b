"""The history of the tables: it leads to exactly the tables that the code declares, on SQLite and PostgreSQL."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from loopline import app
from loopline.database import REVISION, Database, metadata
from loopline.errors import Conflict
from loopline.migrations import upgrade
from loopline.testing.clock import FakeClock

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True, scope="module")
def _tables() -> None:
    app._know_tables()


def by_history(url: str) -> Database:
    """A database that only the revisions have made."""
    database = Database(url, FakeClock())
    with database.engine.connect().execution_options(loopline_write=True) as connection:
        upgrade(connection)
        connection.commit()
    return database


def shape(engine: sa.Engine) -> dict[str, Any]:
    """All that a database says of its tables."""
    inspector = sa.inspect(engine)

    def indexes(table: str) -> list[str]:
        if engine.dialect.name != "sqlite":
            return sorted(str(index) for index in inspector.get_indexes(table))
        with engine.connect() as connection:  # of an index on an expression SQLite tells only its SQL
            found = connection.execute(
                sa.text("SELECT sql FROM sqlite_master WHERE type = 'index' AND tbl_name = :t"), {"t": table}
            )
            return sorted(str(sql) for sql in found.scalars())

    statistics = "SELECT pg_get_statisticsobjdef(oid) FROM pg_statistic_ext WHERE stxrelid = CAST(:t AS regclass)"

    def counted(table: str) -> list[str]:
        if engine.dialect.name == "sqlite":
            return []
        with engine.connect() as connection:
            return sorted(map(str, connection.execute(sa.text(statistics), {"t": table}).scalars()))

    return {
        table: {
            "statistics": counted(table),
            "columns": [
                (c["name"], str(c["type"].compile(engine.dialect)), c["nullable"], c["default"])
                for c in inspector.get_columns(table)
            ],
            "primary": inspector.get_pk_constraint(table),
            "foreign": sorted(inspector.get_foreign_keys(table), key=str),
            "unique": sorted(inspector.get_unique_constraints(table), key=str),
            "checks": sorted(inspector.get_check_constraints(table), key=str),
            "indexes": indexes(table),
        }
        for table in inspector.get_table_names()
    }


def test_the_revisions_make_exactly_the_declared_tables(database_url: str, tmp_path: Path, request: Any) -> None:
    grown = by_history(database_url)
    found = shape(grown.engine)
    if grown.sqlite:
        fresh = Database(f"sqlite:///{tmp_path / 'fresh.db'}", FakeClock())
    else:
        with grown.engine.begin() as connection:
            connection.execute(sa.text("DROP SCHEMA public CASCADE"))
            connection.execute(sa.text("CREATE SCHEMA public"))
        fresh = Database(database_url, FakeClock())
    fresh.create()
    declared = shape(fresh.engine)
    assert set(declared) == {*metadata.tables, "alembic_version"}
    assert found.keys() == declared.keys()
    for table in declared:
        assert found[table] == declared[table], f"{table}: run `make migration`"
    grown.close()
    fresh.close()


def test_a_database_made_by_the_revisions_is_at_the_newest_and_is_taken(database_url: str) -> None:
    database = by_history(database_url)
    with database.engine.connect() as connection:
        assert connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalars().all() == [REVISION]
    database.create()
    database.close()


def test_a_workspace_of_a_newer_version_is_refused_and_left_as_it_is(database_url: str) -> None:
    database = Database(database_url, FakeClock())
    database.create()
    with database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    before = shape(database.engine)
    with pytest.raises(Conflict, match="newer version") as refused:
        database.create()
    assert refused.value.code == "workspace-newer"
    assert shape(database.engine) == before
    database.close()


def test_the_newest_revision_is_as_the_script_writes_it() -> None:
    spec = importlib.util.spec_from_file_location("migration", ROOT / "scripts" / "migration.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    file = script.FOLDER / f"{REVISION}_tables.py"
    assert file.read_text() == script.rendered(), "run `make migration`"


def test_tables_of_another_state_of_the_program_are_refused_by_name(database_url: str) -> None:
    database = by_history(database_url)
    database.create()
    for change, said in (
        ("ALTER TABLE alerts DROP COLUMN comment", "its table alerts lacks the column comment"),
        ("ALTER TABLE alerts ADD COLUMN remark TEXT", "its table alerts lacks the column comment"),
        ("ALTER TABLE alerts ADD COLUMN comment TEXT", "its table alerts has the column remark"),
    ):
        with database.engine.connect().execution_options(loopline_write=True) as connection:
            connection.execute(sa.text(change))
            connection.commit()
        with pytest.raises(Conflict, match=said) as caught:
            database.create()
        assert caught.value.code == "workspace-other"
        assert "--workspace DIR" in caught.value.hint
    database.close()
