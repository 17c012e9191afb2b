"""Transactions, on SQLite and PostgreSQL: what is acknowledged, what is taken back, who waits for whom."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from loopline import database as db
from loopline import failpoints
from loopline.errors import Conflict, Unavailable
from loopline.testing.clock import FakeClock

things = sa.Table(
    "ground_things", sa.MetaData(), sa.Column("name", sa.Text, primary_key=True), sa.Column("n", sa.Integer)
)


@pytest.fixture
def database(database_url: str) -> Iterator[db.Database]:
    database = db.Database(database_url, FakeClock())
    database.create()
    things.create(database.engine)
    yield database
    database.close()


def names(database: db.Database) -> list[str]:
    with database.begin(lazy=True) as tx:
        return [row.name for row in tx.rows(sa.select(things).order_by(things.c.name))]


def add(tx: db.Tx, name: str) -> None:
    tx.execute(sa.insert(things).values(name=name, n=0))


def test_a_transaction_is_kept_or_taken_back_as_a_whole(database: db.Database) -> None:
    order: list[str] = []
    with database.begin(before_commit=lambda tx: add(tx, "entry")) as tx:
        add(tx, "kept")
        tx.after_commit.append(lambda: order.append(",".join(names(database))))
    assert order == ["entry,kept"]

    def refuse(tx: db.Tx) -> None:
        add(tx, "entry2")
        raise KeyError

    with pytest.raises(KeyError), database.begin(before_commit=refuse) as tx:
        add(tx, "gone")
    assert names(database) == ["entry", "kept"]


def test_a_lazy_transaction_takes_no_lock_before_its_first_write_and_then_sees_the_newest_state(
    database: db.Database,
) -> None:
    with database.begin(lazy=True) as outer:
        assert outer.rows(sa.select(things)) == []
        with database.begin() as inner:
            add(inner, "meanwhile")
        assert not outer.wrote
        outer.write()
        assert outer.wrote
        assert outer.scalar(sa.select(sa.func.count()).select_from(things)) == 1
        add(outer, "then")
    assert names(database) == ["meanwhile", "then"]


def test_reads_in_a_write_transaction_see_its_own_writes(database: db.Database) -> None:
    with database.begin() as tx:
        add(tx, "mine")
        assert tx.first(sa.select(things.c.name)) == ("mine",)
        assert names(database) == []
        assert tx.scalar(sa.select(things.c.n).where(things.c.name == "absent")) is None


def test_a_failing_commit_keeps_nothing_and_the_next_goes_on(database: db.Database) -> None:
    failpoints.arm("database.tx.before_commit=EIO")
    try:
        with pytest.raises(OSError, match="before_commit"), database.begin() as tx:
            add(tx, "gone")
    finally:
        failpoints.arm("")
    with database.begin() as tx:
        add(tx, "kept")
    assert names(database) == ["kept"]


def test_writers_take_turns(database_url: str, tmp_path: Path) -> None:
    if not database_url.startswith("sqlite"):
        pytest.skip("PostgreSQL's writers meet at rows; the ledger's lock is tested with the ledger")
    database = db.Database(database_url, FakeClock())
    database.create()
    things.create(database.engine)
    with database.begin() as tx:
        add(tx, "count")

    def work() -> None:
        for _ in range(25):
            with database.begin() as tx:
                n = tx.scalar(sa.select(things.c.n))
                tx.execute(sa.update(things).values(n=n + 1))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.begin(lazy=True) as tx:
        assert tx.scalar(sa.select(things.c.n)) == 100
    with database.snapshot() as connection:
        read = {
            p: connection.exec_driver_sql(f"PRAGMA {p}").scalar_one()
            for p in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert read == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    database.close()


def _in_child(work: Callable[[], None]) -> int:
    """Forks, does the work in the child; gives the child's id. Its exit code tells whether the work was done."""
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException):
            work()
            code = 0
        os._exit(code)
    return child


def _done(child: int) -> bool:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_what_a_forked_process_commits_is_kept_though_its_parent_closes(database: db.Database) -> None:
    with database.begin() as tx:
        add(tx, "before")
    read, write = os.pipe()

    def work() -> None:
        os.close(write)  # else it would not end when the parent closes it
        with database.begin() as tx:
            add(tx, "at once")
        os.read(read, 1)
        with database.begin() as tx:
            add(tx, "when the parent has closed")

    child = _in_child(work)
    with database.begin() as tx:
        add(tx, "of the parent")
    database.close()
    assert names(database)  # another connection: its opening would begin new files where the old ones were removed
    database.close()
    os.close(write)
    assert _done(child)
    os.close(read)
    assert names(database) == ["at once", "before", "of the parent", "when the parent has closed"]


def test_a_process_that_is_forked_while_others_write_can_write(
    database: db.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "_BUSY_SECONDS", 5)
    stop = threading.Event()

    def write(thread: int) -> None:
        number = 0
        while not stop.is_set():
            with database.begin() as tx:
                add(tx, f"{thread}-{(number := number + 1)}")

    threads = [threading.Thread(target=write, args=(thread,)) for thread in range(2)]
    for thread in threads:
        thread.start()

    def work(number: int) -> None:
        with database.begin() as tx:
            add(tx, f"child {number}")

    try:
        children = [_in_child(functools.partial(work, number)) for number in range(4)]
        assert [_done(child) for child in children] == [True] * 4
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert [name for name in names(database) if name.startswith("child")] == [f"child {number}" for number in range(4)]


def test_a_locked_database_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "_BUSY_SECONDS", 0.1)
    url = f"sqlite:///{tmp_path / 'loopline.db'}"
    one, other = db.Database(url, FakeClock()), db.Database(url, FakeClock())
    one.create()
    with one.begin():
        with pytest.raises(Unavailable) as caught, other.begin():
            pass
        assert caught.value.code == "database-busy"
    with other.begin():
        pass
    one.close()
    other.close()


def test_a_newer_workspace_is_refused(database: db.Database) -> None:
    database.create()
    with database.begin() as tx:
        tx.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Conflict) as caught:
        database.create()
    assert caught.value.code == "workspace-newer"


def test_many_programs_create_at_once(database_url: str) -> None:
    databases = [db.Database(database_url, FakeClock()) for _ in range(4)]
    failed: list[BaseException] = []

    def create(database: db.Database) -> None:
        try:
            database.create()
        except BaseException as e:
            failed.append(e)

    threads = [threading.Thread(target=create, args=(database,)) for database in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with databases[0].begin(lazy=True) as tx:
        assert tx.scalar(sa.text("SELECT version_num FROM alembic_version")) == db.REVISION
        assert tx.scalar(sa.text("SELECT count(*) FROM alembic_version")) == 1
    for database in databases:
        database.close()
    assert failed == []


def test_notes_are_kept_once_in_order() -> None:
    database = db.Database("sqlite://", FakeClock())
    with database.begin(project="clinic", lazy=True) as tx:
        tx.note(inputs=["data:a@1", "data:b@1"], digests={"x": "1"})
        tx.note(inputs=["data:a@1"], outputs=[tx.ref("model", "m", 3)], digests={"y": "2"})
        assert (tx.inputs, tx.outputs) == (["data:a@1", "data:b@1"], ["model:clinic/m@3"])
        assert tx.digests == {"x": "1", "y": "2"}
        assert tx.ref("model", "m") == "model:clinic/m"
    database.close()


def test_a_database_that_is_away_is_unavailable() -> None:
    database = db.Database("postgresql://nobody@127.0.0.1:9/nothing", FakeClock())
    with pytest.raises(Unavailable) as caught, database.begin():
        pass
    assert caught.value.code == "database-away"
    database.close()
