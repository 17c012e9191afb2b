"""Delta tables of others keep to the laws of sources; what the log cannot lead to is told."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections.abc import Sequence
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from loopline.errors import Conflict, Invalid, NotFound, Refused
from loopline.foreign import row_source
from loopline.ports.source import Source
from loopline.testing.objects import Objects
from loopline.testing.source import Place, Row, SourceLaws

_buckets = count()


class Table:
    """A table that somebody else writes."""

    secret = ""

    def __init__(self, uri: str, options: dict[str, str], *, store: Objects | None = None) -> None:
        self.uri = uri
        self.address = f"delta+{uri}" if store else uri
        self.options = options
        self.storage: dict[str, str] | None = None
        if store:
            self.options |= store.options
            self.storage = {f"aws_{key}": value for key, value in store.options.items()} | {
                "allow_http": "true",
                "conditional_put": "etag",
            }
            self.secret = store.secret_access_key
            self.bucket = store.bucket(uri.split("/")[2])

    def put(self, rows: Sequence[Row]) -> None:
        table = pl.DataFrame(rows).to_arrow(compat_level=pl.CompatLevel.oldest())
        write_deltalake(self.uri, table, mode="append", storage_options=self.storage)

    def open(self) -> Source:
        return row_source(self.address, self.options, Path("/nowhere"))

    def vanish(self) -> None:
        if self.storage:
            self.bucket.delete([meta["path"] for page in self.bucket.list() for meta in page])
        else:
            shutil.rmtree(self.uri)


class TestDelta(SourceLaws):
    @pytest.fixture(params=["a folder", "a folder, whole", "a bucket"])
    def place(self, request: pytest.FixtureRequest, tmp_path: Path) -> Place:
        if request.param == "a bucket":
            store: Objects = request.getfixturevalue("object_store")
            return Table(f"s3://tables{next(_buckets)}/visits", {}, store=store)
        return Table(str(tmp_path / "visits"), {"whole": "true"} if request.param.endswith("whole") else {})


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(str(tmp_path / "visits"), {})


def given(table: Table, after: dict[str, Any] | None = None, **options: str) -> pl.DataFrame:
    pieces = row_source(table.address, options, Path("/nowhere")).read(after)
    found = [pl.DataFrame(pl.from_arrow(piece.rows)) for piece in pieces if piece.rows is not None]
    return pl.concat(found) if found else pl.DataFrame()


def last(table: Table) -> dict[str, Any]:
    *_, piece = row_source(table.address, {}, Path("/nowhere")).read(None)
    return piece.position


def rows(*ids: int) -> list[Row]:
    return [{"id": n, "word": f"w{n}"} for n in ids]


def test_a_version_is_read_as_it_was(table: Table) -> None:
    table.put(rows(1, 2))
    table.put(rows(3))
    DeltaTable(table.uri).delete("id = 1")
    assert given(table, version="0")["id"].to_list() == [1, 2]
    assert sorted(given(table, version="1")["id"].to_list()) == [1, 2, 3]
    assert sorted(given(table)["id"].to_list()) == [2, 3]
    source = row_source(table.address, {"version": "0"}, Path("/nowhere"))
    assert not source.grows
    *_, piece = source.read(None)
    assert list(source.read(piece.position)) == []
    with pytest.raises(NotFound, match=r"no version 9 \(its newest is 2\)"):
        given(table, version="9")


def test_types_and_partitions_are_those_of_the_table(table: Table) -> None:
    day = dt.date(2026, 3, 1)
    written = pa.table(
        {
            "n": pa.array([1, 2, None], pa.int16()),
            "amount": pa.array([Decimal("1.50"), None, Decimal("-2.25")], pa.decimal128(9, 2)),
            "at": pa.array([dt.datetime(2026, 3, 1, tzinfo=dt.UTC)] * 3, pa.timestamp("us", "UTC")),
            "ward": ["a/b c%é", None, "z"],
            "day": pa.array([day, None, day]),
        }
    )
    write_deltalake(table.uri, written, partition_by=["ward", "day"])
    found = given(table)
    assert found.schema["amount"] == pl.Decimal(9, 2)
    assert found.sort("n", nulls_last=True).to_dicts() == written.to_pylist()


def test_a_column_that_came_later_is_missing_in_earlier_files(table: Table) -> None:
    table.put(rows(1))
    position = last(table)
    write_deltalake(table.uri, pa.table({"id": [2], "word": ["b"], "days": [7]}), mode="append", schema_mode="merge")
    assert given(table).sort("id")["days"].to_list() == [None, 7]
    assert given(table, position)["days"].to_list() == [7]


@pytest.mark.parametrize("how", ["delete", "update", "overwrite"])
def test_rows_that_were_changed_are_told_and_lead_to_a_whole_reading(table: Table, how: str) -> None:
    table.put(rows(1, 2))
    position = last(table)
    table.put(rows(3))
    if how == "delete":
        DeltaTable(table.uri).delete("id = 1")
    elif how == "update":
        DeltaTable(table.uri).update(updates={"word": "'other'"}, predicate="id = 1")
    else:
        write_deltalake(table.uri, pa.table({"id": [9], "word": ["z"]}), mode="overwrite")
    pieces = row_source(table.address, {}, Path("/nowhere")).read(position)
    assert next(pieces).position["version"] == 1, "what was appended before is good"
    with pytest.raises(Conflict, match=r"Commit 2 of .* \((DELETE|UPDATE|WRITE)\) changed or removed rows") as caught:
        next(pieces)
    assert (caught.value.code, "whole=true" in caught.value.hint) == ("source-changed", True)
    whole = given(table, whole="true")
    assert sorted(whole["id"].to_list()) == ([9] if how == "overwrite" else [2, 3] if how == "delete" else [1, 2, 3])


def test_rows_that_were_only_moved_are_passed_over(table: Table) -> None:
    for n in range(5):
        table.put(rows(n))
    position = last(table)
    table.put(rows(5))
    DeltaTable(table.uri).optimize.compact()
    table.put(rows(6))
    assert sorted(given(table, position)["id"].to_list()) == [5, 6]


def test_a_reading_within_a_version_goes_on_where_it_was_though_more_was_appended(table: Table) -> None:
    for n in range(4):
        table.put(rows(n))
    reading = row_source(table.address, {}, Path("/nowhere")).read(None)
    first = next(reading)
    table.put(rows(4))
    taken = pl.DataFrame(pl.from_arrow(first.rows))["id"].to_list()  # type: ignore[arg-type]
    assert sorted(taken + given(table, first.position)["id"].to_list()) == [0, 1, 2, 3, 4]


def test_what_the_owner_removed_is_told(table: Table) -> None:
    table.put(rows(1))
    position = last(table)
    write_deltalake(table.uri, pa.table({"id": [9], "word": ["z"]}), mode="overwrite")
    DeltaTable(table.uri).vacuum(0, enforce_retention_duration=False, dry_run=False)
    with pytest.raises(Conflict, match=r"Files of version 0 of .* its owner vacuumed it") as caught:
        given(table, version="0")
    assert caught.value.code == "delta-vacuumed"
    (Path(table.uri) / "_delta_log" / f"{1:020}.json").rename(Path(table.uri) / "away")
    shutil.copy(Path(table.uri) / "away", Path(table.uri) / "_delta_log" / f"{1:020}.json")
    for n in (3, 4):
        table.put(rows(n))
    DeltaTable(table.uri).create_checkpoint()
    (Path(table.uri) / "_delta_log" / f"{1:020}.json").unlink()
    with pytest.raises(Conflict, match=r"What commit 1 of .* did is not told any more") as gone:
        given(table, position)
    assert gone.value.code == "delta-log-gone"
    assert sorted(given(table, whole="true")["id"].to_list()) == [3, 4, 9]


def test_another_table_at_the_same_place_is_told(table: Table) -> None:
    table.put(rows(1))
    position = last(table)
    shutil.rmtree(table.uri)
    table.put(rows(1))
    table.put(rows(2))
    with pytest.raises(Conflict, match="Another table stands at"):
        given(table, position)


def changed(table: Table, **parts: Any) -> None:
    """The table's first commit with parts of its actions replaced."""
    file = Path(table.uri) / "_delta_log" / f"{0:020}.json"
    actions = [json.loads(line) for line in file.read_text().splitlines()]
    for action in actions:
        for kind, values in parts.items():
            if kind in action:
                action[kind] |= values
    file.write_text("\n".join(map(json.dumps, actions)))


def protocol(*features: str) -> dict[str, Any]:
    return {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": features, "writerFeatures": features}


VECTOR = {
    "storageType": "u",
    "pathOrInlineDv": "ab^-aqEH.-t@S}K{vb[*k^",
    "offset": 4,
    "sizeInBytes": 40,
    "cardinality": 1,
}


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        ({"protocol": protocol("deletionVectors"), "add": {"deletionVector": VECTOR}}, "deletionVectors"),
        ({"protocol": protocol("typeWidening")}, "typeWidening"),
        ({"protocol": protocol("variantType")}, "variantType"),
        ({"protocol": protocol("columnMapping"), "metaData": {"configuration": {"delta.columnMapping.mode": "name"}}},
         "olumn ?[mM]apping"),
        ({"protocol": protocol("nonsense")}, "nonsense"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_cannot_be_read_is_refused_by_name(table: Table, parts: dict[str, Any], named: str) -> None:
    table.put(rows(1, 2))
    changed(table, **parts)
    with pytest.raises(Invalid, match=named) as caught:
        given(table)
    assert caught.value.code == "delta-feature"


def test_features_that_are_declared_and_not_used_are_no_hindrance(table: Table) -> None:
    table.put(rows(1, 2))
    changed(table, protocol=protocol("deletionVectors", "timestampNtz"))
    assert given(table)["id"].to_list() == [1, 2]


@pytest.mark.parametrize("path", ["../../secret.parquet", "/etc/passwd", "s3://other/x.parquet", "a/%2E%2E/%2E%2E/x"])
def test_a_file_outside_of_the_table_is_not_read(table: Table, path: str) -> None:
    table.put(rows(1, 2))
    pl.DataFrame({"id": [666]}).write_parquet(Path(table.uri).parent / "secret.parquet")
    changed(table, add={"path": path})
    with pytest.raises((Invalid, Conflict)) as caught:
        given(table)
    assert caught.value.code in ("source-outside", "delta-vacuumed")


def test_a_damaged_log_is_told(table: Table) -> None:
    table.put(rows(1))
    position = last(table)
    table.put(rows(2))
    source = row_source(table.address, {}, Path("/nowhere"))
    reading = source.read(position)
    table_log = Path(table.uri) / "_delta_log" / f"{1:020}.json"
    content = table_log.read_bytes()
    DeltaTable(table.uri).create_checkpoint()
    table_log.write_bytes(content[:-20])
    with pytest.raises(Invalid) as caught:
        next(reading)
    assert caught.value.code in ("source-damaged", "delta-feature")


def test_a_damaged_file_is_told(table: Table) -> None:
    table.put(rows(1, 2))
    (file,) = Path(table.uri).glob("*.parquet")
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(Invalid, match="is damaged") as caught:
        given(table)
    assert file.name in caught.value.message


def test_what_is_no_table_is_told(tmp_path: Path, object_store: Objects) -> None:
    remote = Table("s3://refused/visits", {}, store=object_store)
    remote.put(rows(1))
    with pytest.raises(NotFound, match="There is no Delta table at"):
        list(row_source("delta+s3://refused/nothing", remote.options, tmp_path).read(None))
    wrong = remote.options | {"secret_access_key": "not the secret"}
    with pytest.raises(Refused, match="lets nobody read") as caught:
        list(row_source(remote.address, wrong, tmp_path).read(None))
    assert "not the secret" not in str(caught.value)
    for address in (
        "delta+s3://",
        "delta+s3://bucket",
        "delta+s3://user:password@bucket/t",
        "delta+gopher://b/t",
        "delta://x",
    ):
        with pytest.raises(Invalid, match="names no table") as refused:
            row_source(address, {}, tmp_path)
        assert "password" not in str(refused.value)
    with pytest.raises(Invalid, match="no option 'endpoint'"):
        row_source(_table(tmp_path), {"endpoint": "x"}, tmp_path)
    with pytest.raises(Invalid, match="The option version"):
        row_source(_table(tmp_path), {"version": "x"}, tmp_path)


def _table(folder: Path) -> str:
    (folder / "t" / "_delta_log").mkdir(parents=True, exist_ok=True)
    return str(folder / "t")


def test_a_folder_with_a_log_and_no_table_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="There is no Delta table at"):
        list(row_source(_table(tmp_path), {}, tmp_path).read(None))
