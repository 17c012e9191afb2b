"""Topics collected and collected again over a broker that is really there; a program, for it is killed."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import uuid
from pathlib import Path
from typing import Any


def _open(folder: Path) -> Any:
    from loopline.app import Platform

    return Platform.open(workspace=folder / "workspace", checkpoints=str(folder / "copies"))


def _send(topic: str, *contents: bytes) -> None:
    import paho.mqtt.publish as publish

    messages = [{"topic": topic, "payload": content, "qos": 1} for content in contents]
    publish.multiple(
        messages,
        "127.0.0.1",
        int(os.environ["BROKER"]),
        auth={"username": "reader", "password": os.environ["BROKER_PASSWORD"]},
    )


def work(folder: Path) -> None:
    """Fifteen messages, all alike, then ten and one that is no row; whatever is done already is not done again."""
    from loopline.data.records import SourceState
    from loopline.errors import NotFound

    said = folder / "topic"
    if not said.exists():
        said.write_text(uuid.uuid4().hex)
    topic = said.read_text()
    platform = _open(folder)
    sources = platform.session().sources
    source = SourceState(
        address=f"mqtt://127.0.0.1:{os.environ['BROKER']}/{topic}/#",
        options={"username": "reader", "password": "${BROKER_PASSWORD}"},
    )
    if not (folder / "first").exists():
        with contextlib.suppress(NotFound):  # nothing has come yet
            sources.collect("readings", (source,))
        _send(f"{topic}/a", *([b'{"id": 1}'] * 15))
        (folder / "first").touch()
    sources.collect("readings", (source,))
    if not (folder / "more").exists():
        _send(f"{topic}/b", *([b'{"id": 1}'] * 10), b"poison")
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
        rows = 0
        if log:
            rows = pl.read_ipc_stream(io.BytesIO(session.datasets.read("readings").read())).height
            (state,) = session.sources.show("readings").sources
            assert os.environ["BROKER_PASSWORD"] not in json.dumps(state.options)
        assert rows in ((25,) if finished else (0, 15, 25))
        assert sum(version.quarantined for version in log) == (rows == 25)
    finally:
        platform.close()


if __name__ == "__main__":
    work(Path(sys.argv[1]))
