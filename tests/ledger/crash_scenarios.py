"""The ledger, killed anywhere: what was acknowledged is there, all is verified, and the next program goes on."""

from __future__ import annotations

from pathlib import Path

from loopline.database import Database
from loopline.ledger.log import Ledger
from loopline.ledger.reading import entries
from loopline.ledger.verify import verify
from loopline.ports.clock import SystemClock


def _open(folder: Path) -> tuple[Database, Ledger]:
    database = Database(f"sqlite:///{folder / 'loopline.db'}", SystemClock())
    database.create()
    return database, Ledger(folder / "keys", folder / "outside", every=5)


def work(folder: Path) -> None:
    """Begins the ledger, appends 12 entries, rotates the key, signs at the end."""
    database, ledger = _open(folder)
    ledger.create(database)
    for n in range(12):
        with database.begin() as tx:
            ledger.append(tx, operation="runs.start", outputs=[f"run:r{n}"])
        with (folder / "acknowledged").open("a") as file:
            file.write(f"run:r{n}\n")
        if n == 7:
            with database.begin() as tx:
                ledger.rotate_key(tx)
    ledger.close(database)
    database.close()


def check(folder: Path, finished: bool) -> None:
    """Verified; acknowledged entries are there; one key in force; copies up to date once a program has run."""
    if not finished and not (folder / "loopline.db").exists():
        return
    database, ledger = _open(folder)
    with database.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"
        begun = connection.exec_driver_sql("SELECT count(*) FROM ledger_head").scalar_one()
    assert begun or not finished
    if begun:
        found = verify(database, ledger.copies)
        assert found.ok, found.findings
        with database.begin(lazy=True) as tx:
            there = {ref for entry in entries(tx, limit=10_000) for ref in entry.outputs}
        acknowledged = folder / "acknowledged"
        assert there >= set(acknowledged.read_text().split() if acknowledged.exists() else [])
        if finished:
            assert found.unsigned == 0
            assert not any(finding.kind == "no-copies" for finding in found.findings)
            assert len(list((folder / "keys").glob("ledger-*.pem"))) == 1
    database.close()


SCENARIOS = {"ledger": (work, check)}
