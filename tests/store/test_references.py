"""Who refers to which blob, and the sweep."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from loopline.database import Database
from loopline.errors import NotFound
from loopline.hashing import digest_bytes
from loopline.store.local import LocalBlobs
from loopline.store.service import Store
from loopline.testing.clock import FakeClock
from loopline.testing.memory import MemoryBlobs

HOUR = 3_600_000


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def database(tmp_path: Path, clock: FakeClock) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'loopline.db'}", clock)
    database.create()
    yield database
    database.close()


def test_a_reference_keeps_a_blob_until_the_last_is_released(database: Database, clock: FakeClock) -> None:
    blobs = MemoryBlobs(clock)
    digest = blobs.put([b"model"]).digest
    with database.begin() as tx:
        store = Store(tx, blobs)
        store.retain(digest, "model:a@1")
        store.retain(digest, "model:a@1")
        store.retain(digest, "model:b@1")
        assert store.owners(digest) == ["model:a@1", "model:b@1"]
        assert store.of("model:a@1") == [digest]
    clock.forward(seconds=100_000)
    with database.begin() as tx:
        store = Store(tx, blobs)
        store.release(digest, "model:a@1")
        assert store.sweep(grace=HOUR).removed == 0
        assert store.release_all("model:b@1") == 1
        assert store.usage().unreferenced_bytes == 5
        assert store.sweep(grace=HOUR).removed == 1
    assert not blobs.exists(digest)


def test_what_was_just_put_is_left(database: Database, clock: FakeClock) -> None:
    blobs = MemoryBlobs(clock)
    digest = blobs.put([b"young"]).digest
    clock.forward(milliseconds=HOUR)
    with database.begin() as tx:
        swept = Store(tx, blobs).sweep(grace=HOUR)
    assert (swept.removed, swept.young) == (0, 1)
    clock.forward(milliseconds=1)
    blobs.put([b"young"])
    clock.forward(milliseconds=1)
    with database.begin() as tx:
        assert Store(tx, blobs).sweep(grace=HOUR).removed == 0
    assert blobs.exists(digest)


def test_an_absent_blob_cannot_be_retained(database: Database) -> None:
    with pytest.raises(NotFound), database.begin() as tx:
        Store(tx, MemoryBlobs()).retain(digest_bytes(b"never"), "run:a")
    with database.begin() as tx:
        assert Store(tx, MemoryBlobs()).of("run:a") == []


def test_damages_name_the_owners(database: Database, tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path / "blobs")
    good, bad, gone = (blobs.put([data]).digest for data in (b"good", b"bad", b"gone"))
    with database.begin() as tx:
        for digest in (good, bad, gone):
            Store(tx, blobs).retain(digest, "run:a")
    blobs.path(bad).chmod(0o644)
    blobs.path(bad).write_bytes(b"evil")
    blobs.delete(gone)
    with database.begin(lazy=True) as tx:
        found = {d.digest: (d.kind, d.owners) for d in Store(tx, blobs).damages()}
    assert found == {bad: ("blob-damaged", ("run:a",)), gone: ("blob-not-found", ("run:a",))}


class References(RuleBasedStateMachine):
    """Puts, references, releases and sweeps in any order: nothing referenced is ever lost."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.database = Database("sqlite://", self.clock)
        self.database.create()
        self.blobs = MemoryBlobs(self.clock)
        self.model: set[tuple[str, str]] = set()

    data = st.sampled_from([b"a", b"b", b"c"])
    owner = st.sampled_from(["run:1", "run:2"])

    @rule(data=data, owner=owner)
    def put_and_retain(self, data: bytes, owner: str) -> None:
        digest = self.blobs.put([data]).digest
        with self.database.begin() as tx:
            Store(tx, self.blobs).retain(digest, owner)
        self.model.add((digest, owner))

    @rule(data=data)
    def put_only(self, data: bytes) -> None:
        self.blobs.put([data])

    @rule(data=data, owner=owner)
    def release(self, data: bytes, owner: str) -> None:
        with self.database.begin() as tx:
            Store(tx, self.blobs).release(digest_bytes(data), owner)
        self.model.discard((digest_bytes(data), owner))

    @rule(seconds=st.integers(0, 7200))
    def wait(self, seconds: int) -> None:
        self.clock.forward(seconds=seconds)

    @rule()
    def sweep(self) -> None:
        with self.database.begin() as tx:
            Store(tx, self.blobs).sweep(grace=HOUR)
        needed = {digest for digest, _ in self.model}
        assert all(b.digest in needed or b.time >= self.clock.now() - HOUR for b in self.blobs.list())

    @invariant()
    def nothing_referenced_is_lost(self) -> None:
        assert all(self.blobs.exists(digest) for digest, _ in self.model)
        with self.database.begin(lazy=True) as tx:
            store = Store(tx, self.blobs)
            assert {(d, o) for o in ("run:1", "run:2") for d in store.of(o)} == self.model

    def teardown(self) -> None:
        self.database.close()


TestReferences = References.TestCase
TestReferences.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
