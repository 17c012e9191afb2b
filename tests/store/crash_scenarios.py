"""The store, killed anywhere: every reference leads to a whole blob, and nothing half-written shows."""

from __future__ import annotations

from pathlib import Path

from loopline.database import Database
from loopline.hashing import digest_bytes
from loopline.ports.clock import SystemClock
from loopline.store.local import LocalBlobs
from loopline.store.service import Store, verify


def _open(folder: Path) -> tuple[Database, LocalBlobs]:
    database = Database(f"sqlite:///{folder / 'loopline.db'}", SystemClock())
    database.create()
    return database, LocalBlobs(folder / "blobs")


def work(folder: Path) -> None:
    """Puts two blobs and takes a file as a third, retains them, lets go of one, sweeps."""
    database, blobs = _open(folder)
    for n in range(3):
        file, content = folder / "written", bytes([n]) * 1000
        file.write_bytes(content)
        put = blobs.take(file, digest_bytes(content)) if n == 2 else blobs.put([content, b"end"])
        with database.begin() as tx:
            Store(tx, blobs).retain(put.digest, f"run:r{n}")
    with database.begin() as tx:
        Store(tx, blobs).release_all("run:r1")
    with database.begin() as tx:
        Store(tx, blobs).sweep(grace=-1000)
    blobs.tidy(0)
    database.close()


def check(folder: Path, finished: bool) -> None:
    """References lead to whole blobs; after a whole run exactly the two that are needed are there, and no temporary file."""
    if not finished and not (folder / "loopline.db").exists():
        return
    database, blobs = _open(folder)
    with database.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"
    with database.begin(lazy=True) as tx:
        store = Store(tx, blobs)
        assert store.damages() == []
        for blob in blobs.list():
            verify(blobs, blob.digest)
        if finished:
            assert (store.usage().blobs, store.usage().unreferenced) == (2, 0)
            assert [bool(store.of(f"run:r{n}")) for n in range(3)] == [True, False, True]
            assert list(blobs.folder.glob(".*")) == []
    database.close()


SCENARIOS = {"store": (work, check)}
