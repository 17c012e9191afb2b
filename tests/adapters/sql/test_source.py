"""Rows of real databases, whole and by a mark: none lost, none twice, types kept, nothing written, and told where one goes away."""

from __future__ import annotations

import datetime as dt
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa

from loopline.adapters.sql import source as sql
from loopline.errors import Invalid, MissingExtra, NotFound, Unavailable
from loopline.foreign import row_source
from loopline.ports.source import Piece, Source
from loopline.testing.source import Place, Row, SourceLaws


class Clinic:
    """A database with a table of visits."""

    def __init__(self, url: str, **options: str) -> None:
        self.url = url
        self.secret = sa.make_url(url).password or ""
        self.options = options or {"table": "visits"}
        self.engine = sa.create_engine(
            sa.make_url(url).set(drivername="postgresql+psycopg") if "postgres" in url else url
        )
        if "sqlite" in url:
            with self.engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA journal_mode = WAL")  # else who reads keeps others from writing
        self.do("CREATE TABLE visits (id INTEGER, word VARCHAR(40))")

    def do(self, *statements: str) -> None:
        with self.engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def put(self, rows: Sequence[Row]) -> None:
        with self.engine.begin() as connection:
            connection.execute(sa.text("INSERT INTO visits VALUES (:id, :word)"), [*rows])

    def open(self) -> Source:
        return row_source(self.url, self.options, Path("/nowhere"))

    def vanish(self) -> None:
        self.do("DROP TABLE visits")

    def read(self, after: Any = None, **options: str) -> list[Piece]:
        return list(row_source(self.url, options or self.options, Path("/nowhere")).read(after))


@pytest.fixture
def clinics() -> Iterator[list[Clinic]]:
    made: list[Clinic] = []
    yield made
    for clinic in made:
        clinic.engine.dispose()


@pytest.fixture
def clinic(database_url: str, clinics: list[Clinic]) -> Clinic:
    clinics.append(Clinic(database_url))
    return clinics[-1]


WAYS: list[dict[str, str]] = [
    {"table": "visits"},
    {"query": "SELECT id, word FROM visits WHERE word <> ':x 100%' ;"},
    {"table": "visits", "mark": "id"},
    {"query": "SELECT word, id FROM visits", "mark": "id"},
]


class TestSql(SourceLaws):
    @pytest.fixture(params=WAYS, ids=["table", "query", "table by mark", "query by mark"])
    def place(self, request: pytest.FixtureRequest, database_url: str, clinics: list[Clinic]) -> Place:
        clinics.append(Clinic(database_url, **request.param))
        return clinics[-1]


class TestSmallPieces(TestSql):
    @pytest.fixture(autouse=True)
    def _small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sql, "_ROWS", 2)


def ids(pieces: Sequence[Piece]) -> list[int]:
    return [row["id"] for piece in pieces if piece.rows is not None for row in piece.rows.to_pylist()]


def test_rows_of_one_mark_are_given_once_each(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "_ROWS", 2)
    clinic.do("ALTER TABLE visits ADD COLUMN day DATE")

    def put(*rows: tuple[int, str]) -> None:
        clinic.do(*(f"INSERT INTO visits VALUES ({n}, 'same', '{day}')" for n, day in rows))

    put((1, "2026-01-01"), (2, "2026-01-02"), (3, "2026-01-02"), (3, "2026-01-02"))
    first = clinic.read(table="visits", mark="day")
    assert ids(first) == [1, 2, 3, 3]
    for number, piece in enumerate(first, 1):
        assert ids(clinic.read(piece.position, table="visits", mark="day")) == ids(first[number:])
    put((4, "2026-01-02"), (3, "2026-01-02"), (5, "2026-01-03"))
    second = clinic.read(first[-1].position, table="visits", mark="day")
    assert sorted(ids(second)) == [3, 4, 5]
    clinic.do("ALTER TABLE visits ADD COLUMN ward VARCHAR(9)")
    put_ward = "INSERT INTO visits VALUES (6, 'same', '2026-01-03', 'n')"
    clinic.do(put_ward)
    assert ids(clinic.read(second[-1].position, table="visits", mark="day")) == [6], (
        "a column that came makes no row new"
    )


def test_types_are_kept(clinic: Clinic) -> None:
    exact = "TIMESTAMP" if "postgres" in clinic.url else "DATETIME"
    clinic.do(
        f"CREATE TABLE kinds (n BIGINT, x DOUBLE PRECISION, amount NUMERIC(10, 2), day DATE, at {exact}, ok BOOLEAN, word TEXT)",
        "INSERT INTO kinds VALUES (9007199254740993, 0.1, 12.34, '2026-01-31', '2026-01-31 10:00:00.5', true, 'ä')",
        "INSERT INTO kinds VALUES (NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
    )
    (piece,) = clinic.read(table="kinds")
    assert piece.rows is not None
    assert piece.rows.schema.types == [
        pa.int64(), pa.float64(), pa.float64(), pa.date32(), pa.timestamp("us"), pa.bool_(), pa.string(),
    ]  # fmt: skip
    moment = dt.datetime.fromisoformat("2026-01-31T10:00:00.5")
    assert list(piece.rows.to_pylist()[0].values()) == [
        9007199254740993, 0.1, 12.34, dt.date(2026, 1, 31), moment, True, "ä",
    ]  # fmt: skip
    assert set(piece.rows.to_pylist()[1].values()) == {None}


def test_marks_of_each_kind(clinic: Clinic) -> None:
    exact = "TIMESTAMP" if "postgres" in clinic.url else "DATETIME"
    clinic.do(f"CREATE TABLE marks (id INTEGER, at {exact}, amount NUMERIC(20, 4), big BIGINT, word TEXT)")
    for n in range(3):
        clinic.do(f"INSERT INTO marks VALUES ({n}, '2026-01-0{n + 1} 10:00:00', {n}.25, {2**60 + n}, 'w{n}')")
    for mark in ("at", "amount", "big", "word"):
        (first,) = clinic.read(table="marks", mark=mark)
        clinic.do(f"INSERT INTO marks VALUES (9, '2026-02-01 10:00:00', 9.25, {2**60 + 9}, 'w9')")
        assert ids(clinic.read(first.position, table="marks", mark=mark)) == [9], mark
        clinic.do("DELETE FROM marks WHERE id = 9")


def test_rows_without_a_mark_are_told(clinic: Clinic) -> None:
    clinic.do("INSERT INTO visits VALUES (1, 'a')", "INSERT INTO visits VALUES (NULL, 'b')")
    with pytest.raises(Invalid, match=r"1 rows of .* have no value in 'id'"):
        clinic.read(table="visits", mark="id")


def test_a_coarse_mark_is_told(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "_MOST_EQUAL", 3)
    clinic.do(*("INSERT INTO visits VALUES (1, 'a')" for _ in range(4)))
    with pytest.raises(Invalid, match="More than 3 rows") as caught:
        clinic.read(table="visits", mark="id")
    assert caught.value.code == "coarse-mark"


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM visits",
        "DROP TABLE visits",
        "SELECT 1; DROP TABLE visits",
        "WITH gone AS (DELETE FROM visits RETURNING id) SELECT * FROM gone",
        "UPDATE visits SET id = 2",
        "PRAGMA writable_schema = 1",
        "COPY visits TO PROGRAM 'id'",
    ],
)
def test_nothing_is_written(clinic: Clinic, query: str) -> None:
    clinic.put([{"id": 1, "word": "a"}])
    with pytest.raises((Invalid, Unavailable)):
        clinic.read(query=query)
    assert ids(clinic.read(table="visits")) == [1]


@pytest.mark.postgres
def test_documents_and_arrays_are_json(postgres_url: str, clinics: list[Clinic]) -> None:
    clinics.append(clinic := Clinic(postgres_url))
    clinic.do(
        "CREATE TABLE odd (doc jsonb, tags text[], at date[], word text)",
        """INSERT INTO odd VALUES ('{"a": [1, null, "é"]}', ARRAY['x', 'it''s'], ARRAY[DATE '2026-03-01'], 'w')""",
        "INSERT INTO odd VALUES (NULL, NULL, NULL, NULL)",
    )
    (piece,) = clinic.read(table="odd")
    assert piece.rows is not None
    assert piece.rows.to_pylist() == [
        {"doc": '{"a": [1, null, "é"]}', "tags": '["x", "it\'s"]', "at": '["2026-03-01"]', "word": "w"},
        {"doc": None, "tags": None, "at": None, "word": None},
    ]


@pytest.mark.postgres
def test_a_name_that_is_given_twice_is_refused(postgres_url: str, clinics: list[Clinic]) -> None:
    clinics.append(clinic := Clinic(postgres_url))
    with pytest.raises(Invalid, match="'id' twice"):
        clinic.read(query="SELECT id, id FROM visits")


@pytest.mark.postgres
def test_a_function_that_writes_is_refused(postgres_url: str, clinics: list[Clinic]) -> None:
    clinics.append(clinic := Clinic(postgres_url))
    clinic.do(
        "CREATE FUNCTION sly() RETURNS INTEGER LANGUAGE sql AS $$ INSERT INTO visits VALUES (7, 'x') RETURNING id $$",
        "INSERT INTO visits VALUES (1, 'a')",
    )
    with pytest.raises(Invalid, match="read-only"):
        clinic.read(query="SELECT sly() AS id")
    assert ids(clinic.read(table="visits")) == [1]


@pytest.mark.postgres
def test_a_database_that_goes_away_half_way(
    postgres_url: str, clinics: list[Clinic], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "_ROWS", 1000)
    clinics.append(clinic := Clinic(postgres_url, table="visits", mark="id"))
    clinic.do("INSERT INTO visits SELECT n, repeat('x', 40) FROM generate_series(1, 50000) AS n")
    reading = clinic.open().read(None)
    first = next(reading)
    clinic.do(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    with pytest.raises(Unavailable, match="went away") as caught:
        list(reading)
    assert caught.value.code == "source-away"
    assert ids([first, *clinic.read(first.position)]) == list(range(1, 50_001)), "what was given is good"


@pytest.mark.postgres
def test_a_large_table_is_read_in_little_memory(postgres_url: str, clinics: list[Clinic]) -> None:
    clinics.append(clinic := Clinic(postgres_url))
    clinic.do("INSERT INTO visits SELECT n, repeat('x', 40) FROM generate_series(1, 400000) AS n")
    most = rows = 0
    tracemalloc.start()
    try:
        for piece in clinic.open().read(None):
            assert piece.rows is not None
            rows += piece.rows.num_rows
            most = max(most, tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()
    assert rows == 400_000
    assert most < 24 << 20, "all rows at once are over 60 MB"


def test_what_is_asked_wrongly_is_named(tmp_path: Path, clinic: Clinic) -> None:
    for options, error, said in (
        ({}, Invalid, "either a table or a query"),
        ({"table": "visits", "query": "SELECT 1"}, Invalid, "either a table or a query"),
        ({"table": "vists"}, NotFound, "no table 'vists'"),
        ({"table": "visits", "mark": "at"}, Invalid, "no column 'at'"),
        ({"query": "SELECT nothing FROM visits"}, (Invalid, Unavailable), "nothing"),
    ):
        with pytest.raises(error, match=said):
            list(row_source(clinic.url, options, tmp_path).read(None))
    with pytest.raises(NotFound, match="no file"):
        list(row_source(f"sqlite:///{tmp_path}/gone.db", {"table": "a"}, tmp_path).read(None))
    assert not (tmp_path / "gone.db").exists()
    with pytest.raises(MissingExtra, match="mysql"):
        list(row_source("mysql://127.0.0.1/x", {"table": "a"}, tmp_path).read(None))
    with pytest.raises(Unavailable, match="does not answer"):
        list(row_source("postgresql://127.0.0.1:1/x", {"table": "a"}, tmp_path).read(None))
