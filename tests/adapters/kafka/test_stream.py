"""Streams of Kafka, scored: librdkafka's own cluster, real members of a real group, processes that are killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from tests.serving.conftest import EXAMPLE, expected, write

from loopline.adapters.kafka import stream as adapter
from loopline.adapters.kafka.stream import KafkaInflow, KafkaOutflow
from loopline.errors import Conflict, Invalid, LooplineError, NotFound, Unavailable
from loopline.ports.stream import Inflow, Outflow, Sent, Trace
from loopline.testing.stream import StreamLaws

from .conftest import Broker


def read(broker: Broker, topic: str, partitions: int = 4) -> list[Any]:
    """All messages of a topic, by somebody who knows nothing of us."""
    consumer = Consumer({"bootstrap.servers": broker.address, "group.id": uuid.uuid4().hex, "log_level": 0})
    found: list[Any] = []
    try:
        there = consumer.list_topics(topic, timeout=20).topics[topic].partitions
        for p in range(partitions) if there else ():
            _, end = consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=20)
            consumer.assign([TopicPartition(topic, p, 0)])
            count = 0
            while count < end:
                message = consumer.poll(20)
                assert message is not None
                assert message.error() is None
                found.append(message)
                count += 1
    finally:
        consumer.close()
    return found


class Topic:
    """A stream of the conformance suite."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.name = f"t{uuid.uuid4().hex}"
        self.address = f"kafka://{broker.address}/{self.name}"
        broker.producer.list_topics(self.name, timeout=20)  # which makes it

    def put(self, *contents: bytes) -> None:
        self.broker.send(self.name, *contents)

    def inflow(self) -> Inflow:
        return KafkaInflow(self.address, group=f"g-{self.name}")

    def outflow(self) -> Outflow:
        return KafkaOutflow(f"kafka://{self.broker.address}/{self.name}.out")

    def sent(self) -> list[tuple[str, bytes]]:
        ids = {dict(one.headers())["id"].decode(): one.value() for one in read(self.broker, f"{self.name}.out")}
        return sorted(ids.items(), key=lambda item: int(item[0][1:]) if item[0] != "last" else 1 << 30)


@pytest.mark.soak  # a member that comes again waits for the others of its group
class TestKafka(StreamLaws):
    @pytest.fixture
    def stream(self, broker: Broker) -> Topic:
        return Topic(broker)


# A process that scores


@contextlib.contextmanager
def scoring(folder: Path, *line: str, armed: str = "", bundle: str = "bundle") -> Iterator[subprocess.Popen[str]]:
    """A running `loopline score` of a bundle's folder."""
    process = subprocess.Popen(
        [sys.executable, "-m", "loopline", "score", "--model", f"./{bundle}", "--json", *line],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "LOOPLINE_FAILPOINTS": armed, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()


def ended(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """What it says until SIGTERM has ended it."""
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    return [json.loads(line) for line in out.splitlines()]


def until(what: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def row(n: int) -> dict[str, Any]:
    return {**EXAMPLE, "age": float(n), "patient": f"p{n}"}


@pytest.fixture
def place(broker: Broker, tmp_path: Path) -> list[str]:
    """A bundle, a topic with ten rows in two partitions, two poison messages; the line that scores it."""
    write(tmp_path / "bundle")
    for n in range(10):
        broker.send("visits", json.dumps(row(n)).encode(), partition=n % 2, key=f"k{n}".encode())
    broker.send("visits", b"no row", b'{"age": "old"}')
    return ["--from", f"kafka://{broker.address}/visits", "--to", f"kafka://{broker.address}/scores"]


@pytest.mark.parametrize(
    "point",
    [
        "serving.stream.aside",
        pytest.param("serving.stream.taken", marks=pytest.mark.soak),
        pytest.param("serving.stream.sent", marks=pytest.mark.soak),
        pytest.param("serving.stream.answered", marks=pytest.mark.soak),
    ],
)
def test_killed_anywhere_every_row_is_answered_and_twice_by_one_id(
    broker: Broker, place: list[str], tmp_path: Path, point: str
) -> None:
    with scoring(tmp_path, *place, armed=f"{point}=kill") as process:
        assert process.wait(60) == -signal.SIGKILL
    broker.send("visits", json.dumps(row(10)).encode(), key=b"k10")
    with scoring(tmp_path, *place) as process:
        until(lambda: {f"k{n}".encode() for n in range(11)} <= {one.key() for one in read(broker, "scores")})
        until(lambda: len(read(broker, "scores.refused")) >= 2)
        said = ended(process)
    assert said[0]["event"] == "scoring"
    found: dict[bytes, set[str]] = {}
    for one in read(broker, "scores"):
        answer = json.loads(one.value())
        found.setdefault(one.key(), set()).add(answer["id"])
        n = int(answer["row"]["age"])
        assert one.key() == b"k%d" % n
        assert answer["row"] == row(n), "the row as it came, with what no model reads"
        assert answer["probabilities"]["yes"] == pytest.approx(expected(row(n)), rel=1e-4)
        assert answer["label"] == ("yes" if answer["probabilities"]["yes"] >= 0.5 else "no")
        assert (answer["model"], answer["from"]["topic"]) == ("model:risk@1", "visits")
        assert dict(one.headers())["id"].decode() == answer["id"]
        assert answer["id"].startswith(f"risk/visits/{answer['from']['partition']}/{answer['from']['offset']}-")
    assert {len(ids) for ids in found.values()} == {1}
    assert len(found) == 11
    refused = {(told := json.loads(one.value()))["id"]: told for one in read(broker, "scores.refused")}
    assert sorted(told["text"] for told in refused.values()) == ["no row", '{"age": "old"}']
    assert sorted(told["reason"].partition(":")[0] for told in refused.values()) == [
        "Row 0", "The body is not JSON",
    ]  # fmt: skip


def test_two_processes_share_a_topic(broker: Broker, tmp_path: Path) -> None:
    """Members of one group; one leaves, and the other takes all."""
    for p in range(4):
        broker.send("shared", b'{"n": 0}', partition=p)
    address = f"kafka://{broker.address}/shared"
    found: dict[str, list[str]] = {"a": [], "b": []}
    stop = {"a": threading.Event(), "b": threading.Event()}

    def member(name: str) -> None:
        with contextlib.closing(KafkaInflow(address, group="both")) as inflow:
            while not stop[name].is_set():
                came = inflow.take(1, 0.2)
                found[name] += [one.id for one in came]
                if came:
                    inflow.answered()

    threads = {name: threading.Thread(target=member, args=(name,)) for name in found}
    for thread in threads.values():
        thread.start()
    try:

        def sent() -> bool:
            for p in range(4):
                broker.send("shared", b'{"n": 1}', partition=p)
            return all(len(ids) > 8 for ids in found.values())

        until(sent)
        stop["a"].set()
        threads["a"].join()
        until(lambda: (sent() or True) and {id.split("/")[1] for id in found["b"][-40:]} == {"0", "1", "2", "3"})
    finally:
        for event in stop.values():
            event.set()
        threads["b"].join()
    until_read = {f"shared/{p}" for p in range(4)}
    assert {id.rpartition("/")[0] for ids in found.values() for id in ids} == until_read


# Bad input


def test_what_cannot_begin_says_why(broker: Broker, tmp_path: Path) -> None:
    broker.send("there", b"{}")
    there = f"kafka://{broker.address}/there"
    for made, error, words in (
        (lambda: KafkaInflow("kafka://nowhere", group="g"), Invalid, "no address"),
        (lambda: KafkaInflow(there, group="g", start="tomorrow"), Invalid, "earliest or latest"),
        (lambda: KafkaInflow(there, group="g", security={"plugin.library.paths": "x"}), Invalid, "no option"),
        (lambda: KafkaOutflow(there, security={"security.protocol": "sesame"}), Invalid, "these options"),
    ):
        with pytest.raises(error) as told:
            made()
        assert words in f"{told.value} {told.value.hint}"


def test_a_group_that_read_another_topic_does_not_go_on(broker: Broker) -> None:
    broker.send("renewed", b"{}", partition=0)
    address = f"kafka://{broker.address}/renewed"
    consumer = Consumer({"bootstrap.servers": broker.address, "group.id": "old", "log_level": 0})
    consumer.commit(offsets=[TopicPartition("renewed", 0, 700)], asynchronous=False)
    consumer.close()
    with (
        contextlib.closing(KafkaInflow(address, group="old")) as inflow,
        pytest.raises(Conflict, match="ends at 1") as told,
    ):
        until(lambda: bool(inflow.take(1, 1.0)))
    assert told.value.code == "source-changed"


@pytest.mark.soak
def test_the_newest_is_where_a_group_may_begin_and_it_goes_on_there(broker: Broker) -> None:
    broker.send("late", b"0", b"1", partition=0)
    address = f"kafka://{broker.address}/late"
    with contextlib.closing(KafkaInflow(address, group="g", start="latest")) as inflow:
        while inflow.waiting is None:
            assert inflow.take(1, 0.2) == []
    broker.send("late", b"2", partition=0)  # while nobody is there
    with contextlib.closing(KafkaInflow(address, group="g", start="latest")) as inflow:
        came: Sequence[Any] = ()
        while not came:
            came = inflow.take(10, 0.5)
        assert [one.content for one in came] == [b"2"]


def test_what_is_too_large_for_the_broker_is_named(broker: Broker) -> None:
    broker.send("small", b"0")
    with contextlib.closing(KafkaOutflow(f"kafka://{broker.address}/small")) as outflow:
        refused = outflow.put([Sent("a", b"1"), Sent("b", b"x" * 2_000_000), Sent("c", b"3")], lambda: False)
    assert refused.keys() == {"b"}
    assert {one.value() for one in read(broker, "small")} == {b"0", b"1", b"3"}


def test_a_trace_comes_in_a_header_and_goes_on_in_one(broker: Broker) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    given: list[Any] = [
        [("traceparent", parent.encode()), ("tracestate", b"clinic=a7")], [("TraceParent", parent.encode())], None,
        [("traceparent", b"\xff\x00"), ("tracestate", b"clinic=a7")], [("traceparent", b"0" * 300)], [("traceparent", None)],
    ]  # fmt: skip
    for n, headers in enumerate(given):
        broker.producer.produce("traced", b"{}", key=b"%d" % n, partition=0, headers=headers)
    assert broker.producer.flush(20) == 0
    with contextlib.closing(KafkaInflow(f"kafka://{broker.address}/traced", group="g")) as inflow:
        came: list[Any] = []
        while len(came) < len(given):
            came += inflow.take(10, 0.5)
    assert [one.trace for one in came] == [Trace(parent, "clinic=a7"), Trace(parent), *[Trace()] * 4]
    with contextlib.closing(KafkaOutflow(f"kafka://{broker.address}/onward")) as outflow:
        assert (
            outflow.put([Sent(str(n), b"{}", b"k", one.trace) for n, one in enumerate(came[:3])], lambda: False) == {}
        )
    sent = {dict(one.headers())["id"]: dict(one.headers()) for one in read(broker, "onward")}
    assert sent[b"0"] == {"id": b"0", "traceparent": parent.encode(), "tracestate": b"clinic=a7"}
    assert sent[b"1"].keys() == {"id", "traceparent"}
    assert sent[b"2"].keys() == {"id"}


def test_a_broker_that_is_away_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "PATIENCE", 1.0)
    with pytest.raises(LooplineError) as told:
        KafkaOutflow("kafka://127.0.0.1:9/there")
    assert isinstance(told.value, Unavailable | NotFound)
