"""A ledger on SQLite and on PostgreSQL, with a clock that tests turn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from loopline.database import Database
from loopline.ledger.log import Ledger
from loopline.testing.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def database(database_url: str, clock: FakeClock) -> Iterator[Database]:
    database = Database(database_url, clock)
    database.create()
    yield database
    database.close()


@pytest.fixture
def ledger(database: Database, tmp_path: Path) -> Ledger:
    """A checkpoint is due after 50 entries."""
    ledger = Ledger(tmp_path / "keys", tmp_path / "outside", every=50, seconds=600)
    ledger.create(database)
    return ledger
