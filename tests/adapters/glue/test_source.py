"""Tables of a Glue catalog (moto's server), their files on a real store, keep to the laws of sources."""

from __future__ import annotations

import contextlib
import datetime as dt
import gzip
import io
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import boto3
import polars as pl
import pyarrow as pa
import pytest

from loopline.adapters.glue.types import arrow_type
from loopline.errors import Invalid, LooplineError, MissingExtra, NotFound, Refused, Unavailable
from loopline.foreign import row_source
from loopline.ports.source import Piece, Source
from loopline.testing.objects import Objects, free_port
from loopline.testing.source import Place, Row, SourceLaws

_buckets = count()
_HIVE = "org.apache.hadoop.hive"
PARQUET = {"SerializationLibrary": f"{_HIVE}.ql.io.parquet.serde.ParquetHiveSerDe"}
TEXT = {"SerializationLibrary": f"{_HIVE}.serde2.lazy.LazySimpleSerDe", "Parameters": {"field.delim": "|"}}
CSV = {"SerializationLibrary": f"{_HIVE}.serde2.OpenCSVSerde", "Parameters": {"separatorChar": ","}}
JSON = {"SerializationLibrary": "org.openx.data.jsonserde.JsonSerDe"}


@pytest.fixture(scope="module")
def catalog() -> Iterator[str]:
    """The address of a catalog."""
    port = free_port()
    program = Path(sys.executable).with_name("moto_server")
    process = subprocess.Popen([program, "-H", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/").close()
                break
            except OSError:
                assert process.poll() is None, "moto's server did not start"
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


class Table:
    """A table of a catalog; `day` is its partition where it has any."""

    def __init__(self, catalog: str, store: Objects, scratch: Path) -> None:
        self.name = f"glue{next(_buckets)}"
        self.bucket = store.bucket(self.name)
        self.place = f"s3://{self.name}/visits/"
        self.options = store.options | {"catalog": catalog}
        self.secret = store.secret_access_key
        self.scratch = scratch
        self.numbers = count()
        keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}
        self.client: Any = boto3.client("glue", endpoint_url=catalog, **keys)  # type: ignore[call-overload]
        self.client.create_database(DatabaseInput={"Name": self.name})
        self.address = f"glue://{self.name}/visits"

    def declare(
        self, columns: dict[str, str], serde: dict[str, Any], partition: dict[str, str] | None = None, **more: Any
    ) -> None:
        self.descriptor = {"Columns": _columns(columns), "Location": self.place, "SerdeInfo": serde}
        keys = _columns(partition or {})
        given = {"Name": "visits", "StorageDescriptor": self.descriptor, "PartitionKeys": keys, **more}
        self.client.create_table(DatabaseName=self.name, TableInput=given)

    def register(self, *values: str, under: str) -> None:
        there = {**self.descriptor, "Location": f"{self.place}{under}"}
        self.client.create_partition(
            DatabaseName=self.name, TableName="visits", PartitionInput={"Values": [*values], "StorageDescriptor": there}
        )

    def write(self, key: str, content: bytes | pl.DataFrame) -> None:
        if isinstance(content, pl.DataFrame):
            buffer = io.BytesIO()
            content.write_parquet(buffer)
            content = buffer.getvalue()
        self.bucket.put(f"visits/{key}", content)

    def pieces(self, after: dict[str, Any] | None = None) -> list[Piece]:
        return list(self.open().read(after))

    def rows(self) -> list[dict[str, Any]]:
        return [row for piece in self.pieces() if piece.rows is not None for row in piece.rows.to_pylist()]

    def open(self) -> Source:
        return row_source(self.address, self.options, self.scratch)


class Partitioned(Table):
    """A table to which each day brings a partition."""

    def put(self, rows: Sequence[Row]) -> None:
        number = next(self.numbers)
        if not number:
            self.declare({"id": "bigint", "word": "string"}, PARQUET, {"day": "date"})
        self.write(f"day={number}/part.parquet", pl.DataFrame(rows))
        self.register(f"2026-03-{number + 1:02}", under=f"day={number}")

    def vanish(self) -> None:
        self.client.delete_table(DatabaseName=self.name, Name="visits")


class Plain(Partitioned):
    """A table without partitions, of JSON, to which files come."""

    def put(self, rows: Sequence[Row]) -> None:
        number = next(self.numbers)
        if not number:
            self.declare({"id": "bigint", "word": "string"}, JSON)
        self.write(f"{number}.json", pl.DataFrame(rows).write_ndjson().encode())


class TestGlue(SourceLaws):
    @pytest.fixture(params=[Partitioned, Plain, "whole"])
    def place(self, request: pytest.FixtureRequest, catalog: str, object_store: Objects, tmp_path: Path) -> Place:
        kind = Partitioned if request.param == "whole" else request.param
        table = kind(catalog, object_store, tmp_path)
        table.options |= {"whole": "true"} if request.param == "whole" else {}
        return table  # type: ignore[no-any-return]


@pytest.fixture
def table(catalog: str, object_store: Objects, tmp_path: Path) -> Table:
    return Table(catalog, object_store, tmp_path)


def _columns(named: dict[str, str]) -> list[dict[str, str]]:
    return [{"Name": name, "Type": kind} for name, kind in named.items()]


TYPES = {
    "n": "int",
    "amount": "decimal(7,2)",
    "rate": "double",
    "ok": "boolean",
    "day": "date",
    "at": "timestamp",
    "word": "string",
}
ROW = {
    "n": 7, "amount": Decimal("1234.50"), "rate": 0.25, "ok": True, "day": dt.date(2026, 3, 1),
    "at": dt.datetime.fromisoformat("2026-03-01 12:30:00.5"), "word": 'a "b", c|d',
}  # fmt: skip
NOTHING = dict.fromkeys(TYPES)


@pytest.mark.parametrize("form", ["parquet", "text", "csv", "json", "packed"])
def test_types_are_those_of_the_catalog(table: Table, form: str) -> None:
    row = ROW | ({"word": "a b"} if form == "text" else {})
    nothing = NOTHING | ({"word": ""} if form == "csv" else {})
    if form == "parquet":
        table.declare(TYPES, PARQUET)
        frame = pl.DataFrame(pl.from_arrow(pa.Table.from_pylist([row, nothing])))
        table.write("a.parquet", frame.with_columns(pl.col("n").cast(pl.Int8)))
    elif form == "text":
        table.declare(TYPES, TEXT, None, Parameters={"skip.header.line.count": "1"})
        head, absent = b"|".join(name.encode() for name in TYPES), rb"\N||\N|\N|\N|\N|\N"
        table.write("a.txt", head + b"\n7|1234.50|0.25|TRUE|2026-03-01|2026-03-01 12:30:00.5|a b\n" + absent)
    elif form == "csv":
        table.declare(TYPES, CSV)
        table.write("a.csv", b'7,1234.5,"0.25",true,2026-03-01,2026-03-01 12:30:00.500,"a ""b"", c|d"\n,,,,,,\n')
    else:
        table.declare(TYPES, JSON)
        line = rb"""{"N":7,"amount":1234.50,"rate":0.25,"ok":true,"day":"2026-03-01","at":"2026-03-01 12:30:00.5","""
        content = line + rb""""word":"a \"b\", c|d"}""" + b"\n\n{}\n"
        packed = form == "packed"
        table.write("a.json.gz" if packed else "a.json", gzip.compress(content) if packed else content)
    (piece,) = table.pieces()
    assert piece.rows is not None
    assert piece.refused == ()
    assert piece.rows.to_pylist() == [row, nothing]
    assert piece.rows.schema == pa.schema([(name, arrow_type(kind)) for name, kind in TYPES.items()])


def test_partitions_are_columns_and_new_ones_are_new_pieces(table: Table) -> None:
    table.declare({"id": "bigint"}, PARQUET, {"day": "date", "ward": "string"})
    frame = pl.DataFrame({"id": [1]})
    table.write("day=2026-03-02/ward=b/a.parquet", frame)
    table.write("day=2026-03-01/ward=x/a.parquet", frame)
    table.write("not registered/a.parquet", frame)
    table.register("2026-03-02", "b", under="day=2026-03-02/ward=b/")
    (first,) = table.pieces()
    table.register("2026-03-01", "__HIVE_DEFAULT_PARTITION__", under="day=2026-03-01/ward=x")
    (second,) = table.pieces(first.position)
    assert first.rows is not None
    assert second.rows is not None
    assert first.rows.to_pylist() == [{"id": 1, "day": dt.date(2026, 3, 2), "ward": "b"}]
    assert second.rows.to_pylist() == [{"id": 1, "day": dt.date(2026, 3, 1), "ward": None}]


def test_a_partition_is_where_it_is_said_to_be_and_nowhere_else(table: Table) -> None:
    table.declare({"id": "bigint"}, PARQUET, {"word": "string"})
    for n, key in enumerate(("word=a*/a.parquet", "word=ab/a.parquet", "word=a*/deep/word=c/a.parquet")):
        table.write(key, pl.DataFrame({"id": [n]}))
    table.register("a*", under="word=a*")
    table.register("c", under="word=a*/deep/word=c")
    assert sorted(table.rows(), key=lambda row: int(row["id"])) == [{"id": 0, "word": "a*"}, {"id": 2, "word": "c"}]


def test_lines_that_disagree_are_refused_one_by_one(table: Table) -> None:
    table.declare({"id": "tinyint", "amount": "decimal(4,1)"}, TEXT)
    table.write("a.txt", b"1|2.5\nx|1.0\n300|1.0\n2|1.23\n3|4|5\n4\n5|9.9\n")
    (piece,) = table.pieces()
    assert piece.rows is not None
    assert piece.rows.column("id").to_pylist() == [1, 5]
    assert sorted(refused.content for refused in piece.refused) == [b"2|1.23", b"300|1.0", b"3|4|5", b"4", b"x|1.0"]
    assert {refused.reason for refused in piece.refused} >= {
        "'id' is no int8, as the catalog says",
        "'amount' is no decimal128(4, 1), as the catalog says",
        "3 values, where the catalog has 2 columns",
    }


def test_objects_that_disagree_are_refused_one_by_one(table: Table) -> None:
    table.declare({"id": "tinyint", "ok": "boolean", "tags": "array<struct<a:int,b:string>>", "x": "double"}, JSON)
    good = b'{"id":1,"ok":false,"tags":[{"a":1,"b":"c"}],"x":3}'
    bad = [
        b'{"id":"1"}', b'{"id":1.5}', b'{"id":300}', b'{"id":true}', b'{"ok":1}', b'{"more":1}', b"[1]", b'{"id":', b"\xff",
        b'{"tags":"no"}', b'{"x":"3"}', b'{"id":1e400}',
    ]  # fmt: skip
    table.write("a.json", b"\n".join([good, *bad]))
    (piece,) = table.pieces()
    assert piece.rows is not None
    assert piece.rows.to_pylist() == [{"id": 1, "ok": False, "tags": [{"a": 1, "b": "c"}], "x": 3.0}]
    assert [refused.content for refused in piece.refused] == bad


@pytest.mark.parametrize(
    ("frame", "told"),
    [
        (pl.DataFrame({"id": ["1"], "word": ["a"]}), "'id' as large_string, where the catalog says int32"),
        (pl.DataFrame({"id": [1], "word": ["a"]}), "'id' as int64, where the catalog says int32"),
        (pl.DataFrame({"id": [1], "more": [1]}, schema={"id": pl.Int32, "more": pl.Int32}),
         "column 'more', which the catalog does not tell of"),
    ],
    ids=["text", "wider", "more"],
)  # fmt: skip
def test_a_parquet_file_that_disagrees_is_told(table: Table, frame: pl.DataFrame, told: str) -> None:
    table.declare({"id": "int", "word": "string"}, PARQUET)
    table.write("a.parquet", frame)
    with pytest.raises(Invalid, match=r"a\.parquet has") as caught:
        table.pieces()
    assert caught.value.code == "source-schema"
    assert told in caught.value.message


def test_a_column_that_a_file_lacks_is_missing(table: Table) -> None:
    table.declare({"id": "int", "word": "string"}, PARQUET)
    table.write("a.parquet", pl.DataFrame({"ID": [1]}, schema={"ID": pl.Int16}))
    assert table.rows() == [{"id": 1, "word": None}]


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"TableType": "VIRTUAL_VIEW"}, "is a view table"),
        ({"Parameters": {"table_type": "ICEBERG"}}, "is a ICEBERG table"),
        ({"Parameters": {"spark.sql.sources.provider": "delta"}}, "is a delta table"),
    ],
    ids=["view", "iceberg", "delta"],
)
def test_tables_that_are_not_their_files_are_refused(table: Table, how: dict[str, Any], told: str) -> None:
    table.declare({"id": "int"}, PARQUET, None, **how)
    with pytest.raises(Invalid, match=told) as caught:
        table.pieces()
    assert caught.value.code == "source-kind"
    assert "delta" not in told or f"delta+{table.place}" in caught.value.hint


def test_what_cannot_be_read_is_told(table: Table, catalog: str) -> None:
    table.declare({"id": "int"}, {"SerializationLibrary": f"{_HIVE}.ql.io.orc.OrcSerde"})
    with pytest.raises(Invalid, match="OrcSerde, which is not known here"):
        table.pieces()
    table.client.delete_table(DatabaseName=table.name, Name="visits")
    table.declare({"id": "interval"}, PARQUET)
    with pytest.raises(Invalid, match=r"Column 'id' of .* cannot be read"):
        table.pieces()
    table.client.delete_table(DatabaseName=table.name, Name="visits")
    table.declare({"id": "int"}, PARQUET, {"day": "date"})
    with pytest.raises(NotFound, match="has no partition yet"):
        table.pieces()
    table.register("yesterday", under="day=yesterday")
    table.write("day=yesterday/a.parquet", pl.DataFrame({"id": [1]}, schema={"id": pl.Int32}))
    with pytest.raises(Invalid, match="'yesterday', which is no date32"):
        table.pieces()
    table.client.delete_table(DatabaseName=table.name, Name="visits")
    table.declare({"id": "int"}, PARQUET)
    table.write("x.parquet", b"PAR1 but no more")
    with pytest.raises(Invalid, match="is damaged, or not in the format"):
        table.pieces()


def test_a_catalog_that_does_not_answer_is_told(table: Table, tmp_path: Path) -> None:
    away = table.options | {"catalog": f"http://127.0.0.1:{free_port()}"}
    with pytest.raises(Unavailable, match="does not answer as it should") as caught:
        list(row_source(table.address, away, tmp_path).read(None))
    assert caught.value.code == "source-away"
    for address in ("glue://", "glue://visits", "glue://user:password@a/b"):
        with pytest.raises(Invalid) as refused:
            row_source(address, {}, tmp_path)
        assert "password" not in str(refused.value)


def test_without_access_the_catalog_is_refused(table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "nothing"))
    options = {k: v for k, v in table.options.items() if "key" not in k}
    with pytest.raises(Refused, match=r"lets nobody read .* \(NoCredentialsError\)"):
        list(row_source(table.address, options, tmp_path).read(None))


@pytest.mark.parametrize("name", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_the_region_is_that_of_the_environment(table: Table, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    del table.options["region"]
    with pytest.raises(Invalid, match="region"):
        table.open()
    monkeypatch.setenv(name, "us-east-1")
    with contextlib.closing(table.open()) as source:
        assert source.name == table.address


def test_a_bomb_is_not_unpacked(table: Table) -> None:
    table.declare({"id": "int"}, JSON)
    table.write("a.json.gz", gzip.compress(b"\0" * (200 << 20)))
    with pytest.raises(Invalid, match="unpacks to more than 128 MiB"):
        table.pieces()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("BIGINT", pa.int64()),
        ("varchar(20)", pa.string()),
        ("decimal(9, 2)", pa.decimal128(9, 2)),
        ("decimal", pa.decimal128(10, 0)),
        ("map<string,array<int>>", pa.map_(pa.string(), pa.list_(pa.int32()))),
        ("struct<a:int,b:struct<c:decimal(5,1)>>", pa.struct([("a", pa.int32()), ("b", pa.struct([("c", pa.decimal128(5, 1))]))])),
    ],
)  # fmt: skip
def test_types_of_a_catalog(text: str, kind: pa.DataType) -> None:
    assert arrow_type(text) == kind


@pytest.mark.parametrize(
    "text", ["", "interval", "array<int", "array<int,int>", "map<int>", "int>", "struct<a>", "decimal(99)"]
)
def test_what_is_no_type_is_refused(text: str) -> None:
    with pytest.raises((ValueError, LooplineError)):
        arrow_type(text)


def test_without_its_package_the_command_that_installs_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(MissingExtra, match=r"loopline\[aws\]"):
        row_source("glue://clinic/visits", {}, tmp_path)
