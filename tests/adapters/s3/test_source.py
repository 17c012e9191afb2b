"""Objects of a real store keep to the laws of sources; what cannot be read is told by name."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from loopline.adapters.s3 import taken
from loopline.adapters.s3.source import S3Source
from loopline.errors import Conflict, Invalid, LooplineError, MissingExtra, NotFound, Refused, Unavailable
from loopline.foreign import row_source
from loopline.hashing import canonical_json
from loopline.ports.source import Source
from loopline.testing.objects import Objects
from loopline.testing.source import Place, Row, SourceLaws

_buckets = count()


class Bucket:
    """A bucket of a store into which objects come; `shape` is what of it is read."""

    def __init__(self, store: Objects, scratch: Path, shape: str = "a prefix") -> None:
        self.name = f"clinic{next(_buckets)}"
        self.bucket = store.bucket(self.name)
        self.options = store.options | ({"whole": "true"} if shape.endswith("whole") else {})
        self.secret = store.secret_access_key
        self.scratch = scratch
        self.numbers = count()
        self.address = f"s3://{self.name}/" + {"a pattern": "v*s/*.csv", "an object": "visits.csv"}.get(
            shape, "visits/"
        )

    def put(self, rows: Sequence[Row]) -> None:
        written = pl.DataFrame(rows).write_csv().encode()
        if self.address.endswith("visits.csv"):
            before = self.bucket.get("visits.csv").bytes().to_bytes() if "visits.csv" in self.keys() else b""
            self.bucket.put("visits.csv", before + written[len(b"id,word\n") if before else 0 :])
        else:
            self.bucket.put(f"visits/{next(self.numbers):03}.csv", written)

    def keys(self) -> list[str]:
        return [meta["path"] for page in self.bucket.list() for meta in page]

    def open(self) -> Source:
        return row_source(self.address, self.options, self.scratch)

    def names(self, address: str = "") -> list[str]:
        source = row_source(f"s3://{self.name}/{address}", self.options, self.scratch)
        return [piece.name.removeprefix(f"s3://{self.name}/") for piece in source.read(None)]

    def vanish(self) -> None:
        self.bucket.delete(self.keys())


class TestS3(SourceLaws):
    @pytest.fixture(params=["a prefix", "a pattern", "an object", "a prefix, whole"])
    def place(self, request: pytest.FixtureRequest, object_store: Objects, tmp_path: Path) -> Place:
        return Bucket(object_store, tmp_path, request.param)


@pytest.fixture
def bucket(object_store: Objects, tmp_path: Path) -> Bucket:
    return Bucket(object_store, tmp_path)


def test_what_is_named_is_taken_and_what_programs_keep_there_is_not(bucket: Bucket) -> None:
    for key in (
        "v/_SUCCESS",
        "v/.x.csv",
        "v/_tmp/a.csv",
        "v/a.csv.tmp",
        "v/",
        "v/b.csv",
        "v/d e/ä%20+&.csv",
        "w/c.csv",
    ):
        bucket.bucket.put(key, b"" if key.endswith("/") else b"id\n1\n")
    assert sorted(bucket.names("v/")) == ["v/b.csv", "v/d e/ä%20+&.csv"]
    assert sorted(bucket.names()) == ["v/b.csv", "v/d e/ä%20+&.csv", "w/c.csv"]
    assert sorted(bucket.names("*/*.csv")) == ["v/b.csv", "w/c.csv"]
    assert sorted(bucket.names("v/**/*.csv")) == ["v/b.csv", "v/d e/ä%20+&.csv"]
    assert bucket.names("[!v]/?.csv") == ["w/c.csv"]
    assert sorted(bucket.names("[v]*/")) == ["v/b.csv", "v/d e/ä%20+&.csv"]
    assert bucket.names("v/d e/ä%20+&.csv") == ["v/d e/ä%20+&.csv"]


def test_a_listing_of_several_pages_is_read_to_its_end(bucket: Bucket) -> None:
    for n in range(1003):
        bucket.bucket.put(f"v/{n:04}.csv", b"id\n1\n")
    assert sorted(bucket.names("v/")) == [f"v/{n:04}.csv" for n in range(1003)]


def test_an_object_written_anew_is_told_and_one_that_went_is_nothing_new(bucket: Bucket) -> None:
    bucket.put([{"id": 1, "word": "a"}])
    bucket.put([{"id": 2, "word": "b"}])
    *_, last = bucket.open().read(None)
    bucket.bucket.delete("visits/000.csv")
    assert list(bucket.open().read(last.position)) == []
    bucket.bucket.put("visits/001.csv", b"id,word\n3,c\n")
    with pytest.raises(Conflict, match=r"visits/001\.csv was taken, and has changed") as caught:
        list(bucket.open().read(last.position))
    assert caught.value.code == "source-changed"


def test_an_object_whose_name_stands_before_those_that_were_taken_is_taken(bucket: Bucket) -> None:
    bucket.bucket.put("visits/m.csv", b"id\n1\n")
    *_, last = bucket.open().read(None)
    bucket.bucket.put("visits/a.csv", b"id\n2\n")
    assert [piece.name for piece in bucket.open().read(last.position)] == [f"s3://{bucket.name}/visits/a.csv"]


@pytest.mark.parametrize(
    ("then", "error"), [(None, NotFound), (b"id,word\n9,z\n", Conflict)], ids=["it goes", "it is written anew"]
)
def test_an_object_that_vanishes_half_way(bucket: Bucket, then: bytes | None, error: type[LooplineError]) -> None:
    bucket.put([{"id": 1, "word": "a"}])
    bucket.put([{"id": 2, "word": "b"}])
    reading = bucket.open().read(None)
    first = next(reading)
    if then is None:
        bucket.bucket.delete("visits/001.csv")
    else:
        bucket.bucket.put("visits/001.csv", then)
    with pytest.raises(error, match=r"visits/001\.csv .* while it was being read"):
        next(reading)
    behind = [piece.name for piece in bucket.open().read(first.position)]
    assert behind == ([] if then is None else [f"s3://{bucket.name}/visits/001.csv"])
    assert list(bucket.scratch.iterdir()) == []


def test_nothing_is_left_on_the_disk_when_a_reading_is_given_up(bucket: Bucket) -> None:
    bucket.put([{"id": 1, "word": "a"}])
    reading = bucket.open().read(None)
    assert next(reading).file is not None
    reading.close()  # type: ignore[attr-defined]
    assert list(bucket.scratch.iterdir()) == []


def test_what_cannot_be_read_is_told_without_a_secret(bucket: Bucket) -> None:
    bucket.put([{"id": 1, "word": "a"}])
    wrong = bucket.options | {"secret_access_key": "not the secret at all"}
    with pytest.raises(Refused, match="lets nobody read") as caught:
        list(row_source(bucket.address, wrong, bucket.scratch).read(None))
    assert "not the secret at all" not in str(caught.value)
    with pytest.raises(NotFound, match="no bucket for s3://nobody/x/"):
        list(row_source("s3://nobody/x/", bucket.options, bucket.scratch).read(None))
    with pytest.raises(NotFound, match="There is no object in") as found:
        list(row_source(f"s3://{bucket.name}/visits", bucket.options, bucket.scratch).read(None))
    assert found.value.hint.endswith("/visits/")
    for address in ("s3://b/[z-a].csv", "s3://[/x", "s3://", "s3:///x", "s3://user:password@clinic/x", "s3://../x"):
        with pytest.raises(Invalid) as refused:
            row_source(address, bucket.options, bucket.scratch)
        assert "password" not in str(refused.value)
    with pytest.raises(Invalid, match="no option 'secret'"):
        row_source(bucket.address, {"secret": "x"}, bucket.scratch)


def test_access_is_that_of_the_environment(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.put([{"id": 1, "word": "a"}])
    for key, value in bucket.options.items():
        monkeypatch.setenv("AWS_ENDPOINT_URL" if key == "endpoint" else f"AWS_{key.upper()}", value)
    assert len(list(row_source(bucket.address, {}, bucket.scratch).read(None))) == 1


class _Stumbles(BaseHTTPRequestHandler):
    """A store that is overloaded for the first calls, and closed for good where `better` is False."""

    calls = 0
    better = True
    body = b"id\n1\n"

    def do_GET(self) -> None:
        type(self).calls += 1
        well = self.better and self.calls > 2
        listing = b"""<?xml version="1.0"?><ListBucketResult><Name>clinic</Name>
<KeyCount>1</KeyCount><IsTruncated>false</IsTruncated>
<Contents><Key>v/a.csv</Key><LastModified>2026-03-01T00:00:00.000Z</LastModified><ETag>"1"</ETag>
<Size>5</Size></Contents></ListBucketResult>"""
        body = (listing if "list-type" in self.path else self.body) if well else b"<Code>SlowDown</Code>"
        self.send_response(200 if well else 503)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", "Sun, 01 Mar 2026 00:00:00 GMT")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def stumbling() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Stumbles) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("better", [True, False])
def test_a_call_that_fails_is_tried_again(
    stumbling: str, tmp_path: Path, better: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Stumbles, "calls", 0)
    monkeypatch.setattr(_Stumbles, "better", better)
    options = {"endpoint": stumbling, "access_key_id": "a", "secret_access_key": "b", "region": "us-east-1"}
    source = row_source("s3://clinic/v/", options, tmp_path)
    if better:
        assert [piece.name for piece in source.read(None)] == ["s3://clinic/v/a.csv"]
    else:
        with pytest.raises(Unavailable, match=r"s3://clinic/v/ cannot be read \(SlowDown\)"):
            list(source.read(None))
        assert _Stumbles.calls == 5


@pytest.mark.parametrize("body", [b"id\n", b"id\n" + b"1\n" * 10_000_000], ids=["cut off", "without an end"])
def test_an_object_of_another_size_than_listed_is_not_taken(
    stumbling: str, tmp_path: Path, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Stumbles, "body", body)
    options = {"endpoint": stumbling, "access_key_id": "a", "secret_access_key": "b", "region": "us-east-1"}
    with pytest.raises(Unavailable, match="another size than the 5 bytes"):
        list(row_source("s3://clinic/v/", options, tmp_path).read(None))
    assert list(tmp_path.iterdir()) == []


def test_without_access_it_is_said_what_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(Refused) as caught:
        list(row_source("s3://clinic/v/", {"region": "us-east-1"}, tmp_path).read(None))
    assert "AWS_ACCESS_KEY_ID" in caught.value.hint


def test_a_position_stays_small_whatever_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taken, "REMEMBERED", 100)
    there = [taken.Written(1_000 + n // 7, f"s3://clinic/v/{(n * 7919) % 5000:04}.csv", str(n), 1) for n in range(5000)]
    state = taken.Taken.of(None)
    given: list[taken.Written] = []
    while new := state.new(there, "s3://clinic/v/"):
        for one in new[:333]:  # a reading is cut off, and taken up in another process
            state.take(one)
            given.append(one)
        position = state.position()
        state = taken.Taken.of(position)
        assert len(canonical_json(position)) < 100 * 60
    assert given == sorted(there)
    late = taken.Written(5_000, "s3://clinic/v/late.csv", "x", 1)
    assert state.new([*there[200:], late], "s3://clinic/v/") == [late], "what went is nothing new"
    assert state.below == 4700
    with pytest.raises(Conflict, match="1 objects of s3://clinic/v/ came with a time before"):
        state.new([*there[200:], taken.Written(500, "s3://clinic/v/slow.csv", "x", 1)], "s3://clinic/v/")


def test_a_delta_table_is_not_taken_for_its_files(bucket: Bucket) -> None:
    for key in ("v/t/a.parquet", "v/t/_delta_log/00.json"):
        bucket.bucket.put(key, b"x")
    with pytest.raises(Invalid, match="holds a Delta table") as caught:
        bucket.names("v/")
    assert caught.value.hint.endswith(f"delta+s3://{bucket.name}/v/t")


def test_several_addresses_are_one_source(bucket: Bucket) -> None:
    bucket.bucket.put("a/1.csv", b"id\n1\n")
    bucket.bucket.put("b/2.csv", b"id\n2\n")
    bucket.bucket.put("c/3.csv", b"id\n3\n")
    places = [f"s3://{bucket.name}/{folder}/" for folder in "ab"]
    source = S3Source(places, bucket.scratch, name="both", **bucket.options)
    assert sorted(piece.name[-5:] for piece in source.read(None)) == ["1.csv", "2.csv"]
    assert source.name == "both"


def test_without_its_package_the_command_that_installs_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(MissingExtra, match=r"loopline\[s3\]"):
        row_source("s3://clinic/v/", {}, tmp_path)
