"""Topics of MQTT keep to the laws of sources; each message that the broker keeps is given once, whatever ends in between."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from loopline import failpoints
from loopline.adapters.mqtt import topics as adapter
from loopline.adapters.mqtt.spool import Spool
from loopline.data.readers import read_table
from loopline.errors import Conflict, Invalid, LooplineError, MissingExtra, NotFound, Refused, Unavailable
from loopline.foreign import row_source
from loopline.ports.source import Piece, Source
from loopline.testing.source import Place, Row, SourceLaws

from .conftest import PASSWORD, Broker

OPEN = {"username": "reader", "password": PASSWORD}


class Wards:
    """Topics that were subscribed to before anything came."""

    secret = PASSWORD

    def __init__(self, broker: Broker, scratch: Path) -> None:
        self.broker, self.scratch = broker, scratch
        subscribed(broker, "ward/#", scratch)

    def put(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self.broker.send(f"ward/{row['id'] % 2}", json.dumps(row).encode())

    def open(self) -> Source:
        return row_source(self.broker.address("ward/#"), OPEN, self.scratch)

    def vanish(self) -> None:
        self.broker.stop()


class TestTopics(SourceLaws):
    @pytest.fixture
    def place(self, broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
        monkeypatch.setattr("loopline.ports.messages.MOST_ROWS", 3)
        return Wards(broker, tmp_path)


def subscribed(broker: Broker, topics: str, scratch: Path) -> None:
    with pytest.raises(NotFound, match="keeps from now on") as caught:
        pieces(broker, topics, scratch)
    assert caught.value.code == "nothing-yet"


def pieces(
    broker: Broker, topics: str, scratch: Path, after: Any = None, *, done: bool = False, **options: str
) -> list[tuple[Piece, pl.DataFrame]]:
    """What topics give, each piece with its rows; `done`: they are in a version then."""
    found = []
    with contextlib.closing(row_source(broker.address(topics), {**OPEN, **options}, scratch)) as source:
        for piece in source.read(after):
            frame = pl.DataFrame()
            if piece.file is not None:
                frame = read_table(piece.file).frame
            elif piece.rows is not None:
                frame = pl.DataFrame(pl.from_arrow(piece.rows))
            found.append((piece, frame))
        if done and found:
            source.done(found[-1][0].position)
    return found


def values(given: list[tuple[Piece, pl.DataFrame]]) -> list[Any]:
    return [value for _, frame in given if frame.width for value in frame["value"]]


# What messages become


def test_messages_are_rows_with_their_topic_and_when_they_came(broker: Broker, tmp_path: Path) -> None:
    subscribed(broker, "ward/+/temperature", tmp_path)
    broker.send("ward/a/temperature", b"36.6", b'{"value": 37, "unit": "C"}')
    broker.send("ward/a/b/temperature", b"1")
    broker.send("ward/b/temperature", b" 41\n")
    ((piece, frame),) = pieces(broker, "ward/+/temperature", tmp_path)
    assert piece.refused == ()
    assert piece.name == "ward/+/temperature, messages 1 to 3"
    assert frame.drop("_time").to_dicts() == [
        {"_topic": "ward/a/temperature", "value": 36.6, "unit": None},
        {"_topic": "ward/a/temperature", "value": 37.0, "unit": "C"},
        {"_topic": "ward/b/temperature", "value": 41.0, "unit": None},
    ]
    assert frame["_time"].dtype.is_temporal()
    assert piece.position["taken"] == 3


def test_texts(broker: Broker, tmp_path: Path) -> None:
    subscribed(broker, "doors/#", tmp_path)
    broker.send("doors/1", b"ON", "grün".encode(), b"\xff")
    ((piece, frame),) = pieces(broker, "doors/#", tmp_path, format="text")
    assert frame["value"].to_list() == ["ON", "grün"]
    assert [one.content for one in piece.refused] == [b"\xff"]


def test_a_poison_message_is_refused_alone_with_its_bytes(broker: Broker, tmp_path: Path) -> None:
    subscribed(broker, "ward/#", tmp_path)
    poison = [
        b"ON",
        b"",
        b"\xff\xfe",
        b"null",
        b"[1]",
        b"{}",
        b'{"_topic": 1}',
        b'{"value": 1, "value": 2}',
        b"[" * 5000,
    ]
    for content in poison:
        broker.send("ward/a", content, b"1")
    ((piece, frame),) = pieces(broker, "ward/#", tmp_path)
    assert frame["value"].to_list() == [1] * len(poison)
    assert [one.content for one in piece.refused] == poison
    assert piece.refused[1].place == "message 3, ward/a"


def test_retained_messages_are_given_once(broker: Broker, tmp_path: Path) -> None:
    broker.send("ward/a", b"1", retain=True)
    broker.send("ward/b", b"2", retain=True)
    given = pieces(broker, "ward/#", tmp_path)
    assert sorted(values(given)) == [1, 2]
    position = given[-1][0].position
    broker.send("ward/a", b"3", retain=True)
    assert values(pieces(broker, "ward/#", tmp_path, position)) == [3]


def test_the_broker_keeps_what_comes_between_readings_and_over_its_own_end(broker: Broker, tmp_path: Path) -> None:
    subscribed(broker, "ward/#", tmp_path)
    broker.send("ward/a", *(b"%d" % n for n in range(500)))
    given = pieces(broker, "ward/#", tmp_path, done=True)
    assert values(given) == list(range(500))
    broker.send("ward/a", *(b"%d" % n for n in range(500, 700)))
    broker.stop()
    broker.start()
    position = given[-1][0].position
    assert values(pieces(broker, "ward/#", tmp_path, position, done=True)) == list(range(500, 700))


# What ends in between


@pytest.mark.parametrize("place", ["write", "before_sync", "kept"])
@pytest.mark.parametrize("passage", [1, 2])
def test_a_disk_that_fails_at_any_place_loses_and_doubles_nothing(
    place: str, passage: int, broker: Broker, tmp_path: Path
) -> None:
    subscribed(broker, "ward/#", tmp_path)
    broker.send("ward/a", *([b"7"] * 30))  # all alike: nothing but the broker's numbers tells them apart
    failpoints.arm(f"mqtt.spool.{place}=ENOSPC@{passage}")
    try:
        with contextlib.suppress(LooplineError, OSError):
            pieces(broker, "ward/#", tmp_path)
    finally:
        failpoints.arm("")
    broker.send("ward/a", *([b"7"] * 5))
    given = pieces(broker, "ward/#", tmp_path, done=True)
    assert len(values(given)) == 35
    with contextlib.closing(row_source(broker.address("ward/#"), OPEN, tmp_path)) as source:
        assert list(source.read(given[-1][0].position)) == []


def test_a_broker_that_is_away_gives_what_is_here(broker: Broker, tmp_path: Path) -> None:
    subscribed(broker, "ward/#", tmp_path)
    broker.send("ward/a", b"1", b"2")
    pieces(broker, "ward/#", tmp_path)
    broker.stop()
    with contextlib.closing(row_source(broker.address("ward/#"), OPEN, tmp_path)) as source:
        reading = source.read(None)
        assert next(reading).position["taken"] == 2
        with pytest.raises(Unavailable) as caught:
            next(reading)
    assert caught.value.code == "source-away"


def test_a_session_that_the_broker_forgot_is_told_once(broker: Broker, tmp_path: Path) -> None:
    broker.send("ward/a", b"1", retain=True)
    first = pieces(broker, "ward/#", tmp_path, done=True)
    broker.forget()
    broker.send("ward/a", b"2")
    ((piece, frame),) = pieces(broker, "ward/#", tmp_path, first[-1][0].position, done=True)
    assert frame.height == 0
    assert [one.reason for one in piece.refused] == [
        "the broker forgot the session: what came since the last reading is lost, retained messages come again"
    ]
    broker.send("ward/a", b"3")
    ((piece, frame),) = pieces(broker, "ward/#", tmp_path, piece.position)
    assert piece.refused == ()
    assert frame["value"].to_list() == [3]


def test_a_spool_that_was_lost_goes_on_behind_the_position(broker: Broker, tmp_path: Path) -> None:
    subscribed(broker, "ward/#", tmp_path)
    broker.send("ward/a", b"1", b"2")
    given = pieces(broker, "ward/#", tmp_path, done=True)
    broker.send("ward/a", b"3")
    other = tmp_path / "other"
    assert values(pieces(broker, "ward/#", other, given[-1][0].position)) == [3]


def test_a_flood_waits_at_the_broker(broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "_QUOTA", 400_000)
    monkeypatch.setattr(adapter, "_BATCH", 50_000)
    monkeypatch.setattr("loopline.adapters.mqtt.spool._SEGMENT", 60_000)
    subscribed(broker, "ward/#", tmp_path)
    broker.send("ward/a", *(b'{"value": %d, "more": "%s"}' % (n, b"x" * 1000) for n in range(3000)))
    found: list[int] = []
    position, readings = None, 0
    while len(found) < 3000:
        given = pieces(broker, "ward/#", tmp_path, position, done=True)
        found += values(given)
        position = given[-1][0].position
        readings += 1
        kept = sum(file.stat().st_size for file in tmp_path.rglob("*.spool"))
        assert kept < 600_000  # the quota, and a batch
    assert found == list(range(3000))
    assert readings > 2


def test_what_never_ends_is_left_for_the_next_reading(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "_LONGEST", 0.05)
    subscribed(broker, "ward/#", tmp_path)
    broker.send("ward/a", *(b"%d" % n for n in range(3000)))
    found: list[int] = []
    position = None
    while len(found) < 3000:
        given = pieces(broker, "ward/#", tmp_path, position, done=True)
        found += values(given)
        position = given[-1][0].position if given else position
    assert found == list(range(3000))


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x20\x03\x00\x00\x00\x30\x05\x00\x02\xff\xfe\x00", b""]
)
def test_what_is_no_broker_is_told(answer: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loopline.adapters.mqtt.session._PATIENCE", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError), server.accept()[0] as connection:
                connection.recv(1000)
                connection.sendall(answer)
                connection.recv(1000)

        threading.Thread(target=serve, daemon=True).start()
        address = f"mqtt://127.0.0.1:{server.getsockname()[1]}/a"
        with pytest.raises(Unavailable) as caught, contextlib.closing(row_source(address, {}, tmp_path)) as source:
            list(source.read(None))
    assert caught.value.code == "source-away"


def test_a_message_that_was_on_its_way_is_known_when_it_comes_again(tmp_path: Path) -> None:
    from loopline.adapters.mqtt.spool import Message

    spool = Spool(tmp_path)
    one, alike = Message(1, "a", b"7", 0), Message(2, "a", b"7", 0)
    spool.append([one, alike], settled=True)
    spool.close()
    spool = Spool(tmp_path)
    assert spool.known(one._replace(time=5))
    assert not spool.known(Message(3, "a", b"7", 5))
    assert not spool.known(Message(1, "a", b"8", 5))
    spool.append([], settled=True)
    assert not spool.known(one)  # the broker has taken that: the number stands for another message
    spool.close()


def test_two_who_read_the_same_for_one_dataset(broker: Broker, tmp_path: Path) -> None:
    subscribed(broker, "ward/#", tmp_path)
    broker.send("ward/a", b"1")
    with contextlib.closing(row_source(broker.address("ward/#"), OPEN, tmp_path)) as source:
        next(source.read(None))
        with pytest.raises(Conflict) as caught:
            pieces(broker, "ward/#", tmp_path)
    assert caught.value.code == "source-busy"


# Who may, and what is no address


def test_by_tls_a_broker_proves_who_it_is(broker: Broker, tmp_path: Path) -> None:
    port, ca = broker.by_tls()
    address = f"mqtts://127.0.0.1:{port}/ward/#"
    broker.send("ward/a", b"7", retain=True)
    with contextlib.closing(row_source(address, {**OPEN, "ca": str(ca)}, tmp_path)) as source:
        reading = source.read(None)
        piece = next(reading)
        assert piece.file is not None
        assert read_table(piece.file).frame["value"].to_list() == [7]
    stranger = row_source(address, OPEN, tmp_path / "other")
    with pytest.raises(Unavailable, match="certificate"), contextlib.closing(stranger):
        list(stranger.read(None))


def test_a_wrong_password_is_refused_and_not_told(broker: Broker, tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        pieces(broker, "ward/#", tmp_path, password="wrong-41")
    assert caught.value.code == "foreign-refusal"
    assert "wrong-41" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "options"),
    [
        ("mqtt://127.0.0.1:1883", {}),
        ("mqtt://127.0.0.1:1883/", {}),
        ("mqtt://127.0.0.1:1883/a/#/b", {}),
        ("mqtt://127.0.0.1:1883/a+/b", {}),
        ("mqtt://127.0.0.1:1883/a\0b", {}),
        ("mqtt://user:word@127.0.0.1:1883/a", {}),
        ("mqtt://127.0.0.1/a", {"format": "csv"}),
        ("mqtt://127.0.0.1/a", {"qos": "2"}),
        ("mqtts://127.0.0.1/a", {"ca": "/nowhere.pem"}),
    ],
)
def test_what_is_no_topic_or_no_option(address: str, options: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(Invalid) as caught:
        row_source(address, options, tmp_path)
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_without_its_extra_the_command_that_helps_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    with (
        pytest.raises(MissingExtra, match=r"loopline\[mqtt\]"),
        contextlib.closing(row_source("mqtt://127.0.0.1:1/a", {}, tmp_path)) as source,
    ):
        list(source.read(None))
