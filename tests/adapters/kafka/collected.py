"""A topic collected and collected again over a broker that is really there; a program, for it is killed."""

from __future__ import annotations

import io
import os
import sys
import uuid
from pathlib import Path
from typing import Any


def _open(folder: Path) -> Any:
    from loopline.app import Platform

    return Platform.open(workspace=folder / "workspace", checkpoints=str(folder / "copies"))


def _send(topic: str, *contents: bytes) -> None:
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": os.environ["BROKER"], "linger.ms": 0, "batch.num.messages": 1})
    for number, content in enumerate(contents):
        producer.produce(topic, content, partition=number % 2)
    assert producer.flush(20) == 0


def _topic(folder: Path) -> str:
    from confluent_kafka.admin import AdminClient, NewTopic

    said = folder / "topic"
    if not said.exists():
        admin, topic = AdminClient({"bootstrap.servers": os.environ["BROKER"]}), f"t{uuid.uuid4().hex}"
        (made,) = admin.create_topics([NewTopic(topic, 2, 1)]).values()
        made.result(20)
        _send(topic, *(b'{"id": %d}' % n for n in range(20)))
        said.write_text(topic)
    return said.read_text()


def work(folder: Path) -> None:
    """Twenty messages, then ten and one that is no row; whatever is done already is not done again."""
    from loopline.data.records import SourceState

    topic = _topic(folder)
    platform = _open(folder)
    sources = platform.session().sources
    sources.collect("readings", (SourceState(address=f"kafka://{os.environ['BROKER']}/{topic}"),))
    if not (folder / "more").exists():
        _send(topic, *(b'{"id": %d}' % n for n in range(20, 30)), b"poison")
        (folder / "more").touch()
    sources.sync("readings")
    platform.close()


def check(folder: Path, *, finished: bool) -> None:
    """Each message is a row or held back, once; and all are in the end."""
    import polars as pl

    platform = _open(folder)
    try:
        session = platform.session()
        assert session.ledger.verify().ok
        log = session.datasets.log("readings") if session.datasets.list() else ()
        ids: list[int] = []
        if log:
            ids = pl.read_ipc_stream(io.BytesIO(session.datasets.read("readings").read()))["id"].to_list()
        assert sorted(ids) == list(range(len(ids)))
        assert len(ids) in ((30,) if finished else (0, 20, 30))
        assert sum(version.quarantined for version in log) == (len(ids) == 30)
    finally:
        platform.close()


if __name__ == "__main__":
    work(Path(sys.argv[1]))
