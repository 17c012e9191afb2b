"""What somebody can do who can write the database file: each is told, with the entry's name and the way out."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from loopline.database import Database
from loopline.errors import Conflict
from loopline.ledger import notes, tables
from loopline.ledger.log import Ledger
from loopline.ledger.merkle import Frontier, leaf_hash
from loopline.ledger.records import Verification
from loopline.ledger.service import LedgerService
from loopline.ledger.verify import verify
from loopline.testing.clock import FakeClock

SIZE = 601


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'loopline.db'}"


@pytest.fixture
def filled(database: Database, ledger: Ledger) -> Ledger:
    """601 entries, a checkpoint after each 50 and one at the end."""
    append(database, ledger, SIZE - 1)
    ledger.close(database)
    assert verify(database, ledger.copies).findings == ()
    return ledger


def append(database: Database, ledger: Ledger, count: int, word: str = "r") -> None:
    with database.begin(principal="alice") as tx:
        for n in range(count):
            ledger.append(
                tx, operation="runs.start", inputs=["data:v@1"], outputs=[f"run:{word}{n}"], principal="alice"
            )


def sql(database: Database, *statements: str) -> None:
    with database.engine.connect().execution_options(loopline_write=True) as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
        connection.commit()


def rewrite(database: Database, seq: int, change: Callable[[str], str]) -> None:
    """Edits an entry and everything that can be recomputed: its check, the nodes, the frontier. Only signatures are left."""
    with database.engine.connect().execution_options(loopline_write=True) as connection:
        rows = connection.execute(sa.select(tables.entries.c.seq, tables.entries.c.body).order_by(tables.entries.c.seq))
        tree = Frontier()
        connection.execute(sa.delete(tables.nodes))
        for row in rows.all():
            body = change(row.body) if row.seq == seq else row.body
            leaf = leaf_hash(body.encode())
            connection.execute(
                sa.update(tables.entries).where(tables.entries.c.seq == row.seq).values(body=body, leaf=leaf[:8])
            )
            for level, place, node in tree.append(leaf):
                connection.execute(sa.insert(tables.nodes).values(level=level, place=place, hash=node))
        connection.execute(sa.update(tables.head).values(size=tree.size, frontier=tree.to_bytes()))
        connection.commit()


def told(database: Database, ledger: Ledger) -> dict[str, str]:
    found = verify(database, ledger.copies)
    assert not found.ok
    assert all(finding.hint for finding in found.findings)
    return {finding.kind: finding.message for finding in reversed(found.findings)}


def test_an_edited_entry(database: Database, filled: Ledger) -> None:
    sql(database, "UPDATE ledger_entries SET body = replace(body, 'alice', 'bobby') WHERE seq = 123")
    findings = told(database, filled)
    assert "Entry 123 was changed" in findings["edited"]
    assert "in 101 to 150" in findings["rewritten"]
    with database.begin(lazy=True) as tx, pytest.raises(Conflict):
        LedgerService(tx, filled).prove(seq=123)


def test_an_edited_entry_with_its_own_check(database: Database, filled: Ledger) -> None:
    with database.snapshot() as connection:
        body = connection.exec_driver_sql("SELECT body FROM ledger_entries WHERE seq = 300").scalar_one()
    changed = body.replace("alice", "bobby")
    with database.begin() as tx:
        tx.execute(
            sa.update(tables.entries)
            .where(tables.entries.c.seq == 300)
            .values(body=changed, leaf=leaf_hash(changed.encode())[:8])
        )
    assert "entries 256 to 511" in told(database, filled)["edited"]


def test_an_edited_entry_with_the_whole_tree_recomputed(database: Database, filled: Ledger) -> None:
    rewrite(database, 300, lambda body: body.replace("alice", "bobby"))
    assert "in 251 to 300" in told(database, filled)["rewritten"]


def test_a_recomputed_tree_with_checkpoints_signed_by_a_key_of_their_own(
    database: Database, filled: Ledger, tmp_path: Path
) -> None:

    forger = Ed25519PrivateKey.generate()
    rewrite(database, 300, lambda body: body.replace("alice", "bobby"))
    with database.begin() as tx:
        now = tx.first(sa.select(tables.head))
        assert now is not None
        root = Frontier(now.size, now.frontier).root()
        note = notes.sign(notes.checkpoint_text(now.origin, now.size, root), now.origin, forger)
        public = notes.public_bytes(forger)
        tx.execute(sa.delete(tables.checkpoints))
        tx.execute(sa.insert(tables.checkpoints).values(size=now.size, time=0, note=note))
        tx.execute(
            sa.update(tables.keys).values(
                key=notes.key_id(now.origin, public), verifier=notes.verifier_key(now.origin, public)
            )
        )
    findings = told(database, filled)
    assert "not on the ledger at entry 0" in findings["bad-key"]
    assert "is not signed by this ledger's key" in findings["bad-signature"]


def test_swapped_entries(database: Database, filled: Ledger) -> None:
    sql(
        database,
        "CREATE TEMP TABLE two AS SELECT * FROM ledger_entries WHERE seq IN (10, 20)",
        "UPDATE ledger_entries SET (body, leaf) = (SELECT body, leaf FROM two WHERE seq = 30 - ledger_entries.seq)"
        " WHERE seq IN (10, 20)",
    )
    assert told(database, filled)["swapped"] == "At place 10 stands entry 20."


@pytest.mark.parametrize(
    ("where", "message"), [("= 77", "Entry 77 is missing."), ("IN (77, 78)", "Entries 77 to 78 are missing.")]
)
def test_dropped_entries(database: Database, filled: Ledger, where: str, message: str) -> None:
    sql(database, f"DELETE FROM ledger_entries WHERE seq {where}")
    assert told(database, filled)["dropped"] == message


def test_a_dropped_entry_with_the_others_moved_up(database: Database, filled: Ledger) -> None:
    sql(
        database,
        "DELETE FROM ledger_entries WHERE seq = 77",
        "UPDATE ledger_entries SET seq = -seq - 1 WHERE seq > 77",
        "UPDATE ledger_entries SET seq = -seq - 2 WHERE seq < 0",
    )
    findings = told(database, filled)
    assert findings["swapped"] == "At place 77 stands entry 78."
    assert "entries 600 to 600" in findings["truncated"]


def test_a_cut_end(database: Database, filled: Ledger) -> None:
    sql(database, "DELETE FROM ledger_entries WHERE seq >= 590")
    assert "entries 590 to 600" in told(database, filled)["truncated"]


def test_a_cut_end_with_head_and_checkpoints_fitted(database: Database, filled: Ledger) -> None:
    sql(
        database,
        "DELETE FROM ledger_entries WHERE seq >= 590",
        "DELETE FROM ledger_links WHERE seq >= 590",
        "DELETE FROM ledger_checkpoints WHERE size > 590",
    )
    rewrite(database, -1, str)
    message = told(database, filled)["truncated"]
    assert "entries 590 to 600 were cut off" in message
    assert str(filled.copies.folder) in message
    # Without the copies outside nothing could tell.
    shutil.rmtree(filled.copies.folder)
    found = verify(database, filled.copies)
    assert [finding.kind for finding in found.findings] == ["no-copies"]


def test_copies_that_somebody_removed_are_named_also_after_the_next_program(database: Database, filled: Ledger) -> None:
    (folder,) = filled.copies.folder.iterdir()
    shutil.rmtree(folder)
    filled.create(database)  # as the next program that opens the workspace
    assert not folder.exists()
    (finding,) = verify(database, filled.copies).findings
    assert (finding.kind, finding.severity) == ("no-copies", "warning")
    assert "1, 51, 101, " in finding.message
    assert "601 entries" in finding.message
    append(database, filled, 1)
    filled.close(database)
    (finding,) = verify(database, filled.copies).findings
    assert (finding.kind, finding.severity) == ("copy-missing", "warning")
    assert "1, 51, 101, " in finding.message
    assert "602" not in finding.message
    with database.begin() as tx:
        LedgerService(tx, filled).checkpoint()
    assert verify(database, filled.copies).findings == ()


def test_one_copy_that_somebody_removed_is_named(database: Database, filled: Ledger) -> None:
    (copy,) = filled.copies.folder.glob("*/101.note")
    copy.unlink()
    filled.create(database)
    assert not copy.exists()
    (finding,) = verify(database, filled.copies).findings
    assert finding.kind == "copy-missing"
    assert "the checkpoint of 101 entries" in finding.message


def test_an_entry_added_by_hand(database: Database, filled: Ledger) -> None:
    sql(
        database,
        "INSERT INTO ledger_entries SELECT seq + 1, replace(body, '600', '601'), leaf FROM ledger_entries WHERE seq = 600",
    )
    findings = told(database, filled)
    assert "601 to 601 were added by hand" in findings["appended"]
    assert "Entry 601" in findings["edited"]


def test_a_database_put_back_to_an_old_backup(database: Database, ledger: Ledger, tmp_path: Path) -> None:
    append(database, ledger, 200)
    ledger.close(database)
    backup(database, tmp_path / "backup.db")
    append(database, ledger, 100, "later")
    ledger.close(database)
    old = Database(f"sqlite:///{tmp_path / 'backup.db'}", FakeClock())
    assert "put back to an older state" in told(old, ledger)["truncated"]
    # And written on, past the size that was signed before.
    append(old, ledger, 150, "other")
    ledger.close(old)
    findings = told(old, ledger)
    assert "something in 201 to 250 was changed, or the database was put back" in findings["rewritten"]
    old.close()


def backup(database: Database, path: Path) -> None:
    with database.engine.connect() as connection, sqlite3.connect(path) as target:
        connection.connection.driver_connection.backup(target)  # type: ignore[union-attr]
    target.close()


def test_a_clock_turned_back(database: Database, ledger: Ledger, clock: FakeClock) -> None:
    append(database, ledger, 10)
    clock.forward(seconds=-3600)
    append(database, ledger, 1)
    found: Verification = verify(database, ledger.copies)
    assert found.ok
    assert [(f.kind, f.severity, f.seq) for f in found.findings] == [("clock-back", "warning", 11)]
    assert "3600 s behind" in found.findings[0].message
    with database.begin(lazy=True) as tx:
        times = [entry.time for entry in LedgerService(tx, ledger).entries()]
    assert times == sorted(times)
    append(database, ledger, 100)
    found = verify(database, ledger.copies)
    assert found.ok, "however many entries the clock was behind for"
    assert {(f.kind, f.severity) for f in found.findings} == {("clock-back", "warning")}


def test_an_entry_dated_back(database: Database, filled: Ledger) -> None:
    rewrite(database, 300, lambda body: re.sub(r'"t":\d+', '"t":1600000000000', body))
    assert "Entry 300 says it is" in told(database, filled)["time-back"]


def test_a_changed_index_of_refs(database: Database, filled: Ledger) -> None:
    sql(database, "DELETE FROM ledger_links WHERE seq = 5")
    assert "index" in told(database, filled)["links"]


def test_a_changed_head(database: Database, filled: Ledger) -> None:
    sql(database, "UPDATE ledger_head SET time = time - 1")
    assert "head" in told(database, filled)


def test_a_broken_entry_and_a_broken_checkpoint(database: Database, filled: Ledger) -> None:
    sql(
        database,
        "UPDATE ledger_entries SET body = '{' WHERE seq = 9",
        "UPDATE ledger_checkpoints SET note = 'x' WHERE size = 51",
    )
    findings = told(database, filled)
    assert "Entry 9" in findings["unreadable"]
    assert "checkpoint 51" in findings["bad-checkpoint"]


def test_a_forged_copy(database: Database, filled: Ledger) -> None:
    (latest,) = filled.copies.folder.glob("*/latest.note")
    latest.write_text(latest.read_text().replace("\n601\n", "\n602\n"))
    assert "latest.note" in told(database, filled)["bad-signature"]


def test_very_many_findings_are_counted(database: Database, filled: Ledger) -> None:
    sql(database, "UPDATE ledger_entries SET leaf = x'00'")
    found = verify(database, filled.copies)
    assert any("581 more" in finding.message for finding in found.findings)


def test_copies_are_the_owner_s_to_remove_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        ledger = Ledger(tmp_path / "other keys", tmp_path / "other copies")
        ledger.copies.put("loopline.local/abc", 1, "note\n", ["key"])
    finally:
        os.umask(before)
    made = [tmp_path / "other copies", *(tmp_path / "other copies").rglob("*")]
    assert len(made) == 5
    assert all(not path.stat().st_mode & 0o022 for path in made), [oct(path.stat().st_mode) for path in made]
