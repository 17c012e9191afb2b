"""A worker killed while it logs, changes its routing table or shows its counters: what was acknowledged is there, whole."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from pathlib import Path
from typing import Any

import msgspec


def log(folder: Path) -> None:
    """A worker after one that died in the middle of a frame: four answers, each on the disk when it is given."""
    from loopline.serving.log import MAGIC, SUFFIX, PredictionLog, encode, remove_read, segments

    torn = folder / "log" / f"{1:013d}-09-dead{SUFFIX}"
    torn.parent.mkdir(exist_ok=True)
    torn.write_bytes(MAGIC + encode(_frame("before")) + encode(_frame("never"))[:-5])
    mine = PredictionLog(torn.parent, 0, segment_bytes=1 << 20, segment_age_ms=1 << 40, now=10, always_sync=True)
    for n in range(4):
        mine.append([encode(_frame(f"r{n}"))], 10 + n)
        with (folder / "acknowledged").open("a") as file:
            file.write(f"r{n}\n")
        if n == 1:
            mine.sync()
            mine.rotate(20)
    mine.close()
    read = PredictionLog(folder / "read", 0, segment_bytes=1 << 20, segment_age_ms=1 << 40, now=10)
    read.append([encode(_frame("read"))], 10)
    read.close()
    remove_read(folder / "read", {path.name: path.stat().st_size for path in segments(folder / "read")}, 20)


def _frame(request: str) -> Any:
    from loopline.serving.log import Frame, Part

    return Frame(
        time_ms=1,
        request=request,
        endpoint="risk",
        parts=[Part("model:risk@1", "champion", "live", 1.0)],
        status=200,
        latency_us=1,
        form="list",
        sent=b'[{"x":1}]',
        answered=json.dumps([{"id": f"{request}-0", "value": 0.5}]).encode(),
    )


def check_log(folder: Path, finished: bool) -> None:
    """Each acknowledged answer can be read, and nothing torn."""
    from loopline.serving.log import read_on, recover

    said = {record.request for _, _, found in read_on(folder / "log", {}) for record in found}
    acknowledged = folder / "acknowledged"
    assert said >= set(acknowledged.read_text().split() if acknowledged.exists() else [])
    assert said <= {"before", "r0", "r1", "r2", "r3"}
    left = [record.request for _, _, found in read_on(folder / "read", {}) for record in found]
    assert set(left) <= {"read"}
    if finished:
        assert left == []
        assert said == {"before", "r0", "r1", "r2", "r3"}
        assert recover(folder / "log") == []


def door(folder: Path) -> None:
    """A supervisor keeps a table and has its worker take it; a caller of the worker asks for more; it shows its counters."""
    from loopline.serving.door import write_state
    from loopline.serving.metrics import Counters, publish
    from loopline.serving.records import ControlMessage, RouteTable

    for epoch in (2, 3):
        message = ControlMessage(table=RouteTable(epoch=epoch, endpoints={}))
        write_state(folder / "state.json", message)
        asyncio.run(_ordered(folder, message))
        counters = Counters()
        counters.epoch = epoch
        publish(counters, folder, 0)


async def _ordered(folder: Path, message: Any) -> None:
    from loopline.serving.door import Door, Order, Reply, frame, receive
    from loopline.serving.engine import Engine
    from loopline.serving.records import WorkerSettings

    mine, theirs = socket.socketpair()
    engine = Engine(WorkerSettings(state="", log=""), None)
    opened = Door(engine, lambda: None)
    serving = asyncio.create_task(opened.serve(theirs))
    epoch = message.table.epoch
    orders = (None, Order(do="prepare", epoch=epoch, message=message), Order(do="commit", epoch=epoch))
    for order in orders:  # the first thing on the door is the worker's own hello
        if order is not None:
            mine.sendall(frame(order))
        reply = msgspec.json.decode(await asyncio.to_thread(receive, mine) or b"", type=Reply)
        assert reply.error is None
        if order is not None and order.do == "commit":
            (folder / "acknowledged").write_text(str(reply.epoch))
    asking = asyncio.create_task(opened.ask("load", "risk"))
    asked = msgspec.json.decode(await asyncio.to_thread(receive, mine) or b"", type=Reply).change
    assert asked is not None
    assert (asked.action, asked.model) == ("load", "risk")
    mine.sendall(frame(Order(do="answer", number=asked.number)))
    await asking
    mine.close()
    await serving
    engine.close()


def check_door(folder: Path, finished: bool) -> None:
    """The table on file and the counters are whole, and no acknowledged epoch is newer than the table kept."""
    from loopline.serving.door import read_state
    from loopline.serving.metrics import Counters, gather

    state = read_state(folder / "state.json")
    acknowledged = folder / "acknowledged"
    if acknowledged.exists():
        assert state is not None
        assert state.table.epoch >= int(acknowledged.read_text() or 0) or not finished
    total, workers = gather(Counters(epoch=3), folder, 1)  # what cannot be read is not counted as a worker
    assert workers == (folder / "0.counters").exists() + 1
    if finished:
        assert state is not None
        assert (state.table.epoch, total.epoch, os.stat(folder / "state.json").st_mode & 0o777) == (3, 3, 0o600)


def certificate(folder: Path) -> None:
    """A certificate is made; what a kill left of one is in the way, and is removed, as the error says."""
    from loopline.errors import Conflict
    from loopline.serving.tls import make_certificate

    try:
        make_certificate(folder / "tls", ["localhost"])
    except Conflict:
        for file in (folder / "tls").iterdir():
            file.unlink()
        make_certificate(folder / "tls", ["localhost"])


def check_certificate(folder: Path, finished: bool) -> None:
    """What is half there is told, and is not served; a key is its owner's alone."""
    from loopline.errors import Invalid
    from loopline.serving.tls import check_pair

    pair = str(folder / "tls" / "cert.pem"), str(folder / "tls" / "key.pem")
    try:
        check_pair(*pair)
    except Invalid:
        assert not finished
    else:
        assert os.stat(pair[1]).st_mode & 0o077 == 0


class _FileIn:
    """A broker that is a file: how many of its thirty messages are answered, one of them no row."""

    name = "file"
    trouble = ""
    waiting = None

    def __init__(self, folder: Path) -> None:
        self.position = folder / "position"
        self.at = int(self.position.read_text()) if self.position.exists() else 0

    def take(self, most: int, wait: float) -> list[Any]:
        from loopline.ports.stream import Came

        numbers = range(self.at, min(self.at + 15, 30))
        self.at = numbers.stop
        return [Came(str(n), {"number": n}, b"no row" if n == 13 else json.dumps(_row(n)).encode()) for n in numbers]

    def answered(self) -> None:
        new = self.position.with_suffix(".new")
        new.write_text(str(self.at))
        new.replace(self.position)

    def close(self) -> None:
        pass


class _FileOut:
    """A file of ids and contents."""

    trouble = ""

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, path.name

    def put(self, messages: Any, stopped: Any) -> dict[str, str]:
        with self.path.open("ab") as file:
            file.write(b"".join(one.content + b"\n" for one in messages))
        return {}

    def close(self) -> None:
        pass


def _row(n: int) -> dict[str, Any]:
    return {"age": n, "visits": 1, "insured": None, "admitted": None, "ward": "west"}


def stream(folder: Path) -> None:
    """Thirty messages scored."""
    import importlib.util

    from loopline.packaging.records import Opening
    from loopline.serving.messages import Model
    from loopline.serving.records import BUCKETS, Variant
    from loopline.serving.stream_log import StreamLog
    from loopline.serving.streams import Scoring

    if not (folder / "bundle" / "manifest.json").exists():
        spec = importlib.util.spec_from_file_location("serving_conftest", Path(__file__).with_name("conftest.py"))
        assert spec
        assert spec.loader
        made = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(made)
        made.write(folder / "bundle")
    variant = Variant(name="champion", bundle=str(folder / "bundle"), model="model:risk@1", weight=BUCKETS)
    inflow = _FileIn(folder)
    log = StreamLog(folder / "log", sync="interval", full="refuse")
    Scoring(
        Model(variant, Opening()),
        lambda: inflow,
        _FileOut(folder / "answers"),
        _FileOut(folder / "aside"),
        opening=Opening(),
        follow=lambda ref: None,
        stopped=lambda: inflow.at == 30 and inflow.position.exists() and inflow.position.read_text() == "30",
        given_up=lambda: False,
        every=lambda progress: None,
        log=log,
    ).run()
    log.close()


def check_stream(folder: Path, finished: bool) -> None:
    """No message is passed over, and each is in the log; what is answered twice has one id, and one answer."""
    from loopline.serving.log import read_segment, segments

    position = folder / "position"
    done = int(position.read_text()) if position.exists() else 0
    found: dict[str, dict[str, Any]] = {}
    for name in ("answers", "aside"):
        path = folder / name
        for line in path.read_text().splitlines() if path.exists() else []:
            said = json.loads(line)
            assert found.setdefault(said["id"], said) == said
    logged = {one.id for segment in segments(folder / "log") for one in read_segment(segment)[0]}
    assert logged >= {f"risk/{n}" for n in range(done)}
    numbers = {said["from"]["number"] for said in found.values()}
    assert numbers >= set(range(done))
    assert len(found) == len(numbers)
    assert 13 not in {said["from"]["number"] for said in found.values() if "label" in said}
    if finished:
        assert numbers == set(range(30))


def retention(folder: Path) -> None:
    """Of two segments one is over, the other in half."""
    import shutil

    from loopline.serving.log import PredictionLog, encode
    from loopline.serving.records import Policy
    from loopline.serving.retention import Retention

    day = 86_400_000
    if not (folder / "made").exists():
        shutil.rmtree(folder / "kept", ignore_errors=True)
        for begun, times in ((1, (1, 2)), (3, (3, day))):
            made = PredictionLog(folder / "kept", 0, segment_bytes=1 << 20, segment_age_ms=1 << 40, now=begun)
            made.append([encode(msgspec.structs.replace(_frame(f"r{at}"), time_ms=at)) for at in times], begun)
            made.close()
        (folder / "made").touch()
    Retention(folder / "kept", {"risk": Policy(days=1)}).expire(day + 5)


def check_retention(folder: Path, finished: bool) -> None:
    """What is to stay is there, once."""
    from loopline.serving.log import read_on

    left = [record.request for _, _, found in read_on(folder / "kept", {}) for record in found]
    assert len(left) == len(set(left))
    if (folder / "made").exists():
        assert "r86400000" in left
    if finished:
        assert left == ["r86400000"]
        assert [path.suffix for path in (folder / "kept").iterdir()] == [".segment"]


SCENARIOS = {
    "prediction log": (log, check_log),
    "retention": (retention, check_retention),
    "control door": (door, check_door),
    "certificate": (certificate, check_certificate),
    "stream": (stream, check_stream),
}
