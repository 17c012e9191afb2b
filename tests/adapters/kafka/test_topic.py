"""A topic keeps to the laws of sources; what it holds and what it lost is told, whatever was sent to it."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fastavro
import polars as pl
import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from loopline.adapters.kafka import topic as adapter
from loopline.data.readers import read_table
from loopline.errors import Conflict, Invalid, LooplineError, MissingExtra, NotFound, Refused, Unavailable
from loopline.foreign import row_source
from loopline.ports.source import Piece, Source
from loopline.testing.source import Place, Row, SourceLaws

from .conftest import Broker, running


class Topic:
    """A topic, to two of whose partitions rows are sent in turn."""

    secret = ""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.cluster = Consumer(
            {"test.mock.num.brokers": 1, "group.id": "cluster", "bootstrap.servers": "", "log_level": 0}
        )
        (found,) = self.cluster.list_topics(timeout=20).brokers.values()
        self.broker = Broker(f"{found.host}:{found.port}")

    def put(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self.broker.send("visits", json.dumps(row).encode(), partition=row["id"] % 2)

    def open(self) -> Source:
        return row_source(f"kafka://{self.broker.address}/visits", {}, self.scratch)

    def vanish(self) -> None:
        self.cluster.close()


class TestTopic(SourceLaws):
    @pytest.fixture
    def place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
        monkeypatch.setattr(adapter, "PATIENCE", 2.0)
        monkeypatch.setattr("loopline.ports.messages.MOST_ROWS", 3)
        return Topic(tmp_path)


def made(broker: Broker, name: str, partitions: int = 1) -> None:
    admin = AdminClient({"bootstrap.servers": broker.address})
    (future,) = admin.create_topics([NewTopic(name, partitions, 1)]).values()
    future.result(20)


def pieces(
    broker: Broker, name: str, scratch: Path, after: Any = None, **options: str
) -> list[tuple[Piece, pl.DataFrame]]:
    """What a topic gives, each piece with its rows."""
    found = []
    given = {key.replace("__", "."): value for key, value in options.items()}
    with contextlib.closing(row_source(f"kafka://{broker.address}/{name}", given, scratch)) as source:
        for piece in source.read(after):
            frame = pl.DataFrame()
            if piece.file is not None:
                frame = read_table(piece.file).frame
            elif piece.rows is not None:
                frame = pl.DataFrame(pl.from_arrow(piece.rows))
            found.append((piece, frame))
    return found


# What messages become


def test_objects_are_rows_with_what_is_known_of_them_beside(broker: Broker, tmp_path: Path) -> None:
    broker.send("visits", b'{"age": 41,\r\n "at": {"ward": "A"}}', partition=1, key=b"p1")
    broker.send("visits", b' {"age": 7} ', partition=0)
    ((piece, frame),) = pieces(broker, "visits", tmp_path, metadata="key,time,partition,offset")
    assert piece.refused == ()
    assert piece.name == "visits, offsets 0: 0 to 0; 1: 0 to 0"
    assert piece.position == {"offsets": {"0": 1, "1": 1, "2": 0, "3": 0}}
    rows = frame.drop("_time").to_dicts()
    assert rows == [
        {"_key": None, "_partition": 0, "_offset": 0, "age": 7, "at.ward": None},
        {"_key": "p1", "_partition": 1, "_offset": 0, "age": 41, "at.ward": "A"},
    ]
    assert (time.time() - frame["_time"].dt.epoch("s")).abs().max() < 600  # type: ignore[operator]


POISON: list[tuple[bytes | None, str]] = [
    (b"not JSON", "not JSON"),
    (b'{"a": 1', "not JSON"),
    (b'{"a": "\xff"}', "not JSON"),
    (b'{"a": NaN}', "not JSON"),
    (b"\xef\xbb\xbf{}", "not JSON"),
    (b"[1, 2]", "no object"),
    (b"17", "no object"),
    (b"", "not JSON"),
    (None, "no content"),
    (b"{}", "no value"),
    (b'{"a": [1, 2]}', "no value"),
    (b'{"a": 1, "a": 2}', "'a' twice"),
    (b'{"a": {"b" : 1, "b" : 2}}', "'b' twice"),
    (b'{"a.b": 1, "a": {"b": 2}}', "two values for one column"),
    (b'{"": 1}', "cannot name a column"),
    (b'{"^a$": 1}', "cannot name a column"),
    (b'{"a": ' + b'{"a": ' * 900 + b"1" + b"}" * 901, "deep"),
    (b'{"a": ' + b"[" * 900 + b"]" * 900 + b', "b": 1}', "deep"),
    (b"[" * 100_000, "not JSON"),
    (json.dumps({f"k{n}": n for n in range(6000)}).encode(), "more than 5,000 columns"),
    (b'{"a": "' + b"x" * (1 << 19) + b"\n" + b'"}', "not JSON"),
]


def test_a_poison_message_is_refused_alone_with_its_bytes(broker: Broker, tmp_path: Path) -> None:
    for content, _ in POISON:
        broker.send("visits", content, b'{"age": 41}')
    ((piece, frame),) = pieces(broker, "visits", tmp_path)
    assert frame["age"].to_list() == [41] * len(POISON)
    assert [one.content for one in piece.refused] == [content or b"" for content, _ in POISON]
    for one, (_, reason) in zip(piece.refused, POISON, strict=True):
        assert reason in one.reason
    assert piece.refused[1].place == "partition 0, offset 2"


def test_a_message_alone_that_is_taken_is_read(broker: Broker, tmp_path: Path) -> None:
    odd = [
        b'{"a": null}',
        b'{"a": ""}',
        b'{"a": 1e999}',
        b'{"a": 123456789012345678901234567890}',
        b'{"a": "\\ud83d\\ude00"}',
        b'{"a": "\\u0000"}',
        b'{"a": "x\\": y"}',
        b'{"A": 1, "a": 2}',
        b'{"a b": 1}',
        b'{"a": [], "b": 1}',
        b'{"a": {}, "b": 1}',
    ]
    for number, content in enumerate(odd):
        broker.send(f"t{number}", content)
        ((piece, frame),) = pieces(broker, f"t{number}", tmp_path)
        assert frame.height + len(piece.refused) == 1, content


def test_many_keys_in_turn_do_not_make_a_table_without_end(broker: Broker, tmp_path: Path) -> None:
    broker.send(
        "visits", *(json.dumps({f"k{n}_{i}": i for i in range(1000)}).encode() for n in range(7)), b'{"age": 1}'
    )
    ((piece, frame),) = pieces(broker, "visits", tmp_path)
    assert frame.shape == (5, 5000)
    assert len(piece.refused) == 3


def test_a_message_that_is_too_large_is_refused(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loopline.ports.messages._LARGEST", 1000)
    broker.send("visits", b'{"a": "' + b"x" * 1000 + b'"}', b'{"a": "x"}')
    ((piece, frame),) = pieces(broker, "visits", tmp_path)
    assert frame.height == 1
    assert piece.refused[0].reason == "it has 1,009 bytes, and 1,000 are the most that a row may"


def test_a_key_that_is_no_text_is_told_where_it_is_asked_for(broker: Broker, tmp_path: Path) -> None:
    broker.send("visits", b'{"a": 1}', key=b"\xff")
    broker.send("visits", b'{"_key": 1}', key=b"k")
    ((piece, _),) = pieces(broker, "visits", tmp_path, metadata="key")
    assert [one.reason for one in piece.refused] == [
        "of its key: it is not UTF-8: the byte 1 (0xff) has no meaning",
        "it has a key '_key', which is the name of a column beside it",
    ]
    ((piece, frame),) = pieces(broker, "visits", tmp_path)
    assert piece.refused == ()
    assert frame.height == 2


def test_csv_records(broker: Broker, tmp_path: Path) -> None:
    broker.send("visits", b'1,"a, ""b"""\r\n', b"2,c", b"3", b'4,"open', b"5,d\n6,e", b"\xff,x", b"", b'7,"two\nlines"')
    ((piece, frame),) = pieces(broker, "visits", tmp_path, format="csv", columns="id, word", metadata="offset")
    assert frame.to_dicts() == [
        {"id": 1, "word": 'a, "b"', "_offset": 0},
        {"id": 2, "word": "c", "_offset": 1},
        {"id": 7, "word": "two\nlines", "_offset": 7},
    ]
    assert [one.reason for one in piece.refused] == [
        "it has 1 fields, and the columns are 2",
        "it is no CSV: unexpected end of data",
        "it has 2 and 2 fields, and the columns are 2",
        "it is not UTF-8: the byte 1 (0xff) has no meaning",
        "it has no fields, and the columns are 2",
    ]


def test_texts_stay_texts(broker: Broker, tmp_path: Path) -> None:
    broker.send("visits", b"2026-01-01", "grün".encode(), b"\xff", b"")
    ((piece, frame),) = pieces(broker, "visits", tmp_path, format="text", metadata="offset")
    assert frame.to_dicts() == [
        {"_offset": 0, "text": "2026-01-01"},
        {"_offset": 1, "text": "grün"},
        {"_offset": 3, "text": ""},
    ]
    assert [one.content for one in piece.refused] == [b"\xff"]


SCHEMA = {
    "type": "record",
    "name": "Visit",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "word", "type": ["null", "string"]},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
        {"name": "ward", "type": {"type": "enum", "name": "Ward", "symbols": ["A", "B"]}},
        {"name": "bed", "type": {"type": "record", "name": "Bed", "fields": [{"name": "number", "type": "int"}]}},
    ],
}


def test_avro_by_a_schema(broker: Broker, tmp_path: Path) -> None:
    import datetime
    from decimal import Decimal

    at = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    rows = [
        {"id": 1, "word": "a", "at": at, "price": Decimal("1.25"), "ward": "B", "bed": {"number": 4}},
        {"id": 2**40, "word": None, "at": at, "price": Decimal("-7.00"), "ward": "A", "bed": {"number": 5}},
    ]
    (tmp_path / "visit.avsc").write_text(json.dumps(SCHEMA))
    for row in rows:
        written = io.BytesIO()
        fastavro.schemaless_writer(written, fastavro.parse_schema(SCHEMA), row)
        broker.send("visits", written.getvalue(), written.getvalue()[:-1], written.getvalue() + b"x", b"\xff" * 40)
    ((piece, frame),) = pieces(
        broker, "visits", tmp_path, format="avro", schema=str(tmp_path / "visit.avsc"), metadata="key"
    )
    assert frame.drop("_key").to_dicts() == rows
    assert len(piece.refused) == 6
    assert all("not Avro of this schema" in one.reason for one in piece.refused)


# Where it is read, and what is not there any more


def test_what_the_broker_deleted_unread_is_told(broker: Broker, tmp_path: Path) -> None:
    broker.send("visits", b'{"a": 1}')
    ((first, _),) = pieces(broker, "visits", tmp_path)
    large = b'{"a": "' + b"x" * 900_000 + b'"}'
    broker.send("visits", *([large] * 12))  # of which this broker keeps five
    ((piece, frame),) = pieces(broker, "visits", tmp_path, first.position)
    (gap,) = piece.refused
    assert gap.reason == "the broker deleted what was there before it was read"
    deleted = int(gap.place.removeprefix("partition 0, offsets 1 to "))
    assert deleted + 1 + frame.height == 13
    assert pieces(broker, "visits", tmp_path, piece.position) == []


def test_where_the_first_reading_begins(broker: Broker, tmp_path: Path) -> None:
    producer = Producer({"bootstrap.servers": broker.address})
    for number, stamp in enumerate((1_767_225_600_000, 1_769_904_000_000, 1_772_323_200_000)):
        producer.produce("visits", json.dumps({"n": number}).encode(), partition=0, timestamp=stamp)
        producer.flush(20)

    def rows(**options: str) -> list[int]:
        return [n for _, frame in pieces(broker, "visits", tmp_path, **options) for n in frame["n"]]

    assert rows() == rows(start="earliest") == [0, 1, 2]
    assert rows(start="latest") == [2]


def test_a_partition_that_came_later_is_read_from_its_start(broker: Broker, tmp_path: Path) -> None:
    broker.send("visits", b'{"a": 1}')
    broker.send("visits", b'{"a": 2}', b'{"a": 3}', partition=2)
    when_there_was_one = {"offsets": {"0": 1}}
    ((_, frame),) = pieces(broker, "visits", tmp_path, when_there_was_one, start="latest")
    assert frame["a"].to_list() == [2, 3]


def test_a_transaction_is_read_once_it_is_committed(program: Broker, tmp_path: Path) -> None:
    made(program, "visits")
    producer = Producer({"bootstrap.servers": program.address, "transactional.id": "clinic", "linger.ms": 0})
    producer.init_transactions(20)
    producer.begin_transaction()
    producer.produce("visits", b'{"a": 1}', partition=0)
    producer.flush(20)
    assert pieces(program, "visits", tmp_path) == []
    producer.commit_transaction(20)
    ((piece, frame),) = pieces(program, "visits", tmp_path)
    assert frame["a"].to_list() == [1]
    program.send("visits", b'{"a": 2}')  # behind the mark of the transaction, which has an offset of its own
    ((piece, frame),) = pieces(program, "visits", tmp_path, piece.position)
    assert frame["a"].to_list() == [2]
    assert piece.position == {"offsets": {"0": 3}}


def test_another_topic_of_the_same_name_is_not_read_on(broker: Broker, tmp_path: Path) -> None:
    broker.send("visits", b'{"a": 1}')
    for position in ({"offsets": {"0": 9}}, {"offsets": {"0": 0, "7": 1}}):
        with pytest.raises(Conflict, match="is not the topic that was read") as caught:
            pieces(broker, "visits", tmp_path, position)
        assert caught.value.code == "source-changed"


def test_a_broker_that_goes_away_half_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "PATIENCE", 2.0)
    monkeypatch.setattr("loopline.ports.messages.MOST_ROWS", 3)
    place = Topic(tmp_path)
    place.put([{"id": n, "word": "w"} for n in range(0, 40, 2)])
    place.put([{"id": 1, "word": "w"}])
    source = place.open()
    reading = source.read(None)
    given = [next(reading)]
    place.vanish()
    with pytest.raises(Unavailable) as caught:
        given += list(reading)
    assert caught.value.code == "source-away"
    assert "kafka://" in str(caught.value)
    assert 3 <= 3 * len(given) < 21
    source.close()


def test_a_topic_that_is_not_there(program: Broker, tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        pieces(program, "nobody", tmp_path)
    assert caught.value.code == "no-topic"


def test_who_is_not_let_in_is_told_without_the_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "PATIENCE", 2.0)
    who = {"sasl.mechanism": "SCRAM-SHA-256", "sasl.username": "nobody", "sasl.password": "wrong-41"}
    options = {"security.protocol": "SASL_PLAINTEXT", **who}
    with (
        running(tmp_path, "--authentication") as broker,
        contextlib.closing(row_source(f"kafka://{broker.address}/visits", options, tmp_path)) as source,
    ):
        with pytest.raises(Refused) as caught:
            list(source.read(None))
        assert caught.value.code == "foreign-refusal"
        assert "wrong-41" not in str(caught.value) + source.name + repr(source)


@pytest.mark.parametrize(
    ("address", "options"),
    [
        ("kafka://127.0.0.1:9092", {}),
        ("kafka://127.0.0.1:9092/", {}),
        ("kafka://127.0.0.1:9092/a/b", {}),
        ("kafka://127.0.0.1:9092/^a", {}),
        ("kafka://user:word@127.0.0.1:9092/a", {}),
        ("kafka://127.0.0.1:9092/a", {"format": "xml"}),
        ("kafka://127.0.0.1:9092/a", {"format": "csv"}),
        ("kafka://127.0.0.1:9092/a", {"columns": "a"}),
        ("kafka://127.0.0.1:9092/a", {"format": "avro", "schema": "/nowhere/a.avsc"}),
        ("kafka://127.0.0.1:9092/a", {"metadata": "headers"}),
        ("kafka://127.0.0.1:9092/a", {"start": "yesterday"}),
        ("kafka://127.0.0.1:9092/a", {"plugin.library.paths": "/tmp/evil.so"}),
        ("kafka://127.0.0.1:9092/a", {"bootstrap.servers": "127.0.0.1:1"}),
        ("kafka://127.0.0.1:9092/a", {"group": "x"}),
    ],
)
def test_what_is_no_topic_or_no_option(address: str, options: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(Invalid) as caught:
        row_source(address, options, tmp_path)
    assert caught.value.hint
    assert "word" not in str(caught.value).replace("password", "")
    assert list(tmp_path.iterdir()) == []


def test_options_that_the_client_does_not_take(tmp_path: Path) -> None:
    source = row_source("kafka://127.0.0.1:1/a", {"security.protocol": "ssl", "ssl.ca.location": "/nowhere"}, tmp_path)
    with pytest.raises(LooplineError) as caught, contextlib.closing(source):
        list(source.read(None))
    assert caught.value.code == "bad-option"


def test_without_its_extra_the_command_that_helps_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(MissingExtra, match=r"loopline\[kafka\]"):
        row_source("kafka://127.0.0.1:9092/a", {}, tmp_path)
