"""Killed anywhere: a deleted run is whole, or gone with all its points and files; a file in parts is there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def work(folder: Path) -> None:
    """Makes runs with points and a file, deletes and purges most of them, and sweeps the store."""
    from loopline.app import Platform
    from loopline.store.service import Store
    from loopline.tracking.records import Point

    os.environ["LOOPLINE_CHECKPOINTS"] = str(folder / "copies")
    platform = Platform.open(workspace=folder / "workspace")
    session = platform.session()
    group = next((g.number for g in session.groups.list(name="churn").groups), None)
    group = session.groups.create("churn").number if group is None else group
    for name in ("kept", "gone"):
        run = session.runs.create(name, group=group).id
        session.runs.log(run, [Point(key="loss", value=0.5, step=step, time=1) for step in range(5)])
        session.runs.put_artifact(run, "file", b"of all")
        session.runs.put_artifact(run, "own", run.encode())
        if name == "gone":
            session.runs.delete(run)
    session.runs.purge(older_than=0)
    with platform.database.begin() as tx:
        Store(tx, platform.blobs).sweep(grace=-1000)
    platform.close()


def check(folder: Path, finished: bool) -> None:
    """Every run that is there has its points and files, every reference its blob; after a whole run nothing else is there."""
    import sqlalchemy as sa

    from loopline.app import Platform
    from loopline.store.service import Store

    if not (folder / "workspace" / "loopline.db").exists():
        return
    os.environ["LOOPLINE_CHECKPOINTS"] = str(folder / "copies")
    platform = Platform.open(workspace=folder / "workspace")
    session = platform.session()
    found = session.runs.list(lifecycle="all").runs
    for run in found:
        assert len(session.runs.history(run.id, "loss")) == (5 if run.metrics else 0)
        for artifact in session.runs.artifacts(run.id):
            assert session.runs.artifact(run.id, artifact.path).read() == (
                run.id.encode() if artifact.path == "own" else b"of all"
            )
    with platform.database.begin(lazy=True) as tx:
        store = Store(tx, platform.blobs)
        assert store.damages() == []
        if finished:
            assert store.usage().unreferenced == 0
    assert session.ledger.verify().ok
    if finished:
        assert session.runs.list(lifecycle="deleted").runs == ()
        assert platform.metrics is not None
        with platform.metrics.snapshot() as connection:
            points = {row.run for row in connection.execute(sa.text("SELECT run FROM run_points_hot"))}
        with platform.database.snapshot() as connection:
            assert points <= {row.number for row in connection.execute(sa.text("SELECT number FROM runs"))}
    platform.close()


PIECES = (b"a" * 1000, b"b" * 2000)


def bring(folder: Path) -> None:
    """Brings a file in parts; it begins anew where it is run again, as a client does."""
    from loopline.app import Platform
    from loopline.operations import Body

    os.environ["LOOPLINE_CHECKPOINTS"] = str(folder / "copies")
    platform = Platform.open(workspace=folder / "workspace")
    runs = platform.session().runs
    run = runs.create("fit").id
    upload = runs.start_upload(run, "file", len(PIECES)).id
    parts = [runs.put_part(run, upload, number, Body(piece)).digest for number, piece in enumerate(PIECES, 1)]
    runs.complete_upload(run, upload, parts)
    platform.close()


def check_brought(folder: Path, finished: bool) -> None:
    """A file of a run is whole; what is left of an upload that was not completed, upkeep removes."""
    from loopline.app import Platform
    from loopline.tracking.uploads import KEPT_MILLISECONDS, expire

    if not (folder / "workspace" / "loopline.db").exists():
        return
    os.environ["LOOPLINE_CHECKPOINTS"] = str(folder / "copies")
    platform = Platform.open(workspace=folder / "workspace")
    runs = platform.session().runs
    found = [runs.artifact(run.id, file.path).read() for run in runs.list().runs for file in runs.artifacts(run.id)]
    assert set(found) <= {b"".join(PIECES)}
    assert found or not finished
    uploads = folder / "workspace" / "uploads"
    expire(uploads, platform.clock.now() + KEPT_MILLISECONDS + 60_000)
    assert list(uploads.glob("*")) == []
    assert platform.session().ledger.verify().ok
    platform.close()


SCENARIOS = {"purge": (work, check), "parts": (bring, check_brought)}
ROOMS = {"purge": ("tracking", "store", "database"), "parts": ("tracking", "files", "store")}
