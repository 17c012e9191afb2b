"""Runs that come and go, killed anywhere: done again, each is here once and whole, and no file is half written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent

_CHILDREN = ("0271e34c", "b9bfa1b9", "bd4d49c3")  # which would only take longer


def _open(folder: Path, name: str = "workspace") -> Any:
    os.environ.update(OMP_NUM_THREADS="1", POLARS_MAX_THREADS="1")
    from loopline.app import Platform

    return Platform.open(workspace=folder / name, checkpoints=str(folder / f"{name}-copies"))


def _mlruns(folder: Path) -> Path:
    place = folder / "mlruns"
    for name, text in json.loads((HERE / "mlflow" / "mlruns.json").read_text()).items():
        if any(child in name for child in _CHILDREN):
            continue
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    return place


def take(folder: Path) -> None:
    """The runs of a folder of MLflow."""
    from loopline.foreign import run_source
    from loopline.tracking.exchange.importing import bring

    platform = _open(folder)
    found = list(bring(platform.session(), run_source("mlflow", str(_mlruns(folder)))))
    assert {one.state for one in found} <= {"imported", "there already"}
    platform.close()


def check_taken(folder: Path, finished: bool) -> None:
    """Each run is there once at most; one that ended is whole."""
    if not finished and not (folder / "workspace" / "loopline.db").exists():
        return
    platform = _open(folder)
    session = platform.session()
    assert session.ledger.verify().ok
    runs = session.runs.list(limit=100).runs
    assert len({run.tags["import.source"] for run in runs}) == len(runs)
    for run in runs:
        for key in run.metrics:
            steps = [(p.step, p.time) for p in session.runs.history(run.id, key)]
            assert len(set(steps)) == len(steps)
        if run.status != "running" and "train/loss" in run.metrics:
            assert len(session.runs.history(run.id, "train/loss")) == 30
            assert len(session.runs.artifacts(run.id)) == 2
    if finished:
        assert len(runs) == 3
        assert len(session.groups.list().groups) == 3
        assert [run.name for run in runs if run.status == "running"] == ["goes on"]
    platform.close()


def give(folder: Path) -> None:
    """A run as event file, tables and bundle, and the bundle into another workspace."""
    from loopline.foreign import write_events
    from loopline.operations import Body
    from loopline.packaging.signing import ModelSigner
    from loopline.tracking.exchange.tables import points, table, write
    from loopline.tracking.records import Point

    platform = _open(folder)
    runs = platform.session().runs
    run = runs.create("fit", id="01HZZZZZZZZZZZZZZZZZZZZZZZ")
    if run.status == "running":
        runs.log(run.id, [Point(key="loss", value=n / 3, step=n, time=1 + n) for n in range(9)])
        runs.put_artifact(run.id, "a.txt", Body(b"hello", name="a.txt"))
        runs.finish(run.id)
    run = runs.show(run.id)
    write_events(folder / "logs", run, runs.history(run.id, "loss"))
    write([table([run])], folder / "runs.csv", "csv")
    write(points(runs, [run]), folder / "points.parquet", "parquet")
    packed = runs.export_bundle(run.id).read()
    signer = ModelSigner(folder / "workspace" / "keys")
    key = next((folder / "workspace" / "keys").glob("models-*.pub")).stem.removeprefix("models-")
    assert signer.public_key(key)
    platform.close()
    other = _open(folder, "other")
    other.session().runs.import_bundle(Body(packed, name="run.tar"), key)
    other.close()


def check_given(folder: Path, finished: bool) -> None:
    """Whole files, and the run once or not at all."""
    from loopline.adapters.tensorboard.records import Damage, read

    for path in (folder / "logs").rglob("events*"):
        assert [type(record) for record in read(path)] == [bytes] * 10
        assert Damage not in map(type, read(path))
    for name in ("runs.csv", "points.parquet"):
        assert finished <= (folder / name).exists()
    if (folder / "points.parquet").exists():
        import polars as pl

        assert pl.read_parquet(folder / "points.parquet").height == 9
    if not (folder / "other" / "loopline.db").exists():
        assert not finished
        return
    platform = _open(folder, "other")
    session = platform.session()
    assert session.ledger.verify().ok
    runs = session.runs.list().runs
    assert len(runs) == 1 if finished else len(runs) <= 1
    for run in runs:
        assert len(session.runs.history(run.id, "loss")) == 9
        assert session.runs.artifact(run.id, "a.txt").read() == b"hello"
        assert run.status == "finished"
    platform.close()


def keep(folder: Path) -> None:
    """Forty messages of a broker, which is a file of those that were acknowledged: kept, then acknowledged, in batches of ten."""
    from loopline.adapters.mqtt import spool as rooms

    rooms._SEGMENT = 300
    acknowledged = folder / "acknowledged"
    spool = rooms.Spool(folder / "spool")
    if not spool.subscribed:
        spool.subscribe()
    while left := [n for n in range(1, 41) if n > (acknowledged.stat().st_size if acknowledged.exists() else 0)][:10]:
        came = [rooms.Message(n, "ward/a", b"7", n) for n in left]
        spool.append([message for message in came if not spool.known(message)], settled=False)
        with acknowledged.open("ab") as file:
            file.write(b"." * len(left))
    spool.close()


def check_kept(folder: Path, finished: bool) -> None:
    """What was acknowledged is there, each message once and in order."""
    from loopline.adapters.mqtt.spool import Spool

    spool = Spool(folder / "spool")
    found = list(spool.behind(0))
    acknowledged = folder / "acknowledged"
    assert [number for number, _ in found] == [message.packet for _, message in found] == list(range(1, len(found) + 1))
    assert len(found) >= (acknowledged.stat().st_size if acknowledged.exists() else 0)
    if finished:
        assert len(found) == 40
        assert spool.subscribed
        spool.forget(15)
        assert [number for number, _ in spool.behind(15)] == list(range(16, 41))
    spool.close()


SCENARIOS = {
    "runs imported": (take, check_taken),
    "runs given away": (give, check_given),
    "messages kept": (keep, check_kept),
}

ROOMS = {"runs imported": ("tracking",), "runs given away": ("tracking", "tensorboard"), "messages kept": ("mqtt",)}
"""The verbs that they call are killed by their own rooms' scenarios."""
