"""Appending, checkpoints, keys, reading, lineage, cursors: on SQLite and PostgreSQL."""

from __future__ import annotations

import base64
import re
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from loopline import failpoints, hashing
from loopline.database import Database, Tx
from loopline.errors import Conflict, Invalid, NotFound
from loopline.ledger import cursor, notes, records, tables
from loopline.ledger.log import Ledger
from loopline.ledger.merkle import Frontier, leaf_hash
from loopline.ledger.service import LedgerService, LineageService
from loopline.ledger.verify import verify
from loopline.ports.clock import SystemClock
from loopline.testing.clock import FakeClock

DIGEST = "blake3:" + 64 * "a"


def append(
    database: Database, ledger: Ledger, operation: str = "runs.start", project: str = "default", **noted
) -> None:  # type: ignore[no-untyped-def]
    with database.begin(project=project, principal="alice") as tx:
        ledger.append(tx, operation=operation, project=project, principal=tx.principal, **noted)


def fill(database: Database, ledger: Ledger, count: int) -> None:
    for n in range(count):
        append(database, ledger, inputs=["data:visits@7"], outputs=[f"run:r{n}"], digests={"params": DIGEST})


words = st.from_regex(r"[a-z][a-z0-9_.-]{0,20}", fullmatch=True)
made = st.builds(
    records.Entry,
    seq=st.integers(0, 2**53),
    time=st.integers(0, 2**53),
    operation=words,
    principal=st.text(max_size=20),
    project=words,
    record=st.sampled_from(["entry", "digest", "denied"]),
    inputs=st.lists(words.map(lambda w: f"data:{w}@1"), max_size=3).map(tuple),
    outputs=st.lists(words.map(lambda w: f"run:{w}"), max_size=3).map(tuple),
    digests=st.dictionaries(words, st.just(DIGEST), max_size=3),
    count=st.integers(0, 2**31),
    behind=st.integers(0, 2**31),
)


@given(made)
def test_an_entry_is_canonical_json_and_comes_back(entry: records.Entry) -> None:
    body = records.encode(entry)
    assert records.decode(body) == entry
    assert hashing.canonical_json(records.read_stored(body)) == body


def test_the_first_entry_names_the_key(database: Database, ledger: Ledger) -> None:
    with database.begin(lazy=True) as tx:
        service = LedgerService(tx, ledger)
        first = service.entries()[0]
        (checkpoint,) = service.checkpoints()
    verifier = Path(checkpoint.copy).with_name("keys").read_text().strip()
    assert (first.seq, first.operation) == (0, "ledger.created")
    assert first.digests["key"] == "sha256:" + notes.sha256(verifier.encode()).hexdigest()
    assert notes.read(checkpoint.note).signed_by(verifier)
    (key,) = ledger.keys.folder.iterdir()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    assert "PRIVATE" in key.read_text()


def test_the_note_is_as_c2sp_says(database: Database, ledger: Ledger) -> None:
    with database.begin() as tx:
        note = ledger.checkpoint(tx).note
    match = re.fullmatch(
        "(loopline/ledger/[0-9a-f]{16})\n1\n([A-Za-z0-9+/]{43}=)\n\n— (\\S+) ([A-Za-z0-9+/=]+)\n", note
    )
    assert match
    assert match[1] == match[3]
    assert len(base64.b64decode(match[4])) == 4 + 64


def test_the_c2sp_key_id_of_the_specification_s_example() -> None:
    # The example key of golang.org/x/mod/sumdb/note, which the specification describes.
    name, key, public = notes.read_verifier_key("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    assert (name, key, len(public)) == ("PeterNeumann", "c74f20a3", 32)
    text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
    signature = base64.b64decode(
        "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
    )
    statement = notes.Statement("PeterNeumann", 0, b"", text, {signature[:4].hex(): signature[4:]})
    verifier = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    assert statement.signed_by(verifier)
    assert not notes.Statement("PeterNeumann", 0, b"", text + "!", statement.signatures).signed_by(verifier)


def test_roots_are_those_of_the_rows(database: Database, ledger: Ledger) -> None:
    fill(database, ledger, 300)
    found = verify(database, ledger.copies)
    assert found.ok, found.findings
    with database.snapshot() as connection:
        bodies = connection.execute(sa.select(tables.entries.c.body).order_by(tables.entries.c.seq)).scalars().all()
    tree = Frontier()
    for body in bodies:
        tree.append(leaf_hash(body.encode()))
    assert found.root == f"sha256:{tree.root().hex()}"
    assert (found.size, found.checkpoints, found.copies, found.unsigned) == (301, 7, 7, 0)


def test_a_checkpoint_is_due_by_count_and_by_time(database: Database, ledger: Ledger, clock: FakeClock) -> None:
    fill(database, ledger, 49)
    assert not ledger.copies.path(_origin(database), 50).exists()
    fill(database, ledger, 1)
    assert ledger.copies.path(_origin(database), 51).exists()
    clock.forward(seconds=599)
    fill(database, ledger, 1)
    assert verify(database, ledger.copies).unsigned == 1
    clock.forward(seconds=1)
    fill(database, ledger, 1)
    assert verify(database, ledger.copies).unsigned == 0
    fill(database, ledger, 1)
    ledger.close(database)
    ledger.close(database)
    assert verify(database, ledger.copies).unsigned == 0


def _origin(database: Database) -> str:
    with database.snapshot() as connection:
        return str(connection.execute(sa.select(tables.head.c.origin)).scalar_one())


def test_what_is_rolled_back_leaves_no_entry_and_no_copy(database: Database, ledger: Ledger) -> None:
    fill(database, ledger, 49)

    def fail(tx: Tx) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError), database.begin(before_commit=fail) as tx:  # noqa: PT012
        ledger.append(tx, operation="runs.start", outputs=["run:gone"])
        ledger.checkpoint(tx)
    found = verify(database, ledger.copies)
    assert (found.ok, found.size, found.copies) == (True, 50, 1)


def test_create_again_changes_nothing_and_makes_a_missing_copy(
    database: Database, ledger: Ledger, tmp_path: Path
) -> None:
    copy = ledger.copies.path(_origin(database), 1)
    copy.unlink()
    Ledger(tmp_path / "keys", tmp_path / "outside").create(database)
    assert copy.exists()
    assert verify(database, ledger.copies).size == 1


def test_a_copy_that_cannot_be_written_takes_nothing_back_and_is_told(database: Database, ledger: Ledger) -> None:
    for place in ("files.write.write", "files.write.before_sync", "files.write.before_rename"):
        fill(database, ledger, 1)
        failpoints.arm(f"{place}=ENOSPC")
        try:
            with database.begin() as tx:
                ledger.checkpoint(tx)
        finally:
            failpoints.arm("")
        found = verify(database, ledger.copies)
        assert (found.ok, found.unsigned) == (True, 0)
        assert [finding.kind for finding in found.findings] == ["copy-missing"]
        (folder,) = ledger.copies.folder.iterdir()
        assert list(folder.glob(".*")) == []
    ledger.create(database)
    assert verify(database, ledger.copies).findings == ()


@pytest.mark.parametrize(
    "noted",
    [
        {"inputs": ["Jane Doe, born 1950"]},
        {"outputs": ["model:a b@1"]},
        {"inputs": ["nonsense:a@1"]},
        {"digests": {"password": "hunter2"}},
        {"digests": {"a note in words": DIGEST}},
        {"operation": "free text"},
    ],
)
def test_only_refs_and_digests_get_in(database: Database, ledger: Ledger, noted: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        append(database, ledger, **noted)  # type: ignore[arg-type]
    assert verify(database, ledger.copies).size == 1


def test_a_rotated_key_signs_on_and_the_old_one_is_gone(database: Database, ledger: Ledger, tmp_path: Path) -> None:
    fill(database, ledger, 3)
    (old,) = ledger.keys.folder.iterdir()
    with database.begin(principal="root") as tx:
        signed = LedgerService(tx, ledger).rotate_key()
    assert len(notes.read(signed.note).signatures) == 2
    (new,) = ledger.keys.folder.iterdir()
    assert new.name != old.name
    fill(database, ledger, 2)
    other = Ledger(tmp_path / "keys", tmp_path / "outside")  # as another program would
    other.close(database)
    found = verify(database, ledger.copies)
    assert found.ok, found.findings
    assert (found.size, found.unsigned) == (7, 0)
    with database.begin(lazy=True) as tx:
        entry = LedgerService(tx, ledger).entries(operation="ledger.rotate_key")[0]
    assert set(entry.digests) == {"key", "former"}
    assert entry.principal == "root"


def test_a_rotation_that_stops_before_the_rename_is_taken_up(
    database: Database, ledger: Ledger, tmp_path: Path
) -> None:
    (old,) = ledger.keys.folder.iterdir()
    before = old.read_bytes()
    with database.begin() as tx:
        ledger.rotate_key(tx)
    (new,) = ledger.keys.folder.iterdir()
    new.rename(new.with_name("ledger-next.pem"))  # as a kill between commit and rename leaves it
    old.write_bytes(before)
    other = Ledger(tmp_path / "keys", tmp_path / "outside")
    fill(database, other, 1)
    other.close(database)
    assert new.exists()
    assert verify(database, ledger.copies).ok


def test_entries_by_what_they_name(database: Database, ledger: Ledger, clock: FakeClock) -> None:
    fill(database, ledger, 30)
    clock.forward(seconds=60)
    append(database, ledger, "models.register", inputs=["run:r3"], outputs=["model:m@1"])
    append(database, ledger, "runs.start", project="clinic", outputs=["run:clinic/r3"])
    with database.begin(lazy=True) as tx:
        entries = LedgerService(tx, ledger).entries
        assert [e.seq for e in entries(ref="run:r3")] == [4, 31]
        assert [e.seq for e in entries(ref="run:r3", operation="models.register")] == [31]
        assert [e.seq for e in entries(since=clock.now())] == [31, 32]
        assert [e.seq for e in entries(project="clinic")] == [32]
        assert [e.seq for e in entries(project="default", principal="alice", after=28)] == [29, 30, 31]
        assert [e.seq for e in entries(operation="runs.start", limit=7, after=7)] == list(range(8, 15))
        assert entries(principal="ali") == []
        assert entries(operation="%") == []
        with pytest.raises(Invalid):
            entries(limit=0)
        with pytest.raises(Invalid):
            entries(ref="no ref")


def test_lineage_back_and_forward(database: Database, ledger: Ledger) -> None:
    append(database, ledger, "data.add", inputs=["source:file"], outputs=["data:visits@1"], digests={"file": DIGEST})
    append(database, ledger, "data.split", inputs=["data:visits@1"], outputs=["data:train@1", "data:test@1"])
    append(database, ledger, "runs.finish", inputs=["data:train@1"], outputs=["run:a"])
    append(database, ledger, "models.register", inputs=["run:a"], outputs=["model:m@1"])
    append(database, ledger, "models.evaluate", inputs=["model:m@1", "data:test@1"], outputs=["evaluation:e1"])
    append(database, ledger, "models.tag", inputs=["model:m@1"], outputs=["model:m@1"])
    append(database, ledger, "runs.start", project="clinic", inputs=["data:visits@1"], outputs=["run:clinic/b"])
    with database.begin(lazy=True) as tx:
        trace = LineageService(tx, lambda ref: None).trace
        back = trace(ref="model:m@1")
        assert [(e.source, e.target, e.depth) for e in back.edges] == [
            ("run:a", "model:m@1", 1),
            ("data:train@1", "run:a", 2),
            ("data:visits@1", "data:train@1", 3),
            ("source:file", "data:visits@1", 4),
        ]
        assert back.ends == ("source:file",)
        assert back.digests["data:visits@1"] == {"file": DIGEST}
        assert not back.cut
        forward = trace(ref="data:visits@1", direction="forward")
        assert set(forward.ends) == {"evaluation:e1"}
        assert not any("clinic" in e.target for e in forward.edges)
        short = trace(ref="model:m@1", depth=2)
        assert short.cut
        assert short.ends == ("data:train@1",)
        with pytest.raises(NotFound):
            trace(ref="model:absent@1")
        with pytest.raises(Invalid):
            trace(ref="model:m@1", depth=0)
    with database.begin(lazy=True, project="clinic") as tx, pytest.raises(NotFound):
        LineageService(tx, lambda ref: None).trace(ref="model:default/m@1")


def test_a_cursor_reads_at_least_once_and_skips_nothing(database: Database, ledger: Ledger) -> None:
    fill(database, ledger, 5)
    seen: list[int] = []
    for _ in range(10):
        with database.begin() as tx:
            batch = cursor.read(tx, "loop", limit=2)
            seen += [e.seq for e in batch]
            if len(seen) == 2:
                continue  # the handler broke down: the same again
            if batch:
                cursor.advance(tx, "loop", batch[-1].seq)
    assert seen == [0, 1, 0, 1, 2, 3, 4, 5]
    with database.begin() as tx:
        cursor.advance(tx, "loop", 2)
        assert cursor.position(tx, "loop") == 5
        assert cursor.position(tx, "other") == -1
        with pytest.raises(Conflict):
            cursor.advance(tx, "loop", 6)


def test_threads_append_without_gaps(database_url: str, ledger: Ledger) -> None:
    database = Database(database_url, SystemClock())

    def work(name: str) -> None:
        for n in range(50):
            append(database, ledger, outputs=[f"run:{name}-{n}"])

    threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = verify(database, ledger.copies)
    with database.begin(lazy=True) as tx:
        entries = LedgerService(tx, ledger).entries(limit=1000)
    database.close()
    assert found.ok, found.findings
    assert [e.seq for e in entries] == list(range(201))
    assert {e.outputs[0] for e in entries[1:]} == {f"run:t{t}-{n}" for t in range(4) for n in range(50)}


WORKER = """
import sys
from pathlib import Path
from loopline.database import Database, Tx
from loopline.ledger.log import Ledger
from loopline.ports.clock import SystemClock
url, folder, name = sys.argv[1:]
database = Database(url, SystemClock())
database.create()
ledger = Ledger(Path(folder, "keys"), Path(folder, "outside"), every=20)
ledger.create(database)
for n in range(50):
    with database.begin() as tx:
        ledger.append(tx, operation="runs.start", outputs=[f"run:{name}-{n}"])
"""


def test_processes_begin_one_ledger_and_append_without_gaps(database_url: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", WORKER, database_url, str(tmp_path)]
    started = [subprocess.Popen([*command, f"p{n}"]) for n in range(3)]
    assert [process.wait(120) for process in started] == [0, 0, 0]
    database = Database(database_url, SystemClock())
    ledger = Ledger(tmp_path / "keys", tmp_path / "outside")
    found = verify(database, ledger.copies)
    with database.begin(lazy=True) as tx:
        entries = LedgerService(tx, ledger).entries(limit=1000)
    database.close()
    assert found.ok, found.findings
    assert [e.seq for e in entries] == list(range(151))
    assert len(list(ledger.keys.folder.iterdir())) == 1
