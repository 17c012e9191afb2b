"""Streams of MQTT, scored: a real Mosquitto, which is ended and comes back, and processes that are killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from tests.adapters.kafka.test_stream import ended, row, scoring, until
from tests.serving.conftest import expected, write

from loopline.adapters.mqtt.stream import MqttInflow, MqttOutflow
from loopline.errors import Invalid, Refused, Unavailable
from loopline.ports.stream import Inflow, Outflow, Sent, Trace
from loopline.testing.stream import StreamLaws

from .conftest import PASSWORD, Broker

LOGIN = {"username": "reader", "password": PASSWORD}


class Listener:
    """Somebody who hears all that is published, by paho's own loop; the broker keeps what comes while it is away."""

    def __init__(self, broker: Broker, topics: str) -> None:
        self.heard: list[tuple[str, str, bytes]] = []
        self.properties: list[dict[str, str]] = []
        self.client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=f"l{uuid.uuid4().hex[:12]}", protocol=MQTTProtocolVersion.MQTTv5
        )
        self.client.username_pw_set("reader", PASSWORD)
        self.client.reconnect_delay_set(1, 1)
        subscribed = threading.Event()
        self.client.on_connect = lambda client, *_: client.subscribe(topics, qos=1)
        self.client.on_subscribe = lambda *_: subscribed.set()
        self.client.on_message = self._on_message
        kept = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        kept.SessionExpiryInterval = 600
        self.client.connect("127.0.0.1", broker.port, clean_start=False, properties=kept)
        self.client.loop_start()
        assert subscribed.wait(20)

    def _on_message(self, client: Any, data: Any, message: Any) -> None:
        ids = dict(getattr(message.properties, "UserProperty", []))
        self.properties.append(ids)
        self.heard.append((message.topic, ids.get("id", ""), message.payload))

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


class Topics:
    """A stream of the conformance suite."""

    def __init__(self, broker: Broker, folder: Path) -> None:
        self.broker, self.folder = broker, folder
        self.listener = Listener(broker, "out")

    def put(self, *contents: bytes) -> None:
        self.broker.send("in/a", *contents)

    def inflow(self) -> Inflow:
        return MqttInflow(self.broker.address("in/+"), self.folder, **LOGIN)

    def outflow(self) -> Outflow:
        return MqttOutflow(self.broker.address("out"), **LOGIN)

    def sent(self) -> list[tuple[str, bytes]]:
        until(lambda: any(id == "last" for _, id, _ in self.listener.heard))
        return [(id, content) for _, id, content in self.listener.heard]


class TestMqtt(StreamLaws):
    @pytest.fixture
    def stream(self, broker: Broker, tmp_path: Path) -> Iterator[Topics]:
        found = Topics(broker, tmp_path / "kept")
        yield found
        found.listener.close()


@pytest.fixture
def place(broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A bundle, and the line that scores by it."""
    write(tmp_path / "bundle")
    monkeypatch.setenv("BROKER_PASSWORD", PASSWORD)
    login = [
        f"--{kind}={text}"
        for kind in ("option", "to-option")
        for text in ("username=reader", "password=${BROKER_PASSWORD}")
    ]
    return ["--from", broker.address("ward/+/visits"), "--to", broker.address("scores"), *login]


def subscribed(process: Any) -> None:
    assert json.loads(process.stdout.readline())["event"] == "scoring"


def send(broker: Broker, *numbers: int) -> None:
    for n in numbers:
        broker.send(f"ward/{'ab'[n % 2]}/visits", json.dumps(row(n)).encode())


def test_killed_after_it_answered_it_answers_again_by_the_same_ids(
    broker: Broker, place: list[str], tmp_path: Path
) -> None:
    listener = Listener(broker, "scores/#")
    with scoring(tmp_path, *place) as process:  # the broker keeps what comes from now on
        subscribed(process)
        until(lambda: any((tmp_path / "loopline-score").glob("mqtt-*/session.json")))
        ended(process)
    send(broker, *range(6))
    broker.send("ward/a/visits", b"no row")
    with scoring(tmp_path, *place, armed="serving.stream.aside=kill") as process:
        assert process.wait(60) == -signal.SIGKILL
    with scoring(tmp_path, *place) as process:
        send(broker, 6)
        until(
            lambda: any(json.loads(content).get("row", {}).get("patient") == "p6" for _, _, content in listener.heard)
        )
        said = ended(process)
    listener.close()
    assert said[-1]["event"] == "ended"
    found: dict[str, set[str]] = {}
    for topic, id, content in listener.heard:
        answer = json.loads(content)
        assert answer["id"] == id
        if topic == "scores/refused":
            assert "not JSON" in answer["reason"]
            found.setdefault(answer["text"], set()).add(id)
            continue
        n = int(answer["row"]["age"])
        assert answer["row"] == row(n)
        assert answer["probabilities"]["yes"] == pytest.approx(expected(row(n)), rel=1e-4)
        assert answer["from"]["topic"] == f"ward/{'ab'[n % 2]}/visits"
        found.setdefault(f"p{n}", set()).add(id)
    assert found.keys() == {*(f"p{n}" for n in range(7)), "no row"}
    assert {len(ids) for ids in found.values()} == {1}
    assert len(listener.heard) > 8, "some were answered twice"


def test_a_broker_that_goes_away_and_comes_back(broker: Broker, place: list[str], tmp_path: Path) -> None:
    listener = Listener(broker, "scores/#")
    with scoring(tmp_path, *place) as process:
        subscribed(process)
        until(lambda: any((tmp_path / "loopline-score").glob("mqtt-*/session.json")))
        send(broker, 0)
        until(lambda: len(listener.heard) >= 1)
        broker.stop()
        assert process.stdout is not None
        while json.loads(process.stdout.readline())["event"] != "trouble":  # how far it is may be told before
            pass
        broker.start()
        send(broker, *range(1, 5))
        until(lambda: {json.loads(c)["row"]["patient"] for _, _, c in listener.heard} == {f"p{n}" for n in range(5)})
        ended(process)
    listener.close()


def test_what_cannot_begin_says_why(broker: Broker, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="several topics"):
        MqttOutflow(broker.address("scores/#"), **LOGIN)
    with pytest.raises(Refused, match="nobody in"):
        MqttOutflow(broker.address("scores"), username="reader", password=os.urandom(4).hex())
    with pytest.raises(Refused, match="nobody in"):
        MqttInflow(broker.address("ward/#"), tmp_path / "kept", username="reader", password="wrong")
    broker.stop()
    with pytest.raises(Unavailable):
        MqttInflow(broker.address("ward/#"), tmp_path / "kept", **LOGIN)


def test_what_is_sent_while_the_broker_is_away_is_there_when_it_is_back(broker: Broker) -> None:
    listener = Listener(broker, "scores")
    with contextlib.closing(MqttOutflow(broker.address("scores"), **LOGIN)) as outflow:
        broker.stop()
        back = threading.Timer(1.0, broker.start)
        back.start()
        assert outflow.put([Sent("a", b"1"), Sent("b", b"2")], lambda: False) == {}
        back.join()
        until(lambda: {content for _, _, content in listener.heard} == {b"1", b"2"})
        broker.stop()
        with pytest.raises(Unavailable):
            outflow.put([Sent("c", b"3")], lambda: True)
    listener.close()


def test_a_trace_comes_in_a_user_property_and_goes_on_in_one(broker: Broker, tmp_path: Path) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    listener = Listener(broker, "onward")
    inflow = MqttInflow(broker.address("ward/#"), tmp_path / "kept", **LOGIN)
    given = [[("traceparent", parent), ("tracestate", "clinic=a7")], [("x", "y")], [("traceparent", "é" * 9)], []]
    for pairs in given:
        told: Any = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        if pairs:
            told.UserProperty = pairs
        listener.client.publish("ward/a", b"{}", qos=1, properties=told).wait_for_publish(20)
    came: list[Any] = []
    while len(came) < len(given):
        came += inflow.take(10, 0.5)
    inflow.close()  # unanswered: it comes again, from the disk
    with contextlib.closing(MqttInflow(broker.address("ward/#"), tmp_path / "kept", **LOGIN)) as again:
        assert again.take(10, 0.5) == came
    assert [one.trace for one in came] == [Trace(parent, "clinic=a7"), *[Trace()] * 3]
    with contextlib.closing(MqttOutflow(broker.address("onward"), **LOGIN)) as outflow:
        assert (
            outflow.put([Sent(str(n), b"{}", None, one.trace) for n, one in enumerate(came[:2])], lambda: False) == {}
        )
    until(lambda: len(listener.properties) == 2)
    assert listener.properties == [{"id": "0", "traceparent": parent, "tracestate": "clinic=a7"}, {"id": "1"}]
    listener.close()
